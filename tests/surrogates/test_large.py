"""Exact Gaussian processes in bounded memory: the numbers of the whole, and of autograd; how much memory."""

import pytest
import torch

from bayesopt import Float, Optimizer, linalg
from bayesopt.device import sparing
from bayesopt.kernels import Stationary
from bayesopt.surrogates import large
from bayesopt.surrogates.gp import GaussianProcess, fit_hyperparameters, negative_log_posterior, warm_options
from bayesopt.surrogates.priors import default_priors
from tests import pretend
from tests.memory import peak_bytes
from tests.surrogates.problems import KERNELS, D, hyper, kernels
from tests.surrogates.problems import data as outcomes


def data(device, *batch, n=23):
    """With known variances of the noise `(*batch, n)`."""
    known = 0.1 * torch.rand(*batch, n, generator=torch.Generator().manual_seed(n + 1), dtype=torch.float64)
    return *outcomes(device, *batch, n=n, seed=n), known.to(device)


def autograd(theta, X, y, kernel, priors, known):
    """Value and gradient from the formula, differentiated by torch."""
    theta = theta.clone().requires_grad_()
    ridge = theta[:, -1:].exp() + (0.0 if known is None else known)
    normal = torch.distributions.MultivariateNormal(
        torch.zeros_like(y), kernel.gram(theta[:, :-1], X) + torch.diag_embed(ridge.expand_as(y))
    )
    constant = 0.5 * y.shape[-1] * torch.log(torch.tensor(2 * torch.pi, dtype=y.dtype))
    value = -normal.log_prob(y) - constant + priors.penalty(theta)[0]
    return value.detach(), torch.autograd.grad(value.sum(), theta)[0]


@pytest.fixture
def small(monkeypatch):
    """What is large begins at 6 observations, and rows come a few at a time."""
    monkeypatch.setattr(large, "WHOLE", 5)
    monkeypatch.setattr(large, "CHUNK_ENTRIES", 250)


@kernels
@pytest.mark.parametrize("noise", ["fitted", "told"])
def test_value_and_gradient_are_those_of_the_whole_and_of_autograd(kernel, noise, device, monkeypatch):
    X, y, known = data(device, 2)
    known = known if noise == "told" else None
    priors, theta = hyper(kernel, device, 2)
    whole = negative_log_posterior(theta, X, y, kernel, priors, known)
    monkeypatch.setattr(large, "WHOLE", 5)
    for chunk in (1, 46 * 7, 10**6):  # row by row; in parts of 7, 7, 7 and 2; at once
        monkeypatch.setattr(large, "CHUNK_ENTRIES", chunk)
        found = negative_log_posterior(theta, X, y, kernel, priors, known)
        for ours, expected in zip(found, whole, strict=True):
            torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-9)
    for ours, expected in zip(found, autograd(theta, X, y, kernel, priors, known), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-7, atol=1e-7)


@kernels
def test_the_posterior_is_that_of_the_whole(kernel, device, monkeypatch):
    X, y, known = data(device, 2)
    theta = hyper(kernel, device, 2)[1]
    whole = GaussianProcess.of(kernel, theta, X, y, known)
    monkeypatch.setattr(large, "WHOLE", 5)
    monkeypatch.setattr(large, "CHUNK_ENTRIES", 250)
    found = GaussianProcess.of(kernel, theta, X, y, known)
    for name in ("L", "W", "alpha"):
        torch.testing.assert_close(getattr(found, name), getattr(whole, name), rtol=1e-9, atol=1e-9)
    single = GaussianProcess.of(kernel, theta[0], X[0], y[0], known[0])
    torch.testing.assert_close(single.W, found.W[0])
    Z, w, _ = data(device, 2, n=4)
    for ours, expected in zip(
        found.condition_on(Z, w).marginals(Z), whole.condition_on(Z, w).marginals(Z), strict=True
    ):
        torch.testing.assert_close(ours, expected, rtol=1e-7, atol=1e-10)


def test_one_that_cannot_be_factorised_is_infinite_and_leaves_its_neighbours_alone(device, small):
    X, y, _ = data(device, 3)
    kernel = KERNELS["ard"]
    priors, theta = hyper(kernel, device, 3)
    alone = negative_log_posterior(theta[:1], X[:1], y[:1], kernel, priors)
    X[1] = torch.nan
    value, gradient = negative_log_posterior(theta, X, y, kernel, priors)
    assert torch.isfinite(value).tolist() == [True, False, True] and value[1] == torch.inf
    torch.testing.assert_close(value[:1], alone[0])
    torch.testing.assert_close(gradient[:1], alone[1])
    with pytest.raises(linalg.LinAlgError):
        GaussianProcess.of(kernel, theta, X, y)


def test_a_posterior_that_needs_jitter_gets_it(device, small):
    kernel = KERNELS["ard"]
    theta = hyper(kernel, device, 1)[1]
    X = data(device, 1)[0][:, :1].expand(1, 8, D).contiguous()
    theta[:, -1] = -80.0  # eight times the same point, without noise
    gp = GaussianProcess.of(kernel, theta, X, torch.ones(1, 8, dtype=X.dtype, device=device))
    mean, _ = gp.marginals(X[:, :1])
    torch.testing.assert_close(mean, torch.ones_like(mean), rtol=1e-6, atol=1e-6)


def test_a_fit_ends_where_that_of_the_whole_does(device, monkeypatch):
    X, y, _ = data(device, 2, n=30)
    kernel = KERNELS["warped"]
    priors = default_priors(kernel, D).to(device)
    whole = fit_hyperparameters(X, y, kernel, priors)
    monkeypatch.setattr(large, "WHOLE", 5)
    found = fit_hyperparameters(X, y, kernel, priors)
    torch.testing.assert_close(found.value, whole.value, rtol=0, atol=1e-3)


def test_nothing_changes_up_to_the_size_that_is_whole(monkeypatch, device):
    X, y, _ = data(device, 1)
    kernel = KERNELS["ard"]
    priors, theta = hyper(kernel, device, 1)
    monkeypatch.setattr(large, "WHOLE", X.shape[1])
    for name in ("negative_log_posterior", "factors"):
        monkeypatch.setattr(large, name, lambda *_: pytest.fail("is not large"))
    negative_log_posterior(theta, X, y, kernel, priors)
    GaussianProcess.of(kernel, theta, X, y)
    assert warm_options(X.shape[1]).lag is None and warm_options(X.shape[1] + 1).lag == 0


# --------------------------------------------------------------------------------------------------- memory


@pytest.fixture
def setting(device, monkeypatch):
    """Observations in parts of 20 rows; with what an evaluation needs beside n x n matrices, in bytes."""
    n, rows = (4000 if device.type == "cuda" else 600), 20  # there libraries have workspaces of their own
    monkeypatch.setattr(large, "WHOLE", 0)
    monkeypatch.setattr(large, "_rows", lambda X: rows)
    kernel = Stationary(groups=(0, 1, 2), warp=True)
    priors, theta = hyper(kernel, device, 1)
    X, y, _ = data(device, 1, n=n)
    blocks = linalg._BLOCK * n // 2 + 8 * rows * n
    return kernel, priors, theta, X, y, 8 * (blocks + 30 * n * D) + 2**25 * (device.type == "cuda")


def test_a_likelihood_and_its_gradient_take_one_matrix(setting, device):
    kernel, priors, theta, X, y, beside = setting
    matrix = 8 * y.numel() ** 2
    negative_log_posterior(theta, X, y, kernel, priors)  # what is copied or allocated once, is now
    peak = peak_bytes(lambda: negative_log_posterior(theta, X, y, kernel, priors), device)
    assert matrix <= peak <= matrix + beside
    assert beside < 0.7 * matrix


def test_factors_take_two_matrices(setting, device):
    kernel, _, theta, X, y, beside = setting
    matrix = 8 * y.numel() ** 2
    kept = GaussianProcess.of(kernel, theta, X, y)
    peak = peak_bytes(lambda: GaussianProcess.of(kernel, theta, X, y), device)
    assert 2 * matrix <= peak <= 2 * matrix + beside
    assert kept.L.untyped_storage().nbytes() == kept.W.untyped_storage().nbytes() == matrix


def test_the_whole_takes_more_than_four_matrices(setting, device, monkeypatch):
    """So the limits above are no idle ones, and what counts the memory does."""
    kernel, priors, theta, X, y, _ = setting
    monkeypatch.setattr(large, "WHOLE", 2048)
    peak = peak_bytes(lambda: negative_log_posterior(theta, X, y, kernel, priors), device)
    assert peak > 4 * 8 * y.numel() ** 2


def test_parts_follow_from_the_numbers_at_once(device):
    X = torch.zeros(2, 1000, 3, device=device)
    wider = 16 if device.type != "cpu" else 1
    assert large._rows(X) == wider * large.CHUNK_ENTRIES // 2000
    with sparing(0.125):
        assert large._rows(X) == wider * large.CHUNK_ENTRIES // 16_000
        assert large._rows(torch.zeros(1, 10**8, 1, device="meta")) >= 1


# ----------------------------------------------------------------------------------------------------- asks


def proposals(device, asks=3, **settings):
    """What a study asks for after 12 results."""
    opt = Optimizer({"x": Float(-1.0, 1.0), "y": Float(-1.0, 1.0)}, seed=1, device=device, **settings)
    uniform = torch.rand(12, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    configs, found = opt.space.decode(uniform), []
    for _ in range(asks):
        opt.tell(configs, [c["x"] ** 2 + (c["y"] - 0.3) ** 2 for c in configs])
        configs = opt.ask(1)
        found += configs
    return torch.tensor([list(config.values()) for config in found])


def test_a_study_proposes_the_same_as_with_the_whole(device, monkeypatch):
    whole = proposals(device, asks=1)
    monkeypatch.setattr(large, "WHOLE", 5)
    monkeypatch.setattr(large, "CHUNK_ENTRIES", 30)
    torch.testing.assert_close(proposals(device, asks=1), whole, rtol=0, atol=1e-4)


def test_a_device_computes_what_the_cpu_does(small, monkeypatch):
    monkeypatch.setattr("bayesopt.device.LAG", 0)
    here = proposals("cpu")
    monkeypatch.setattr("bayesopt.device._WIDER", 1)  # parts of the same size add up in the same order
    with pretend.gpu() as gpu:
        there = proposals(gpu.device)
    torch.testing.assert_close(there, here, rtol=0, atol=0)


def test_a_fit_that_has_ended_is_not_evaluated_for_nothing(monkeypatch):
    """On a device a look comes late, which costs nothing where steps are short; here a step is n^3."""
    monkeypatch.setattr("bayesopt.device.LAG", 2)
    kernel = KERNELS["ard"]
    calls = []
    real = large.negative_log_posterior
    monkeypatch.setattr(large, "WHOLE", 5)
    monkeypatch.setattr(large, "negative_log_posterior", lambda *a: calls.append(1) or real(*a))
    with pretend.gpu() as gpu:
        X, y, _ = data(gpu.device, 1)
        priors = default_priors(kernel, D).to(gpu.device)
        cold = fit_hyperparameters(X, y, kernel, priors)
        calls.clear()
        fit_hyperparameters(X, y, kernel, priors, warm=cold)
    assert len(calls) == 1
