"""Who is at work: an identity for a process that others can look at, and its heartbeats."""

import logging
import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

log = logging.getLogger("bayesopt")

Owner = dict[str, str]


def myself() -> Owner:
    """The identity of this process, as plain JSON.

    >>> is_dead(myself())
    False
    """
    pid = os.getpid()
    return {**_machine(), "pid": str(pid), "started": _started(pid)}


def is_dead(owner: Owner) -> bool:
    """Whether a process is known to have ended: one of this machine that is no longer there.

    What cannot be looked at from here - another machine, another container, a system without /proc - is
    not known to be dead: its heartbeats have to tell.
    """
    here = _machine()
    if not here["boot"] or any(owner.get(name) != here[name] for name in here):
        return False
    return _started(int(owner["pid"])) != owner["started"]


@cache
def _machine() -> Owner:
    """What a process number means something within: a machine since its last boot, a namespace."""
    boot = namespace = ""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = os.readlink("/proc/self/ns/pid")
    return {"host": socket.gethostname(), "boot": boot, "namespace": namespace}


def _started(pid: int) -> str:
    """When a process started, in ticks since boot; empty if there is none, or it is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


class Heart:
    """Tells a storage at regular intervals that this process is still there.

    Args:
        beat: records one heartbeat for everything that is under way, and says whether anything is.
        interval: seconds between two.
    """

    def __init__(self, beat: Callable[[], bool], interval: float) -> None:
        self._beat = beat
        self._interval = interval
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def start(self) -> None:
        """From now on, until nothing is under way; does nothing while it beats."""
        with self._lock:
            if self._thread is None:
                self._stop.clear()
                self._thread = threading.Thread(target=self._run, name="bayesopt heart", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """No more; waits for a beat that is under way."""
        with self._lock:
            thread, self._thread = self._thread, None
        self._stop.set()
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._interval):
            try:
                if not self._beat():
                    with self._lock:
                        if not self._beat():  # nothing has begun since
                            self._thread = None
                            return
            except Exception as error:  # noqa: BLE001 - the storage may come back before anybody misses us
                log.warning("a heartbeat could not be recorded: %s", error)
