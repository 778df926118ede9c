"""The process over learning curves, beside dense formulas and SciPy."""

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from bayesopt.pruning import process

PARAMETERS = 7


@pytest.fixture
def table(device):
    """Steps, a batch of two tables of five curves each that have come to different steps, and some thetas."""
    generator = torch.Generator().manual_seed(0)
    tau = torch.linspace(0, 1, 8, dtype=torch.float64) ** 2
    Z = torch.randn(2, 5, 8, generator=generator, dtype=torch.float64).cumsum(-1)
    reached = torch.tensor([[8, 8, 3, 1, 5], [2, 8, 8, 7, 4]])
    known = (torch.arange(8) < reached[..., None]).double()
    theta = process._PRIOR[:, 0] + 0.5 * torch.randn(
        2, 3, PARAMETERS, generator=generator, dtype=torch.float64
    )
    return [part.to(device) for part in (theta, tau, Z * known, known)]


def test_decay_is_a_mixture_of_exponentials():
    alpha, beta = 0.7, 0.3
    rates = stats.gamma(alpha, scale=1 / beta)
    for t, s in [(0.0, 0.0), (0.1, 0.4), (1.0, 0.9)]:
        mixed = integrate.quad(lambda u, lag=t + s: np.exp(-rates.ppf(u) * lag), 0, 1)[0]
        found = process.decay(*(torch.tensor(v, dtype=torch.float64) for v in (t, s, alpha, beta)))
        assert found.item() == pytest.approx(mixed, rel=1e-6)


def test_bend_is_the_integral_of_brownian_motion():
    grid = (np.arange(2000) + 0.5) / 2000
    brownian = np.minimum(grid[:, None], grid)
    for t, s in [(0.3, 0.8), (0.5, 0.5), (0.9, 0.2)]:
        summed = brownian[np.ix_(grid < t, grid < s)].sum() / 2000**2
        found = process.bend(torch.tensor(t, dtype=torch.float64), torch.tensor(s, dtype=torch.float64))
        assert found.item() == pytest.approx(summed, rel=1e-6)


def test_covariance_is_positive_definite(table):
    theta, tau, *_ = table
    K = process.covariance(theta, tau)
    assert K.shape == (2, 3, 8, 8)
    assert torch.equal(K, K.mT)
    assert torch.linalg.eigvalsh(K).min() > 0


def test_evidence_is_that_of_a_multivariate_t_curve_by_curve(table):
    theta, tau, Z, known = table
    K = process.covariance(theta, tau).cpu()
    found = process.log_evidence(theta, tau, Z, known).cpu()
    for b in range(2):
        for r in range(3):
            expected = 0.0
            for z, mask in zip(Z[b].cpu(), known[b].cpu(), strict=True):
                n = int(mask.sum())
                expected += stats.multivariate_t.logpdf(z[:n], shape=K[b, r, :n, :n], df=process.NU)
            assert found[b, r].item() == pytest.approx(expected, rel=1e-10)


def test_final_value_is_that_of_the_dense_conditional(table):
    theta, tau, Z, known = table
    end = process.final(theta[:, 0], tau, Z, known)
    K = process.covariance(theta[:, 0], tau)
    for b in range(2):
        for i in range(5):
            n = int(known[b, i].sum())
            if n == 8:
                assert end.loc[b, i].item() == pytest.approx(Z[b, i, -1].item()) and end.scale[b, i] == 0
                continue
            z, A, k = Z[b, i, :n], K[b, :n, :n], K[b, -1, :n]
            variance = K[b, -1, -1] - k @ torch.linalg.solve(A, k)
            share = (process.NU + z @ torch.linalg.solve(A, z)) / (process.NU + n)
            assert end.loc[b, i].item() == pytest.approx((k @ torch.linalg.solve(A, z)).item(), rel=1e-8)
            assert end.scale[b, i].item() == pytest.approx((variance * share).sqrt().item(), rel=1e-8)
            assert end.dof[b, i] == process.NU + n


def test_probability_is_that_of_scipy(device):
    x = torch.linspace(-9, 4, 27, dtype=torch.float64, device=device)
    for dof in range(1, 40):
        found = process.student_cdf(x, torch.full_like(x, dof)).cpu()
        assert np.allclose(found, stats.t.cdf(x.cpu(), dof), rtol=0, atol=1e-14)


def test_std_is_that_of_scipy():
    end = process.Final(*(torch.tensor([v], dtype=torch.float64) for v in (0.3, 0.7, 5.0)))
    assert end.std.item() == pytest.approx(stats.t(5, 0.3, 0.7).std())


def test_a_batch_is_fitted_as_its_elements_are_and_better_than_the_prior(table):
    _, tau, Z, known = table
    both = process.fit(tau, Z, known)
    for b in range(2):
        alone = process.fit(tau, Z[b], known[b])
        assert torch.equal(both[b], alone)
        prior = process._PRIOR[:, 0].to(tau)
        evidence = process.log_evidence(torch.stack([alone, prior]), tau, Z[b], known[b])
        assert evidence[0] > evidence[1] + 1


def test_a_curve_that_has_not_moved_is_expected_to_stay(device):
    """What a plain Gaussian process cannot tell: the same level, but more room for the one that moves."""
    tau = torch.linspace(0, 1, 10, dtype=torch.float64, device=device)
    flat = torch.zeros(10, dtype=torch.float64, device=device)
    moving = torch.tensor([0, 2, -1, 1, 0], dtype=torch.float64, device=device)
    Z = torch.stack([flat, torch.cat([moving, flat[5:]])])
    known = (torch.arange(10) < 5).double().to(device).expand(2, 10)
    end = process.final(process._PRIOR[:, 0].to(device), tau, Z, known)
    assert end.scale[1] > 3 * end.scale[0]
