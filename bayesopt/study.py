"""Run an objective: `minimize` and `maximize`."""

import inspect
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from inspect import Parameter
from typing import TYPE_CHECKING, Any, NamedTuple

from bayesopt.books import Books, Fleeting, Result, Stored
from bayesopt.checks import checked_tolerance
from bayesopt.optimizer import Optimizer
from bayesopt.running import Run, progress_line
from bayesopt.space import Space
from bayesopt.trials import Trial
from bayesopt.workers.evaluations import evaluations

if TYPE_CHECKING:  # it loads Optuna
    from bayesopt.storage.study import Study

log = logging.getLogger("bayesopt")

Objective = Callable[..., float | tuple[float, float] | None]


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
    return _run(objective, Stored(study), trials, how)


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
        return _run(objective, Fleeting(optimizer), trials, how)
    from bayesopt.storage.study import Study

    _check_arguments(objective, trials)
    with Study(space, **kept._asdict(), **engine._asdict(), maximize=maximize) as study:
        study.enqueue_new(enqueue)
        return _run(objective, Stored(study), trials, how)


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


def _run(objective: Objective, books: Books, trials: int, how: _How) -> Result:
    _check_arguments(objective, trials)
    reporting = takes_trial(objective)
    books.check(how.executor, reporting)
    trials = _possible(books, trials)
    shown = sys.stderr.isatty() if how.progress is None else how.progress
    line = progress_line(shown, trials, how.tolerance is not None)
    try:
        with (
            evaluations(objective, how.workers, how.executor, how.timeout, reporting) as under_way,
            line as show,
        ):
            Run(books, under_way, trials, show, how.callback, how.tolerance).pursue()
    finally:
        books.forget()  # what an interrupt has left unevaluated
    return books.result()


def _possible(books: Books, trials: int) -> int:
    """So many trials, or as many as are enqueued where nothing else is proposed."""
    if books.optimizer._setting.method != "manual":
        return trials
    if not books.enqueued:
        raise ValueError("method='manual' evaluates what is enqueued, and nothing is; pass enqueue=[config]")
    return min(trials, books.done + books.enqueued)
