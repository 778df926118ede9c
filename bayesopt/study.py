"""Run an objective: `minimize` and `maximize`."""

import inspect
import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from inspect import Parameter
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from bayesopt.checks import checked_tolerance, checked_value
from bayesopt.optimizer import Optimizer
from bayesopt.space import Space
from bayesopt.trials import Config, Trial
from bayesopt.workers.evaluations import Evaluations, evaluations
from bayesopt.workers.worker import Outcome, ReportingTrial

if TYPE_CHECKING:  # it loads Optuna
    from bayesopt.storage.study import Study

log = logging.getLogger("bayesopt")

Objective = Callable[..., float | tuple[float, float] | None]
T = TypeVar("T")

_IDLE = 0.25  # seconds until a worker without work looks again


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


def minimize(
    objective: Objective,
    space: Space | Mapping[str, Any],
    trials: int = 50,
    *,
    storage: object = None,
    name: str | None = None,
    on_space_change: str = "error",
    pruner: object = None,
    stop_when: str | None = None,
    tolerance: float | None = None,
    workers: int | None = None,
    executor: Executor | None = None,
    timeout: float | None = None,
    seed: int = 0,
    method: str = "auto",
    acquisition: str = "log_ei",
    batch: str = "auto",
    device: str = "auto",
    deterministic: bool | None = None,
    enqueue: Sequence[Mapping[str, Any]] = (),
    progress: bool | None = None,
    callback: Callable[[Trial], None] | None = None,
) -> Result:
    """Find the configuration with the smallest objective.

    With one worker, no executor and no timeout the objective is called in this thread. Several workers get a
    new configuration each, the moment they are free. They are processes, unless there is an `executor`: the
    objective must be importable from a module, and a script needs its `if __name__ == "__main__":`. A process
    loads the objective once and, unless OMP_NUM_THREADS and its kin are set, uses its share of the cores.

    An evaluation that raises an exception, returns anything but a finite number, exceeds the timeout or loses
    its process is a failed trial: logged, kept with its traceback, and a lesson for the engine to stay away.
    Ctrl-C ends the run early and returns what is known. With workers it waits for the evaluations that are
    running; a second one abandons them. An interrupted evaluation is not a trial.

    With a `storage` the run can be killed at any moment, and the same command goes on where it was; several
    processes with the same storage and name, on any number of machines, share the work. Each of them returns
    when the study as a whole has its trials. What a dead process was evaluating, the others evaluate again.

    Args:
        objective: takes a configuration, a dict of the active parameters, and returns a number, or a tuple of
            two, the value and the standard deviation of its noise: a mean and its standard error. If it has a
            second parameter without a default, or one called `trial`, that is a `RunningTrial`: with
            `trial.report(value, step)` and `trial.should_prune()` it can be stopped early.
        space: a `Space`, or a dict of parameters.
        trials: number of evaluations; of the whole study, where there is a storage.
        storage, name, on_space_change: where to keep the study; see `Study`.
        pruner: decides `should_prune`: a `CurvePruner` or another Optuna pruner, or "curve", "median", "asha"
            or "hyperband"; by default, never.
        stop_when, tolerance: "regret" ends the run before all trials are made, once no configuration is
            believed to be better than the best one by more than the tolerance, a number in the units of the
            objective: see `Optimizer.enough`.
        workers: how many evaluations to run at once; by default one, or as many as the executor has workers.
        executor: evaluates instead of worker processes: any `concurrent.futures.Executor`, such as a
            `ThreadPoolExecutor`, or Dask's. It is not shut down.
        timeout: seconds for one evaluation. A worker process that takes longer is killed, with the programs
            it has started, and replaced. On an executor the evaluation cannot be stopped: it is given up, and
            its worker stays occupied until it ends.
        seed, method, acquisition, batch, device, deterministic: see `Optimizer`.
        enqueue: configurations to evaluate before anything else, in this order; of a stored study those that
            it does not have yet. With method="manual" the run ends with the last of them.
        progress: show a live line; by default only on a terminal.
        callback: called with each trial once it is told, in this thread; not with those of other processes.

    Raises:
        TypeError: the objective cannot be sent to worker processes.
        ValueError: an enqueued configuration is not valid, or method="manual" and there is none.
        RuntimeError: no worker process could be started.
        ValueError, ConnectionError: the storage, or the study in it, cannot be used; see `Study`.

    >>> from bayesopt import Float
    >>> result = minimize(lambda config: (config["x"] - 1) ** 2, {"x": Float(-5, 5)}, trials=15)
    >>> round(result.best_config["x"], 2)
    1.0
    """
    return _optimize(
        False, objective, space, trials, _Kept(storage, name, on_space_change, pruner),
        _Engine(seed, method, acquisition, batch, device, deterministic), enqueue,
        _How(workers, executor, timeout, progress, callback, _checked_stop(stop_when, tolerance, method)),
    )  # fmt: skip


def maximize(
    objective: Objective,
    space: Space | Mapping[str, Any],
    trials: int = 50,
    *,
    storage: object = None,
    name: str | None = None,
    on_space_change: str = "error",
    pruner: object = None,
    stop_when: str | None = None,
    tolerance: float | None = None,
    workers: int | None = None,
    executor: Executor | None = None,
    timeout: float | None = None,
    seed: int = 0,
    method: str = "auto",
    acquisition: str = "log_ei",
    batch: str = "auto",
    device: str = "auto",
    deterministic: bool | None = None,
    enqueue: Sequence[Mapping[str, Any]] = (),
    progress: bool | None = None,
    callback: Callable[[Trial], None] | None = None,
) -> Result:
    """Find the configuration with the largest objective; everything else as `minimize`."""
    return _optimize(
        True, objective, space, trials, _Kept(storage, name, on_space_change, pruner),
        _Engine(seed, method, acquisition, batch, device, deterministic), enqueue,
        _How(workers, executor, timeout, progress, callback, _checked_stop(stop_when, tolerance, method)),
    )  # fmt: skip


def run(
    objective: Objective,
    study: "Study",
    trials: int = 50,
    *,
    stop_when: str | None = None,
    tolerance: float | None = None,
    workers: int | None = None,
    executor: Executor | None = None,
    timeout: float | None = None,
    progress: bool | None = None,
    callback: Callable[[Trial], None] | None = None,
) -> Result:
    """Evaluate an objective for a study, until it has so many trials; everything else as `minimize`."""
    stop = _checked_stop(stop_when, tolerance, study._optimizer._setting.method)
    how = _How(workers, executor, timeout, progress, callback, stop)
    return _run(objective, _Stored(study), trials, how)


class _Engine(NamedTuple):
    """Arguments of `Optimizer`."""

    seed: int
    method: str
    acquisition: str
    batch: str
    device: str
    deterministic: bool | None


class _Kept(NamedTuple):
    """Arguments of `Study` beyond those of `Optimizer`."""

    storage: object
    name: str | None
    on_space_change: str
    pruner: object


class _How(NamedTuple):
    """Arguments that say how to evaluate, and what to show."""

    workers: int | None
    executor: Executor | None
    timeout: float | None
    progress: bool | None
    callback: Callable[[Trial], None] | None
    tolerance: float | None  # of the regret, at which to stop


def _checked_stop(when: object, tolerance: object, method: str) -> float | None:
    """The tolerance of the regret; None for no early end."""
    if when is None and tolerance is None:
        return None
    if when != "regret":
        raise ValueError(f"stop_when must be 'regret', or None without a tolerance, got {when!r}")
    if tolerance is None:
        raise ValueError("stop_when='regret' needs a tolerance: a number in the units of the objective")
    if method not in ("auto", "gp"):
        raise ValueError(f"stop_when='regret' needs a model, method='auto' or 'gp', got method={method!r}")
    return checked_tolerance(tolerance)


def _optimize(
    maximize: bool,
    objective: Objective,
    space: Space | Mapping[str, Any],
    trials: int,
    kept: _Kept,
    engine: _Engine,
    enqueue: Sequence[Mapping[str, Any]],
    how: _How,
) -> Result:
    if kept.storage is None and kept.name is not None:
        raise ValueError(f"name={kept.name!r} needs a storage, such as storage='sqlite:///tuning.db'")
    if kept.storage is None and kept.pruner is None and not takes_trial(objective):
        optimizer = Optimizer(space, **engine._asdict(), maximize=maximize)
        optimizer.enqueue(enqueue)
        return _run(objective, _Fleeting(optimizer), trials, how)
    from bayesopt.storage.study import Study

    _check_arguments(objective, trials)
    with Study(space, **kept._asdict(), **engine._asdict(), maximize=maximize) as study:
        study.enqueue_new(enqueue)
        return _run(objective, _Stored(study), trials, how)


def _check_arguments(objective: Objective, trials: object) -> None:
    if not callable(objective):
        raise TypeError(f"objective must be callable with a configuration, got {objective!r}")
    if isinstance(trials, bool) or not isinstance(trials, int) or trials < 1:
        raise ValueError(f"trials must be an integer >= 1, got {trials!r}")


def takes_trial(objective: Objective) -> bool:
    """Whether an objective wants the trial, as a second argument: one that is needed, or called `trial`.

    >>> takes_trial(lambda config, trial: 0.0), takes_trial(lambda config, scale=1.0: 0.0)
    (True, False)
    """
    try:
        parameters = list(inspect.signature(objective).parameters.values())
    except (TypeError, ValueError):  # a builtin, or nothing that can be called
        return False
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return len(positional) > 1 and (positional[1].default is Parameter.empty or positional[1].name == "trial")


def _run(objective: Objective, books: "_Books", trials: int, how: _How) -> Result:
    _check_arguments(objective, trials)
    reporting = takes_trial(objective)
    books.check(how.executor, reporting)
    trials = _possible(books, trials)
    shown = sys.stderr.isatty() if how.progress is None else how.progress
    line = _progress_line(shown, trials, how.tolerance is not None)
    try:
        with (
            evaluations(objective, how.workers, how.executor, how.timeout, reporting) as under_way,
            line as show,
        ):
            _Run(books, under_way, trials, show, how.callback, how.tolerance).pursue()
    finally:
        books.forget()  # what an interrupt has left unevaluated
    return books.result()


def _possible(books: "_Books", trials: int) -> int:
    """So many trials, or as many as are enqueued where nothing else is proposed."""
    if books.optimizer._setting.method != "manual":
        return trials
    if not books.enqueued:
        raise ValueError("method='manual' evaluates what is enqueued, and nothing is; pass enqueue=[config]")
    return min(trials, books.done + books.enqueued)


class _Books(Protocol):
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
class _Fleeting:
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
class _Stored:
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


_PATIENCE = 600.0  # seconds that a storage may be out of reach


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


@dataclass(eq=False)
class _Run:
    """The loop: ask when a worker is free, tell when an evaluation is finished."""

    books: _Books
    under_way: Evaluations
    trials: int
    show: Callable[[Optimizer, int], None]
    callback: Callable[[Trial], None] | None
    tolerance: float | None
    not_before: float = 0.0  # when to ask again, after there was nothing to do
    judged: int = -1  # after how many results it was last asked whether that is enough

    def pursue(self) -> None:
        """Make trials until there are enough, or no more can be made, or somebody presses Ctrl-C."""
        try:
            while self.books.done < self.trials and not self.under_way.ending and not self.is_good():
                self.ask()
                self.tell()
            if self.under_way.broken is not None:
                self.explain(self.under_way.broken)
            self.drain()
        except KeyboardInterrupt:
            self.finish_early()

    def is_good(self) -> bool:
        """Whether little enough is still to be gained. What is enqueued is evaluated first."""
        if self.tolerance is None or self.books.done == self.judged:
            return False
        self.judged = self.books.done
        optimizer = self.books.optimizer
        if not optimizer.enough(self.tolerance) or self.books.enqueued:
            return False
        log.info(
            "stopped after %d of %d trials: with 95 %% no more than %g is still to be gained",
            self.books.done, self.trials, self.tolerance,
        )  # fmt: skip
        return True

    def finish_early(self) -> None:
        """Ask no more, but wait for what is running; unless somebody presses Ctrl-C again."""
        try:
            self.under_way.interrupted = True
            note = f"interrupted after {self.books.done} of {self.trials} trials"
            if running := self.under_way.running:
                note += f"; waiting for {running} running evaluations, press Ctrl-C again to abandon them"
            log.warning("%s", note)
            self.drain()
        except KeyboardInterrupt:
            log.warning("abandoned %d running evaluations", self.under_way.running)
            self.under_way.abandon()

    def explain(self, broken: RuntimeError) -> None:
        if not self.books.done:
            raise broken
        log.error("stopped after %d of %d trials: %s", self.books.done, self.trials, broken)

    def drain(self) -> None:
        while self.under_way.running:
            self.tell()

    def ask(self) -> None:
        free, running = self.under_way.free, self.under_way.running
        if free < 1 or time.monotonic() < self.not_before:
            return
        jobs = self.books.ask(free, running, self.trials)
        if not jobs:  # others are at the rest; one of them may die
            self.not_before = time.monotonic() + _IDLE
            return
        self.show(self.books.optimizer, running + len(jobs))
        for config, trial in jobs:
            self.under_way.start(config, trial)

    def tell(self) -> None:
        if not self.under_way.running:
            time.sleep(max(0.0, self.not_before - time.monotonic()))
        for config, trial, outcome in self.under_way.finished():
            told = self.books.tell(config, trial, outcome)
            self.not_before = 0.0
            self.show(self.books.optimizer, self.under_way.running)
            if told is not None and told.error is not None:
                reason = outcome.reason or told.error
                log.warning("trial %d failed: %s", told.number, reason.partition("\n")[0])
            if told is not None and self.callback is not None:
                self.callback(told)


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


@contextmanager
def _progress_line(
    enabled: bool, total: int, with_regret: bool
) -> Iterator[Callable[[Optimizer, int], None]]:
    """A live line of done, running, failed, best and time left; nothing at all when not enabled."""
    if not enabled:
        yield lambda optimizer, running: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("starting", total=total)

        def show(optimizer: Optimizer, running: int) -> None:
            trials, best = optimizer.trials, optimizer.best
            failed = sum(trial.value is None for trial in trials)
            text = f"{running} running, " if running else ""
            text += f"{failed} failed, " if failed else ""
            text += "no success yet" if best is None else f"best {best.value:.6g}"
            regret = optimizer.regret() if with_regret else None
            text += "" if regret is None else f", at most {regret.bound:.2g} to gain"
            bar.update(task, completed=len(trials), description=text)

        yield show
