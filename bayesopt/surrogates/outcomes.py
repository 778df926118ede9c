"""Outcome transform: what the surrogate is fitted to, and the way back. Smaller is better throughout."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

_SQRT2 = 2.0**0.5

#: Results are rounded to this, far below any noise the surrogate can resolve, so that the rounding errors
#: of differently scaled or shifted outcomes do not reach the proposals.
_RESOLUTION = 2.0**-36

#: Largest standard deviation of noise, after the transform: who is so uncertain has said nothing.
_MOST_STD = 1e6


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


def half_rank_std(y: Tensor, std: Tensor) -> Tensor:
    """Standard deviation of `half_rank(y)` where that of y is std.

    Half the difference between what the transform makes of `y + std` and of `y - std`. Where it is linear, up
    to the median, that is its slope times std: error propagation to first order. Above, the slope at a point
    is that of the gap between two neighbours in rank, as random as they are; the secant over the width of the
    noise is not.

    Args:
        y: finite outcomes `(*b, n)`; std: of their noise `(*b, n)`, positive, or nan where it is not known.

    Returns `(*b, n)`: 0 where it is not known. Equal outcomes tell no scale: there std counts as 1.

    >>> half_rank_std(torch.arange(4.0).double(), torch.full((4,), 0.1).double()).round(decimals=3)
    tensor([0.0840, 0.0780, 0.0750, 0.0390], dtype=torch.float64)
    """
    scale = _Scale.of(y)
    u, s = scale.down(y), std / scale.largest / scale.span
    t = _warp(u)
    order = u.argsort(dim=-1)
    knots, one = (u.gather(-1, order), t.gather(-1, order)), torch.ones_like(scale.span)
    half = 0.5 * (_joined(*knots, one, u + s) - _joined(*knots, one, u - s)) / _standardise(t)[1]
    half = torch.where((u == 0.0).all(-1, keepdim=True), 1.0, half.clamp_max(_MOST_STD))
    return torch.where(std > 0.0, (half / _RESOLUTION).round() * _RESOLUTION, 0.0)


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
        return _joined(self.z, self.y, self.unit, z)


def _joined(x: Tensor, y: Tensor, slope: Tensor, at: Tensor) -> Tensor:
    """The line that joins points x, y `(*b, n)`, x ascending, at `(*b, m)`.

    With a slope `(*b, 1)` before the first point, constant after the last.
    """
    right = torch.searchsorted(x, at.contiguous(), right=True)
    (x0, y0), (x1, y1) = (
        (x.gather(-1, i), y.gather(-1, i))
        for i in ((right - 1).clamp_min(0), right.clamp_max(x.shape[-1] - 1))
    )
    share = torch.where(x1 > x0, (at - x0) / (x1 - x0).clamp_min(torch.finfo(x.dtype).tiny), 0.0)
    return torch.where(right == 0, y0 + slope * (at - x0), y0 + share * (y1 - y0))


def _transformed(y: Tensor) -> tuple[Tensor, Tensor]:
    """`half_rank`, and how much y is one unit of it in the better half `(*b, 1)`."""
    scale = _Scale.of(y)
    z, deviation = _standardise(_warp(scale.down(y)))
    return z, deviation * (scale.span * scale.largest)


def _warp(y: Tensor) -> Tensor:
    """The better half as it is, the rest by rank."""
    n = y.shape[-1]
    ordered = y.sort(-1).values
    median = 0.5 * (ordered[..., (n - 1) // 2] + ordered[..., n // 2]).unsqueeze(-1)
    good = y <= median
    count = good.sum(-1, keepdim=True)
    sigma = ((y - median).square() * good).sum(-1, keepdim=True).div(count).sqrt()
    sigma = torch.where(sigma > 0, sigma, _rms(y - median))  # half of the values tie at the minimum
    left, right = (torch.searchsorted(ordered, y, right=side) for side in (False, True))
    quantile = 0.5 * (left + right) / n  # the mean rank of ties, in (0, 1)
    bad = median + sigma * _SQRT2 * torch.erfinv((2 * quantile - 1).clamp(0.0, 1 - 1e-6))
    return torch.where(good, y, bad)


class _Scale(NamedTuple):
    """Shift and scale of outcomes: 1e300 must not overflow nor 1e-300 vanish when differences are squared.

    Attributes:
        largest: magnitude; low: the smallest outcome over it; span: their range over it; `(*b, 1)`.
    """

    largest: Tensor
    low: Tensor
    span: Tensor

    @classmethod
    def of(cls, y: Tensor) -> "_Scale":
        """That of outcomes `(*b, n)`."""
        tiny = torch.finfo(y.dtype).tiny
        largest = y.abs().amax(-1, keepdim=True).clamp_min(tiny)
        y = y / largest
        low, high = y.amin(-1, keepdim=True), y.amax(-1, keepdim=True)
        return cls(largest, low, (high - low).clamp_min(tiny))

    def down(self, y: Tensor) -> Tensor:
        """To [0, 1]."""
        return (y / self.largest - self.low) / self.span


def _rms(y: Tensor) -> Tensor:
    return y.square().mean(-1, keepdim=True).sqrt()


def _standardise(y: Tensor) -> tuple[Tensor, Tensor]:
    """Mean 0 and deviation 1; and the deviation it had."""
    n = y.shape[-1]
    y = y - y.mean(-1, keepdim=True)
    std = _rms(y) * (n / max(n - 1, 1)) ** 0.5
    z = torch.where(std > 0, y / std.clamp_min(torch.finfo(y.dtype).tiny), 0.0)
    return (z / _RESOLUTION).round() * _RESOLUTION, std
