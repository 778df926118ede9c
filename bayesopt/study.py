"""Run an objective: `minimize` and `maximize`."""

import logging
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from bayesopt.optimizer import Config, Optimizer, Trial
from bayesopt.space import Space

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
    seed: int = 0,
    method: str = "auto",
    acquisition: str = "log_ei",
    device: str = "auto",
    progress: bool | None = None,
    callback: Callable[[Trial], None] | None = None,
) -> Result:
    """Find the configuration with the smallest objective.

    An evaluation that raises an exception, or returns None, nan or an infinity, is a failed trial: it is
    logged, kept with its traceback, and teaches the engine to stay away. Ctrl-C ends the run early and
    returns what is known; interrupted evaluations are not trials.

    Args:
        objective: takes a configuration, a dict of the active parameters, and returns a number.
        space: a `Space`, or a dict of parameters.
        trials: number of evaluations.
        seed, method, acquisition, device: see `Optimizer`.
        progress: show a live line; by default only on a terminal.
        callback: called with each trial once it is told.

    Raises:
        TypeError: the objective returned something that is neither a number nor None.

    >>> from bayesopt import Float
    >>> result = minimize(lambda config: (config["x"] - 1) ** 2, {"x": Float(-5, 5)}, trials=15)
    >>> round(result.best_config["x"], 2)
    1.0
    """
    optimizer = Optimizer(space, seed=seed, method=method, acquisition=acquisition, device=device)
    return _run(objective, optimizer, trials, progress, callback)


def maximize(
    objective: Objective,
    space: Space | Mapping[str, Any],
    trials: int = 50,
    *,
    seed: int = 0,
    method: str = "auto",
    acquisition: str = "log_ei",
    device: str = "auto",
    progress: bool | None = None,
    callback: Callable[[Trial], None] | None = None,
) -> Result:
    """Find the configuration with the largest objective; everything else as `minimize`."""
    optimizer = Optimizer(
        space, seed=seed, method=method, acquisition=acquisition, device=device, maximize=True
    )
    return _run(objective, optimizer, trials, progress, callback)


def _run(
    objective: Objective,
    optimizer: Optimizer,
    trials: int,
    progress: bool | None,
    callback: Callable[[Trial], None] | None,
) -> Result:
    if not callable(objective):
        raise TypeError(f"objective must be callable with a configuration, got {objective!r}")
    if isinstance(trials, bool) or not isinstance(trials, int) or trials < 1:
        raise ValueError(f"trials must be an integer >= 1, got {trials!r}")
    with _progress_line(sys.stderr.isatty() if progress is None else progress, trials) as show:
        for _ in range(trials):
            try:
                trial = _evaluate(objective, optimizer)
            except KeyboardInterrupt:
                log.warning("interrupted after %d of %d trials", len(optimizer.trials), trials)
                break
            show(optimizer)
            if callback is not None:
                callback(trial)
    return Result(optimizer.trials, optimizer)


def _evaluate(objective: Objective, optimizer: Optimizer) -> Trial:
    config = optimizer.ask()
    start = time.monotonic()
    value, error = None, None
    try:
        value = objective(dict(config))
    except Exception as exception:  # noqa: BLE001 - a failed evaluation is data: kept and logged
        error = traceback.format_exc()
        log.warning("trial %d failed: %s: %s", len(optimizer.trials), type(exception).__name__, exception)
    optimizer._commit(optimizer._checked(config, value), time.monotonic() - start, error)
    return optimizer.trials[-1]


@contextmanager
def _progress_line(enabled: bool, total: int) -> Iterator[Callable[[Optimizer], None]]:
    """A live line of done, failed, best and time left; nothing at all when not enabled."""
    if not enabled:
        yield lambda optimizer: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("starting", total=total)

        def show(optimizer: Optimizer) -> None:
            best = optimizer.best
            failed = sum(trial.value is None for trial in optimizer.trials)
            text = "no success yet" if best is None else f"best {best.value:.6g}"
            bar.update(task, advance=1, description=text + (f", {failed} failed" if failed else ""))

        yield show
