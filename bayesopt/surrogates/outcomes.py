"""Outcome transforms: what the surrogate is fitted to.

Smaller is better throughout. A failed evaluation is nan: it does not touch the scale of the others, and
comes out worse than all of them, so that the surrogate steers away from where it happened.
"""

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
    Failures become `max + range / 2 + 1` of the standardised values.

    Invariant to the order of the values, to their shift and to their positive scaling; equal values get
    equal results. Values up to the largest float are safe.

    Args:
        y: outcomes `(*b, n)`, nan where the evaluation failed, at least one finite value in each row.

    Returns z `(*b, n)`: mean 0 and standard deviation 1 over the successful ones (0 if they are all equal).

    >>> half_rank(torch.tensor([0.0, 1.0, 2.0, 1e9], dtype=torch.float64)).round(decimals=2)
    tensor([-1.1900, -0.3500,  0.3700,  1.1600], dtype=torch.float64)
    """
    ok = torch.isfinite(y)
    count = ok.sum(-1, keepdim=True)
    y = _rescale(y, ok)
    ordered = torch.where(ok, y, torch.inf).sort(-1).values
    median = 0.5 * (ordered.gather(-1, (count - 1) // 2) + ordered.gather(-1, count // 2))

    good = ok & (y <= median)
    sigma = _rms(y - median, good)
    sigma = torch.where(sigma > 0, sigma, _rms(y - median, ok))  # half of the values tie at the minimum
    left, right = (torch.searchsorted(ordered, y, right=side) for side in (False, True))
    quantile = 0.5 * (left + right) / count  # the mean rank of ties, in (0, 1)
    bad = median + sigma * _SQRT2 * torch.erfinv((2 * quantile - 1).clamp(0.0, 1 - 1e-6))
    return _impute_failures(_standardise(torch.where(good, y, bad), ok), ok)


def standardise(y: Tensor) -> Tensor:
    """Mean 0 and standard deviation 1 over the successful evaluations; failures as in `half_rank`."""
    ok = torch.isfinite(y)
    return _impute_failures(_standardise(_rescale(y, ok), ok), ok)


def _rescale(y: Tensor, ok: Tensor) -> Tensor:
    """Shift and divide so that 1e300 does not overflow nor 1e-300 vanish when differences are squared."""
    y = torch.where(ok, y, 0.0)
    y = y / y.abs().amax(-1, keepdim=True).clamp_min(torch.finfo(y.dtype).tiny)
    low = torch.where(ok, y, torch.inf).amin(-1, keepdim=True)
    high = torch.where(ok, y, -torch.inf).amax(-1, keepdim=True)
    y = (y - low) / (high - low).clamp_min(torch.finfo(y.dtype).tiny)
    return torch.where(ok, y, 0.0)


def _rms(y: Tensor, mask: Tensor) -> Tensor:
    return (torch.where(mask, y, 0.0).square().sum(-1, keepdim=True) / mask.sum(-1, keepdim=True)).sqrt()


def _standardise(y: Tensor, ok: Tensor) -> Tensor:
    count = ok.sum(-1, keepdim=True)
    y = y - torch.where(ok, y, 0.0).sum(-1, keepdim=True) / count
    std = _rms(y, ok) * (count / (count - 1).clamp_min(1)).sqrt()
    z = torch.where(std > 0, y / std.clamp_min(torch.finfo(y.dtype).tiny), 0.0)
    return (z / _RESOLUTION).round() * _RESOLUTION


def _impute_failures(z: Tensor, ok: Tensor) -> Tensor:
    low = torch.where(ok, z, torch.inf).amin(-1, keepdim=True)
    high = torch.where(ok, z, -torch.inf).amax(-1, keepdim=True)
    return torch.where(ok, z, high + 0.5 * (high - low) + 1.0)
