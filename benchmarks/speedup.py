"""How much sooner several workers reach a regret than one.

S seeds, T moments; `*b` stands for resamples of the seeds. The curve of several runs is the median of their
simple regret at each moment, inf before half of them have a first result.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.problems.functions import Array

RESAMPLES = 200
INTERVAL = (0.05, 0.95)
_NONE = 1e300  # above every regret

Index = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Curves:
    """Regret of each seed at every moment at which one of them improved.

    Attributes:
        times: the moments `(T,)`, ascending; regret: of each seed so far `(S, T)`, inf before its first.
    """

    times: Array
    regret: Array

    @classmethod
    def of(cls, steps: Sequence[tuple[Sequence[float], Sequence[float]]]) -> "Curves":
        """From the moments at which each seed improved and the regrets from then on."""
        times = np.unique(np.concatenate([moments for moments, _ in steps]))
        regret = [_step(moments, values, times, before=math.inf) for moments, values in steps]
        return cls(times, np.array(regret))

    def quantile(self, q: float) -> Array:
        """Of the seeds at each moment `(T,)`; inf where it lies between a regret and none."""
        found = np.quantile(np.minimum(self.regret, _NONE), q, axis=0)  # inf - inf would be nan
        return np.where(found < 1e-9 * _NONE, found, math.inf)

    def reach(self, level: Array, seeds: Index) -> Array:
        """First moment at which the median over seeds is at most the level `(*b,)`; inf if it never is.

        Args:
            seeds: rows of `regret` that count, `(*b, S)`.
        """
        medians = np.median(self.regret[seeds], axis=-2)  # (*b, T)
        reached = medians <= level[..., None]
        return np.where(reached.any(-1), self.times[reached.argmax(-1)], math.inf)


def _step(places: Sequence[float], values: Sequence[float], at: Array, before: float) -> Array:
    """A function that takes `values` from each of the ascending `places` on."""
    return np.concatenate([[before], values])[np.searchsorted(places, at, side="right")]


def after(ended: Sequence[float], regret: Sequence[float], count: int) -> float:
    """Regret after so many evaluations, from the numbers of those that improved it.

    >>> after([1, 4], [3.0, 0.5], 3), after([1, 4], [3.0, 0.5], 4)
    (3.0, 0.5)
    """
    return float(_step(ended, regret, np.array(count), math.inf))


@dataclass(frozen=True, eq=False)
class Reference:
    """What one worker does in half of the evaluations, seed by seed: its regret, and the time it takes.

    Attributes:
        regret, time: `(S,)` each.
    """

    regret: Array
    time: Array

    @property
    def size(self) -> int:
        """Number of seeds."""
        return len(self.regret)

    @property
    def median(self) -> float:
        """Regret of all seeds together."""
        return float(np.median(self.regret))

    def level(self, seeds: Index) -> Array:
        """Median regret of the resamples `(*b,)`."""
        return np.median(self.regret[seeds], axis=-1)

    def moment(self, seeds: Index) -> Array:
        """Median time of the resamples `(*b,)`."""
        return np.median(self.time[seeds], axis=-1)


@dataclass(frozen=True)
class SpeedUp:
    """How many times sooner, with an interval; 0 is never."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        if self.value == 0.0:
            return "not reached"
        return f"{self.value:.1f}x ({self.low:.1f}-{self.high:.1f})"


def speed_up(reference: Reference, curves: Curves, start: Curves | None = None) -> SpeedUp:
    """Time of the reference over the time at which the curve reaches the regret of the reference.

    The interval is that of the bootstrap: all seeds are resampled alike in the reference and the curves.

    Args:
        start: whose first moment at this regret counts instead of the time of the reference.
    """
    everyone = np.arange(reference.size)

    def ratio(seeds: Index) -> Array:
        level = reference.level(seeds)
        time = reference.moment(seeds) if start is None else start.reach(level, seeds)
        return time / curves.reach(level, seeds)

    resamples = np.random.default_rng(0).integers(reference.size, size=(RESAMPLES, reference.size))
    low, high = np.quantile(ratio(resamples), INTERVAL, method="inverted_cdf")
    return SpeedUp(float(ratio(everyone)), float(low), float(high))
