"""What a storage holds of a study, replayed into an optimizer: `Replay`."""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from bayesopt.checks import checked_std, checked_value
from bayesopt.optimizer import Optimizer
from bayesopt.pruning.pruner import stopped_value
from bayesopt.storage import owners
from bayesopt.storage.ledger import ABANDONED, ERROR, STD, Ledger, Place
from bayesopt.storage.opening import Storage
from bayesopt.trials import Config, Trial

log = logging.getLogger("bayesopt")

#: System attributes of a trial: its place in the order of asking; the process that evaluates it.
ASKED_AT, OWNER = "bayesopt:asked_at", "bayesopt:owner"

#: Optuna's own, on a trial that is tried again: the numbers of the failed ones, and the first of them.
RETRIES, RETRY_OF = "retry_history", "failed_trial"

#: Optuna's own, on a waiting trial: its configuration, or a part of it.
FIXED = "fixed_params"


@dataclass(eq=False)
class Open:
    """A trial that has not ended, as far as we know.

    `config` is None for one that is waiting, or that Optuna has begun without saying all of its parameters.
    """

    place: Place
    config: Config | None = None
    at: int | None = None
    owner: owners.Owner | None = None
    retries: tuple[int, ...] = ()
    enqueued: Mapping[str, Any] = field(default_factory=dict)  # for one that is waiting
    began: float = field(default_factory=time.time)


class Replay:
    """The trials of a study, as far as we have read or written them.

    Attributes:
        open: those that have not ended; results: those that have; by number.
        known: numbers of all trials that we have seen.
    """

    def __init__(self, storage: Storage, study_id: int, ledger: Ledger, optimizer: Optimizer) -> None:
        self._storage, self._study_id = storage, study_id
        self._ledger, self._optimizer = ledger, optimizer
        self.open: dict[int, Open] = {}
        self.results: dict[int, Trial] = {}
        self.known: set[int] = set()
        self._seen = 0  # below this, all are known

    def sync(self) -> None:
        """Replay what has happened in the storage since the last time."""
        now = {place.number: place for place in self._ledger.places(self._seen)}
        changed = [n for n, each in self.open.items() if each.config is None or each.place != now.get(n)]
        changed += [n for n in now if n >= self._seen and n not in self.known]
        if changed:
            trials = self._storage.get_all_trials(self._study_id, deepcopy=False)
            by_number = {trial.number: trial for trial in trials}
            for number in sorted(changed):
                self._absorb(by_number[number])
        while self._seen in self.known:
            self._seen += 1

    def _absorb(self, frozen: FrozenTrial) -> None:
        self.known.add(frozen.number)
        before = self.open.pop(frozen.number, None)
        at, config = frozen.system_attrs.get(ASKED_AT), self._config(frozen)
        if not frozen.state.is_finished():
            if frozen.state != TrialState.RUNNING:
                config = None
            if config is not None and (before is None or before.config is None):
                with self._optimizer._recording() as record:
                    record.expect(config, at)
            self.open[frozen.number] = Open(
                place=Place(frozen.number, frozen._trial_id, frozen.state),
                config=config,
                at=at,
                owner=frozen.system_attrs.get(OWNER),
                retries=tuple(frozen.system_attrs.get(RETRIES, ())),
                enqueued=frozen.system_attrs.get(FIXED, frozen.params),
                began=time.time() if frozen.datetime_start is None else frozen.datetime_start.timestamp(),
            )
        elif ABANDONED in frozen.system_attrs:
            if before is not None and before.config is not None:
                with self._optimizer._recording() as record:
                    record.withdraw(before.config, at)
        elif config is not None:
            self.keep(_result(frozen, config), at)
        elif frozen.params:
            log.warning("trial %d is left out: its parameters are not those of the study", frozen.number)

    def _config(self, frozen: FrozenTrial) -> Config | None:
        """The configuration of a trial; None if it has none in this space, or Optuna is still at it."""
        try:
            return self._optimizer.space.validate(frozen.params)
        except (ValueError, TypeError):
            return None

    def keep(self, result: Trial, at: int | None) -> None:
        """A trial has ended."""
        self.results[result.number] = result
        with self._optimizer._recording() as record:
            record.settle(result, at)


def _result(frozen: FrozenTrial, config: Config) -> Trial:
    pruned = frozen.state == TrialState.PRUNED
    value = frozen.values[0] if frozen.values else None
    if pruned and frozen.last_step is not None:
        value = stopped_value(frozen)
    if frozen.state == TrialState.FAIL:
        value = None
    duration = frozen.duration
    return Trial(
        number=frozen.number,
        config=config,
        value=checked_value(value),
        seconds=None if duration is None else duration.total_seconds(),
        error=frozen.user_attrs.get(ERROR),
        pruned=pruned,
        std=None if value is None else stored_std(frozen),
    )


def stored_std(frozen: FrozenTrial) -> float | None:
    """Noise noted on a trial; anybody may write there, so what makes no sense is left out."""
    try:
        return checked_std(frozen.user_attrs.get(STD))
    except (ValueError, TypeError) as error:
        log.warning("trial %d: the attribute %s is left out: %s", frozen.number, STD, error)
        return None
