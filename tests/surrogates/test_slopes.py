"""The Gaussian process of values and slopes, against derivatives of its kernel by autograd."""

import numpy as np
import pytest
import torch

from bayesopt.surrogates.slopes import Observations, SlopesGP


def observations(d=3, m=9, seed=0, noise=1e-4):
    """Some values, then some slopes, of nothing in particular."""
    source = np.random.default_rng(seed)
    directions = source.standard_normal((m, d))
    directions[: m // 2] = 0.0
    return Observations(
        source.standard_normal((m, d)), directions, source.standard_normal(m), np.full(m, noise)
    )


def covariance(places, directions, others, theirs, scales):
    """By derivatives of the kernel, pair by pair."""

    def k(x, z):
        return torch.exp(-0.5 * (((x - z) / scales) ** 2).sum())

    def pair(x, u, z, v):
        over_z = k if not v.any() else lambda x, z: torch.func.jvp(lambda z: k(x, z), (z,), (v,))[1]
        return over_z(x, z) if not u.any() else torch.func.jvp(lambda x: over_z(x, z), (x,), (u,))[1]

    return torch.stack(
        [
            torch.stack([pair(x, u, z, v) for z, v in zip(others, theirs, strict=True)])
            for x, u in zip(places, directions, strict=True)
        ]
    )


def test_the_likelihood_is_that_of_derivatives_of_the_kernel():
    """And its gradient, both by autograd."""
    told = observations()
    x, u, y, noise = map(torch.from_numpy, told)
    value = (~u.bool().any(1)).double()
    process = SlopesGP(told, np.ones((1, 3)))
    t = torch.tensor([0.1, 0.4, -0.2], dtype=torch.float64, requires_grad=True)
    K = covariance(x, u, x, u, t.exp())
    K = K + torch.diag(1e-13 * K.diagonal() + noise)
    inverse = torch.linalg.inv(K)
    level = (value @ inverse @ y) / (value @ inverse @ value)
    scale = (y - level * value) @ inverse @ (y - level * value) / len(y)
    loss = 0.5 * (len(y) * scale.log() + torch.logdet(K) + (t**2).sum() / 2.5**2)
    loss.backward()
    found, gradient = process.loss(t.detach().numpy())
    assert found == pytest.approx(float(loss.detach()), rel=1e-9)
    np.testing.assert_allclose(gradient, t.grad.numpy(), rtol=1e-6, atol=1e-9)


def test_the_posterior_is_that_of_derivatives_of_the_kernel():
    told = observations()
    x, u, y, noise = map(torch.from_numpy, told)
    value = (~u.bool().any(1)).double()
    process = SlopesGP(told, np.ones((1, 3)))
    scales = torch.from_numpy(process.lengthscales)
    inverse = torch.linalg.inv(covariance(x, u, x, u, scales) + torch.diag(noise))
    level = (value @ inverse @ y) / (value @ inverse @ value)
    z = torch.tensor([[0.3, -0.2, 0.5]], dtype=torch.float64)
    K = covariance(torch.cat([z] * 4), torch.cat([0.0 * z, torch.eye(3).double()]), x, u, scales)
    mean, gradient = process.mean(z[0].numpy())
    by_hand = K @ inverse @ (y - level * value)
    np.testing.assert_allclose([mean, *gradient], (by_hand + level * torch.eye(4)[0]).numpy(), rtol=1e-7)
    prior = torch.diag(1.0 / scales**2)
    doubt = prior - K[1:] @ inverse @ K[1:].T
    np.testing.assert_allclose(process.gradient_covariance(z[0].numpy()), doubt.numpy(), rtol=1e-6, atol=1e-9)


def test_what_was_told_is_known():
    told = observations(noise=1e-12)
    process = SlopesGP(told, np.ones((1, 3)))
    for x, u, outcome in zip(*told[:3], strict=True):
        mean, gradient = process.mean(x)
        assert (gradient @ u if u.any() else mean) == pytest.approx(outcome, abs=1e-6)
        if u.any():
            assert u @ process.gradient_covariance(x) @ u < 1e-6 * (u**2 / process.lengthscales**2).sum()


def test_the_better_of_two_starts_is_kept():
    told = observations(m=12)
    both = SlopesGP(told, np.array([[1.0, 1.0, 1.0], [30.0, 0.02, 30.0]]))
    each = [SlopesGP(told, start) for start in (np.ones((1, 3)), np.array([[30.0, 0.02, 30.0]]))]
    losses = [process.loss(np.log(process.lengthscales))[0] for process in (both, *each)]
    assert losses[0] == min(losses[1:])


@pytest.mark.parametrize("outcome", [0.0, np.nan, np.inf])
def test_without_a_likelihood_it_says_so(outcome):
    told = observations()._replace(outcomes=np.full(9, outcome))
    with np.errstate(all="ignore"), pytest.raises(np.linalg.LinAlgError):
        SlopesGP(told._replace(directions=np.zeros((9, 3))), np.ones((1, 3)))
