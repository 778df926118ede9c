"""Joint acquisitions: autograd, BoTorch on the same draws, the analytic limit at q = 1, sound tails."""

import pytest
import torch
from botorch.acquisition import logei, monte_carlo
from botorch.utils.testing import MockModel, MockPosterior

from bayesopt.acquisition import ACQUISITIONS
from bayesopt.acquisition.fantasies import Fantasies, innovations
from bayesopt.acquisition.joint import (
    JointPosterior,
    QExpectedImprovement,
    QLogExpectedImprovement,
    QProbabilityOfImprovement,
    QUpperConfidenceBound,
)
from tests.acquisition.situations import MIXED, SMOOTH, posterior, some_points

JOINT = {
    "qei": QExpectedImprovement(),
    "qlogei": QLogExpectedImprovement(),
    "qpi": QProbabilityOfImprovement(),
    "qucb": QUpperConfidenceBound(),
}
acquisitions = pytest.mark.parametrize("name", JOINT)


def draws(device, dtype=torch.float64, q=4, s=64):
    generator = torch.Generator().manual_seed(3)
    mu = torch.randn(2, q, 1, generator=generator, dtype=dtype)
    f = mu + 0.7 * torch.randn(2, q, s, generator=generator, dtype=dtype)
    best = torch.tensor([[-0.3], [0.1]], dtype=dtype)
    return f.to(device), mu.to(device), best.to(device)


@acquisitions
def test_partials_equal_autograd(name, device):
    f, mu, best = draws(device)
    value, df, dmu = JOINT[name].partials(f, mu, best)
    f, mu = f.requires_grad_(), mu.requires_grad_()
    expected = JOINT[name](f, mu, best)
    gradients = torch.autograd.grad(expected.sum(), (f, mu), allow_unused=True)
    torch.testing.assert_close(value, expected.detach())
    for ours, theirs in zip((df, dmu), gradients, strict=True):
        torch.testing.assert_close(ours, torch.zeros_like(ours) if theirs is None else theirs)


@pytest.mark.filterwarnings("ignore:qExpectedImprovement has known numerical issues")
@acquisitions
def test_value_equals_botorch_on_the_same_draws(name, device):
    f, mu, best = draws(device)
    theirs = {
        "qei": lambda m, b, s: monte_carlo.qExpectedImprovement(m, best_f=b, sampler=s),
        "qlogei": lambda m, b, s: logei.qLogExpectedImprovement(m, best_f=b, sampler=s),
        "qpi": lambda m, b, s: monte_carlo.qProbabilityOfImprovement(m, best_f=b, sampler=s),
        "qucb": lambda m, b, s: monte_carlo.qUpperConfidenceBound(m, beta=1.8**2, sampler=s),
    }
    model = MockModel(MockPosterior(mean=torch.zeros(1, 1, device=device, dtype=f.dtype)))
    # BoTorch's qUCB measures deviations from the mean of the draws.
    mu = f.mean(-1, keepdim=True) if name == "qucb" else mu
    for i in range(2):
        acquisition = theirs[name](model, -best[i, 0], None)
        each = acquisition._sample_forward(-f[i].mT[:, None])  # (s, 1, q)
        expected = acquisition._sample_reduction(acquisition._q_reduction(each))[0]
        ours = JOINT[name](f[i], mu[i], best[i])
        torch.testing.assert_close(ours, expected, rtol=5e-3, atol=5e-3 if name == "qlogei" else 1e-9)


@pytest.mark.parametrize("space", [SMOOTH, MIXED], ids=["smooth", "mixed"])
@pytest.mark.parametrize("noisy", [False, True], ids=["", "noisy"])
@acquisitions
def test_gradient_in_the_points_equals_finite_differences(name, space, noisy, device):
    """Beside two unfinished evaluations; noisy: the incumbent is drawn with them."""
    embedding, gp, _, best = posterior(space, device)
    F = embedding(*some_points(space, device, 2, 5, seed=4))
    e = torch.stack([innovations(32, 5, seed) for seed in range(2)]).to(device)
    best = torch.full_like(best, torch.inf) if noisy else best
    joint = JointPosterior(Fantasies.of(gp, best, 32).extend(F[:, :2], e[:, :2]), e[:, 2:])
    acquisition, Z = JOINT[name], F[:, 2:]
    _, gradient = joint.value_and_gradient(acquisition, Z)
    for i in range(3):
        for c in range(Z.shape[-1]):
            step = torch.zeros_like(Z)
            step[:, i, c] = 1e-6
            slope = (joint.value(acquisition, Z + step) - joint.value(acquisition, Z - step)) / 2e-6
            torch.testing.assert_close(gradient[:, i, c], slope, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize(
    ("name", "single"), [("qei", "ei"), ("qpi", "pi"), ("qucb", "ucb"), ("qlogei", "log_ei")]
)
def test_a_batch_of_one_is_the_analytic_acquisition(name, single, device):
    embedding, gp, _, best = posterior(SMOOTH, device)
    F = embedding(*some_points(SMOOTH, device, 2, 1, seed=8))
    e = torch.stack([innovations(2**13, 1, 1)] * 2).to(device)
    joint = JointPosterior(Fantasies.of(gp, best, 1), e).value(JOINT[name], F)
    exact = ACQUISITIONS[single](*gp.marginals(F), best)[:, 0]
    if name == "qlogei":  # its tail is fat on purpose: where EI is nothing, it is larger
        joint, exact = joint.clamp_min(-9.0), exact.clamp_min(-9.0)
    torch.testing.assert_close(joint, exact, rtol=2e-2, atol=2e-3)


def test_more_points_are_worth_more_and_their_order_nothing(device):
    embedding, gp, _, best = posterior(SMOOTH, device)
    F = embedding(*some_points(SMOOTH, device, 2, 4, seed=4))
    e = torch.stack([innovations(2**12, 4, 1)] * 2).to(device)
    known = Fantasies.of(gp, best, 1)
    values = [JointPosterior(known, e[:, :q]).value(JOINT["qei"], F[:, :q]) for q in (1, 2, 3, 4)]
    assert (torch.stack(values).diff(dim=0) >= -1e-9).all()
    backwards = JointPosterior(known, e).value(JOINT["qei"], F.flip(1))
    torch.testing.assert_close(backwards, values[-1], rtol=3e-2, atol=1e-3)


def test_log_form_is_sound_where_no_draw_improves(device):
    f, mu, _ = draws(device)
    best = torch.full((2, 1), -50.0, dtype=f.dtype, device=device)
    assert (JOINT["qei"](f, mu, best) == 0).all()
    value, df, _ = JOINT["qlogei"].partials(f, mu, best)
    assert torch.isfinite(value).all() and (value < -20).all()
    assert torch.isfinite(df).all() and (df.flatten(1) < 0).any(-1).all()


@pytest.mark.parametrize(
    "make",
    [
        lambda: QLogExpectedImprovement(tau_max=0.0),
        lambda: QProbabilityOfImprovement(tau=-1.0),
        lambda: QUpperConfidenceBound(beta=-1.0),
    ],
)
def test_bad_settings_are_refused(make):
    with pytest.raises(ValueError, match=r"must be >"):
        make()
