"""Whether to evaluate a known configuration again, where outcomes are noisy.

By the knowledge gradient, Frazier, Powell & Dayanik (2009): what is known of the best configuration after
one more outcome. In the end somebody takes the tried configuration with the lowest posterior mean; an outcome
y at x, not seen yet, moves the mean of configuration i by s_i Z, with Z standard normal and

    s_i = cov(f_i, f_x) / sqrt(var(f_x) + noise),

so what it leaves is `E min_i (mu_i + s_i Z)` over all configurations tried by then, x among them. That is
worth the same in a new place as in an old one, so the two compare.
"""

from functools import lru_cache

import torch
from torch import Tensor

from bayesopt.device import put
from bayesopt.surrogates.gp import GaussianProcess

#: Points of the normal distribution by which the expectation is taken.
QUANTILES = 64


def lowest_mean_after(gp: GaussianProcess, F: Tensor, noise: Tensor) -> Tensor:
    """`E min_i (mu_i + s_i Z)` after one more outcome at each of k + 1 points, `(b, k + 1)`.

    Args:
        gp: the surrogates, one batch dimension b.
        F: features of the k best configurations tried and, last, of one that is not: `(b, k + 1, D)`. The
            last one counts in the minimum only if it is the one to be evaluated.
        noise: variance of an outcome `(b,)`.
    """
    mu, covariance = gp.posterior(F)
    var = covariance.diagonal(dim1=-2, dim2=-1).clamp_min(0.0)
    s = covariance / (var + noise.unsqueeze(-1)).sqrt().unsqueeze(-2)  # (b, i, x)
    Z = _quantiles(mu.device)
    after = mu[..., :, None, None] + s.unsqueeze(-1) * Z  # (b, i, x, quantiles)
    after[..., -1, :-1, :] = torch.inf
    return after.amin(-3).mean(-1)


@lru_cache(maxsize=16)
def _quantiles(device: torch.device) -> Tensor:
    """Equally likely values of a standard normal."""
    Z = torch.special.ndtri((torch.arange(QUANTILES, dtype=torch.float64) + 0.5) / QUANTILES)
    return put(Z, device)
