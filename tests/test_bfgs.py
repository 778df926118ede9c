"""Bounded BFGS against SciPy, its laws, and its batching."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize as scipy_minimize

from bayesopt.bfgs import Options, minimize, minimize_alone

THOROUGH = Options(evaluations=400, ftol=1e-14)


def with_gradient(function):
    def fun(x, keep):
        x = x.detach().requires_grad_()
        value = function(x)
        (gradient,) = torch.autograd.grad(value.sum(), x)
        return value.detach(), gradient

    return fun


def rosenbrock(x):
    return (100 * (x[..., 1:] - x[..., :-1] ** 2) ** 2 + (1 - x[..., :-1]) ** 2).sum(-1)


def ellipsoid(x):
    return (torch.logspace(0, 4, x.shape[-1], dtype=x.dtype, device=x.device) * (x - 0.3) ** 2).sum(-1)


def quartic(x):
    return ((x - 0.7) ** 4).sum(-1) + 0.1 * (x[..., 0] - x[..., -1]) ** 2


FUNCTIONS = {"rosenbrock": rosenbrock, "ellipsoid": ellipsoid, "quartic": quartic}


def starts(device, b=3, r=2, p=5, low=-2.0, high=2.0):
    generator = torch.Generator().manual_seed(3)
    return (low + (high - low) * torch.rand(b, r, p, generator=generator, dtype=torch.float64)).to(device)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("upper", [2.0, 0.25])  # without and with active bounds
def test_agrees_with_scipy(name, upper, device):
    fun = with_gradient(FUNCTIONS[name])
    x0 = starts(device, high=upper)
    low, high = (torch.tensor(v, dtype=torch.float64, device=device) for v in (-2.0, upper))
    ours = minimize(fun, x0, low, high, THOROUGH)
    for start, value in zip(x0.flatten(0, 1), ours.value.flatten(), strict=True):
        theirs = scipy_minimize(
            lambda v: tuple(t.cpu().numpy() for t in fun(torch.tensor(v, device=device), None)),
            start.cpu().numpy(), jac=True, method="L-BFGS-B", bounds=[(-2.0, upper)] * 5,
            options={"maxiter": 1000, "ftol": 1e-15, "gtol": 1e-10},
        )  # fmt: skip
        assert value.item() <= theirs.fun + 1e-6 or name == "rosenbrock"  # which has a second, local minimum
    best = scipy_minimize(
        lambda v: tuple(t.cpu().numpy() for t in fun(torch.tensor(v, device=device), None)),
        np.full(5, 0.1), jac=True, method="L-BFGS-B", bounds=[(-2.0, upper)] * 5, options={"ftol": 1e-15},
    )  # fmt: skip
    assert abs(ours.value.min().item() - best.fun) < 1e-6


@pytest.mark.parametrize("evaluations", [2, 3, 6, 30])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_alone_on_the_host_it_takes_the_same_steps(name, evaluations):
    fun, low, high = with_gradient(FUNCTIONS[name]), torch.full((5,), -2.0), torch.full((5,), 0.6)
    options = Options(evaluations=evaluations, ftol=1e-3)

    def here(x):
        f, g = fun(torch.from_numpy(x), None)
        return float(f), g.numpy()

    for start in starts("cpu", b=8, r=1, high=0.6)[:, 0]:
        expected = minimize(fun, start[None, None], low.double(), high.double(), options).x[0, 0]
        box = low.double().numpy(), high.double().numpy()
        found = minimize_alone(here, start.numpy(), *box, options, first=here(start.numpy()))
        np.testing.assert_allclose(found, expected.numpy(), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_batch_is_its_rows_alone(name, device):
    """Decoupled search: no row notices its neighbours, however early they converge and are dropped."""
    fun, x0 = with_gradient(FUNCTIONS[name]), starts(device, b=4, r=3)
    low, high = torch.full((5,), -2.0, device=device), torch.full((5,), 1.5, device=device)
    options = Options(evaluations=40)
    together = minimize(fun, x0, low.double(), high.double(), options)
    for i in range(4):
        for j in range(3):
            alone = minimize(fun, x0[i : i + 1, j : j + 1], low.double(), high.double(), options)
            torch.testing.assert_close(together.x[i, j], alone.x[0, 0], rtol=1e-9, atol=1e-9)


def test_groups_dropped_early_are_named_to_the_objective(device):
    """`keep` must index the caller's data: each group has its own target."""
    target = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64, device=device)
    stiffness = torch.tensor([1.0, 1e3, 1.0], dtype=torch.float64, device=device)
    seen = []

    def fun(x, keep):
        index = torch.arange(3, device=device) if keep is None else keep
        seen.append(len(index))
        t, s = target[index, None, None], stiffness[index, None, None]
        powers = torch.tensor([1.0, 30.0], dtype=torch.float64, device=device)
        return (s * powers * (x - t) ** 2).sum(-1), 2 * s * powers * (x - t)

    x0 = torch.zeros(3, 1, 2, dtype=torch.float64, device=device)
    x0[0] = 0.1
    x = minimize(fun, x0, torch.zeros(2, device=device), torch.ones(2, device=device), THOROUGH).x
    torch.testing.assert_close(x, target[:, None, None].expand(3, 1, 2), rtol=1e-6, atol=1e-6)
    if device.type == "cpu":
        assert min(seen) < 3  # otherwise this test shows nothing


def test_stays_inside_the_box_and_never_ends_above_its_start(device):
    def fun(x, keep):
        assert (x >= -1).all() and (x <= 0.5).all()
        return with_gradient(rosenbrock)(x, keep)

    x0 = starts(device, low=-1.0, high=0.5)
    solution = minimize(
        fun, x0, torch.tensor(-1.0).double().to(device), torch.tensor(0.5).double().to(device)
    )
    assert (solution.value <= rosenbrock(x0)).all()


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_walls_of_nan_or_inf_are_stepped_back_from(bad, device):
    def fun(x, keep):
        value = (x - 1.0).square().sum(-1)
        return torch.where(x[..., 0] > 0.6, bad, value), 2 * (x - 1.0)

    x0 = torch.zeros(1, 2, 2, dtype=torch.float64, device=device)
    solution = minimize(
        fun, x0, torch.zeros(2, device=device), torch.ones(2, device=device), Options(evaluations=60)
    )
    assert torch.isfinite(solution.value).all()
    assert (solution.x[..., 0] <= 0.6).all() and (solution.x[..., 0] > 0.3).all()


def test_a_start_without_a_value_is_returned_as_it_is(device):
    def fun(x, keep):
        return torch.full(x.shape[:-1], torch.nan, device=device), torch.zeros_like(x)

    x0 = torch.full((1, 1, 2), 0.5, device=device)
    solution = minimize(fun, x0, torch.zeros(2, device=device), torch.ones(2, device=device))
    torch.testing.assert_close(solution.x, x0)


def test_the_evaluation_budget_is_kept(device):
    calls = []

    def fun(x, keep):
        calls.append(1)
        return with_gradient(rosenbrock)(x, keep)

    solution = minimize(fun, starts(device), torch.tensor(-2.0), torch.tensor(2.0), Options(evaluations=7))
    assert len(calls) == solution.evaluations == 7
