"""From reports to arrays: learning curves on a common grid of steps, on a common scale.

A trial reports when it likes. What the process needs is a table, a row a curve, whose known entries are the
first few of each row: `Z (*b, n, T)` with zeros where nothing is known yet, and `known (*b, n, T)`, which is
1 on a prefix of each row and 0 after it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Reports = Mapping[int, float]  # value by step

_STEPS = 32  # of the grid, before duplicates are dropped
_FIRST = 1 / 50  # where it begins, as a share of all steps

#: Scaled losses are cut off here, some 70 times the spread above the median: a curve that diverges is bad,
#: and how bad says nothing about where the others end.
WORST = 5.0


def grid_of(steps: Array) -> Array:
    """Up to about twenty of the sorted distinct steps `(s,)`, in geometrically growing distances, `(T,)`.

    The law of a curve changes with the logarithm of the step, so nothing is lost between.

    >>> grid_of(np.arange(1.0, 11.0)).tolist() == list(range(1, 11))
    True
    >>> grid_of(np.arange(1.0, 1001.0))[[0, 1, 2, -2, -1]].tolist()
    [20.0, 23.0, 26.0, 881.0, 1000.0]
    """
    n = len(steps)
    places = np.geomspace(max(1.0, n * _FIRST), n, _STEPS)
    return steps[np.unique(np.round(places).astype(int)) - 1]


def on_grid(reports: Reports, grid: Array) -> tuple[Array, int]:
    """The curve at the steps of the grid `(T,)`, and how many of them it has reached.

    Each entry is the last report up to there; before the first report, the first one. Steps that it has not
    reached hold its latest value.
    """
    steps, values = (np.fromiter(part, float, len(reports)) for part in (reports, reports.values()))
    order = np.argsort(steps)
    last = np.searchsorted(steps[order], grid, side="right") - 1
    return values[order][np.maximum(last, 0)], int((grid <= steps.max()).sum())


@dataclass(frozen=True)
class Scale:
    """`z = asinh((v - centre) / spread)`, at most `WORST`, of losses v of any unit and sign.

    Linear within the spread and logarithmic beyond, so that a better best than ever is still told apart.
    Affine changes of the loss do not change z.
    """

    centre: float
    spread: float

    @classmethod
    def of(cls, finals: Array) -> "Scale | None":
        """From final values `(n,)`: their median, and how far the better half is from it (root mean square).

        Values that are not finite do not count. None if there is no difference.
        """
        finals = np.sort(finals[np.isfinite(finals)])
        if len(finals) == 0:
            return None
        centre = float(np.median(finals))
        distance = centre - finals[: (len(finals) + 1) // 2]
        spread = float(np.linalg.norm(distance / max(distance[0], 1e-300))) * distance[0]
        return cls(centre, spread / len(distance) ** 0.5) if 0.0 < spread < np.inf else None

    def scaled(self, values: Array) -> Array:
        """z of values of any shape; what is not finite is as bad as can be."""
        v = np.where(np.isfinite(values), values, np.inf)
        return np.minimum(np.arcsinh((v - self.centre) / self.spread), WORST)

    def value(self, z: float) -> float:
        """The value that has this z."""
        return self.centre + self.spread * float(np.sinh(min(z, WORST)))

    def slope(self, z: float) -> float:
        """`dv / dz` there."""
        return self.spread * float(np.cosh(min(z, WORST)))
