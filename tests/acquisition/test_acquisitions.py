"""Every acquisition: BoTorch's value, autograd's partials, sound tails."""

import mpmath
import pytest
import torch
from botorch.acquisition import analytic
from botorch.utils.testing import MockModel, MockPosterior

from bayesopt.acquisition import ACQUISITIONS, UpperConfidenceBound
from bayesopt.acquisition.improvement import log_h

BOTORCH = {
    "log_ei": lambda model, best: analytic.LogExpectedImprovement(model, best, maximize=False),
    "log_nei": lambda model, best: analytic.LogExpectedImprovement(model, best, maximize=False),
    "ei": lambda model, best: analytic.ExpectedImprovement(model, best, maximize=False),
    "log_pi": lambda model, best: analytic.LogProbabilityOfImprovement(model, best, maximize=False),
    "pi": lambda model, best: analytic.ProbabilityOfImprovement(model, best, maximize=False),
    "ucb": lambda model, best: analytic.UpperConfidenceBound(model, beta=1.8**2, maximize=False),
}
acquisitions = pytest.mark.parametrize("name", ACQUISITIONS)


def moments(device, dtype):
    mu = torch.linspace(-3, 8, 40, device=device, dtype=dtype)
    var = torch.logspace(-2, 1, 40, device=device, dtype=dtype).flip(0)
    return mu, var, torch.tensor(0.4, device=device, dtype=dtype)


@pytest.mark.filterwarnings("ignore:ExpectedImprovement has known numerical issues")
@acquisitions
def test_value_equals_botorch(name, device):
    mu, var, best = moments(device, torch.float64)
    model = MockModel(MockPosterior(mean=mu[:, None, None], variance=var[:, None, None]))
    theirs = BOTORCH[name](model, best)(torch.zeros(40, 1, 1, device=device, dtype=torch.float64))
    torch.testing.assert_close(ACQUISITIONS[name](mu, var, best), theirs.flatten(), rtol=1e-6, atol=1e-8)


@acquisitions
def test_partials_equal_autograd(name, device, dtype):
    mu, var, best = moments(device, dtype)
    acquisition = ACQUISITIONS[name]
    value, dmu, dvar = acquisition.partials(mu, var, best)
    mu, var = mu.requires_grad_(), var.requires_grad_()
    expected = acquisition(mu, var, best)
    grads = torch.autograd.grad(expected.sum(), (mu, var))
    rtol = 1e-7 if dtype == torch.float64 else 2e-3
    torch.testing.assert_close(value, expected.detach(), rtol=rtol, atol=1e-7)
    torch.testing.assert_close(dmu, grads[0], rtol=rtol, atol=1e-6)
    torch.testing.assert_close(dvar, grads[1], rtol=rtol, atol=1e-6)


@acquisitions
def test_lower_mean_is_better_and_the_log_form_agrees_on_the_order(name, device):
    mu, _, best = moments(device, torch.float64)
    var = torch.ones_like(mu)
    value = ACQUISITIONS[name](mu, var, best)
    assert (value.diff() < 0).all()
    log_value = ACQUISITIONS[name].log_form()(mu, var, best)
    torch.testing.assert_close(value.argsort(), log_value.argsort())


def exact_log_h(z: float) -> float:
    """By 60 digits beyond those that the cancellation in phi + z Phi eats."""
    with mpmath.workdps(60):
        x = mpmath.mpf(z)
        phi = mpmath.exp(-x * x / 2) / mpmath.sqrt(2 * mpmath.pi)
        return float(mpmath.log(phi + x * mpmath.erfc(-x / mpmath.sqrt(2)) / 2))


@pytest.mark.parametrize(
    "z", [8.0, 1.0, 0.0, -0.999, -1.0, -1.001, -5.0, -40.0, -99.0, -999.0, -1001.0, -1e5]
)
def test_log_h_is_exact_into_the_far_tail(z, device):
    """Against 60-digit arithmetic; the log of a plain float64 EI is -inf from z = -39 on."""
    ours = log_h(torch.tensor(z, dtype=torch.float64, device=device)).item()
    assert ours == pytest.approx(exact_log_h(z), rel=1e-11, abs=1e-9)


def test_log_h_has_a_finite_sound_gradient_everywhere(device):
    z = torch.cat([-torch.logspace(8, -3, 60, dtype=torch.float64), torch.linspace(0, 30, 20).double()]).to(
        device
    )
    z.requires_grad_()
    (slope,) = torch.autograd.grad(log_h(z).sum(), z)
    assert torch.isfinite(slope).all() and (slope > 0).all()
    tail = z.detach() < -30
    torch.testing.assert_close(slope[tail], -z.detach()[tail], rtol=1e-2, atol=0)  # ln h ~ -z^2 / 2


def test_more_exploration_with_a_larger_beta():
    mu, var, best = torch.zeros(2), torch.tensor([0.1, 1.0]), torch.tensor(0.0)
    for beta in (0.5, 2.0):
        value = UpperConfidenceBound(beta)(mu, var, best)
        torch.testing.assert_close(value, beta * var.sqrt())
    with pytest.raises(ValueError, match="beta"):
        UpperConfidenceBound(-1.0)
