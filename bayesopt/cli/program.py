"""A program that runs: its output as it comes, its end, and what makes it end."""

import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

_GUARD = Path(__file__).with_name("guard.py")
_GLANCE = 0.1  # seconds between two looks at the clock
_CHUNK = 1 << 16

STDOUT, STDERR = "stdout", "stderr"
_LINE = "line"


class Program:
    """A program in a session of its own, without a shell and without input, which dies with this process.

    Args:
        words: the program and its arguments, each passed on as it is.
        environment: all of its variables.
        timeout: seconds after which it is stopped.
        grace: seconds between being asked to stop (SIGTERM) and being killed.

    Attributes:
        code: the exit code, minus the number of the signal that killed it; None while it runs.
        problem: why it could not be started; empty if it could.
        timed_out: whether it was stopped for taking too long.
    """

    def __init__(
        self, words: Sequence[str], environment: Mapping[str, str], timeout: float | None, grace: float
    ) -> None:
        self.code: int | None = None
        self.problem = ""
        self.timed_out = False
        self._grace = grace
        self._stop_at = float("inf") if timeout is None else time.monotonic() + timeout
        self._kill_at = float("inf")
        self._over = False
        self._lock = threading.RLock()  # RLock: a signal handler may come while this thread holds it
        self._line, theirs = socket.socketpair()
        with theirs:
            self._guard = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_GUARD), str(theirs.fileno()), *words],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                env=dict(environment), pass_fds=[theirs.fileno()], start_new_session=True,
            )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        """Kill what is left of it."""
        self.kill()
        with self._lock:
            self._over = True
        self._line.close()
        with self._guard:  # closes the pipes, and waits
            pass

    def output(self) -> Iterator[tuple[str, bytes]]:
        """What it writes, as it comes, with `STDOUT` or `STDERR`; ends when the program does."""
        pipes = {STDOUT: self._guard.stdout, STDERR: self._guard.stderr}
        with selectors.DefaultSelector() as selector:
            selector.register(self._line, selectors.EVENT_READ, _LINE)
            for name, pipe in pipes.items():
                assert pipe is not None
                os.set_blocking(pipe.fileno(), False)
                selector.register(pipe, selectors.EVENT_READ, name)
            ended = False
            while not ended:
                # What was written before the end is in the pipes by now; who writes later is none of ours.
                for key, _ in sorted(selector.select(_GLANCE), key=lambda ready: ready[0].data == _LINE):
                    if key.data == _LINE:
                        ended = True
                    elif chunk := _read(key.fd):
                        yield key.data, chunk
                    else:
                        selector.unregister(key.fileobj)
                self._mind_the_time()
        self._learn_the_end()
        self.kill()  # or what it has left behind could go on writing for ever
        for name, pipe in pipes.items():
            assert pipe is not None
            while chunk := _read(pipe.fileno()):
                yield name, chunk

    def stop(self) -> None:
        """Ask it to end; if it does not within the grace, it is killed."""
        self._kill_at = min(self._kill_at, time.monotonic() + self._grace)
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, and the programs that it has started."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        with self._lock, suppress(ProcessLookupError, PermissionError):  # all have ended
            if not self._over:  # afterwards the number of the group may be anybody's
                os.killpg(self._guard.pid, number)

    def _mind_the_time(self) -> None:
        now = time.monotonic()
        if now >= self._stop_at and not self.timed_out:
            self.timed_out = True
            self.stop()
        if now >= self._kill_at:
            self.kill()

    def _learn_the_end(self) -> None:
        said = ""
        with suppress(OSError):
            said = self._line.recv(_CHUNK).decode()
        try:
            self.code = int(said or -signal.SIGKILL)  # nothing said: the guard was killed too
        except ValueError:
            self.code, self.problem = 127, said


def _read(descriptor: int) -> bytes:
    """What there is in a pipe; nothing at its end, or if there is nothing now."""
    try:
        return os.read(descriptor, _CHUNK)
    except BlockingIOError:
        return b""
