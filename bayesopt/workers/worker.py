"""One evaluation, and the life of a worker process, which makes one after the other.

A worker process runs this file by its path: an import would import the whole package and so PyTorch, which
costs each process more than a second and 200 MB that its objective may have no use for. Hence nothing but the
standard library here, and nothing but plain tuples sent back.
"""

import math
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, Protocol

Config = dict[str, Any]


class TrialPruned(Exception):  # noqa: N818 - as in Optuna: it is not an error
    """Raised by an objective that follows the advice to stop early."""


class TrialFailed(Exception):  # noqa: N818 - like TrialPruned
    """Raised by an objective that knows what went wrong: its message is the error, without a traceback."""


class ReportingTrial(Protocol):
    """What an objective with two arguments gets as the second one."""

    number: int
    config: Config
    advised: bool

    def report(self, value: float, step: int) -> None: ...

    def should_prune(self) -> bool: ...


class Outcome(NamedTuple):
    """What an evaluation came to.

    Attributes:
        value: what the objective returned, not yet checked to be a number; None if it failed.
        seconds: how long it took.
        error: what went wrong in full, mostly a traceback; None if nothing did.
        reason: the same in brief.
        pruned: whether it was stopped early, on advice.
    """

    value: object
    seconds: float
    error: str | None = None
    reason: str = ""
    pruned: bool = False


def failure(exception: BaseException, seconds: float) -> Outcome:
    """The outcome of an evaluation that raised."""
    if _is(exception, TrialFailed):
        return Outcome(None, seconds, str(exception), str(exception))
    error = "".join(traceback.format_exception(exception))
    return Outcome(None, seconds, error, "".join(traceback.format_exception_only(exception)).strip())


def _is(exception: BaseException, kind: type[Exception]) -> bool:
    """By its name: Optuna's TrialPruned is welcome too, and in a worker process this file is loaded twice."""
    return any(each.__name__ == kind.__name__ for each in type(exception).__mro__)


def evaluate(
    objective: Callable[..., object],
    config: Config,
    trial: ReportingTrial | None = None,
    caught: type[BaseException] = Exception,
) -> Outcome:
    """Call the objective, with the trial if there is one; whatever it raises is part of the outcome.

    >>> evaluate(lambda config: 2 * config["x"], {"x": 3}).value
    6
    >>> evaluate(lambda config: config["y"], {"x": 3}).reason
    "KeyError: 'y'"
    """
    start = time.monotonic()
    try:
        value = _unwrapped(objective(config) if trial is None else objective(config, trial))
    except caught as exception:
        seconds = time.monotonic() - start
        if _is(exception, TrialPruned):
            return Outcome(None, seconds, pruned=True)
        return failure(exception, seconds)
    pruned = value is None and trial is not None and trial.advised
    return Outcome(value, time.monotonic() - start, pruned=pruned)


def _unwrapped(value: Any) -> object:
    """The number in a tensor or array of one element, also within a tuple; anything else as it is.

    A CUDA tensor waits here for its kernels, within the time and the traceback of its evaluation, and does
    not take its device along into the parent process.
    """
    if type(value) is tuple:
        return tuple(map(_unwrapped, value))
    shape = getattr(value, "shape", None)
    return value if shape is None or math.prod(shape) != 1 else value.item()


#: First byte of what a worker process sends while it evaluates: a question about its trial, or the outcome.
QUESTION, OUTCOME = b"?", b"="


class RemoteTrial:
    """A trial in a worker process: it is the parent that reports to the study, and asks its pruner."""

    def __init__(self, connection: Connection, number: int, config: Config) -> None:
        self.number = number
        self.config = dict(config)
        self.advised = False
        self._connection = connection
        self._lock = threading.Lock()

    def report(self, value: float, step: int) -> None:
        self._ask("report", _unwrapped(value), _unwrapped(step))

    def should_prune(self) -> bool:
        self.advised = bool(self._ask("should_prune"))
        return self.advised

    def _ask(self, *question: object) -> object:
        with self._lock:
            self._connection.send_bytes(QUESTION + pickle.dumps(question))
            answer, problem = pickle.loads(self._connection.recv_bytes())
        if problem is not None:
            raise problem
        return answer


def serve(connection: Connection) -> None:
    """Take an objective and answer what is wrong with it, if anything; then answer configurations."""
    _detach()
    with suppress(EOFError, OSError):  # the parent has no more work, or is gone
        objective, problem = _unpickled(connection.recv_bytes())
        connection.send_bytes(pickle.dumps(problem))
        while not problem:
            config, number = pickle.loads(connection.recv_bytes())
            trial = None if number is None else RemoteTrial(connection, number, config)
            outcome = evaluate(objective, config, trial, caught=BaseException)
            connection.send_bytes(OUTCOME + _packed(outcome))


def _unpickled(objective: bytes) -> tuple[Any, str]:
    try:
        return pickle.loads(objective), ""
    except BaseException as exception:  # noqa: BLE001 - it imports the module of the objective
        return None, failure(exception, 0.0).reason


def _detach() -> None:
    """Die with the parent, but not from the terminal's Ctrl-C.

    In a session of its own a worker hears nothing from the terminal, nor do the programs that its objective
    starts; and they can be stopped together.
    """
    threading.Thread(target=_die_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform != "win32":
        os.setsid()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None  # a worker process has one
    parent.join()
    if sys.platform != "win32":
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _packed(outcome: Outcome) -> bytes:
    try:
        return pickle.dumps(tuple(outcome))
    except Exception as exception:  # noqa: BLE001 - pickling can raise anything
        return pickle.dumps(tuple(failure(exception, outcome.seconds)))


if __name__ == "__bayesopt_worker__":
    # As in the main process: run_path has put this file's name into argv, and a spawned process would spawn
    # its own, such as those of a PyTorch DataLoader, for seconds and with everything pickled.
    sys.argv[0] = globals()["program"]
    multiprocessing.set_start_method(globals()["start_method"], force=True)
    serve(globals()["connection"])
