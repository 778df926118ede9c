"""Every kernel: symmetric, positive semi-definite, gpytorch's where it has it, gradients against autograd."""

import gpytorch
import pytest
import torch

from bayesopt.kernels import PROFILES, RBF, Kernel, Matern32, Stationary, Sum
from bayesopt.kernels.warping import kumaraswamy, kumaraswamy_and_partials

D = 4
KERNELS: dict[str, Kernel] = {
    **{name: Stationary(groups=(0, 1, 2, 3), profile=profile) for name, profile in PROFILES.items()},
    "tied": Stationary(groups=(0, 1, 1, 0)),
    "columns": Stationary(groups=(0, 1), columns=(3, 1)),
    "warped": Stationary(groups=(0, 1, 2, 2), warp=True),
    "warped columns": Stationary(groups=(0, 0), columns=(2, 0), warp=True, profile=Matern32()),
    "sum": Stationary(groups=(0, 1, 2, 3)) + Stationary(groups=(0,), columns=(2,), profile=RBF()),
    "additive": Sum(tuple(Stationary(groups=(0,), columns=(j,)) for j in range(D))),
}
kernels = pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS.keys())


def inputs(kernel, device, batch=(2,), n=9):
    generator = torch.Generator().manual_seed(n)
    F = torch.rand(*batch, n, D, generator=generator, dtype=torch.float64).to(device)
    theta = 0.4 * torch.randn(*batch, kernel.num_hyper, generator=generator, dtype=torch.float64).to(device)
    return theta, F


def autograd(function, x):
    x = x.detach().requires_grad_()
    return torch.autograd.grad(function(x), x)[0]


def test_sums_by_group_are_products_with_membership(device):
    kernel = KERNELS["tied"]
    v = torch.randn(3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(device)
    expected = torch.stack([v[:, 0] + v[:, 3], v[:, 1] + v[:, 2]], -1)
    torch.testing.assert_close(kernel._per_group(v), expected)
    torch.testing.assert_close(kernel._per_group_by_product(v), expected)


@kernels
def test_gram_is_symmetric_and_positive_semi_definite(kernel, device):
    theta, F = inputs(kernel, device, n=30)
    K = kernel.gram(theta, F)
    torch.testing.assert_close(K, K.mT)
    assert torch.linalg.eigvalsh(K).min() > -1e-10
    variance = kernel.variance(theta)[..., None].expand(2, 30)
    torch.testing.assert_close(K.diagonal(dim1=-2, dim2=-1), variance, rtol=1e-7, atol=1e-7)


@kernels
def test_hyper_gradient_equals_autograd(kernel, device):
    theta, F = inputs(kernel, device)
    A = torch.randn(2, 9, 9, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(device)
    A = A + A.mT
    with torch.no_grad():
        K, pullback = kernel.gram_and_pullback(theta, F)
        torch.testing.assert_close(K, kernel.gram(theta, F))
        gradient = pullback(A.clone())
    torch.testing.assert_close(
        gradient, autograd(lambda t: (A * kernel.gram(t, F)).sum(), theta), rtol=1e-6, atol=1e-7
    )


@kernels
@pytest.mark.parametrize("rows", [1, 4, 9, 100])
def test_some_rows_at_a_time_give_the_same_and_leave_the_weights_alone(kernel, rows, device):
    theta, F = inputs(kernel, device)
    A = torch.randn(2, 9, 9, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(device)
    A = A + A.mT
    with torch.no_grad():
        K, pullback = kernel.gram_and_pullback(theta, F, rows)
        expected, at_once = kernel.gram_and_pullback(theta, F)
        torch.testing.assert_close(K, expected)
        K.zero_()  # it is the caller's
        weights = A.clone()
        torch.testing.assert_close(pullback(weights), at_once(A.clone()))
        torch.testing.assert_close(weights, A, rtol=0, atol=0)


@kernels
def test_input_gradient_equals_autograd(kernel, device):
    theta, F = inputs(kernel, device)
    Z = inputs(kernel, device, n=5)[1]
    A = torch.randn(2, 5, 9, generator=torch.Generator().manual_seed(2), dtype=torch.float64).to(device)
    with torch.no_grad():
        K, pullback = kernel.towards(theta, F)(Z)
        torch.testing.assert_close(K, kernel.cross(theta, Z, F))
        gradient = pullback(A.clone())
    torch.testing.assert_close(
        gradient, autograd(lambda z: (A * kernel.cross(theta, z, F)).sum(), Z), rtol=1e-6, atol=1e-7
    )


@kernels
def test_a_batch_equals_its_elements(kernel, device):
    theta, F = inputs(kernel, device, batch=(3, 2))
    K = kernel.gram(theta, F)
    for i in range(3):
        for j in range(2):
            torch.testing.assert_close(K[i, j], kernel.gram(theta[i, j], F[i, j]))


@pytest.mark.parametrize(
    ("name", "nu"), [("matern12", 0.5), ("matern32", 1.5), ("matern52", 2.5), ("rbf", None)]
)
def test_profiles_equal_gpytorch(name, nu, device):
    theta, F = inputs(KERNELS[name], device, batch=())
    base = (
        gpytorch.kernels.RBFKernel if nu is None else lambda **kw: gpytorch.kernels.MaternKernel(nu=nu, **kw)
    )
    oracle = gpytorch.kernels.ScaleKernel(base(ard_num_dims=D)).to(device, torch.float64)
    oracle.base_kernel.lengthscale, oracle.outputscale = theta[:D].exp(), theta[D].exp()
    torch.testing.assert_close(
        KERNELS[name].gram(theta, F), oracle(F).to_dense().detach(), rtol=1e-7, atol=1e-7
    )


def test_the_rational_quadratic_equals_gpytorch(device):
    theta, F = inputs(KERNELS["rational_quadratic"], device, batch=())
    base = gpytorch.kernels.RQKernel(ard_num_dims=D)
    oracle = gpytorch.kernels.ScaleKernel(base).to(device, torch.float64)
    oracle.base_kernel.lengthscale, oracle.outputscale = theta[:D].exp(), theta[D].exp()
    oracle.base_kernel.alpha = 0.25
    K = KERNELS["rational_quadratic"].gram(theta, F)
    torch.testing.assert_close(K, oracle(F).to_dense().detach(), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("name", PROFILES)
def test_profile_slope_equals_autograd_and_is_finite_at_zero(name, device):
    profile = PROFILES[name]
    r2 = torch.logspace(-6, 3, 50, dtype=torch.float64, device=device)
    g, slope = profile.g_and_slope(r2.clone())
    torch.testing.assert_close(g, profile.g(r2))
    torch.testing.assert_close(slope, autograd(lambda r: profile.g(r).sum(), r2))
    g, slope = profile.g_and_slope(torch.zeros(1, dtype=torch.float64, device=device))
    assert abs(g.item() - 1) < 1e-8 and torch.isfinite(slope).all()


def test_a_sum_of_kernels_is_a_kernel_and_flattens(device):
    a, b = KERNELS["matern52"], KERNELS["columns"]
    total = (a + b) + a
    assert isinstance(total, Sum) and total.kernels == (a, b, a)
    theta, F = inputs(total, device)
    parts = theta.split([a.num_hyper, b.num_hyper, a.num_hyper], -1)
    expected = a.gram(parts[0], F) + b.gram(parts[1], F) + a.gram(parts[2], F)
    torch.testing.assert_close(total.gram(theta, F), expected)


def test_warping_is_monotone_keeps_the_ends_and_is_the_identity_at_one(device):
    x = torch.linspace(0, 1, 101, dtype=torch.float64, device=device)
    for log_a, log_b in [(-1.0, 0.5), (0.0, 0.0), (1.0, -0.7)]:
        w = kumaraswamy(x, torch.tensor(log_a, device=device), torch.tensor(log_b, device=device))
        assert (w.diff() > 0).all() and abs(w[0].item()) < 1e-3 and abs(w[-1].item() - 1) < 1e-3
    zero = torch.zeros((), dtype=torch.float64, device=device)
    torch.testing.assert_close(kumaraswamy(x, zero, zero), x, rtol=0, atol=1e-8)


def test_warping_partials_equal_autograd(device):
    x = torch.linspace(0.01, 0.99, 21, dtype=torch.float64, device=device)
    a, b = (torch.full_like(x, v) for v in (0.4, -0.3))
    warped = kumaraswamy_and_partials(x, a, b)
    torch.testing.assert_close(warped.w, kumaraswamy(x, a, b))
    torch.testing.assert_close(warped.dx, autograd(lambda v: kumaraswamy(v, a, b).sum(), x))
    torch.testing.assert_close(warped.dlog_a, autograd(lambda v: kumaraswamy(x, v, b).sum(), a))
    torch.testing.assert_close(warped.dlog_b, autograd(lambda v: kumaraswamy(x, a, v).sum(), b))


@pytest.mark.parametrize("groups", [(), (1, 2), (0, 2)])
def test_gaps_in_the_groups_are_refused(groups):
    with pytest.raises(ValueError, match="groups"):
        Stationary(groups=groups)


def test_columns_must_match_the_groups():
    with pytest.raises(ValueError, match="2 columns, 1 groups"):
        Stationary(groups=(0,), columns=(0, 1))
