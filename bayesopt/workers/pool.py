"""A pool of worker processes that evaluate one objective, each one configuration at a time.

The standard library's pool cannot stop an evaluation, and one dead process takes all the others with it. Here
each process has a thread and a pipe of its own in the parent and shares nothing with its siblings: an
evaluation that dies or hangs takes only its own process with it, which is replaced.
"""

import atexit
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from multiprocessing import resource_tracker
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Self

from bayesopt.workers.process import UNGUARDED, WorkerProcess, WorkerStartError, pickled
from bayesopt.workers.worker import Config, Outcome, ReportingTrial

_THREADS = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS", "NUMBA_NUM_THREADS",
)  # fmt: skip


class WorkerProcesses:
    """Up to `count` processes, started when they are needed.

    Where the environment does not say how many threads OpenMP, MKL and their kin may use, each process is
    told to use its share of the cores, as joblib does: with a thread for every core each, they would slow
    each other down.

    Args:
        objective: takes a configuration; pickled once, and unpickled once in each process.
        count: how many evaluations there can be at once.
        timeout: seconds after which an evaluation is stopped.

    Raises:
        TypeError: the objective cannot be pickled.
    """

    def __init__(self, objective: Callable[..., object], count: int, timeout: float | None = None) -> None:
        if getattr(multiprocessing.current_process(), "_inheriting", False):
            # A worker of a script without a main guard has come to the very call that started it.
            os._exit(UNGUARDED)
        payload, environment = pickled(objective), thread_limits(count)
        self._workers = [_Worker(payload, environment, timeout) for _ in range(count)]
        self._jobs: SimpleQueue[tuple[Future[Outcome], Config, ReportingTrial | None] | None] = SimpleQueue()
        self._threads = [Thread(target=self._feed, args=(each,), daemon=True) for each in self._workers]
        for thread in self._threads:
            thread.start()
        atexit.register(self._stop)  # a run in a daemon thread: Python would wait for its child processes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def submit(self, config: Config, trial: ReportingTrial | None = None) -> Future[Outcome]:
        """Evaluate a configuration as soon as a process is free.

        The future raises `WorkerStartError` if no process could be started for it; whatever else goes wrong
        is part of the outcome.
        """
        future: Future[Outcome] = Future()
        self._jobs.put((future, config, trial))
        return future

    def close(self) -> None:
        """Stop the evaluations that are running, and end all processes."""
        self._stop()
        for thread in self._threads:
            with suppress(KeyboardInterrupt):  # it ends soon in any case, and the results are known
                thread.join()
        atexit.unregister(self._stop)

    def _stop(self) -> None:
        for each in self._workers:
            each.stop()
        for _ in self._threads:
            self._jobs.put(None)

    def _feed(self, worker: "_Worker") -> None:
        if sys.platform != "win32":
            # Its processes inherit the mask: no Ctrl-C before they can ignore it. The tracker comes first:
            # whoever starts it unblocks the signal.
            resource_tracker.ensure_running()
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        while (job := self._jobs.get()) is not None:
            future, config, trial = job
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(worker.evaluate(config, trial))
            except Exception as exception:  # noqa: BLE001 - whoever waits for the future gets it
                future.set_exception(exception)
        worker.leave()


class _Worker:
    """One of the workers: its process is started when there is work, and again when it was lost."""

    def __init__(self, objective: bytes, environment: Mapping[str, str], timeout: float | None) -> None:
        self._objective = objective
        self._environment = environment
        self._timeout = timeout
        self._process: WorkerProcess | None = None
        self._lock = Lock()  # stop() comes from another thread
        self._busy = self._stopped = False

    def evaluate(self, config: Config, trial: ReportingTrial | None) -> Outcome:
        process = self._occupy()
        try:
            process.load(self._objective)
            return process.evaluate(config, trial, self._timeout)
        finally:
            with self._lock:
                self._busy = False

    def _occupy(self) -> WorkerProcess:
        with self._lock:
            if self._stopped:
                raise WorkerStartError("the worker processes have been closed")
            if self._process is None or not self._process.is_alive():
                self.leave()
                self._process = WorkerProcess(self._environment)
            self._busy = True
            return self._process

    def stop(self) -> None:
        """No more evaluations; one that is running is lost. An idle process is left alone."""
        with self._lock:
            self._stopped = True
            if self._process is not None and self._busy:
                self._process.kill()

    def leave(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.close()
            self._process = None


def thread_limits(workers: int) -> dict[str, str]:
    """Environment that gives each worker its share of the cores; nothing for a single one."""
    cores = os.cpu_count() or 1
    if sys.platform == "linux":
        cores = len(os.sched_getaffinity(0))  # what a container or a batch system grants
    return dict.fromkeys(_THREADS, str(max(1, cores // workers))) if workers > 1 else {}
