"""Noise that comes with the outcomes: what it does to the surrogate and to the outcome transform."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bayesopt.kernels import Stationary
from bayesopt.space import Float, Space
from bayesopt.surrogates.gp import GaussianProcess, fit_hyperparameters, negative_log_posterior
from bayesopt.surrogates.model import Model
from bayesopt.surrogates.outcomes import OutcomeScale, half_rank, half_rank_std
from bayesopt.surrogates.prefixes import fit_surrogate
from bayesopt.surrogates.priors import default_priors

D = 2
KERNEL = Stationary(groups=(0, 1))
SPACE = Space({"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)})


def data(device, b=2, n=12, seed=0):
    source = torch.Generator().manual_seed(seed)
    X = torch.rand(b, n, D, generator=source, dtype=torch.float64)
    y = torch.sin(5 * X[..., 0]) + X[..., 1] + 0.3 * torch.randn(b, n, generator=source, dtype=torch.float64)
    known = 0.2 * torch.rand(b, n, generator=source, dtype=torch.float64) + 0.01
    return X.to(device), y.to(device), known.to(device)


def theta(device, noise=1e-9):
    return torch.tensor([-1.0, -0.5, 0.3, noise], dtype=torch.float64, device=device)


def hyper(device, noise=1e-9, b=2):
    t = theta(device, noise)
    t[-1] = t[-1].log()
    return t.expand(b, -1)


def assert_same_posterior(a, b, device, tolerance=1e-6):
    T = data(device, n=7, seed=3)[0]
    for ours, expected in zip(a.posterior(T), b.posterior(T), strict=True):
        torch.testing.assert_close(ours, expected, rtol=tolerance, atol=tolerance)


# -------------------------------------------------------------------------------------------- the surrogate


def test_posterior_and_likelihood_are_those_of_a_dense_gaussian(device):
    """Against torch's own multivariate normal, conditioned by the textbook."""
    X, y, known = data(device)
    gp = GaussianProcess.of(KERNEL, hyper(device, 0.05), X, y, known)
    K = KERNEL.gram(gp.theta[..., :-1], X)
    noisy = K + torch.diag_embed(0.05 + known)
    zero = torch.zeros_like(y)
    expected = torch.distributions.MultivariateNormal(zero, noisy).log_prob(y)
    torch.testing.assert_close(gp.log_likelihood(), expected)
    torch.testing.assert_close(gp.fitted(), (K @ torch.linalg.solve(noisy, y[..., None]))[..., 0])
    mean, covariance = gp.posterior(X)
    torch.testing.assert_close(mean, gp.fitted())
    torch.testing.assert_close(covariance, K - K @ torch.linalg.solve(noisy, K))


def test_gradient_of_the_log_posterior_equals_finite_differences(device):
    X, y, known = data(device)
    priors, at = default_priors(KERNEL, D).to(device), hyper(device, 0.05)
    _, gradient = negative_log_posterior(at, X, y, KERNEL, priors, known)
    for j in range(at.shape[-1]):
        step = torch.zeros_like(at)
        step[:, j] = 1e-5
        up, down = (negative_log_posterior(at + s * step, X, y, KERNEL, priors, known)[0] for s in (1, -1))
        torch.testing.assert_close(gradient[:, j], (up - down) / 2e-5, rtol=1e-5, atol=1e-5)


def test_hardly_any_noise_is_none(device):
    X, y, known = data(device)
    without = GaussianProcess.of(KERNEL, hyper(device, 1e-4), X, y)
    assert_same_posterior(
        GaussianProcess.of(KERNEL, hyper(device, 1e-4), X, y, 1e-14 * known), without, device
    )
    priors = default_priors(KERNEL, D).to(device)
    thetas = [fit_hyperparameters(X, y, KERNEL, priors, known=k).theta for k in (None, 1e-16 * known)]
    torch.testing.assert_close(thetas[0], thetas[1], rtol=0, atol=1e-4)


def test_an_outcome_that_is_all_noise_says_nothing(device):
    X, y, known = data(device)
    known[:, 5] = 1e12
    rest = [i for i in range(X.shape[1]) if i != 5]
    all_noise = GaussianProcess.of(KERNEL, hyper(device), X, y, known)
    assert_same_posterior(
        all_noise, GaussianProcess.of(KERNEL, hyper(device), X[:, rest], y[:, rest], known[:, rest]), device
    )


@pytest.mark.parametrize("k", [2, 5])
def test_repeats_count_as_much_as_their_mean(k, device):
    """k outcomes with standard deviation s are one, their mean, with s / sqrt(k)."""
    X, y, known = data(device)
    again = torch.randn(2, k, generator=torch.Generator().manual_seed(7), dtype=torch.float64).to(device)
    X_again, s2 = X[:, :1].expand(-1, k, -1), known[:, :1]
    many = GaussianProcess.of(
        KERNEL,
        hyper(device),
        torch.cat([X[:, 1:], X_again], 1),
        torch.cat([y[:, 1:], again], 1),
        torch.cat([known[:, 1:], s2.expand(-1, k)], 1),
    )
    one = GaussianProcess.of(
        KERNEL,
        hyper(device),
        torch.cat([X[:, 1:], X[:, :1]], 1),
        torch.cat([y[:, 1:], again.mean(-1, keepdim=True)], 1),
        torch.cat([known[:, 1:], s2 / k], 1),
    )
    assert_same_posterior(many, one, device)


def test_what_is_derived_from_a_surrogate_keeps_its_noise(device):
    X, y, known = data(device)
    gp = GaussianProcess.of(KERNEL, hyper(device, 0.05), X, y, known)
    Z, w, _ = data(device, n=3, seed=8)
    whole = torch.cat([known, torch.zeros_like(w)], 1)
    afresh = GaussianProcess.of(KERNEL, gp.theta, torch.cat([X, Z], 1), torch.cat([y, w], 1), whole)
    assert_same_posterior(gp.condition_on(Z, w), afresh, device)
    torch.testing.assert_close(gp.condition_on(Z, w).fitted(), afresh.fitted())
    torch.testing.assert_close(gp.select(1).fitted(), gp.fitted()[1])
    paths = gp.sample_paths(4000, torch.Generator().manual_seed(0))
    drawn = paths(X)  # (b, s, n)
    mean, var = gp.marginals(X)
    torch.testing.assert_close(drawn.mean(1), mean, rtol=0, atol=0.06)
    torch.testing.assert_close(drawn.var(1), var, rtol=0.25, atol=0.03)


def test_a_fit_follows_precise_outcomes_and_not_vague_ones(device):
    """Of two outcomes in one place the surrogate believes the precise one."""
    X = SPACE.sample(20, torch.Generator().manual_seed(0)).to(device)
    X = torch.cat([X, X])[None]
    y = X.sum(-1)
    y[:, 20:] += 0.7
    std = torch.full_like(y, 0.01)
    std[:, 20:] = 3.0
    model = Model.of(SPACE, device)
    active = torch.ones_like(X, dtype=torch.bool)
    F = model.embedding(X, active)
    gp = fit_surrogate(model, F, y, std=std)
    fitted = OutcomeScale.of(y).outcome(gp.fitted())
    lower = y[:, :20] < y.median()
    assert float((fitted[:, :20] - y[:, :20]).abs()[lower].max()) < 0.1


def test_exact_outcomes_are_fitted_exactly(device):
    """With outcomes that look noisy, and are not."""
    X = SPACE.sample(30, torch.Generator().manual_seed(0)).to(device)[None]
    y = torch.sin(40.0 * X.sum(-1))
    F = Model.of(SPACE, device).embedding(X, torch.ones_like(X, dtype=torch.bool))
    fitted, exact = (fit_surrogate(Model.of(SPACE, device, exact=exact), F, y) for exact in (False, True))
    torch.testing.assert_close(exact.fitted(), half_rank(y), rtol=0, atol=1e-5)
    assert float(exact.noise) == pytest.approx(1e-8) and float(fitted.noise) > 1e-7


# -------------------------------------------------------------------------------------------- the transform


@given(
    values=st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=20, unique=True),
    scale=st.floats(1e-3, 1e3),
    shift=st.floats(-1e2, 1e2),
)
def test_scaling_outcomes_and_noise_together_changes_nothing(values, scale, shift):
    y = torch.tensor(values, dtype=torch.float64)
    if y.max() - y.min() < 1.0 or y.unique().diff().min() < 1e-2:
        return  # the shift costs the digits that tell the values apart
    std = 0.1 + 0.05 * y.abs()
    torch.testing.assert_close(
        half_rank_std(y, std), half_rank_std(scale * y + shift, scale * std), rtol=1e-4, atol=1e-6
    )


def test_up_to_the_median_noise_scales_with_the_slope():
    y = torch.arange(11.0, dtype=torch.float64) ** 2
    z, std = half_rank(y), half_rank_std(y, torch.full_like(y, 1e-3))
    slope = (z[1] - z[0]) / (y[1] - y[0])
    torch.testing.assert_close(std[:5], 1e-3 * slope.expand(5), rtol=1e-5, atol=0)


def test_among_bad_outcomes_noise_counts_by_the_ranks_it_may_cross():
    """A value far behind stays last whatever its noise; one in a crowd may change places."""
    y = torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 5.1, 5.2, 1e6], dtype=torch.float64)
    std = half_rank_std(y, torch.full_like(y, 0.5))
    assert std[8] < 1e-3 < std[0] < std[6]


def test_more_noise_is_more_and_none_known_is_none(device):
    y = torch.randn(3, 15, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(device)
    stds = torch.stack([half_rank_std(y, torch.full_like(y, s)) for s in (1e-3, 1e-2, 0.1, 1.0, 10.0, 1e300)])
    assert (
        (stds.diff(dim=0) >= 0.0).all() and (stds[1:].diff(dim=0) > 0.0).any() and torch.isfinite(stds).all()
    )
    assert (half_rank_std(y, torch.full_like(y, torch.nan)) == 0.0).all()
    some = torch.full_like(y, 0.1)
    some[:, ::2] = torch.nan
    torch.testing.assert_close(half_rank_std(y, some)[:, 1::2], stds[2][:, 1::2])
    for i in range(3):
        torch.testing.assert_close(half_rank_std(y[i], some[i]), half_rank_std(y, some)[i])


@pytest.mark.parametrize("y", [[2.0], [0.0], [3.0, 3.0, 3.0], [1.7e308, -1.7e308, 0.0], [5e-324, 0.0]])
def test_noise_and_its_undoing_are_finite_for_any_outcomes(y):
    y = torch.tensor(y, dtype=torch.float64)
    for s in (5e-324, 1.0, 1.7e308):
        assert torch.isfinite(half_rank_std(y, torch.full_like(y, s))).all()
    assert torch.isfinite(OutcomeScale.of(y).outcome(half_rank(y))).all()


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=20))
def test_undoing_the_transform_gives_the_outcomes(values):
    y = torch.tensor(values, dtype=torch.float64)
    spread = float(y.max() - y.min())
    torch.testing.assert_close(
        OutcomeScale.of(y).outcome(half_rank(y)), y, rtol=1e-9, atol=1e-6 * max(spread, 1.0)
    )


def test_below_the_best_outcome_undoing_goes_on_along_the_slope():
    y = torch.tensor([1.0, 2.0, 4.0, 100.0, 1000.0], dtype=torch.float64)
    z = half_rank(y)
    step = z[1] - z[0]
    beyond = torch.stack([z[0] - step, z[4] + 1.0])
    torch.testing.assert_close(
        OutcomeScale.of(y).outcome(beyond), torch.tensor([0.0, 1000.0]).double(), rtol=1e-6, atol=1e-6
    )
