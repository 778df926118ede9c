"""What a study learns from its record, where and by which model: `Learner`."""

import logging
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from bayesopt import linalg
from bayesopt.calibration import Placement, place
from bayesopt.device import CPU, within_memory
from bayesopt.explanation import Regret
from bayesopt.methods.arms import is_broad
from bayesopt.methods.choice import choose
from bayesopt.methods.gp import Learnt, learn
from bayesopt.methods.history import History
from bayesopt.methods.quasi_random import design_size
from bayesopt.reach import largest_fit
from bayesopt.record import Record
from bayesopt.setting import MODELS, ON_DEVICE
from bayesopt.surrogates.model import Model
from bayesopt.surrogates.warm_starts import SharedWarmStarts, WarmStarts

log = logging.getLogger("bayesopt")

R = TypeVar("R")


@dataclass
class Memory:
    """What fits into that of the device: this share of the usual chunks, 0 if none does."""

    share: float = 1.0


class Learner:
    """A study behind its public face: what its methods see of the record, and the models fitted to it.

    Everything here follows from the record and its setting; what is kept is a cache.

    Attributes:
        device: where it computes; None to choose at each ask.
        warm: starts of fits, of either model, by whether it is the broad one.
        regrets: after some results, by their numbers; see `stopping`.
        memory: what has been found out about it, by this one or a twin.
    """

    def __init__(self, record: Record, device: torch.device | None) -> None:
        self.record, self.setting, self.space = record, record.setting, record.space
        self.device = device
        self.warm = {broad: WarmStarts() for broad in (False, True)}
        self.regrets: dict[bytes, Regret | None] = {}
        self.memory = Memory()
        self._latest: dict[tuple[int, bool], Learnt] = {}  # by how many results, and whether broad

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_latest": {}}

    def twin(self) -> "Learner":
        """Another one that will propose the same; asking it changes nothing here but what is cached."""
        twin = copy(self)
        twin.record, twin._latest = self.record.copy(), self._latest
        twin.record.drop_old()
        return twin

    # -------------------------------------------------------------------------------------- what is known

    @property
    def method(self) -> str:
        """That of the next proposal that is neither enqueued nor part of a design."""
        chosen = self.setting.method
        return choose(len(self.record.trials)).method if chosen == "auto" else chosen

    def history(self) -> History:
        """What is known, on the CPU."""
        record, ranks = self.record, self.method == "tpe"
        told = record.results.rows
        pending = sorted(record.pending, key=lambda asked: asked.at)
        shape = len(pending), self.space.dim
        return History(
            _tensor(told.X),
            _tensor(told.active),
            _tensor(told.y),
            _tensor(np.array([asked.row for asked in pending]).reshape(shape)),
            _tensor(np.array([asked.active for asked in pending], dtype=bool).reshape(shape)),
            (self.setting.seed,),
            record.asked,
            torch.from_numpy(told.at)[None],
            _tensor(told.std) if record.has_std() else None,
            self.may_repeat(),
            _tensor(record.results.ranking) if ranks else None,
            record.results.pruned if ranks else 0,
        )

    def may_repeat(self) -> bool:
        """Whether a proposal may be a configuration that was told."""
        return self.method == "gp" and self.record.is_noisy()

    def untried(self, q: int) -> int:
        """How many of the next q proposals can be configurations that the method may propose."""
        return self.record.untried(q, self.may_repeat())

    def quasi_random_slots(self, q: int) -> int:
        """How many of the next q proposals come from the initial design."""
        method = self.method
        if method in ("random", "sobol"):
            return q
        if method not in MODELS:
            return 0
        if not self.record.results.succeeded:
            return q
        known = len(self.record.trials) + len(self.record.pending)
        return min(q, max(0, design_size(self.space) - known))

    # --------------------------------------------------------------------------------------------- where

    def placement(self, q: int = 1, studies: int = 1) -> Placement:
        """Where q proposals for each of so many studies like this one are computed, and why."""
        if not self.memory.share:
            return Placement(CPU, "the GPU has too little memory for this study")
        if self.method not in ON_DEVICE:
            return Placement(CPU, "this method has no use for a GPU")
        if self.device is not None:
            return Placement(self.device, f"device={str(self.device)!r} was asked for")
        if self.method != "gp":
            return Placement(CPU, "an ask of this method is too short for a GPU")
        return place(len(self.record.trials), q, studies)

    def computed(self, compute: Callable[[torch.device], R], q: int = 1, studies: int = 1) -> R:
        """`compute(device)` where it is quickest; in smaller chunks or on the CPU where memory is short."""
        device = self.placement(q, studies).device
        if device.type == "cpu":
            return compute(device)
        found, self.memory.share = within_memory(partial(compute, device), self.memory.share)
        if found is not None:
            return found
        log.warning("%s has too little memory for this study; it continues on the CPU", device)
        self._latest.clear()
        return compute(CPU)

    # ------------------------------------------------------------------------------- the Gaussian process

    def model(self, device: torch.device, broad: bool = False) -> Model:
        """That of the Gaussian process, before it has seen anything."""
        exact = self.setting.deterministic is True
        largest = largest_fit(device, len(self.record.trials))
        return Model.of(self.space, device, self.setting.method == "auto", exact, largest, broad)

    def is_broad(self, q: int = 1) -> bool:
        """Whether the next q proposals, if the Gaussian process makes them, are made by the broad model."""
        return self.setting.method == "auto" and is_broad(self.space, self.record.asked, q)

    def latest(self, broad: bool = False) -> Learnt | None:
        """What `learn` has found, if somebody has asked since the last result."""
        return self._latest.get((len(self.record.trials), broad))

    def learn(self, broad: bool = False) -> Learnt:
        """What the Gaussian process makes of the history; kept until something is told."""
        learnt = self.latest(broad)
        if learnt is None:
            learnt = self.computed(partial(self.learn_from, self.history(), broad=broad))
            now = len(self.record.trials)
            for stale in [key for key in self._latest if key[0] != now]:
                del self._latest[stale]
            self._latest[now, broad] = learnt
        return learnt

    def learn_from(self, history: History, device: torch.device, broad: bool = False) -> Learnt:
        """The same of another history, whose results are the first of these."""
        warm = shared_warm_starts([self], device, broad)
        return learn(self.model(device, broad), history.to(device), warm)

    def learnt(self, broad: bool = False) -> Learnt | None:
        """The Gaussian process of what was told; None before the first success, or where it breaks down."""
        if not self.record.results.succeeded:
            return None
        try:
            return self.learn(broad)
        except linalg.LinAlgError as error:
            log.warning("Gaussian process failed (%s); nothing can be predicted", error)
            return None


def shared_warm_starts(
    learners: Sequence[Learner], device: torch.device, broad: bool = False
) -> SharedWarmStarts:
    """Those of the histories as they are, for a fit of one of the models on a device."""
    rows = [learner.record.results.rows for learner in learners]
    numbers = [{"outcomes": r.number[np.isfinite(r.y)], "failures": r.number} for r in rows]
    return SharedWarmStarts([learner.warm[broad] for learner in learners], numbers, device)


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array).unsqueeze(0)
