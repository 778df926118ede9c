"""Where evaluations fail: calibrated far away, sharp nearby, quiet without a pattern."""

import torch

from bayesopt import Float, Space
from bayesopt.methods.history import generator
from bayesopt.surrogates.feasibility import fit_feasibility
from bayesopt.surrogates.model import Model

SPACE = Space({"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)})


def probability(device, failed, n=40, at=None):
    """Of success at the points `at`, after n evaluations of which those with failed(X) failed."""
    X = SPACE.sample(n, generator(3)).to(device)[None]
    gp, threshold = fit_feasibility(Model.of(SPACE, device), X, failed(X))
    Z = SPACE.sample(200, generator(4)).to(device)[None] if at is None else at
    mu, var = gp.marginals(Z)
    return Z, torch.special.ndtr((threshold - mu) / var.sqrt())


def test_a_region_that_fails_is_learnt(device):
    Z, p = probability(device, lambda X: X[..., 0] > 0.66)
    inside, outside = Z[..., 0] > 0.76, Z[..., 0] < 0.56
    assert p[inside].median() < 0.05 and p[outside].median() > 0.95
    assert p[inside].max() < 0.5 < p[outside].min()


def test_one_failure_in_many_changes_little_elsewhere(device):
    def last(X):
        failed = torch.zeros(X.shape[:-1], dtype=torch.bool, device=device)
        failed[..., -1] = True
        return failed

    _, p = probability(device, last)
    assert p.median() > 0.9


def test_failures_without_a_pattern_leave_their_share(device):
    def chance(X):
        return torch.rand(X.shape[:-1], generator=generator(8), dtype=X.dtype).to(device) < 0.25

    _, p = probability(device, chance, n=120)
    assert p.log().max() - p.log().min() < 0.3  # what the surface sees; a region that fails costs 3 and more
    assert p.median() > 0.5


def test_studies_are_independent_and_prefixes_of_one_kind_are_no_trouble(device):
    model = Model.of(SPACE, device)
    X = torch.stack([SPACE.sample(30, generator(s)) for s in range(2)]).to(device)
    failed = torch.zeros(2, 30, dtype=torch.bool, device=device)
    failed[0, 3:9], failed[1, -6:] = True, True  # the second's come after the last prefix that is fitted
    together, threshold = fit_feasibility(model, X, failed)
    for i in range(2):
        alone, t = fit_feasibility(model, X[i : i + 1], failed[i : i + 1])
        torch.testing.assert_close(together.theta[i], alone.theta[0], rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(threshold[i], t[0])


def test_a_history_beyond_the_largest_fit_is_thinned_but_keeps_its_failures(device, monkeypatch):
    monkeypatch.setattr("bayesopt.surrogates.feasibility.LARGEST_FIT", 25)
    Z, p = probability(device, lambda X: X[..., 0] > 0.8, n=60)
    assert p[Z[..., 0] > 0.9].median() < 0.3 and p[Z[..., 0] < 0.6].median() > 0.7


def test_what_is_cached_depends_on_the_prefix_alone(device):
    """A study that was asked all along knows at the end what one that is restored computes anew."""
    kept = {}

    class Cache:
        def get(self, kind, length):
            return kept.get((kind, length))

        def put(self, kind, length, optimum, /):
            kept[kind, length] = optimum

    model = Model.of(SPACE, device)
    X = SPACE.sample(40, generator(3)).to(device)[None]
    failed = (X[..., 0] > 0.5) & (torch.arange(40, device=device) > 9)
    for n in range(12, 40):
        if failed[:, :n].any():
            asked, _ = fit_feasibility(model, X[:, :n], failed[:, :n], Cache())
            anew, _ = fit_feasibility(model, X[:, :n], failed[:, :n])
            torch.testing.assert_close(asked.theta, anew.theta, rtol=0, atol=0)
    assert kept
