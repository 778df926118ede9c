"""Outcome transform: what the surrogate is fitted to, and the way back. Smaller is better throughout."""

from dataclasses import dataclass

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
    return _transformed(y)[0]


@dataclass(frozen=True, eq=False)
class OutcomeScale:
    """The inverse of `half_rank`: an increasing, piecewise linear function y(z) through the outcomes told.

    In the better half and below the best outcome it is the straight line that the transform is there. In the
    worse half it joins the outcomes; beyond the worst it is constant, since only ranks were kept.

    Attributes:
        z, y: transformed outcomes and outcomes `(*b, n)`, ascending.
        unit: slope dy/dz of the better half `(*b, 1)`, 0 if all outcomes are equal.

    >>> y = torch.tensor([3.0, 1.0, 2.0, 9.0], dtype=torch.float64)
    >>> OutcomeScale.of(y).outcome(half_rank(y))
    tensor([3., 1., 2., 9.], dtype=torch.float64)
    """

    z: Tensor
    y: Tensor
    unit: Tensor

    @classmethod
    def of(cls, y: Tensor) -> "OutcomeScale":
        """That of finite outcomes `(*b, n)`."""
        z, unit = _transformed(y)
        y, order = y.sort(-1)
        return cls(z.gather(-1, order), y, unit)

    def outcome(self, z: Tensor) -> Tensor:
        """Outcomes `(*b, m)` of transformed ones `(*b, m)`."""
        right = torch.searchsorted(self.z, z.contiguous(), right=True)
        last = self.z.shape[-1] - 1
        (z0, y0), (z1, y1) = (
            (self.z.gather(-1, i), self.y.gather(-1, i))
            for i in ((right - 1).clamp_min(0), right.clamp_max(last))
        )
        share = torch.where(z1 > z0, (z - z0) / (z1 - z0).clamp_min(_RESOLUTION), 0.0)
        inside = y0 + share * (y1 - y0)
        return torch.where(right == 0, y0 + self.unit * (z - z0), inside)


def _transformed(y: Tensor) -> tuple[Tensor, Tensor]:
    """`half_rank`, and how much y is one unit of it in the better half `(*b, 1)`."""
    n = y.shape[-1]
    y, span = _rescale(y)
    ordered = y.sort(-1).values
    median = 0.5 * (ordered[..., (n - 1) // 2] + ordered[..., n // 2]).unsqueeze(-1)
    good = y <= median
    count = good.sum(-1, keepdim=True)
    sigma = ((y - median).square() * good).sum(-1, keepdim=True).div(count).sqrt()
    sigma = torch.where(sigma > 0, sigma, _rms(y - median))  # half of the values tie at the minimum
    left, right = (torch.searchsorted(ordered, y, right=side) for side in (False, True))
    quantile = 0.5 * (left + right) / n  # the mean rank of ties, in (0, 1)
    bad = median + sigma * _SQRT2 * torch.erfinv((2 * quantile - 1).clamp(0.0, 1 - 1e-6))
    z, deviation = _standardise(torch.where(good, y, bad))
    return z, deviation * span


def _rescale(y: Tensor) -> tuple[Tensor, Tensor]:
    """Shift and divide so that 1e300 does not overflow nor 1e-300 vanish when squared; and the divisor."""
    tiny = torch.finfo(y.dtype).tiny
    size = y.abs().amax(-1, keepdim=True).clamp_min(tiny)
    y = y / size
    low, high = y.amin(-1, keepdim=True), y.amax(-1, keepdim=True)
    return (y - low) / (high - low).clamp_min(tiny), (high - low) * size


def _rms(y: Tensor) -> Tensor:
    return y.square().mean(-1, keepdim=True).sqrt()


def _standardise(y: Tensor) -> tuple[Tensor, Tensor]:
    """Mean 0 and deviation 1; and the deviation it had."""
    n = y.shape[-1]
    y = y - y.mean(-1, keepdim=True)
    std = _rms(y) * (n / max(n - 1, 1)) ** 0.5
    z = torch.where(std > 0, y / std.clamp_min(torch.finfo(y.dtype).tiny), 0.0)
    return (z / _RESOLUTION).round() * _RESOLUTION, std
