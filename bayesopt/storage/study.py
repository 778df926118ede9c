"""A study that lasts: `Study`, ask and tell on an Optuna storage.

The storage holds everything; a `Study` is a view of it, with an `Optimizer` that replays what it reads there.
What is proposed is therefore what a single `Optimizer` with the same seed and history would propose, whoever
asks, and whoever has been killed meanwhile.
"""

import logging
import math
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self, overload

from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import InMemoryStorage, _CachedStorage
from optuna.study import Study as OptunaStudy
from optuna.study import StudyDirection
from optuna.trial import TrialState

from bayesopt.checks import checked_count, checked_value
from bayesopt.explanation import Explanation, Regret
from bayesopt.optimizer import Optimizer
from bayesopt.pruning.pruner import stopped_value
from bayesopt.space import Space
from bayesopt.storage import owners
from bayesopt.storage.agreement import agree, check_options, filled, find
from bayesopt.storage.database import ledger_of
from bayesopt.storage.distributions import distributions
from bayesopt.storage.ledger import (
    ABANDONED,
    ERROR,
    STD,
    Entry,
    Place,
    TurnLostError,
    Verdict,
    Write,
)
from bayesopt.storage.opening import Storage, close_storage, open_storage
from bayesopt.storage.replay import ASKED_AT, OWNER, RETRIES, RETRY_OF, Open, Replay
from bayesopt.storage.trial import RunningTrial, checked_pruner
from bayesopt.trials import Config, Trial

log = logging.getLogger("bayesopt")

HEARTBEAT = 15  # seconds


class Study:
    """Ask and tell on a storage, by any number of processes. Safe to share between threads.

    Every `ask` and `tell` is in the storage before it returns. Those who ask take turns, so nobody gets what
    another is evaluating, and everybody learns from all results. A process that dies is noticed, at once on
    the same machine and by its missing heartbeats on another; the next `ask` of anybody then takes its
    trials over.

    On the storage this is an ordinary Optuna study: parameters, values, states, pruners and heartbeats are
    Optuna's. A trial that is tried again leaves a failed one behind, as with Optuna's
    `RetryHeartbeatStaleTrialCallback`; that is no result, and not listed here. Configurations that were
    enqueued through Optuna come first; a waiting trial whose parameters are not a configuration of the space
    fails.

    Args:
        space: a `Space`, or a dict of parameters; None for the space of a study that exists.
        storage: `"sqlite:///tuning.db"`, `"postgresql://user:password@host/database"`, an optuna
            `RDBStorage` or `InMemoryStorage`; None for the memory of this process.
        name: of the study; needed unless the storage is memory.
        seed, method, acquisition, batch, deterministic: see `Optimizer`; None for what the study has, or the
            default. The seed of a study cannot change; the others can, for the proposals to come.
        device: see `Optimizer`.
        maximize: whether larger outcomes are better; None for what the study says, or False.
        pruner: a `CurvePruner` or another Optuna pruner, or "curve", "median", "asha" or "hyperband"; None
            never stops a trial early. Not stored.
        on_space_change: what to do if the study has another space: "error", or "extend" it to the given one,
            which must hold all old trials.
        heartbeat: seconds between two signs of life; after four without one, a process is dead. Processes
            that share a study should agree.
        max_retries: how often a configuration is tried again whose worker died. After that it has failed.

    Raises:
        ValueError, TypeError: an argument is not valid, or does not go with the study there is; nothing is
            changed then.
        ConnectionError: the storage cannot be reached.

    >>> from bayesopt import Float
    >>> with Study({"x": Float(-1.0, 1.0)}) as study:
    ...     for _ in range(12):
    ...         trial = study.ask()
    ...         _ = study.tell(trial, (trial.config["x"] - 0.3) ** 2)
    ...     abs(study.best.config["x"] - 0.3) < 0.01
    True
    """

    def __init__(
        self,
        space: Space | Mapping[str, Any] | None = None,
        *,
        storage: object = None,
        name: str | None = None,
        seed: int | None = None,
        method: str | None = None,
        acquisition: str | None = None,
        batch: str | None = None,
        device: str = "auto",
        maximize: bool | None = None,
        deterministic: bool | None = None,
        pruner: object = None,
        on_space_change: str = "error",
        heartbeat: int = HEARTBEAT,
        max_retries: int = 3,
    ) -> None:
        given = {
            "seed": seed, "method": method, "acquisition": acquisition, "batch": batch,
            "deterministic": deterministic,
        }  # fmt: skip
        wanted = None if space is None else Space(space)
        if wanted is not None:  # whatever is wrong with the settings is found before anything is stored
            distributions(wanted)
            Optimizer(wanted, **filled(given), device=device)
        check_options(storage, name, on_space_change, heartbeat, max_retries)
        self._pruner = checked_pruner(pruner)
        self._max_retries = max_retries
        self._lock = threading.RLock()
        self._owned = isinstance(storage, str)
        self._storage = open_storage(storage, heartbeat, must_exist=wanted is None)
        try:
            self._study = find(self._storage, name, wanted is not None, maximize, self._pruner)
            self._study_id = self._study._study_id
            settings = agree(self._study, self._storage, wanted, given, on_space_change)
            self.space = Space.from_dict(settings.pop("space"))
            self._optimizer = Optimizer(self.space, **settings, device=device, maximize=self.maximize)
            self._ledger = ledger_of(self._storage, self._study_id, self.space)
        except BaseException:
            self.close()
            raise
        self._replay = Replay(self._storage, self._study_id, self._ledger, self._optimizer)
        self._mine: dict[int, int] = {}  # trials that live as long as this process: key by number
        self._heart = owners.Heart(self._beat, heartbeat)
        self._stale: tuple[float, frozenset[int]] = -math.inf, frozenset()
        self._heartbeat = heartbeat
        self._beating = _with_heartbeat(self._storage)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Study({self.name!r}, {len(self._replay.results)} trials, {len(self._replay.open)} open)"

    def close(self) -> None:
        """Let go of the storage. Trials of this study that are still running will be taken for lost."""
        if heart := getattr(self, "_heart", None):
            heart.stop()
        if self._owned:
            close_storage(self._storage)

    # ----------------------------------------------------------------------------------------- what there is

    @property
    def name(self) -> str:
        """Name of the study."""
        return self._study.study_name

    @property
    def maximize(self) -> bool:
        """Whether larger outcomes are better."""
        return self._study.direction == StudyDirection.MAXIMIZE

    @property
    def optuna(self) -> OptunaStudy:
        """The same study for Optuna: for its plots, its importances, its data frames."""
        return self._study

    @property
    def optimizer(self) -> Optimizer:
        """The engine, with everything that the storage holds by now. What it is asked for is not stored."""
        with self._lock:
            self._replay.sync()
            return self._optimizer

    @property
    def trials(self) -> list[Trial]:
        """The results, by number: finished, failed and pruned trials."""
        with self._lock:
            self._replay.sync()
            return [self._replay.results[number] for number in sorted(self._replay.results)]

    @property
    def curves(self) -> dict[int, dict[int, float]]:
        """What trials have reported, running ones too: the values by step, by the number of the trial."""
        with self._lock:
            self._replay.sync()
            trials = self._storage.get_all_trials(self._study_id, deepcopy=False)
            ours = self._replay.results.keys() | self._replay.open.keys()
            return {
                each.number: dict(sorted(each.intermediate_values.items()))
                for each in trials
                if each.number in ours and each.intermediate_values
            }

    @property
    def running(self) -> dict[int, Config]:
        """The configurations under evaluation, by number of the trial; anybody's."""
        with self._lock:
            self._replay.sync()
            return {n: dict(each.config) for n, each in self._replay.open.items() if each.config is not None}

    @property
    def enqueued(self) -> list[dict[str, Any]]:
        """What is to be tried before anything else and nobody has begun, the next one first."""
        with self._lock:
            self._replay.sync()
            waiting = [
                each
                for _, each in sorted(self._replay.open.items())
                if each.place.state == TrialState.WAITING
            ]
            return [dict(each.enqueued) for each in waiting]

    @property
    def best(self) -> Trial | None:
        """The finished trial with the best value; None before the first success."""
        return self.optimizer.best

    # ------------------------------------------------------------------------------------------- ask and tell

    @overload
    def ask(self, *, watched: bool = True) -> RunningTrial: ...
    @overload
    def ask(self, q: int, *, watched: bool = True) -> list[RunningTrial]: ...
    def ask(self, q: int | None = None, *, watched: bool = True) -> RunningTrial | list[RunningTrial]:
        """A trial to evaluate, or a list of q; each is running until it is told or forgotten.

        Args:
            q: how many.
            watched: whether the trial lives and dies with this process: if it ends before the trial is told,
                others try again. If not, the trial is waited for without limit; anybody may tell it by its
                number, at any time.
        """
        trials: list[RunningTrial] = []
        count = 1 if q is None else checked_count(q)
        while len(trials) < count:  # somebody else may be faster with a trial that was there already
            trials += self._ask(count - len(trials), watched)
        return trials[0] if q is None else trials

    def tell(
        self,
        trial: RunningTrial | int | Mapping[str, Any],
        value: object = None,
        *,
        std: object = None,
        pruned: bool = False,
        error: str | None = None,
        seconds: float | None = None,
    ) -> Trial:
        """Report an outcome.

        Args:
            trial: what `ask` returned, or its number; or a configuration: the oldest running trial of it, or,
                if there is none, a result from elsewhere.
            value: the outcome; None, nan or an infinity if the evaluation failed.
            std: standard deviation of the noise in it, where that is known; see `Optimizer.tell`.
            pruned: the evaluation was stopped early; its value is the one at which `CurvePruner` expected it
                to end, or the last one that it reported.
            error: what went wrong, if it failed.
            seconds: how long it took; by default, since it was asked for.

        Raises:
            ValueError, TypeError: not a running trial, not a valid configuration, not a number.
            LostTrialError: the trial was taken from a worker that seemed dead.
        """
        outcome = checked_value(value)
        with self._lock:
            place = self._running_place(trial)
            if pruned:
                outcome = checked_value(stopped_value(self._storage.get_trial(place.trial_id)))
            known = self._optimizer._record.checked_std(outcome, std)
            state = (
                TrialState.PRUNED if pruned else TrialState.FAIL if outcome is None else TrialState.COMPLETE
            )
            remarks = {key: remark for key, remark in ((ERROR, error), (STD, known)) if remark is not None}
            stored = self._ledger.finish(place.trial_id, state, outcome, remarks)
            self._mine.pop(place.number, None)
            if not stored:
                self._replay.sync()
                raise LostTrialError(_lost(place.number))
            begun = self._replay.open.pop(place.number)
            assert begun.config is not None
            if seconds is None:
                seconds = time.time() - begun.began
            result = Trial(place.number, begun.config, outcome, seconds, error, pruned, known)
            self._replay.keep(result, begun.at)
            return result

    def forget(self, trial: RunningTrial | int) -> None:
        """Give up waiting for a trial: it is no result, and its configuration may be proposed again.

        Raises:
            ValueError, TypeError: not a running trial.
            LostTrialError: as for `tell`.
        """
        with self._lock:
            place = self._running_place(trial)
            try:
                self._storage.set_trial_system_attr(place.trial_id, ABANDONED, True)
                self._storage.set_trial_state_values(place.trial_id, TrialState.FAIL)
            except UpdateFinishedTrialError:
                raise LostTrialError(_lost(place.number)) from None
            finally:
                self._mine.pop(place.number, None)
                self._replay.sync()

    def explain(self) -> Explanation:
        """What `ask` would begin now, and why; see `Optimizer.explain`. Asks for nothing.

        What a dead worker has left comes first, then what is enqueued.
        """
        with self._lock:
            self._replay.sync()
            left = [each.config for each in self._dead() if each.config is not None and self._is_tried(each)]
            waiting = [start.entry.config for start in self._waiting(False)[0]]
            explanation = self._optimizer._explain_after([*left, *waiting])
            if not left:
                return explanation
            reason = f"what a dead worker has left comes first: {len(left)} to go"
            return replace(explanation, reason=reason, arm="retry")

    def regret(self) -> Regret | None:
        """What is still to be gained; see `Optimizer.regret`."""
        return self.optimizer.regret()

    def enough(self, tolerance: float) -> bool:
        """Whether little enough is still to be gained; see `Optimizer.enough`."""
        return self.optimizer.enough(tolerance)

    def check_reachable(self, forked: bool) -> None:
        """Raise a TypeError if trials cannot report from other processes, or from such that are forked."""
        if isinstance(self._storage, InMemoryStorage):
            raise TypeError(
                "trials of a study in memory cannot report from the processes of an executor: pass a "
                "storage, such as storage='sqlite:///tuning.db', or workers= instead of executor="
            )
        if forked and self._storage._backend.engine.dialect.name == "sqlite":
            raise TypeError(
                "trials of an SQLite study cannot report from forked processes: use workers= instead of "
                "executor=, or ProcessPoolExecutor(mp_context=multiprocessing.get_context('spawn'))"
            )

    def _forget_mine(self) -> None:
        """Everything that this process was to evaluate."""
        with self._lock:
            for number in list(self._mine):
                try:
                    self.forget(number)
                except LostTrialError as error:
                    log.warning("%s", error)

    def enqueue(self, config: Mapping[str, Any]) -> None:
        """Have a configuration tried before anything else is proposed, by whoever asks next.

        Raises:
            ValueError, TypeError: not a configuration of the space.
        """
        self._study.enqueue_trial(self.space.validate(config))

    def enqueue_new(self, configs: Sequence[Mapping[str, Any]]) -> None:
        """Enqueue those that have not been tried and are neither running nor enqueued.

        Raises:
            ValueError, TypeError: one is not a configuration of the space; nothing is enqueued then.
        """
        valid = [self.space.validate(config) for config in configs]
        there = [*(trial.config for trial in self.trials), *self.running.values(), *self.enqueued]
        for config in valid:
            if config not in there:
                self.enqueue(config)

    def _running_place(self, trial: RunningTrial | int | Mapping[str, Any]) -> Place:
        if isinstance(trial, Mapping):
            return self._place_of(self.space.validate(trial))
        number = trial.number if isinstance(trial, RunningTrial) else trial
        if isinstance(number, bool) or not isinstance(number, int):
            raise TypeError(
                f"expected a trial that was asked for, its number or a configuration, got {trial!r}"
            )
        there = self._replay
        if number not in there.open:
            there.sync()
        if number in there.open and there.open[number].config is not None:
            return there.open[number].place
        if number in there.known and isinstance(trial, RunningTrial) and number not in there.results:
            raise LostTrialError(_lost(number))
        state = "has ended" if number in there.results else "is not running"
        raise ValueError(f"trial {number} {state}; study.running lists what is")

    def _place_of(self, config: Config) -> Place:
        self._replay.sync()
        key = self.space.key(config)
        for _, each in sorted(self._replay.open.items()):
            if each.config is not None and self.space.key(each.config) == key:
                return each.place
        start = _Start(Entry(config, self._attributes(None, True), True), None)
        with self._ledger.turn() as write:
            place = write([start.entry], []).places[0]
        assert place is not None  # nobody else can have begun what is only begun here
        with self._optimizer._recording() as record:
            record.expect(config, None)
        self._started(start, place)
        return place

    # ------------------------------------------------------------------------------------------------ asking

    def _ask(self, count: int, watched: bool, total: int | None = None) -> list[RunningTrial]:
        """Up to `count` trials; of a budget of `total`, no more than nobody else is at."""
        with self._lock:
            while True:
                try:
                    with self._ledger.turn() as write:
                        return self._take_turn(write, count, watched, total)
                except TurnLostError as error:
                    log.warning("asking again: %s", error)

    def _take_turn(self, write: Write, count: int, watched: bool, total: int | None) -> list[RunningTrial]:
        self._replay.sync()
        dead = self._dead()
        hopeless = [each for each in dead if not self._is_tried(each)]
        retried = [each for each in dead if each not in hopeless]
        if total is not None:
            awaited = sum(each.owner is not None and each not in dead for each in self._replay.open.values())
            count = max(0, min(count, total - len(self._replay.results) - len(hopeless) - awaited))
        begun = [self._again(each, watched) for each in retried[:count]]
        waiting, unfit = self._waiting(watched)
        begun += waiting[: count - len(begun)]
        asked = self._optimizer._record.asked
        try:
            begun += self._proposed(count - len(begun), watched)
            verdicts = [Verdict(each.place.trial_id, _epitaph(each)) for each in hopeless] + unfit
            if not begun and not verdicts:
                return []
            places = write([start.entry for start in begun], verdicts).places
        except BaseException:
            with self._optimizer._recording() as record:
                record.rewind(asked)
            raise
        return [self._started(start, place) for start, place in zip(begun, places, strict=True) if place]

    def _is_tried(self, dead: Open) -> bool:
        """Whether what a dead worker has left is tried again."""
        return dead.config is not None and len(dead.retries) < self._max_retries

    def _again(self, each: Open, watched: bool) -> "_Start":
        """Another attempt at what a dead worker has left."""
        assert each.config is not None
        history = [*each.retries, each.place.number]
        attributes = self._attributes(each.at, watched) | {RETRIES: history, RETRY_OF: history[0]}
        log.warning("trial %d has lost its worker; trying again", each.place.number)
        return _Start(Entry(each.config, attributes, watched, instead_of=each.place.trial_id), each.at, each)

    def _waiting(self, watched: bool) -> tuple[list["_Start"], list[Verdict]]:
        """What somebody has enqueued, and what of it is no configuration."""
        fit, unfit = [], []
        for _, each in sorted(self._replay.open.items()):
            if each.place.state != TrialState.WAITING:
                continue
            try:
                config = self.space.validate(each.enqueued)
            except (ValueError, TypeError) as error:
                unfit.append(Verdict(each.place.trial_id, f"it cannot be tried: {error}"))
                log.warning("the enqueued trial %d cannot be tried: %s", each.place.number, error)
                continue
            entry = Entry(config, self._attributes(each.at, watched), watched, waiting=each.place.trial_id)
            fit.append(_Start(entry, each.at, each))
        return fit, unfit

    def _proposed(self, count: int, watched: bool) -> list["_Start"]:
        first = self._optimizer._record.asked
        configs = self._optimizer.ask(count) if count > 0 else []
        return [
            _Start(Entry(config, self._attributes(at, watched), watched), at)
            for at, config in enumerate(configs, first)
        ]

    def _attributes(self, at: int | None, watched: bool) -> dict[str, Any]:
        attributes: dict[str, Any] = {} if at is None else {ASKED_AT: at}
        return {**attributes, OWNER: owners.myself()} if watched else attributes

    def _started(self, start: "_Start", place: Place) -> RunningTrial:
        entry = start.entry
        if start.before is not None:
            del self._replay.open[start.before.place.number]
        if entry.waiting is not None:
            with self._optimizer._recording() as record:
                record.expect(entry.config, start.at)
        owner = entry.attributes.get(OWNER)
        retries = tuple(entry.attributes.get(RETRIES, () if start.before is None else start.before.retries))
        self._replay.open[place.number] = Open(place, entry.config, start.at, owner, retries)
        self._replay.known.add(place.number)
        if entry.watched:
            self._mine[place.number] = place.trial_id
            if self._beating is not None:
                self._heart.start()
        return RunningTrial(self._study, place.number, place.trial_id, entry.config)

    # ----------------------------------------------------------------------------------------- life and death

    def _beat(self) -> bool:
        """A sign of life for every trial of ours; whether there are any."""
        assert self._beating is not None  # or the heart does not beat
        for trial_id in list(self._mine.values()):
            self._beating.record_heartbeat(trial_id)
        return bool(self._mine)

    def _dead(self) -> list[Open]:
        """Running trials whose worker is gone, by number."""
        others = [
            each
            for number, each in sorted(self._replay.open.items())
            if number not in self._mine and each.place.state == TrialState.RUNNING
        ]
        silent = self._silent() if others else frozenset()
        return [
            each
            for each in others
            if each.place.trial_id in silent or (each.owner is not None and owners.is_dead(each.owner))
        ]

    def _silent(self) -> frozenset[int]:
        """Keys of the trials whose heart has stopped, as of a moment ago."""
        looked, found = self._stale
        now = time.monotonic()
        if self._beating is not None and now - looked > self._heartbeat / 2:
            found = frozenset(self._beating._get_stale_trial_ids(self._study_id))
            self._stale = now, found
        return found


@dataclass(frozen=True, eq=False)
class _Start:
    """A trial that is about to run: `before` is the dead or waiting one that it continues."""

    entry: Entry
    at: int | None
    before: Open | None = None


class LostTrialError(RuntimeError):
    """A trial that this worker evaluated has been taken over by others, who took it for dead."""


def _lost(number: int) -> str:
    return (
        f"trial {number} is no longer ours: this worker was silent for so long that others took it for dead, "
        "or somebody else has told or forgotten the trial"
    )


def _epitaph(each: Open) -> str:
    if each.config is None:
        return "its worker died, and its parameters are not those of the study"
    return f"its worker died, {len(each.retries) + 1} times in all"


def _with_heartbeat(storage: Storage) -> _CachedStorage | None:
    known = isinstance(storage, _CachedStorage) and storage.get_heartbeat_interval() is not None
    return storage if isinstance(storage, _CachedStorage) and known else None
