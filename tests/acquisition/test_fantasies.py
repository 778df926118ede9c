"""Unfinished evaluations: dense algebra, plain Monte Carlo and finite differences agree with the appends."""

import pytest
import torch

from bayesopt.acquisition import ACQUISITIONS
from bayesopt.acquisition.exploration import PureExploration
from bayesopt.acquisition.fantasies import Averaged, Fantasies, Fantasised, Screen, innovations
from bayesopt.acquisition.joint import JointPosterior, QExpectedImprovement
from tests.acquisition.situations import MIXED, SMOOTH, posterior, some_points

spaces = pytest.mark.parametrize("space", [SMOOTH, MIXED], ids=["smooth", "mixed"])
BATCH_ACQUISITIONS = {
    "log_ei": Averaged(ACQUISITIONS["log_ei"]),
    "log_pi": Averaged(ACQUISITIONS["log_pi"]),
    "exploration": PureExploration(),
}


def unfinished(space, device, k=3, draws=8, b=2):
    embedding, gp, _, best = posterior(space, device, b)
    F = embedding(*some_points(space, device, b, k, seed=3))
    e = torch.stack([innovations(draws, k, seed) for seed in range(b)]).to(device)
    return embedding, Fantasies.of(gp, best, draws), F, e


@spaces
def test_points_appended_one_by_one_or_together_give_the_same(space, device):
    _, start, F, e = unfinished(space, device)
    together, single = start.extend(F, e), start
    for i in range(F.shape[1]):
        single = single.extend(F[:, i : i + 1], e[:, i : i + 1])
    for name in ("F", "W", "whitened", "best"):
        torch.testing.assert_close(getattr(single, name), getattr(together, name), rtol=1e-6, atol=1e-8)


@spaces
def test_every_draw_is_the_gp_that_has_seen_its_outcomes(space, device):
    """Dense: posterior mean and variance from the inverse of the whole covariance matrix."""
    embedding, start, F, e = unfinished(space, device)
    known = start.extend(F, e)
    gp, n = start.gp, start.gp.y.shape[-1]
    theta = gp.theta[..., :-1]
    outcomes = torch.linalg.solve(known.W, known.whitened)  # [y; f_s]
    torch.testing.assert_close(outcomes[:, :n], gp.y.unsqueeze(-1).expand(-1, -1, 8), rtol=1e-6, atol=1e-7)
    K = gp.kernel.gram(theta, known.F)
    K.diagonal(dim1=-2, dim2=-1)[:, :n] += gp.noise.unsqueeze(-1)
    Z = embedding(*some_points(space, device, 2, 6))
    k = gp.kernel.cross(theta, Z, known.F)
    weights = torch.linalg.solve(K, k.mT)
    at = known.moments(known.covariance(Z)[0] @ known.W.mT)
    torch.testing.assert_close(at.mu, weights.mT @ outcomes, rtol=1e-4, atol=1e-5)
    dense = gp.kernel.variance(theta)[:, None] - (k.mT * weights).sum(-2)
    torch.testing.assert_close(at.var[..., 0], dense, rtol=1e-4, atol=1e-6)
    lowest = torch.minimum(start.best, outcomes[:, n:].amin(-2))
    torch.testing.assert_close(known.best, lowest, rtol=1e-6, atol=1e-7)


@spaces
def test_without_innovations_the_mean_stays_and_the_variance_falls(space, device):
    embedding, start, F, e = unfinished(space, device)
    believed = start.extend(F, torch.zeros_like(e))
    Z = embedding(*some_points(space, device, 2, 6))
    mu, var = start.gp.marginals(Z)
    at = believed.moments(believed.covariance(Z)[0] @ believed.W.mT)
    torch.testing.assert_close(at.mu, mu.unsqueeze(-1).expand_as(at.mu), rtol=1e-6, atol=1e-7)
    assert (at.var[..., 0] <= var + 1e-9).all() and (at.var[..., 0] < 0.999 * var).any()
    there = believed.moments(believed.covariance(F)[0] @ believed.W.mT)
    assert (there.var[..., 0] < 1e-5 * start.gp.prior_variance.unsqueeze(-1)).all()


def test_drawn_outcomes_have_the_posteriors_mean_and_covariance(device):
    _, start, F, e = unfinished(SMOOTH, device, draws=2**14)
    known = start.extend(F, e)
    f = torch.linalg.solve(known.W, known.whitened)[:, -3:]
    mu, Sigma = start.gp.posterior(F)
    torch.testing.assert_close(f.mean(-1), mu, rtol=0, atol=5e-3)
    centred = f - mu.unsqueeze(-1)
    torch.testing.assert_close(centred @ centred.mT / 2**14, Sigma, rtol=2e-2, atol=2e-3)


def test_the_mean_ei_over_the_draws_is_what_one_more_point_adds_to_qei(device):
    """Second route: the difference of two plain Monte-Carlo qEI with common base samples."""
    embedding, start, F, _ = unfinished(SMOOTH, device)
    Z = embedding(*some_points(SMOOTH, device, 2, 4))
    draws = 2**14
    e = torch.stack([innovations(draws, 4, 7)] * 2).to(device)
    exact = Averaged(ACQUISITIONS["log_ei"])
    gp, best = start.gp, start.best[:, :1]
    known = Fantasies.of(gp, best, draws).extend(F, e[:, :3])
    added = Fantasised(known, exact).value(Z).exp()
    base = Fantasies.of(gp, best, 1)
    qei = QExpectedImprovement()
    before = JointPosterior(base, e[:, :3]).value(qei, F)
    for j in range(4):
        after = JointPosterior(base, e).value(qei, torch.cat([F, Z[:, j : j + 1]], 1))
        torch.testing.assert_close(added[:, j], after - before, rtol=3e-2, atol=2e-4)


@spaces
@pytest.mark.parametrize("name", BATCH_ACQUISITIONS)
def test_gradient_equals_finite_differences(space, name, device):
    embedding, start, F, e = unfinished(space, device)
    term = Fantasised(start.extend(F, e), BATCH_ACQUISITIONS[name])
    Z = embedding(*some_points(space, device, 2, 5))
    value, gradient = term.value_and_gradient(Z)
    torch.testing.assert_close(value, term.value(Z))
    for c in range(Z.shape[-1]):
        step = torch.zeros(Z.shape[-1], dtype=Z.dtype, device=device)
        step[c] = 1e-6
        slope = (term.value(Z + step) - term.value(Z - step)) / 2e-6
        torch.testing.assert_close(gradient[..., c], slope, rtol=1e-4, atol=1e-5)


@spaces
def test_a_screen_kept_up_to_date_equals_one_made_anew(space, device):
    embedding, known, F, e = unfinished(space, device)
    X, active = some_points(space, device, 2, 7)
    common = torch.zeros(2, 7, dtype=X.dtype, device=device)
    screen = Screen.of(X, active, embedding(X, active), common, known)
    for i in range(F.shape[1]):
        known = known.extend(F[:, i : i + 1], e[:, i : i + 1])
        screen = screen.extended(known)
    anew = Screen.of(X, active, embedding(X, active), common, known)
    torch.testing.assert_close(screen.k, anew.k)
    torch.testing.assert_close(screen.at, anew.at, rtol=1e-6, atol=1e-8)


def test_studies_of_a_batch_are_independent(device):
    embedding, start, F, e = unfinished(SMOOTH, device, b=3)
    Z = embedding(*some_points(SMOOTH, device, 3, 5))
    term = Fantasised(start.extend(F, e), BATCH_ACQUISITIONS["log_ei"])
    keep = torch.tensor([2], device=device)
    torch.testing.assert_close(term.rows(keep).value(Z[2:]), term.value(Z)[2:])


def test_exploration_avoids_what_cannot_hold_the_optimum(device):
    """Of two equally uncertain points the hopeless one is worth less; inside the region only sigma counts."""
    from bayesopt.acquisition.fantasies import Moments

    mu = torch.tensor([[[-1.0], [-0.2], [5.0]]], device=device)
    var = torch.ones(1, 3, 1, device=device)
    value = PureExploration()(Moments(mu, var), torch.zeros(1, 1, 1, device=device))
    assert value[0, 0] == value[0, 1] == 1.0 and value[0, 2] < -30
    with pytest.raises(ValueError, match="penalty"):
        PureExploration(penalty=-1.0)
