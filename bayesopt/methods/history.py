"""What a method proposes from: encoded histories of b studies, and randomness that belongs to them.

A method is a pure function of a `History`: of the seed, what was asked, told and is pending.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor


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

    @property
    def foreign(self) -> int:
        """How many of the told ones, the first, the method did not propose."""
        return int((self.at[0] < 0).sum())

    def known(self) -> Tensor:
        """Told and pending points `(b, n + k, d)`."""
        return torch.cat([self.X, self.X_pending], 1)

    def first(self, n: int) -> "History":
        """With the first n results, nothing pending."""
        return replace(
            self,
            X=self.X[:, :n],
            active=self.active[:, :n],
            y=self.y[:, :n],
            X_pending=self.X_pending[:, :0],
            active_pending=self.active_pending[:, :0],
            at=self.at[:, :n],
            std=None if self.std is None else self.std[:, :n],
        )


def rows_where(mask: Tensor, values: Tensor) -> Tensor:
    """Entries `(b, k, ...)` of `values (b, n, ...)` where the mask `(b, n)` holds, k times in every row."""
    return values[mask].view(len(mask), -1, *values.shape[2:])


def generator(seed: int, *stream: int) -> torch.Generator:
    """An independent generator for each (seed, stream...); in use are (asked,) and (asked, slot)."""
    state = np.random.SeedSequence([seed, *stream]).generate_state(2, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))
