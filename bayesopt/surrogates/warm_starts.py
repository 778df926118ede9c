"""What `prefixes.fit_surrogate` keeps of a study: hyper-parameters fitted to prefixes of its history."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from bayesopt.surrogates.gp import Optimum

#: The trials of a history, in its order.
Numbers = NDArray[np.int64]


@dataclass(eq=False)
class WarmStarts:
    """Of one study, by kind and length of the history; what was fitted to other trials does not count."""

    entries: dict[tuple[str, int], tuple[Numbers, Optimum]] = field(default_factory=dict)

    def get(self, kind: str, length: int, numbers: Numbers) -> Optimum | None:
        """What was fitted to the first `length` of these trials."""
        prefix, optimum = self.entries.get((kind, length), (None, None))
        return optimum if prefix is not None and np.array_equal(prefix, numbers[:length]) else None

    def put(self, kind: str, length: int, numbers: Numbers, optimum: Optimum) -> None:
        """Keep it."""
        self.entries[kind, length] = numbers[:length].copy(), optimum


@dataclass(frozen=True, eq=False)
class SharedWarmStarts:
    """Those of several studies as one `prefixes.Cache`.

    Attributes:
        studies: what each keeps.
        numbers: the trials of each study's histories, by kind.
        device: where they are fitted.
    """

    studies: Sequence[WarmStarts]
    numbers: Sequence[Mapping[str, Numbers]]
    device: torch.device

    def get(self, kind: str, length: int) -> Optimum | None:
        """The optimum at a prefix, None where it is not known for every study."""
        pairs = zip(self.studies, self.numbers, strict=True)
        found = [study.get(kind, length, numbers[kind]) for study, numbers in pairs]
        known = [optimum for optimum in found if optimum is not None]
        if len(known) < len(found):
            return None
        # A study that outgrows the CPU takes what it has learnt there along.
        return Optimum(*(torch.stack(part).to(self.device) for part in zip(*known, strict=True)))

    def put(self, kind: str, length: int, optimum: Optimum, /) -> None:
        """Keep it, each study its own."""
        for study, numbers, *row in zip(self.studies, self.numbers, *optimum, strict=True):
            study.put(kind, length, numbers[kind], Optimum(*row))
