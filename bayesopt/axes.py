"""How one parameter lies on its encoded axis [0, 1]: even bins, logarithmic bins, or a continuum.

NumPy, elementwise, float64; `together` puts continua side by side. Coordinates are level numbers on a
discrete axis and values on a continuous one. `threshold(c)` is the smallest encoded value of coordinate `c`
or above, so a comparison of encoded values decides exactly what a comparison of decoded ones would.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from copy import copy
from typing import ClassVar

import numpy as np
import torch

from bayesopt.beliefs import Array
from bayesopt.parameters import Float, Int, Parameter

#: Room for the thresholds of conditions next to 0, where float64 is finer than any device promises.
_TINY = 2.0**-53


class Axis(ABC):
    """The map between the coordinates of one parameter and [0, 1]."""

    #: Whether the coordinates are level numbers.
    discrete: ClassVar[bool] = True

    @abstractmethod
    def encode(self, coordinates: Array) -> Array:
        """Encoded values of coordinates, any shape."""

    @abstractmethod
    def decode(self, x: Array) -> Array:
        """Coordinates of encoded values in [0, 1], any shape; level numbers come as whole floats."""

    @abstractmethod
    def threshold(self, coordinate: float) -> float:
        """Smallest encoded value of `coordinate` or above; infinite at the ends, where none or all are."""


class Bins(Axis):
    """Bins of one width: level `k` at the centre `(k + 1/2) / levels`."""

    def __init__(self, levels: int) -> None:
        self.levels = levels

    def encode(self, coordinates: Array) -> Array:
        """`(k + 1/2) / levels`."""
        return (coordinates + 0.5) / self.levels

    def decode(self, x: Array) -> Array:
        """`floor(x levels)`, the last bin closed at 1."""
        return np.floor(np.minimum(x * self.levels, self.levels - 1.0))

    def threshold(self, coordinate: float) -> float:
        """`k / levels`."""
        if 0 < coordinate < self.levels:
            return coordinate / self.levels
        return -math.inf if coordinate <= 0 else math.inf


class LogBins(Axis):
    """Whole numbers by orders of magnitude: number `v` owns `[v - 1/2, v + 1/2)` on the log scale."""

    def __init__(self, low: int, high: int) -> None:
        self.low, self.high = low, high
        self.start = math.log(low - 0.5)
        self.width = math.log(high + 0.5) - self.start

    def encode(self, coordinates: Array) -> Array:
        """`(ln v - ln(low - 1/2)) / (ln(high + 1/2) - ln(low - 1/2))`."""
        # torch's logarithm, not numpy's: `Space.snap` must give the same bits.
        log = torch.from_numpy(np.ascontiguousarray(coordinates + self.low)).log()
        return np.asarray(((log - self.start) / self.width).numpy())

    def decode(self, x: Array) -> Array:
        """The whole number nearest to `exp(start + x width)`."""
        value = np.floor(np.exp(self.start + x * self.width) + 0.5)
        return _clip(value, self.low, self.high) - self.low

    def threshold(self, coordinate: float) -> float:
        """The edge below the number."""
        if not 0 < coordinate <= self.high - self.low:
            return -math.inf if coordinate <= 0 else math.inf
        return (math.log(coordinate + self.low - 0.5) - self.start) / self.width


class Continuum(Axis):
    """A real range on a linear or a logarithmic scale.

    Decoding is exact at both ends and at the `cuts`, the values where a condition on this parameter
    changes its mind: values at or above a cut, and only they, have encoded values at or above its threshold.

    A bitwise round trip of every float is impossible: [0, 1] holds as many doubles above 1/2 as between
    1/2 and 1/4, a logarithm spreads the values differently, so some neighbours share one encoded value
    (at 1e-5 on a log scale, values some 2e-15 apart, relative). What holds is the next best: `decode` gives
    only values that encode and decode to themselves.
    """

    discrete: ClassVar[bool] = False

    def __init__(self, low: float, high: float, log: bool, cuts: Sequence[float] = ()) -> None:
        self.low, self.high, self.log = low, high, log
        self.half = 0.5 if math.isinf(high - low) else 1.0  # the width of (-1e308, 1e308) overflows
        # Close bounds: differences of logarithms would cancel, log1p of the exact difference does not.
        self.near = log and high / 2.0 <= low
        self.start = math.log(low) if log else 0.0
        self.width = (
            math.log1p((high - low) / low) if self.near else math.log(high) - self.start if log else 0.0
        )
        self._cuts = np.array([cut for cut in sorted(set(cuts)) if low < cut <= high])
        self._thresholds = _distinct(self._encode(self._cuts))
        self._bottom = np.concatenate([[0.0], self._thresholds])
        self._top = np.concatenate([np.nextafter(self._thresholds, 0.0), [1.0]])
        self._least = np.concatenate([[low], self._cuts])
        self._most = np.concatenate([np.nextafter(self._cuts, -math.inf), [high]])

    def encode(self, coordinates: Array) -> Array:
        """`(v - low) / (high - low)`, or the same of the logarithms."""
        if not len(self._cuts):
            return self._encode(coordinates)
        region = np.searchsorted(self._cuts, coordinates, side="right")
        return _clip(self._encode(coordinates), self._bottom[region], self._top[region])

    def decode(self, x: Array) -> Array:
        """The inverse of `encode`, moved by rounding errors only until it no longer moves.

        `v -> decode(encode(v))` is monotone, so iterating it goes one way and ends at a fixed point.
        """
        value = self._decode_once(x)
        for _ in range(64):
            again = self._decode_once(self.encode(value))
            if (again == value).all():
                break
            value = again
        return value

    def threshold(self, coordinate: float) -> float:
        """Encoded value of a cut."""
        if coordinate <= self.low:
            return -math.inf
        if coordinate > self.high:
            return math.inf
        return float(self._thresholds[np.searchsorted(self._cuts, coordinate)])

    def values(self, x: Array) -> Array:
        """The plain inverse of the scale, without cuts and fixed points."""
        if self.near:
            value = self.low + self.low * np.expm1(x * self.width)
        elif self.log:
            value = np.exp(self.start + x * self.width)
        else:
            low, high = self.low * self.half, self.high * self.half
            value = (low + x * (high - low)) / self.half
        value = np.where(x >= 1.0, self.high, np.where(x <= 0.0, self.low, value))
        return _clip(value, self.low, self.high)

    def _decode_once(self, x: Array) -> Array:
        if not len(self._cuts):
            return self.values(x)
        region = np.searchsorted(self._thresholds, x, side="right")
        return _clip(self.values(x), self._least[region], self._most[region])

    def _encode(self, value: Array) -> Array:
        if self.near:
            x = np.log1p((value - self.low) / self.low) / self.width
        elif self.log:
            x = (np.log(value) - self.start) / self.width
        else:
            low, high = self.low * self.half, self.high * self.half
            x = (value * self.half - low) / (high - low)
        x = np.where(value >= self.high, 1.0, np.where(value <= self.low, 0.0, x))
        return _clip(x, 0.0, 1.0)


def _clip(x: Array, low: Array | float, high: Array | float) -> Array:
    """`np.clip` without its overhead, which is most of the time of decoding one configuration."""
    return np.minimum(np.maximum(x, low), high)


def _distinct(thresholds: Array) -> Array:
    """The same ascending numbers, moved apart by single floats where they coincide; above 0, at most 1."""
    moved = thresholds.copy()
    least = _TINY
    for i, threshold in enumerate(thresholds):
        moved[i] = max(threshold, least)
        least = np.nextafter(moved[i], 2.0)
    most = 1.0
    for i in reversed(range(len(moved))):
        moved[i] = min(moved[i], most)
        most = np.nextafter(moved[i], 0.0)
    return moved


def together(axes: Sequence[Axis]) -> tuple[tuple[list[int], Axis], ...]:
    """Which of the axes make one, and that one: continua without cuts, on one kind of scale.

    It maps p values side by side, `(*b, p)`, bit by bit as each would its own, in the time of one: with few
    values the calls are what counts.
    """
    groups: dict[object, list[int]] = {}
    for place, axis in enumerate(axes):
        kind = (axis.log, axis.near) if isinstance(axis, Continuum) and not len(axis._cuts) else place
        groups.setdefault(kind, []).append(place)
    return tuple((places, _side_by_side([axes[place] for place in places])) for places in groups.values())


def _side_by_side(axes: Sequence[Axis]) -> Axis:
    if len(axes) == 1:
        return axes[0]
    joint = copy(axes[0])
    for name in ("low", "high", "half", "start", "width"):
        setattr(joint, name, np.array([getattr(axis, name) for axis in axes]))
    return joint


def axis_of(parameter: Parameter, cuts: Sequence[float] = ()) -> Axis:
    """The axis of a parameter; `cuts` as in `Continuum`."""
    if parameter.levels is None:
        assert isinstance(parameter, Float)
        return Continuum(parameter.low, parameter.high, parameter.log, cuts)
    if isinstance(parameter, Int) and parameter.log and parameter.levels > 1:
        return LogBins(parameter.low, parameter.high)
    return Bins(parameter.levels)
