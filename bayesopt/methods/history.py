"""What a method proposes from: encoded histories of b studies, and randomness that belongs to them.

A method is a pure function of a `History`: of the seed, what was asked, told and is pending.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bayesopt.device import put


@dataclass(frozen=True, eq=False)
class History:
    """What b studies know, in canonical order (see `Optimizer`), encoded.

    Attributes:
        X, active: told configurations `(b, n, d)`; y: outcomes to minimise `(b, n)`, nan for a failure.
        X_pending, active_pending: asked and not yet told, `(b, k, d)`.
        seeds: of the studies; asked: how many configurations each has been asked for so far.
        at: how many configurations had been asked for before each told one `(b, n)`, on the CPU; -1 for
            results brought along, which come first, equally many in every study.
        std: known standard deviations of the outcomes `(b, n)`, nan where not known; None for none known.
        noisy: whether evaluating a configuration again may tell something new.
        ranked: `ranking`, where it is known already, on the CPU; None to sort.
        pruned: how many outcomes are of pruned trials, which rank behind all others; as many in every study.
        home: the same on the CPU, where the host can look at it; itself, if it is there.
    """

    X: Tensor
    active: Tensor
    y: Tensor
    X_pending: Tensor
    active_pending: Tensor
    seeds: tuple[int, ...]
    asked: int
    at: Tensor
    std: Tensor | None = None
    noisy: bool = False
    ranked: Tensor | None = None
    pruned: int = 0
    home: "History" = field(init=False, repr=False)

    def __post_init__(self) -> None:
        is_here = self.X.device.type == "cpu"
        object.__setattr__(self, "home", self if is_here else self._map(lambda t: t.cpu()))

    def _map(self, move: Callable[[Tensor], Tensor]) -> "History":
        """Every tensor but `at` and `ranked` moved."""
        moved: dict[str, Any] = {name: move(getattr(self, name)) for name in self._names()}
        return replace(self, **moved)

    def _names(self) -> list[str]:
        """Of the tensors that live on the device."""
        names = ("X", "active", "y", "X_pending", "active_pending", "std")
        return [name for name in names if getattr(self, name) is not None]

    def to(self, device: torch.device) -> "History":
        """The same on a device; its home stays where it is."""
        if device == self.X.device:
            return self
        there = object.__new__(History)  # not by `replace`, which would fetch a home of its own
        for each in fields(self):
            object.__setattr__(there, each.name, getattr(self.home, each.name))
        for name in self._names():
            object.__setattr__(there, name, put(getattr(self.home, name), device))
        return there

    @classmethod
    def stacked(cls, histories: Sequence["History"]) -> "History":
        """Those of several studies in the same situation, on the CPU."""
        first, *others = (history.home for history in histories)
        if not others:
            return first
        names = [*first._names(), "at", *(["ranked"] if first.ranked is not None else [])]
        joined: dict[str, Any] = {n: torch.cat([getattr(h, n) for h in (first, *others)]) for n in names}
        return replace(first, **joined, seeds=tuple(seed for h in histories for seed in h.seeds))

    @cached_property
    def ranking(self) -> Tensor:
        """Places of the results `(b, n)`, best first, ties by age, failures last; on the CPU."""
        if self.ranked is not None:
            return self.ranked
        return self.home.y.argsort(dim=-1, stable=True)

    @cached_property
    def succeeded(self) -> Tensor:
        """Places of the k successes `(b, k)`, k the same for every study."""
        return self._places(torch.isfinite(self.home.y))

    @cached_property
    def best(self) -> Tensor:
        """Places of the lowest outcomes `(b, 1)`."""
        return self.y.nan_to_num(nan=torch.inf).argmin(-1, keepdim=True)

    @cached_property
    def failed(self) -> Tensor:
        """Places of the failures `(b, n - k)`."""
        return self._places(~torch.isfinite(self.home.y))

    def _places(self, mask: Tensor) -> Tensor:
        return put(mask.nonzero()[:, 1].view(len(mask), -1), self.y.device)

    @property
    def foreign(self) -> int:
        """How many of the told ones, the first, the method did not propose."""
        return int((self.at[0] < 0).sum())

    def known(self) -> Tensor:
        """Told and pending points `(b, n + k, d)`."""
        return torch.cat([self.X, self.X_pending], 1)

    def first(self, n: int) -> "History":
        """With the first n results, nothing pending."""
        if self.home is not self:
            return self.home.first(n).to(self.X.device)
        return replace(
            self,
            X=self.X[:, :n],
            active=self.active[:, :n],
            y=self.y[:, :n],
            X_pending=self.X_pending[:, :0],
            active_pending=self.active_pending[:, :0],
            at=self.at[:, :n],
            std=None if self.std is None else self.std[:, :n],
            ranked=None,
            pruned=0,
        )


def generator(seed: int, *stream: int) -> torch.Generator:
    """An independent generator for each (seed, stream...); in use are (asked,) and (asked, slot)."""
    state = np.random.SeedSequence([seed, *stream]).generate_state(2, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))
