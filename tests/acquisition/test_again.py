"""Evaluating again, against drawing the outcomes and conditioning on them."""

import torch

from bayesopt.acquisition.again import lowest_mean_after
from bayesopt.kernels import Stationary
from bayesopt.surrogates.gp import GaussianProcess

KERNEL = Stationary(groups=(0, 1))


def surrogates(device, noise, n=9, b=2):
    """GPs with noise of the given variance, the points that they have seen, and a new one."""
    source = torch.Generator().manual_seed(1)
    X = torch.rand(b, n + 1, 2, generator=source, dtype=torch.float64).to(device)
    y = torch.sin(6.0 * X[:, :n, 0]) + torch.randn(b, n, generator=source, dtype=torch.float64).to(device)
    theta = torch.tensor([-1.0, -0.5, 0.0, noise], dtype=torch.float64, device=device)
    theta[-1] = theta[-1].log()
    return GaussianProcess.of(KERNEL, theta.expand(b, -1), X[:, :n], y), X


def test_it_is_the_mean_over_drawn_outcomes_of_the_lowest_posterior_mean(device):
    """The second route refits nothing: each drawn outcome is one more observation."""
    gp, X = surrogates(device, 0.3)
    ours = lowest_mean_after(gp, X, gp.noise)
    # Quantiles of the standard normal instead of draws: their mean is within 1e-3 of the integral.
    draws = torch.special.ndtri((torch.arange(400, dtype=torch.float64) + 0.5) / 400).to(device)
    for i in (0, 4, X.shape[1] - 1):
        mean, var = gp.marginals(X[:, i : i + 1])
        outcomes = mean + (var + gp.noise[:, None]).sqrt() * draws
        tried = X if i == X.shape[1] - 1 else X[:, :-1]
        lowest = [
            gp.condition_on(X[:, i : i + 1], y[:, None]).marginals(tried)[0].amin(-1)
            for y in outcomes.unbind(-1)
        ]
        torch.testing.assert_close(ours[:, i], torch.stack(lowest).mean(0), rtol=0, atol=2e-3)


def test_the_more_noise_the_less_is_learnt(device):
    gp, X = surrogates(device, 0.3)
    values = torch.stack([lowest_mean_after(gp, X, gp.noise * k)[:, :-1] for k in (0.1, 1.0, 10.0, 1e12)])
    assert (values.diff(dim=0) >= -1e-12).all() and (values[-1] > values[0]).any()
    best = gp.fitted().amin(-1, keepdim=True)
    torch.testing.assert_close(values[-1], best.expand_as(values[-1]), rtol=0, atol=1e-5)


def test_without_noise_only_a_new_place_tells_anything(device):
    gp, X = surrogates(device, 1e-8)
    values = lowest_mean_after(gp, X, gp.noise)
    lowest, where = gp.fitted().min(-1, keepdim=True)
    torch.testing.assert_close(values[:, :-1], lowest.expand(-1, X.shape[1] - 1), rtol=0, atol=1e-3)
    beside = X.gather(1, where[..., None].expand(-1, -1, 2)) + 0.1
    values = lowest_mean_after(gp, torch.cat([X[:, :-1], beside], 1), gp.noise)
    assert (values[:, -1] < values[:, :-1].amin(-1) - 0.1).any()
