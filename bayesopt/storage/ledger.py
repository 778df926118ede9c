"""What a study needs of a storage beyond what Optuna offers: turns, and writing all of an ask at once.

Whoever asks has a turn: reads what the others have done, proposes, and writes new trials. Turns follow one
another, and everything that a turn writes becomes visible, and durable, at once, or not at all.
"""

import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from bayesopt.space import Space
from bayesopt.storage.distributions import distributions, internal
from bayesopt.trials import Config

#: System attribute of a failed trial that is not a result: its worker died and it is tried again, or it was
#: given up before it ended.
ABANDONED = "bayesopt:abandoned"

#: User attribute of a failed trial: what went wrong.
ERROR = "error"

#: User attribute of a finished trial: the known standard deviation of the noise in its value.
STD = "bayesopt:std"


class Place(NamedTuple):
    """Where a trial is: its number in the study, its key in the storage, its state."""

    number: int
    trial_id: int
    state: TrialState


@dataclass(frozen=True)
class Entry:
    """A configuration that runs from now on.

    Attributes:
        config: the configuration.
        attributes: for the system attributes of the trial.
        watched: whether its heart beats, from the very beginning.
        instead_of: key of a running trial whose worker is dead: it fails, or nothing is written.
        waiting: key of a waiting trial, which becomes this running one, or nothing is written.
    """

    config: Config
    attributes: Mapping[str, Any]
    watched: bool
    instead_of: int | None = None
    waiting: int | None = None


@dataclass(frozen=True)
class Verdict:
    """A running or waiting trial that nobody will finish: it fails."""

    trial_id: int
    error: str


@dataclass(frozen=True)
class Written:
    """What became of a turn: the place of each entry, None if somebody was faster; which verdicts stand."""

    places: list[Place | None]
    verdicts: list[bool]


class TurnLostError(RuntimeError):
    """A turn took so long that somebody else has taken over; nothing was written."""


Write = Callable[[Sequence[Entry], Sequence[Verdict]], Written]


class Ledger(ABC):
    """A study in a storage."""

    @abstractmethod
    def turn(self) -> AbstractContextManager[Write]:
        """Wait for a turn, which lasts until its one write, or the end of the block."""

    @abstractmethod
    def finish(
        self, trial_id: int, state: TrialState, value: float | None, remarks: Mapping[str, Any]
    ) -> bool:
        """End a running trial, at once and durably; whether it was still running.

        `remarks` become user attributes: `ERROR`, `STD`.
        """

    @abstractmethod
    def places(self, beyond: int) -> list[Place]:
        """At least the trials with a number >= `beyond`, and all that are running or waiting."""


_locks: weakref.WeakKeyDictionary[InMemoryStorage, threading.RLock] = weakref.WeakKeyDictionary()


class MemoryLedger(Ledger):
    """A study in the memory of this process."""

    def __init__(self, storage: InMemoryStorage, study_id: int, space: Space) -> None:
        self._storage = storage
        self._study_id = study_id
        self._space = space
        self._distributions = distributions(space)

    @contextmanager
    def turn(self) -> Iterator[Write]:
        with _locks.setdefault(self._storage, threading.RLock()):
            yield self._write

    def places(self, beyond: int) -> list[Place]:
        trials = self._storage.get_all_trials(self._study_id, deepcopy=False)
        return [Place(trial.number, trial._trial_id, trial.state) for trial in trials]

    def finish(
        self, trial_id: int, state: TrialState, value: float | None, remarks: Mapping[str, Any]
    ) -> bool:
        try:
            for key, remark in remarks.items():
                self._storage.set_trial_user_attr(trial_id, key, remark)
            values = None if value is None else [value]
            return self._storage.set_trial_state_values(trial_id, state, values)
        except UpdateFinishedTrialError:
            return False

    def _write(self, entries: Sequence[Entry], verdicts: Sequence[Verdict]) -> Written:
        stand = [self._fail(each.trial_id, each.error) for each in verdicts]
        return Written([self._enter(entry) for entry in entries], stand)

    def _fail(self, trial_id: int, error: str | None) -> bool:
        try:
            if error is None:
                self._storage.set_trial_system_attr(trial_id, ABANDONED, True)
            else:
                self._storage.set_trial_user_attr(trial_id, ERROR, error)
            return self._storage.set_trial_state_values(trial_id, TrialState.FAIL)
        except UpdateFinishedTrialError:
            return False

    def _enter(self, entry: Entry) -> Place | None:
        if entry.instead_of is not None and not self._fail(entry.instead_of, None):
            return None
        trial_id = entry.waiting
        if trial_id is None:
            trial_id = self._storage.create_new_trial(self._study_id, self._template(entry))
        elif not self._claim(trial_id, entry):
            return None
        return Place(self._storage.get_trial_number_from_id(trial_id), trial_id, TrialState.RUNNING)

    def _claim(self, trial_id: int, entry: Entry) -> bool:
        try:
            if not self._storage.set_trial_state_values(trial_id, TrialState.RUNNING):
                return False
        except UpdateFinishedTrialError:
            return False
        for key, value in entry.attributes.items():
            self._storage.set_trial_system_attr(trial_id, key, value)
        for name in entry.config.keys() - self._storage.get_trial(trial_id).params.keys():
            value = internal(self._space[name], entry.config[name])
            self._storage.set_trial_param(trial_id, name, value, self._distributions[name])
        return True

    def _template(self, entry: Entry) -> FrozenTrial:
        return FrozenTrial(
            number=-1, trial_id=-1, state=TrialState.RUNNING, value=None, datetime_start=datetime.now(),
            datetime_complete=None, params=dict(entry.config), user_attrs={}, intermediate_values={},
            distributions={name: self._distributions[name] for name in entry.config},
            system_attrs=dict(entry.attributes),
        )  # fmt: skip
