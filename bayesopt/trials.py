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
    the one at which `CurvePruner` expected it to end; it is a lesson, but never the best. `std` is the
    standard deviation of the noise in the value, where whoever told the value knew it.
    """

    number: int
    config: Config
    value: float | None
    seconds: float | None = None
    error: str | None = None
    pruned: bool = False
    std: float | None = None

    @property
    def state(self) -> str:
        """How it ended: "complete", "failed" or "pruned"."""
        return "pruned" if self.pruned else "failed" if self.value is None else "complete"


@dataclass(frozen=True)
class Recommendation:
    """The configuration to take, among those tried.

    `value` is what the outcomes of all trials together say of it, and `std` how sure that is: mean and
    standard deviation of the model's belief about the outcome without noise.
    """

    config: Config
    value: float
    std: float


@dataclass(frozen=True, eq=False)
class Rows:
    """Outcomes of n configurations.

    Attributes:
        X: encoded `(n, d)`; active `(n, d)`; y: to minimise, nan for a failure, `(n,)`.
        at: how many configurations had been asked for before it, or `FOREIGN`, `(n,)`.
        number: its place in the order of telling, `(n,)`.
        std: known standard deviation of its noise, nan where it is not known, `(n,)`.
        pruned: whether it was stopped early, `(n,)`.
    """

    X: NDArray[np.float64]
    active: NDArray[np.bool_]
    y: NDArray[np.float64]
    at: NDArray[np.int64]
    number: NDArray[np.int64]
    std: NDArray[np.float64]
    pruned: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.y)

    def take(self, index: slice | NDArray[np.int64]) -> "Rows":
        """Some of them."""
        return Rows(
            self.X[index], self.active[index], self.y[index], self.at[index], self.number[index],
            self.std[index], self.pruned[index],
        )  # fmt: skip

    def order(self) -> NDArray[np.int64]:
        """Canonical order: results brought along first, by content; then by the order of asking."""
        foreign = self.at == FOREIGN
        if not foreign.any():
            return np.argsort(self.at, kind="stable")
        content = np.where(foreign, np.column_stack([self.X, self.y, self.std, self.pruned]).T, 0.0)
        return np.lexsort([*content[::-1], self.at])

    def differ(self) -> bool:
        """Whether any configuration has been evaluated twice with different outcomes: there is noise."""
        known = np.isfinite(self.y)
        X, y = self.X[known], self.y[known]
        order = np.lexsort([y, *X.T])
        X, y = X[order], y[order]
        return bool(((X[1:] == X[:-1]).all(-1) & (y[1:] != y[:-1])).any())


class Results:
    """Everything told, in canonical order, which does not depend on the order of telling.

    Arrays with room to grow: a result that comes in the order of asking costs no more than itself.
    """

    def __init__(self, d: int) -> None:
        self._count = 0
        self._room = _room(0, d)
        self.succeeded = self.with_std = 0  # how many
        self.pruned = 0  # of those that succeeded
        self._ranking = np.empty(0, int)  # of the first rows, as many as it is long

    def __len__(self) -> int:
        return self._count

    @property
    def rows(self) -> Rows:
        """All of them; views that the next `add` may overwrite."""
        return self._room.take(slice(self._count))

    @property
    def foreign(self) -> int:
        """How many were brought along."""
        return int(np.searchsorted(self._room.at[: self._count], FOREIGN, side="right"))

    @property
    def rank_keys(self) -> NDArray[np.float64]:
        """What the rows rank by `(n,)`: their outcomes, but inf for what was pruned, nan for what failed."""
        rows = self.rows
        return np.where(rows.pruned & np.isfinite(rows.y), np.inf, rows.y) if self.pruned else rows.y

    @property
    def ranking(self) -> NDArray[np.int64]:
        """Places of the rows `(n,)` by their `rank_keys`: best first, of equals the earlier one.

        Kept: one more result takes a search for its place, not another sort.
        """
        known, y = len(self._ranking), self.rank_keys
        if known < self._count:
            new = known + np.argsort(y[known:], kind="stable")
            place = np.searchsorted(
                y[:known], y[new], side="right", sorter=self._ranking
            )  # nan is above all numbers
            self._ranking = np.insert(self._ranking, place, new)
        return self._ranking

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
        self.succeeded += int(np.isfinite(new.y).sum())
        self.with_std += int(np.isfinite(new.std).sum())
        self.pruned += int((np.isfinite(new.y) & new.pruned).sum())
        if kept < self._count:
            self._ranking = self._ranking[self._ranking < kept]
        self._count = total


def _room(n: int, d: int) -> Rows:
    return Rows(
        np.empty((n, d)), np.empty((n, d), bool), np.empty(n), np.empty(n, int), np.empty(n, int),
        np.empty(n), np.empty(n, bool),
    )  # fmt: skip


def _joined(first: Rows, second: Rows) -> Rows:
    both = ((getattr(first, field.name), getattr(second, field.name)) for field in fields(Rows))
    return Rows(*map(np.concatenate, both))
