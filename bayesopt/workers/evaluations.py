"""The evaluations under way, wherever they run: how many there may be, and for how long."""

import concurrent.futures
import logging
import math
import numbers
import time
from collections.abc import Callable, Iterator
from concurrent.futures import (
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
)
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

from bayesopt.workers.pool import WorkerProcesses
from bayesopt.workers.process import WorkerStartError, pickled
from bayesopt.workers.worker import Config, Outcome, ReportingTrial, evaluate, failure

log = logging.getLogger("bayesopt")

Objective = Callable[..., object]  # of a configuration, or of it and its trial

_GLANCE = 1.0  # seconds between two looks; on Windows a Ctrl-C is noticed only then
_CLOSE_GLANCE = 0.05  # the same while an evaluation with a timeout may be about to start


@dataclass(eq=False)
class _Run:
    config: Config
    trial: ReportingTrial | None
    submitted: float
    started: float | None  # None while it may be waiting for a worker of the executor


class Evaluations:
    """Evaluations of an objective, at most `slots` at a time, in the order in which they were started.

    Args:
        submit: starts the evaluation of a configuration.
        slots: how many there can be at once.
        timeout: seconds after which an evaluation is given up. It cannot be stopped from here, so its slot
            stays taken until it ends, or others would queue up behind it; what it returns is ignored.
        starts_known: whether `running()` of a future says that its evaluation has started; if not, it is
            taken to start when it is submitted.
        reporting: whether the objective takes the trial as well.

    Attributes:
        interrupted: set by whoever wants no more evaluations to be started.
        broken: why no more can be started; None while they can.
    """

    def __init__(
        self,
        submit: Callable[[Config, ReportingTrial | None], Future[Outcome]],
        slots: int,
        timeout: float | None = None,
        starts_known: bool = False,
        reporting: bool = False,
    ) -> None:
        self.interrupted = False
        self.broken: RuntimeError | None = None
        self._submit = submit
        self._slots = slots
        self._timeout = math.inf if timeout is None else timeout
        self._starts_known = starts_known
        self._reporting = reporting
        self._runs: dict[Future[Outcome], _Run] = {}
        self._given_up: set[Future[Outcome]] = set()
        self._warned = False

    @property
    def running(self) -> int:
        """Number of evaluations that are waited for."""
        return len(self._runs)

    @property
    def ending(self) -> bool:
        """Whether no more evaluations will be started."""
        return self.interrupted or self.broken is not None

    @property
    def free(self) -> int:
        """Number of evaluations that can be started now."""
        return 0 if self.ending else self._slots - len(self._runs) - len(self._given_up)

    def start(self, config: Config, trial: ReportingTrial | None = None) -> bool:
        """Start an evaluation, unless the executor takes no more; whether it has been started."""
        now = time.monotonic()
        try:
            future = self._submit(dict(config), trial if self._reporting else None)
        except RuntimeError as error:  # broken or shut down
            self._break(error)
            return False
        if not isinstance(future, Future):
            raise TypeError(
                f"executor.submit must return a concurrent.futures.Future, got {type(future).__name__}; "
                "of a Dask client pass client.get_executor()"
            )
        self._runs[future] = _Run(config, trial, now, None if self._starts_known else now)
        return True

    def finished(self) -> Iterator[tuple[Config, ReportingTrial | None, Outcome]]:
        """Wait until one finishes, for a moment at most; then all that did or took too long, oldest first."""
        self._wait()
        overdue = {future for future, run in self._runs.items() if self._seconds_left(run) <= 0}
        for future in [each for each in self._runs if each.done() or each in overdue]:
            run = self._runs.pop(future)
            outcome = self._outcome(future, run)
            if outcome is not None:
                yield run.config, run.trial, outcome

    def abandon(self) -> None:
        """Wait for nothing any more."""
        for future in (*self._runs, *self._given_up):
            future.cancel()
        self._runs.clear()

    def _wait(self) -> None:
        if self._given_up and not self._runs and not self.ending and not self._warned:
            self._warned = True
            log.warning(
                "all %d workers of the executor are occupied by evaluations that exceeded the timeout of "
                "%g s and cannot be stopped; waiting for one of them to end", self._slots, self._timeout,
            )  # fmt: skip
        pause = min([_GLANCE, *map(self._seconds_left, self._runs.values())])
        if self._starts_known and any(run.started is None for run in self._runs.values()):
            pause = min(pause, _CLOSE_GLANCE)
        futures = [*self._runs, *self._given_up]
        concurrent.futures.wait(futures, max(pause, 0.0), return_when=concurrent.futures.FIRST_COMPLETED)
        self._given_up = {future for future in self._given_up if not future.done()}
        for future, run in self._runs.items():
            if run.started is None and future.running():
                run.started = time.monotonic()

    def _seconds_left(self, run: _Run) -> float:
        return self._timeout - (0.0 if run.started is None else time.monotonic() - run.started)

    def _outcome(self, future: Future[Outcome], run: _Run) -> Outcome | None:
        """What came out; None if there was no evaluation to speak of."""
        seconds = time.monotonic() - (run.submitted if run.started is None else run.started)
        if not future.done():
            return self._give_up(future, seconds)
        try:
            return future.result()
        except KeyboardInterrupt:  # Ctrl-C reaches the processes of an executor too
            raise
        except WorkerStartError as error:
            self._break(error)
            return None
        except BaseException as error:  # noqa: BLE001 - SystemExit, failure to pickle, a broken executor
            if isinstance(error, BrokenExecutor):
                self._break(error)
            stopped = self.interrupted and isinstance(error, BrokenExecutor | CancelledError)
            return None if stopped else failure(error, seconds)

    def _give_up(self, future: Future[Outcome], seconds: float) -> Outcome:
        self._given_up.add(future)
        reason = (
            f"evaluation exceeded timeout of {self._timeout:g} s and was given up; an executor cannot stop "
            "it, so its worker is occupied until it ends"
        )
        return Outcome(None, seconds, reason, reason)

    def _break(self, error: RuntimeError) -> None:
        self.broken = self.broken or error


@contextmanager
def evaluations(
    objective: Objective,
    workers: int | None,
    executor: Executor | None,
    timeout: float | None,
    reporting: bool = False,
) -> Iterator[Evaluations]:
    """Evaluations in this thread, in worker processes, or on an executor; in the end they are abandoned.

    Args:
        objective: takes a configuration and returns a number.
        workers: how many at once; by default one, or as many as the executor has workers.
        executor: where to evaluate instead; it is not shut down.
        timeout: seconds for one evaluation.
        reporting: whether the objective takes the trial as well.

    Raises:
        ValueError, TypeError: an argument is not valid, or the objective cannot be sent to worker processes.
    """
    slots = _checked_workers(workers, executor)
    if timeout is not None and (
        isinstance(timeout, bool) or not isinstance(timeout, numbers.Real) or not timeout > 0
    ):
        raise ValueError(f"timeout must be a number of seconds > 0, or None for no limit, got {timeout!r}")
    with ExitStack() as stack:
        if executor is not None:
            under_way = _on_executor(objective, executor, slots, timeout, reporting)
        elif slots == 1 and timeout is None:
            under_way = Evaluations(partial(_here, objective), 1, reporting=reporting)
        else:
            processes = stack.enter_context(WorkerProcesses(objective, slots, timeout))
            under_way = Evaluations(processes.submit, slots, reporting=reporting)
        stack.callback(under_way.abandon)
        yield under_way


def _here(objective: Objective, config: Config, trial: ReportingTrial | None) -> Future[Outcome]:
    """Evaluate in this thread, where a debugger works and Ctrl-C ends the evaluation."""
    future: Future[Outcome] = Future()
    future.set_result(evaluate(objective, config, trial))
    return future


def _on_executor(
    objective: Objective, executor: Executor, slots: int, timeout: float | None, reporting: bool
) -> Evaluations:
    if isinstance(executor, ProcessPoolExecutor):
        pickled(objective)  # or each evaluation would fail for the same reason
    # The futures of others, such as Dask's, may be "pending" until they are done.
    starts_known = isinstance(executor, ProcessPoolExecutor | ThreadPoolExecutor)

    def submit(config: Config, trial: ReportingTrial | None) -> Future[Outcome]:
        return executor.submit(evaluate, objective, config, trial)

    return Evaluations(submit, slots, timeout, starts_known, reporting)


def _checked_workers(workers: object, executor: object) -> int:
    if executor is not None and (
        isinstance(executor, type) or not callable(getattr(executor, "submit", None))
    ):
        raise TypeError(
            f"executor must be a concurrent.futures.Executor, e.g. ThreadPoolExecutor(4), got {executor!r}"
        )
    if workers is None:
        workers = 1 if executor is None else getattr(executor, "_max_workers", None)
        if workers is None:
            raise ValueError(
                f"{executor!r} does not say how many evaluations it can run at once: pass workers= as well"
            )
    if isinstance(workers, bool) or not isinstance(workers, numbers.Integral) or int(workers) < 1:
        raise ValueError(f"workers must be an integer >= 1, got {workers!r}")
    return int(workers)
