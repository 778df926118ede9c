"""Outcome transform: what the surrogate is fitted to. Smaller is better throughout."""

import torch
from torch import Tensor

_SQRT2 = 2.0**0.5

#: Results are rounded to this, far below any noise the surrogate can resolve, so that the rounding errors
#: of differently scaled or shifted outcomes do not reach the proposals.
_RESOLUTION = 2.0**-36


def half_rank(y: Tensor) -> Tensor:
    """Half-rank transform, standardised; Song et al. (2024), "The Vizier GP bandit algorithm", section 4.1.

    Values up to the median keep their spacing: they say where the optimum is. Values above it are replaced
    by `median + sigma Phi^-1(p)` with p their rank quantile and sigma the root mean square deviation of
    the better half from the median: how bad a bad value is carries no information about the good region.

    Invariant to the order of the values, to their shift and to their positive scaling; equal values get
    equal results. Values up to the largest float are safe.

    Args:
        y: finite outcomes `(*b, n)`.

    Returns z `(*b, n)`: mean 0 and standard deviation 1 (0 if they are all equal).

    >>> half_rank(torch.tensor([0.0, 1.0, 2.0, 1e9], dtype=torch.float64)).round(decimals=2)
    tensor([-1.1900, -0.3500,  0.3700,  1.1600], dtype=torch.float64)
    """
    n = y.shape[-1]
    y = _rescale(y)
    ordered = y.sort(-1).values
    median = 0.5 * (ordered[..., (n - 1) // 2] + ordered[..., n // 2]).unsqueeze(-1)
    good = y <= median
    count = good.sum(-1, keepdim=True)
    sigma = ((y - median).square() * good).sum(-1, keepdim=True).div(count).sqrt()
    sigma = torch.where(sigma > 0, sigma, _rms(y - median))  # half of the values tie at the minimum
    left, right = (torch.searchsorted(ordered, y, right=side) for side in (False, True))
    quantile = 0.5 * (left + right) / n  # the mean rank of ties, in (0, 1)
    bad = median + sigma * _SQRT2 * torch.erfinv((2 * quantile - 1).clamp(0.0, 1 - 1e-6))
    return _standardise(torch.where(good, y, bad))


def _rescale(y: Tensor) -> Tensor:
    """Shift and divide so that 1e300 does not overflow nor 1e-300 vanish when differences are squared."""
    tiny = torch.finfo(y.dtype).tiny
    y = y / y.abs().amax(-1, keepdim=True).clamp_min(tiny)
    low, high = y.amin(-1, keepdim=True), y.amax(-1, keepdim=True)
    return (y - low) / (high - low).clamp_min(tiny)


def _rms(y: Tensor) -> Tensor:
    return y.square().mean(-1, keepdim=True).sqrt()


def _standardise(y: Tensor) -> Tensor:
    n = y.shape[-1]
    y = y - y.mean(-1, keepdim=True)
    std = _rms(y) * (n / max(n - 1, 1)) ** 0.5
    z = torch.where(std > 0, y / std.clamp_min(torch.finfo(y.dtype).tiny), 0.0)
    return (z / _RESOLUTION).round() * _RESOLUTION
