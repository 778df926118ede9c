"""One worker process, seen from the parent: start it, give it work, end it."""

import logging
import math
import multiprocessing
import os
import pickle
import runpy
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager, suppress
from threading import Lock
from typing import Any

from bayesopt.workers import worker
from bayesopt.workers.worker import QUESTION, Config, Outcome, ReportingTrial, failure

log = logging.getLogger("bayesopt")

# A fork would inherit the locks of PyTorch's thread pools in whatever state they are, and any CUDA context.
_SPAWN = multiprocessing.get_context("spawn")
_starting = Lock()  # guards the environment while a process inherits it

UNGUARDED = 117  # exit code of a process that was to start processes while it was starting itself
_GLANCE = 1.0  # seconds between two looks at whether a process is alive
_SLOW_START = 60.0  # seconds after which a process that is still starting is worth a warning
_FAREWELL = 5.0  # seconds an idle process has to leave by itself, and to flush its files

_REMEDY = (
    "define it at the top level of a module, with functools.partial for further arguments; or pass "
    "executor=, e.g. concurrent.futures.ThreadPoolExecutor(8) if it releases the GIL"
)


class WorkerStartError(BrokenExecutor):
    """A worker process could not start; the message says why and what to do."""


class WorkerProcess:
    """A worker process, started at once.

    Args:
        environment: variables that it gets on top of the parent's.

    Raises:
        WorkerStartError: the system does not grant another process.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._connection, theirs = _SPAWN.Pipe()
        given = {
            "connection": theirs,
            "program": sys.argv[0],
            "start_method": multiprocessing.get_start_method(allow_none=True),
        }
        arguments = (worker.__file__, given, "__bayesopt_worker__")
        self._process = _SPAWN.Process(target=runpy.run_path, args=arguments, name="bayesopt worker")
        self._loaded = self._killed = False
        try:
            with theirs, _starting, _extended_environment(environment):
                self._process.start()
        except Exception as error:  # the system grants no more, or a daemonic process may have no children
            self._connection.close()
            raise WorkerStartError(f"a worker process could not start: {error}") from error

    def is_alive(self) -> bool:
        return not self._killed and self._process.is_alive()

    def load(self, objective: bytes) -> None:
        """Hand over the pickled objective, unless that has been done.

        Raises:
            WorkerStartError: the process did not get as far, or cannot unpickle it.
        """
        if self._loaded:
            return
        try:
            self._connection.send_bytes(objective)
            problem = pickle.loads(self._receive_first())
        except (EOFError, OSError):
            raise WorkerStartError(_why_not_started(self._exit_code())) from None
        if problem:
            raise WorkerStartError(f"worker processes cannot load the objective ({problem}): {_REMEDY}")
        self._loaded = True

    def evaluate(
        self, config: Config, trial: ReportingTrial | None = None, timeout: float | None = None
    ) -> Outcome:
        """Evaluate; that the process died, or was killed for taking too long, is part of the outcome."""
        start = time.monotonic()
        try:
            self._connection.send_bytes(pickle.dumps((config, None if trial is None else trial.number)))
            return _unpickled(self._outcome(trial, timeout), start)
        except TimeoutError:
            reason = f"evaluation exceeded timeout of {timeout:g} s and was stopped"
        except (EOFError, OSError):
            reason = f"worker process died ({_exit_text(self._exit_code())})"
        self.kill()
        return Outcome(None, time.monotonic() - start, reason, reason)

    def _outcome(self, trial: ReportingTrial | None, timeout: float | None) -> bytes:
        """The outcome, still pickled; questions that come before are answered."""
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        while True:
            left = None if timeout is None else max(deadline - time.monotonic(), 0.0)
            message = self._receive(left)
            if message[:1] != QUESTION:
                return message[1:]
            assert trial is not None  # who has none cannot ask
            self._connection.send_bytes(_answer(trial, *pickle.loads(message[1:])))

    def _receive_first(self) -> bytes:
        while True:
            try:
                return self._receive(_SLOW_START)
            except TimeoutError:
                log.warning("a worker process is still starting: importing the main module takes its time")

    def _receive(self, timeout: float | None) -> bytes:
        """The next message.

        Raises:
            TimeoutError: none came in time.
            EOFError, OSError: the process has died.
        """
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        while True:
            alive = self.is_alive()  # before the pipe is looked at, or last words would be lost
            wait = min(deadline - time.monotonic(), _GLANCE) if alive else 0.0
            if self._connection.poll(max(wait, 0.0)):
                return self._connection.recv_bytes()
            if not alive:  # and a child of its own holds the pipe open
                raise EOFError
            if time.monotonic() >= deadline:
                raise TimeoutError

    def _exit_code(self, patience: float = _GLANCE) -> int | None:
        """The exit code of a process that is about to end; None if it does not, within some seconds."""
        deadline = time.monotonic() + patience
        while self._process.is_alive() and time.monotonic() < deadline:
            time.sleep(0.005)  # join(timeout) would block if the objective has closed all open files
        return self._process.exitcode

    def kill(self) -> None:
        """End the process at once, and the programs that its objective has started."""
        self._killed = True
        if sys.platform != "win32" and self._process.pid is not None:
            with suppress(ProcessLookupError, PermissionError):  # no session of its own yet, or nobody left
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()

    def close(self) -> None:
        """End the process, which gets a moment to leave by itself."""
        self._connection.close()
        if self._exit_code(_FAREWELL) is None:
            self.kill()
        if self._exit_code(_FAREWELL) is None:  # stuck in a device driver, say
            log.warning("worker process %s was killed but does not end", self._process.pid)
        else:
            self._process.close()


def pickled(objective: Callable[[Config], object]) -> bytes:
    """The objective for a worker process.

    Raises:
        TypeError: it cannot be pickled; the message says why and what to do.

    >>> pickled(lambda config: 0.0)
    Traceback (most recent call last):
    TypeError: objective ... cannot be sent to worker processes ...
    """
    try:
        return pickle.dumps(objective)
    except Exception as error:
        raise TypeError(
            f"objective {objective!r} cannot be sent to worker processes ({error}): {_REMEDY}"
        ) from error


def _answer(trial: ReportingTrial, method: str, *arguments: Any) -> bytes:
    """What the trial says, and what it raises, as a worker process expects it."""
    try:
        return pickle.dumps((getattr(trial, method)(*arguments), None))
    except Exception as exception:  # noqa: BLE001 - it is raised in the objective
        try:
            return pickle.dumps((None, exception))
        except Exception:  # noqa: BLE001 - a database's error may not travel; what it says does
            return pickle.dumps((None, RuntimeError(f"{type(exception).__name__}: {exception}")))


def _unpickled(outcome: bytes, start: float) -> Outcome:
    try:
        return Outcome(*pickle.loads(outcome))
    except Exception as exception:  # noqa: BLE001 - unpickling can raise anything
        return failure(exception, time.monotonic() - start)


def _why_not_started(exit_code: int | None) -> str:
    if exit_code == UNGUARDED:
        return (
            "worker processes import the main module, and this one calls minimize or maximize when it is "
            'imported: put the call under `if __name__ == "__main__":`'
        )
    main = getattr(sys.modules["__main__"], "__file__", None)
    return (
        f"a worker process ended while it was starting ({_exit_text(exit_code)}). It imports the main "
        f"module, here {main}, and that of the objective; stderr may tell why it could not"
    )


def _exit_text(code: int | None) -> str:
    """What an exit code means.

    >>> _exit_text(-11)
    'exit code -11: killed by SIGSEGV'
    """
    if code is None:
        return "it closed its connection"
    if code >= 0:
        return f"exit code {code}"
    names = {int(each): each.name for each in signal.Signals}
    hint = ", often the system being out of memory" if names.get(-code) == "SIGKILL" else ""
    return f"exit code {code}: killed by {names.get(-code, f'signal {-code}')}{hint}"


@contextmanager
def _extended_environment(variables: Mapping[str, str]) -> Iterator[None]:
    """What the user has not set, for the processes that are started meanwhile."""
    added = {name: text for name, text in variables.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
