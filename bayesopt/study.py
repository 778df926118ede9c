"""Run an objective: `minimize` and `maximize`."""

import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from bayesopt.optimizer import Optimizer
from bayesopt.space import Space
from bayesopt.trials import Config, Trial
from bayesopt.workers.evaluations import Evaluations, evaluations
from bayesopt.workers.worker import Outcome

log = logging.getLogger("bayesopt")

Objective = Callable[[Config], float | None]


@dataclass(frozen=True)
class Result:
    """What a run found.

    Attributes:
        trials: every evaluation, in order.
        optimizer: the engine with its history, for more proposals or `state_dict()`.
    """

    trials: list[Trial]
    optimizer: Optimizer

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
    workers: int | None = None,
    executor: Executor | None = None,
    timeout: float | None = None,
    seed: int = 0,
    method: str = "auto",
    acquisition: str = "log_ei",
    batch: str = "auto",
    device: str = "auto",
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

    Args:
        objective: takes a configuration, a dict of the active parameters, and returns a number.
        space: a `Space`, or a dict of parameters.
        trials: number of evaluations.
        workers: how many evaluations to run at once; by default one, or as many as the executor has workers.
        executor: evaluates instead of worker processes: any `concurrent.futures.Executor`, such as a
            `ThreadPoolExecutor`, or Dask's. It is not shut down.
        timeout: seconds for one evaluation. A worker process that takes longer is killed, with the programs
            it has started, and replaced. On an executor the evaluation cannot be stopped: it is given up, and
            its worker stays occupied until it ends.
        seed, method, acquisition, batch, device: see `Optimizer`.
        enqueue: configurations to evaluate before anything else, in this order. With method="manual" the run
            ends with the last of them.
        progress: show a live line; by default only on a terminal.
        callback: called with each trial once it is told, in this thread.

    Raises:
        TypeError: the objective cannot be sent to worker processes.
        ValueError: an enqueued configuration is not valid, or method="manual" and there is none.
        RuntimeError: no worker process could be started.

    >>> from bayesopt import Float
    >>> result = minimize(lambda config: (config["x"] - 1) ** 2, {"x": Float(-5, 5)}, trials=15)
    >>> round(result.best_config["x"], 2)
    1.0
    """
    optimizer = Optimizer(
        space, seed=seed, method=method, acquisition=acquisition, batch=batch, device=device
    )
    optimizer.enqueue(enqueue)
    return _run(objective, optimizer, trials, workers, executor, timeout, progress, callback)


def maximize(
    objective: Objective,
    space: Space | Mapping[str, Any],
    trials: int = 50,
    *,
    workers: int | None = None,
    executor: Executor | None = None,
    timeout: float | None = None,
    seed: int = 0,
    method: str = "auto",
    acquisition: str = "log_ei",
    batch: str = "auto",
    device: str = "auto",
    enqueue: Sequence[Mapping[str, Any]] = (),
    progress: bool | None = None,
    callback: Callable[[Trial], None] | None = None,
) -> Result:
    """Find the configuration with the largest objective; everything else as `minimize`."""
    optimizer = Optimizer(
        space, seed=seed, method=method, acquisition=acquisition, batch=batch, device=device, maximize=True
    )
    optimizer.enqueue(enqueue)
    return _run(objective, optimizer, trials, workers, executor, timeout, progress, callback)


def _run(
    objective: Objective,
    optimizer: Optimizer,
    trials: int,
    workers: int | None,
    executor: Executor | None,
    timeout: float | None,
    progress: bool | None,
    callback: Callable[[Trial], None] | None,
) -> Result:
    if not callable(objective):
        raise TypeError(f"objective must be callable with a configuration, got {objective!r}")
    if isinstance(trials, bool) or not isinstance(trials, int) or trials < 1:
        raise ValueError(f"trials must be an integer >= 1, got {trials!r}")
    trials = _possible(optimizer, trials)
    line = _progress_line(sys.stderr.isatty() if progress is None else progress, trials)
    with evaluations(objective, workers, executor, timeout) as under_way, line as show:
        _Run(optimizer, under_way, trials, show, callback).pursue()
    optimizer.forget(optimizer.pending)  # what an interrupt has left unevaluated
    return Result(optimizer.trials, optimizer)


def _possible(optimizer: Optimizer, trials: int) -> int:
    """So many trials, or as many as are enqueued where nothing else is proposed."""
    if optimizer._method != "manual":
        return trials
    if not optimizer.enqueued:
        raise ValueError("method='manual' evaluates what is enqueued, and nothing is; pass enqueue=[config]")
    return min(trials, len(optimizer.enqueued))


@dataclass(frozen=True, eq=False)
class _Run:
    """The loop: ask when a worker is free, tell when an evaluation is finished."""

    optimizer: Optimizer
    under_way: Evaluations
    trials: int
    show: Callable[[Optimizer, int], None]
    callback: Callable[[Trial], None] | None

    def pursue(self) -> None:
        """Make trials until there are enough, or no more can be made, or somebody presses Ctrl-C."""
        try:
            while len(self.optimizer.trials) < self.trials and not self.under_way.ending:
                self.ask()
                self.tell()
            if self.under_way.broken is not None:
                self.explain(self.under_way.broken)
            self.drain()
        except KeyboardInterrupt:
            self.finish_early()

    def finish_early(self) -> None:
        """Ask no more, but wait for what is running; unless somebody presses Ctrl-C again."""
        try:
            self.under_way.interrupted = True
            note = f"interrupted after {len(self.optimizer.trials)} of {self.trials} trials"
            if running := self.under_way.running:
                note += f"; waiting for {running} running evaluations, press Ctrl-C again to abandon them"
            log.warning("%s", note)
            self.drain()
        except KeyboardInterrupt:
            log.warning("abandoned %d running evaluations", self.under_way.running)
            self.under_way.abandon()

    def explain(self, broken: RuntimeError) -> None:
        if not self.optimizer.trials:
            raise broken
        log.error("stopped after %d of %d trials: %s", len(self.optimizer.trials), self.trials, broken)

    def drain(self) -> None:
        while self.under_way.running:
            self.tell()

    def ask(self) -> None:
        wanted = self.trials - len(self.optimizer.trials) - self.under_way.running
        count = min(wanted, self.under_way.free)
        if count < 1:
            return
        configs = self.optimizer.ask(count)
        self.show(self.optimizer, self.under_way.running + count)
        for config in configs:
            self.under_way.start(config)

    def tell(self) -> None:
        for config, outcome in self.under_way.finished():
            trial = _told(self.optimizer, config, outcome)
            self.show(self.optimizer, self.under_way.running)
            if self.callback is not None:
                self.callback(trial)


def _told(optimizer: Optimizer, config: Config, outcome: Outcome) -> Trial:
    """The trial that an outcome makes; one that is not a number is a failure too."""
    error, reason = outcome.error, outcome.reason
    try:
        results = optimizer._checked(config, outcome.value)
    except Exception as exception:  # noqa: BLE001 - what an objective returns may raise anything when looked at
        error = reason = f"{type(exception).__name__}: {exception}"
        results = optimizer._checked(config, None)
    optimizer._commit(results, outcome.seconds, error)
    trial = optimizer.trials[-1]
    if error is not None:
        log.warning("trial %d failed: %s", trial.number, reason.partition("\n")[0])
    return trial


@contextmanager
def _progress_line(enabled: bool, total: int) -> Iterator[Callable[[Optimizer, int], None]]:
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
            bar.update(task, completed=len(trials), description=text)

        yield show
