"""Finite differences among the points of a history: evaluations right beside another one."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bayesopt.acquisition.distinct import SAME

Array = NDArray[Any]

#: Largest change of a coordinate in a difference. Outcomes in double: hardly more than makes a configuration
#: another one, since what is not linear is the larger error on ill-conditioned functions. Single: the root of
#: their precision.
WIDTHS = (2.0**-29, 2.0**-12)

#: Multiples of these, for differences in much the same direction: closer points than SAME are one.
_TIMES = tuple(range(1, 17))

#: How much the width of a difference may be off by rounding.
_ROUNDED = 1e-3 * WIDTHS[0]

#: Slope, in ranges of the outcomes across the space, that no smooth function has: outcomes are rough.
_STEEPEST = 1e4


@dataclass(frozen=True, eq=False)
class Differences:
    """Which of the points `X (n, d)` are another one but for a small change.

    Attributes:
        of: the earlier point `(n,)`, -1 for a base.
    """

    of: Array

    @classmethod
    def among(cls, X: Array) -> "Differences":
        """Of points in the order of asking."""
        of, widths = np.full(len(X), -1), np.outer(WIDTHS, _TIMES)
        points = torch.from_numpy(np.ascontiguousarray(X))
        near = torch.cdist(points, points, p=torch.inf) <= widths.max() + _ROUNDED
        later, earlier = near.tril(-1).nonzero().numpy().T
        change = np.abs(X[later] - X[earlier]).max(-1, initial=0.0)
        is_one = (np.abs(change[:, None, None] - widths) <= _ROUNDED).any((1, 2))
        for i, j in zip(later[is_one], earlier[is_one], strict=True):
            if of[i] < 0 and of[j] < 0:
                of[i] = j
        return cls(of)

    def by_base(self, y: Array) -> dict[int, Array]:
        """The places of those that succeeded, by base."""
        places = np.flatnonzero((self.of >= 0) & np.isfinite(y))
        return {int(base): places[self.of[places] == base] for base in np.unique(self.of[places])}


def is_rough(changes: Array, differences: Array, spread: float) -> bool:
    """Whether differences `(k,)` at changes of place `(k, d)` are chance, where outcomes are so far apart."""
    return bool((np.abs(differences) > _STEEPEST * spread * np.abs(changes).max(-1, initial=0.0)).any())


def width_of(y: Array) -> float:
    """Of differences, for the precision of outcomes `y (n,)`."""
    finite = y[np.isfinite(y)]
    return WIDTHS[1] if np.array_equal(finite, finite.astype(np.float32)) else WIDTHS[0]


def beside(x: Array, direction: Array, width: float, told: Array) -> Array | None:
    """A point a little way along the direction, or against it, that is another one than those told `(n, d)`.

    What leaves the space is turned around.
    """
    change = direction / np.abs(direction).max() if direction.any() else np.ones_like(x)
    for size in (sign * times * width for times in _TIMES for sign in (1.0, -1.0)):
        v = size * change
        v = np.where((x + v < 0.0) | (x + v > 1.0), -v, v)
        if np.abs(told - (x + v)).max(1).min() > SAME:
            return np.asarray(x + v)
    return None
