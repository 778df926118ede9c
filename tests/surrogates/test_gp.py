"""The Gaussian process against gpytorch, autograd, dense algebra and its own laws."""

import gpytorch
import pytest
import torch
from botorch.models import SingleTaskGP

from bayesopt.kernels import PROFILES, Stationary
from bayesopt.surrogates.gp import GaussianProcess, fit, fit_hyperparameters, negative_log_posterior
from bayesopt.surrogates.priors import default_priors
from tests.surrogates.problems import KERNELS, D, data, hyper, kernels


@pytest.fixture
def gp(device):
    X, y = data(device)
    kernel = KERNELS["ard"]
    return fit(X, y, kernel, default_priors(kernel, D).to(device))


@pytest.fixture
def botorch_twin(gp, device):
    """BoTorch's model with the same data and hyper-parameters."""
    kernel = gpytorch.kernels.ScaleKernel(gpytorch.kernels.MaternKernel(nu=2.5, ard_num_dims=D))
    mean = gpytorch.means.ZeroMean()
    noise_constraint = gpytorch.constraints.GreaterThan(1e-9)
    likelihood = gpytorch.likelihoods.GaussianLikelihood(noise_constraint=noise_constraint)
    twin = SingleTaskGP(
        gp.X,
        gp.y[:, None],
        likelihood=likelihood,
        covar_module=kernel,
        mean_module=mean,
        outcome_transform=None,
    ).to(device)
    twin.covar_module.base_kernel.lengthscale = gp.theta[:D].exp()
    twin.covar_module.outputscale = gp.theta[D].exp()
    twin.likelihood.noise = gp.noise
    return twin


def test_posterior_and_likelihood_equal_botorch(gp, botorch_twin, device):
    Z = data(device, n=7, seed=3)[0]
    with gpytorch.settings.fast_computations(False, False, False), torch.no_grad():
        theirs = botorch_twin.eval().posterior(Z)
        botorch_twin.train()
        mll = gpytorch.mlls.ExactMarginalLogLikelihood(botorch_twin.likelihood, botorch_twin)
        log_likelihood = mll(botorch_twin(*botorch_twin.train_inputs), botorch_twin.train_targets) * len(gp.y)
    mean, covariance = gp.posterior(Z)
    torch.testing.assert_close(mean, theirs.mean[:, 0], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(covariance, theirs.distribution.covariance_matrix, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gp.log_likelihood(), log_likelihood, rtol=1e-5, atol=1e-5)


@kernels
def test_gradient_of_the_log_posterior_equals_finite_differences(kernel, device):
    X, y = data(device, 2)
    priors, theta = hyper(kernel, device, 2)
    _, gradient = negative_log_posterior(theta, X, y, kernel, priors)
    for j in range(theta.shape[-1]):
        step = torch.zeros_like(theta)
        step[:, j] = 1e-5
        up, down = (negative_log_posterior(theta + s * step, X, y, kernel, priors)[0] for s in (1, -1))
        torch.testing.assert_close(gradient[:, j], (up - down) / 2e-5, rtol=1e-5, atol=1e-5)


@kernels
def test_log_posterior_is_likelihood_plus_log_priors(kernel, device):
    """Against torch's own log-normal densities, up to the constants that no optimiser sees."""
    X, y = data(device)
    priors, theta = hyper(kernel, device, 2)
    values = []
    for t in theta:
        gp = GaussianProcess.of(kernel, t, X, y)
        log_normal = torch.distributions.LogNormal(priors.mode + priors.std**2, priors.std)
        values.append(-gp.log_likelihood() - log_normal.log_prob(t.exp()).sum())
    ours, _ = negative_log_posterior(theta, X.expand(2, -1, -1), y.expand(2, -1), kernel, priors)
    torch.testing.assert_close(ours[1] - ours[0], values[1] - values[0])


@kernels
def test_moments_and_their_pullback_equal_autograd_on_the_joint_posterior(kernel, device):
    X, y = data(device, 2)
    gp = GaussianProcess.of(kernel, hyper(kernel, device, 2)[1], X, y)
    Z = data(device, 2, n=6, seed=9)[0].requires_grad_()
    a, b = data(device, 2, n=6, seed=4)[1], data(device, 2, n=6, seed=6)[1]
    mean, covariance = gp.posterior(Z)
    variance = covariance.diagonal(dim1=-2, dim2=-1)
    (expected,) = torch.autograd.grad((a * mean).sum() + (b * variance).sum(), Z)
    mu, var, pullback = gp.marginals_and_pullback(Z.detach())
    torch.testing.assert_close(mu, mean.detach())
    torch.testing.assert_close(var, variance.detach())
    torch.testing.assert_close(pullback(a, b), expected, rtol=1e-7, atol=1e-8)
    torch.testing.assert_close(torch.stack(gp.marginals(Z.detach())), torch.stack([mu, var]))


@kernels
def test_a_batch_of_fits_equals_single_fits(kernel, device):
    X, y = data(device, 3)
    priors = default_priors(kernel, D).to(device)
    together = fit_hyperparameters(X, y, kernel, priors)
    for i in range(3):
        alone = fit_hyperparameters(X[i], y[i], kernel, priors)
        torch.testing.assert_close(together.theta[i], alone.theta, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(together.value[i], alone.value)


def test_conditioning_equals_starting_over(gp, device):
    Z, w = data(device, n=4, seed=8)
    appended = gp.condition_on(Z, w)
    afresh = GaussianProcess.of(gp.kernel, gp.theta, torch.cat([gp.X, Z]), torch.cat([gp.y, w]))
    T = data(device, n=5, seed=2)[0]
    for ours, expected in zip(appended.posterior(T), afresh.posterior(T), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-8)


def test_leave_one_out_equals_leaving_one_out(gp):
    mean, variance = gp.leave_one_out()
    for i in range(len(gp.y)):
        rest = [j for j in range(len(gp.y)) if j != i]
        without = GaussianProcess.of(gp.kernel, gp.theta, gp.X[rest], gp.y[rest])
        mu, var = without.marginals(gp.X[i : i + 1])
        torch.testing.assert_close(mean[i], mu[0], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(variance[i], var[0] + gp.noise, rtol=1e-4, atol=1e-8)


def test_fitted_values_are_the_posterior_mean_at_the_data(gp):
    torch.testing.assert_close(gp.fitted(), gp.marginals(gp.X)[0], rtol=1e-6, atol=1e-7)


def test_far_from_the_data_the_prior_is_back(gp, device):
    mu, var = gp.marginals(torch.full((1, D), 1e3, dtype=torch.float64, device=device))
    assert abs(mu.item()) < 1e-12
    torch.testing.assert_close(var[0], gp.prior_variance)


def test_fit_is_no_worse_than_its_starts_and_a_warm_start_agrees_with_a_cold_one(device):
    X, y = data(device, n=40)
    kernel = KERNELS["ard"]
    priors = default_priors(kernel, D).to(device)
    cold = fit_hyperparameters(X, y, kernel, priors)
    r = len(priors.starts)
    at_start, _ = negative_log_posterior(priors.starts, X.expand(r, -1, -1), y.expand(r, -1), kernel, priors)
    assert cold.value < at_start.min()
    half = fit_hyperparameters(X[:30], y[:30], kernel, priors)
    warm = fit_hyperparameters(X, y, kernel, priors, warm=half)
    assert abs((warm.value - cold.value).item()) < 0.05


@pytest.mark.parametrize(
    "degenerate", ["constant", "duplicates", "one point", "huge lengthscale"], ids=lambda name: name
)
def test_degenerate_data_fit(degenerate, device):
    X, y = data(device)
    if degenerate == "constant":
        y = torch.zeros_like(y)
    elif degenerate == "duplicates":
        X = X[:1].expand(12, D).clone()
    elif degenerate == "one point":
        X, y = X[:1], y[:1]
    else:
        y = X[:, 0] - X[:, 0].mean()
    kernel = KERNELS["ard"]
    gp = fit(X, y, kernel, default_priors(kernel, D).to(device))
    mu, var = gp.marginals(X)
    assert torch.isfinite(mu).all() and (var > 0).all()


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES.keys())
def test_random_features_reproduce_the_covariance(profile, device):
    kernel = Stationary(groups=(0, 1, 1), profile=profile) + Stationary(groups=(0,), columns=(2,), warp=True)
    X, _ = data(device, 2)
    theta = 0.3 * hyper(kernel, device, 2)[1][..., :-1]
    phi = kernel.random_features(theta, 20_000, torch.Generator().manual_seed(0))(X)
    K = kernel.gram(theta, X)
    assert ((phi @ phi.mT - K).abs() < 0.06 * K.amax()).all()


@kernels
def test_sampled_paths_have_the_posterior_moments(kernel, device):
    X, y = data(device, 2)
    gp = fit(X, y, kernel, default_priors(kernel, D).to(device))
    Z = data(device, 2, n=6, seed=11)[0]
    # Over many sets of frequencies: one set has an error of its own, which is right only on average.
    draws = torch.cat(
        [gp.sample_paths(100, torch.Generator().manual_seed(s), features=512)(Z) for s in range(60)], -2
    )
    assert draws.shape == (2, 6000, 6)
    mean, covariance = gp.posterior(Z)
    sigma = covariance.diagonal(dim1=-2, dim2=-1).sqrt()
    assert ((draws.mean(-2) - mean).abs() < 0.1 * sigma + 1e-3).all()
    centred = draws - draws.mean(-2, keepdim=True)
    empirical = centred.mT @ centred / 6000
    assert ((empirical - covariance).abs() < 0.15 * sigma[..., None] * sigma[..., None, :] + 1e-4).all()


def test_a_path_is_one_function_and_autograd_passes(gp, device):
    paths = gp.sample_paths(3, torch.Generator().manual_seed(2))
    Z = data(device, n=5, seed=12)[0].requires_grad_()
    torch.testing.assert_close(paths(Z)[:, 2:], paths(Z[2:]))
    (gradient,) = torch.autograd.grad(paths(Z).sum(), Z)
    step = torch.tensor([1e-6, 0.0, 0.0], dtype=torch.float64, device=device)
    expected = (paths(Z + step) - paths(Z - step)).sum(0) / 2e-6
    torch.testing.assert_close(gradient[:, 0], expected, rtol=1e-4, atol=1e-4)
