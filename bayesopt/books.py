"""Where the trials of a run come from and its results go to: memory, or a storage."""

import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from bayesopt.checks import checked_value
from bayesopt.optimizer import Optimizer
from bayesopt.trials import Config, Trial
from bayesopt.workers.worker import Outcome, ReportingTrial

if TYPE_CHECKING:  # it loads Optuna
    from bayesopt.storage.study import Study

log = logging.getLogger("bayesopt")

T = TypeVar("T")

_PATIENCE = 600.0  # seconds that a storage may be out of reach


@dataclass(frozen=True)
class Result:
    """What a run found.

    Attributes:
        trials: every evaluation, in order.
        optimizer: the engine with its history, for more proposals, `state_dict()`, or, where the best value
            may be luck, `recommend()`.
        curves: what trials have reported: the values by step, by the trial's number.
    """

    trials: list[Trial]
    optimizer: Optimizer
    curves: Mapping[int, Mapping[int, float]] = field(default_factory=dict)

    @property
    def values(self) -> list[float | None]:
        """Value of each trial, None where it failed."""
        return [trial.value for trial in self.trials]

    @property
    def best_trial(self) -> Trial:
        """The best trial.

        Raises:
            ValueError: every evaluation failed; the message holds the last error.
        """
        if not self.trials:
            raise ValueError("no best trial: the run was interrupted before its first trial")
        best = self.optimizer.best
        if best is None:
            error = next((trial.error for trial in reversed(self.trials) if trial.error), None)
            reason = f"the last error was:\n{error}" if error else "they returned None, nan or inf"
            raise ValueError(f"no best trial: all {len(self.trials)} evaluations failed; {reason}")
        return best

    @property
    def best_config(self) -> Config:
        """Configuration of the best trial."""
        return dict(self.best_trial.config)

    @property
    def best_value(self) -> float:
        """Value of the best trial."""
        value = self.best_trial.value
        assert value is not None  # a best trial has succeeded
        return value


class Books(Protocol):
    """Where trials come from and results go to."""

    @property
    def optimizer(self) -> Optimizer:
        """With the history as it is known."""

    @property
    def done(self) -> int:
        """Number of results."""

    @property
    def enqueued(self) -> int:
        """Number of configurations that somebody has chosen and that nobody has begun."""

    def ask(self, count: int, running: int, total: int) -> list[tuple[Config, ReportingTrial | None]]:
        """Up to `count` configurations to evaluate, of `total` in all; `running` are ours already."""

    def tell(self, config: Config, trial: ReportingTrial | None, outcome: Outcome) -> Trial | None:
        """Keep an outcome; None if it comes too late."""

    def forget(self) -> None:
        """Wait no longer for what was asked for."""

    def check(self, executor: Executor | None, reporting: bool) -> None:
        """Raise a TypeError if trials cannot report from where they are evaluated."""

    def result(self) -> Result:
        """What there is in the end."""


@dataclass(frozen=True, eq=False)
class Fleeting:
    """Books that end with this process."""

    optimizer: Optimizer

    @property
    def done(self) -> int:
        return len(self.optimizer.trials)

    @property
    def enqueued(self) -> int:
        return len(self.optimizer.enqueued)

    def ask(self, count: int, running: int, total: int) -> list[tuple[Config, ReportingTrial | None]]:
        count = min(count, total - self.done - running)
        return [(config, None) for config in self.optimizer.ask(count)] if count > 0 else []

    def tell(self, config: Config, trial: ReportingTrial | None, outcome: Outcome) -> Trial:
        """The trial that an outcome makes; one that is not a number is a failure too."""
        value, std, error = _checked_outcome(self.optimizer, outcome)
        with self.optimizer._recording() as record:
            record.commit(record.checked(config, value, std), outcome.seconds, error)
        return self.optimizer.trials[-1]

    def forget(self) -> None:
        self.optimizer.forget(self.optimizer.pending)

    def check(self, executor: Executor | None, reporting: bool) -> None:
        pass  # nobody reports

    def result(self) -> Result:
        return Result(self.optimizer.trials, self.optimizer)


@dataclass(frozen=True, eq=False)
class Stored:
    """The books of a `Study`. A storage that fails is asked again for a while: it may be restarting."""

    study: "Study"

    @property
    def optimizer(self) -> Optimizer:
        return self.study._optimizer

    @property
    def done(self) -> int:
        return len(self.study._replay.results)

    @property
    def enqueued(self) -> int:
        return len(self.study.enqueued)

    def ask(self, count: int, running: int, total: int) -> list[tuple[Config, ReportingTrial | None]]:
        trials = _patiently(lambda: self.study._ask(count, watched=True, total=total))
        return [(dict(trial.config), trial) for trial in trials]

    def tell(self, config: Config, trial: ReportingTrial | None, outcome: Outcome) -> Trial | None:
        from bayesopt.storage.study import LostTrialError

        assert trial is not None
        value, std, error = _checked_outcome(self.optimizer, outcome)
        tell = partial(self.study.tell, std=std, pruned=outcome.pruned, error=error, seconds=outcome.seconds)
        try:
            return _patiently(lambda: tell(trial.number, value))
        except LostTrialError as lost:
            log.warning("a result is dropped: %s", lost)
            return None

    def forget(self) -> None:
        self.study._forget_mine()

    def check(self, executor: Executor | None, reporting: bool) -> None:
        if reporting and isinstance(executor, ProcessPoolExecutor):
            context = executor._mp_context
            self.study.check_reachable(context is not None and context.get_start_method() == "fork")

    def result(self) -> Result:
        return Result(self.study.trials, self.study._optimizer, self.study.curves)


def _patiently(action: Callable[[], T]) -> T:
    """Try again, less and less often, while the database does not answer."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import InterfaceError, OperationalError

    deadline, pause = time.monotonic() + _PATIENCE, 0.5
    while True:
        try:
            return action()
        except (StorageInternalError, InterfaceError, OperationalError) as error:
            if time.monotonic() + pause > deadline:
                raise
            log.warning("the storage does not answer, trying again in %.0f s: %s", pause, error)
        time.sleep(pause)
        pause = min(2 * pause, 30.0)


def _checked_outcome(optimizer: Optimizer, outcome: Outcome) -> tuple[float | None, float | None, str | None]:
    """Value, std and what is wrong: the error of the evaluation, or that it returned no number."""
    if outcome.error is not None:
        return None, None, outcome.error
    value, std = outcome.value, None
    if isinstance(value, tuple) and len(value) == 2:
        value, std = value
    try:
        checked = checked_value(value)
        return checked, optimizer._record.checked_std(checked, std), None
    except Exception as exception:  # noqa: BLE001 - what an objective returns may raise anything when looked at
        return None, None, f"{type(exception).__name__}: {exception}"
