"""What a study knows: `Trial`, as the user sees it, and `Results`, as the methods do."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

Config = dict[str, Any]

#: Where a trial comes in the order of asking, if nobody asked for it.
FOREIGN = -1


@dataclass(frozen=True)
class Trial:
    """One evaluation: its place in the order of telling, what was tried, what came out.

    `value` is None where the evaluation failed; `seconds` and `error` (a traceback) are known when
    `minimize` ran the objective. A trial that was `pruned`, stopped early, has the last value it reported, or
    the one at which `CurvePruner` expected it to end; it is a lesson, but never the best.
    """

    number: int
    config: Config
    value: float | None
    seconds: float | None = None
    error: str | None = None
    pruned: bool = False


@dataclass(frozen=True, eq=False)
class Rows:
    """Outcomes of n configurations.

    Attributes:
        X: encoded `(n, d)`; active `(n, d)`; y: to minimise, nan for a failure, `(n,)`.
        at: how many configurations had been asked for before it, or `FOREIGN`, `(n,)`.
        number: its place in the order of telling, `(n,)`.
    """

    X: NDArray[np.float64]
    active: NDArray[np.bool_]
    y: NDArray[np.float64]
    at: NDArray[np.int64]
    number: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.y)

    def take(self, index: slice | NDArray[np.int64]) -> "Rows":
        """Some of them."""
        return Rows(*(getattr(self, field.name)[index] for field in fields(self)))

    def order(self) -> NDArray[np.int64]:
        """Canonical order: results brought along first, by content; then by the order of asking."""
        foreign = self.at == FOREIGN
        if not foreign.any():
            return np.argsort(self.at, kind="stable")
        content = np.where(foreign, np.column_stack([self.X, self.y]).T, 0.0)
        return np.lexsort([*content[::-1], self.at])


class Results:
    """Everything told, in canonical order, which does not depend on the order of telling.

    Arrays with room to grow: a result that comes in the order of asking costs no more than itself.
    """

    def __init__(self, d: int) -> None:
        self._count = 0
        self._room = _room(0, d)

    def __len__(self) -> int:
        return self._count

    @property
    def rows(self) -> Rows:
        """All of them; views that the next `add` may overwrite."""
        return self._room.take(slice(self._count))

    def asked_at(self) -> NDArray[np.int64]:
        """`Rows.at` in the order of telling, `(n,)`."""
        rows = self.rows
        at = np.empty(len(rows), dtype=np.int64)
        at[rows.number] = rows.at
        return at

    def add(self, new: Rows) -> None:
        """Put more results into their places."""
        kept = int(np.searchsorted(self.rows.at, new.at.min(), side="left"))
        tail = _joined(self._room.take(slice(kept, self._count)), new)
        total = self._count + len(new)
        if total > len(self._room):
            self._room = _joined(self.rows, _room(total, new.X.shape[1]))
        order = tail.order()
        for field in fields(Rows):
            getattr(self._room, field.name)[kept:total] = getattr(tail, field.name)[order]
        self._count = total


def _room(n: int, d: int) -> Rows:
    return Rows(np.empty((n, d)), np.empty((n, d), bool), np.empty(n), np.empty(n, int), np.empty(n, int))


def _joined(first: Rows, second: Rows) -> Rows:
    both = ((getattr(first, field.name), getattr(second, field.name)) for field in fields(Rows))
    return Rows(*map(np.concatenate, both))
