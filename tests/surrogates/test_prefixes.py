"""Which prefixes of a history are fitted, and what of a long one a proposal conditions on."""

from itertools import pairwise

import pytest
import torch

from bayesopt import Float, Optimizer, Space
from bayesopt.methods import gp
from bayesopt.surrogates import prefixes
from bayesopt.surrogates.model import LARGEST_FIT, Model
from bayesopt.surrogates.prefixes import NoCache, fit_surrogate, most_relevant, rungs

SPACE = Space({"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)})


class Kept(NoCache):
    """A cache that can be looked into."""

    def __init__(self):
        self.optima = {}

    def get(self, kind, length):
        return self.optima.get(length)

    def put(self, kind, length, optimum):
        self.optima[length] = optimum


def history(n, device):
    X = torch.rand(1, n, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(device)
    return X, torch.sin(5.0 * X).sum(-1)


def test_on_the_cpu_prefixes_are_five_percent_apart():
    lengths = [length for length, _ in rungs(10**6, LARGEST_FIT)]
    assert lengths[0] == prefixes.SHORTEST_PREFIX and 1950 < lengths[-1] < LARGEST_FIT
    assert all(b == max(a + 2, int(1.05 * a)) for a, b in pairwise(lengths))


def test_further_ones_are_twenty_percent_apart_and_change_none_before():
    far = list(rungs(10**6, 20_480))
    near = list(rungs(10**6, LARGEST_FIT))
    assert far[: len(near)] == near
    more = [length for length, _ in far[len(near) :]]
    assert LARGEST_FIT <= more[0] < 1.05 * LARGEST_FIT and 20_480 / 1.2 <= more[-1] < 20_480
    assert all(b == int(1.2 * a) for a, b in pairwise(more))
    assert not any(cold for _, cold in far[len(near) :])
    assert [length for length, _ in rungs(3000, 20_480)] == [length for length, _ in far if length < 3000]


@pytest.mark.parametrize("n", [20, 31, 50, 60, 61, 90])
def test_a_history_is_fitted_whole_then_by_its_longest_prefix_then_in_part(n, device, monkeypatch):
    """With 30 results for the CPU, and a model that reaches to 60."""
    monkeypatch.setattr(prefixes, "LARGEST_FIT", 30)
    X, y = history(n, device)
    cache, model = Kept(), Model.of(SPACE, device, largest=60)
    gp = fit_surrogate(model, X, y, cache)
    last = cache.optima[max(cache.optima)]
    assert gp.y.shape[-1] == min(n, 60)
    assert max(cache.optima) == max(length for length, _ in rungs(n, 60)) < min(n, 60)
    assert torch.equal(gp.theta, last.theta) == (n > 30)
    if n <= 60:
        torch.testing.assert_close(gp.X, X, rtol=0, atol=0)


def test_the_part_has_the_best_half_and_others_of_all_ranks(device):
    z = torch.randn(2, 101, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(device)
    ranks = z.argsort(-1).argsort(-1).gather(1, most_relevant(z, 21)).sort(-1).values
    assert ranks[:, :10].tolist() == [list(range(10))] * 2
    others = ranks[:, 10:]
    assert (
        others.shape == (2, 11) and others[:, 0].tolist() == [10, 10] and others[:, -1].tolist() == [100, 100]
    )
    assert (others.diff() >= 9).all()


def test_fits_are_kept_up_while_a_descent_needs_none(monkeypatch):
    """With the same proposals, the first one after it has no fits to catch up with."""
    fit, fitted = prefixes._fit_prefix, []

    def counted(*args):
        fitted[-1] += 1
        return fit(*args)

    monkeypatch.setattr(prefixes, "_fit_prefix", counted)

    def study(kept_up):
        monkeypatch.setattr(gp, "KEPT_UP", kept_up)
        opt, configs = Optimizer(SPACE, seed=0), []
        fitted.clear()
        for _ in range(90):
            fitted.append(0)
            configs.append(opt.ask())
            x, y = configs[-1].values()
            opt.tell(configs[-1], abs(x - 0.3) + 10.0 * (y - 0.6) ** 2)
        return configs, max(fitted)

    always, never = study(0), study(1000)
    assert always[0] == never[0]
    assert always[1] == 1 and never[1] > 10
