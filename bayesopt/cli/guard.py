"""Runs one program and dies with whoever has started it, however that dies.

Started by its path, as `python -I -S guard.py LINE PROGRAM ARGUMENTS...`, in a session of its own. LINE is
the number of an open socket to the one who waits: it is told how the program has ended, as an exit code or,
where there was nothing to start, in words. Then the guard waits to be killed along with what the program has
left behind: as long as it is there, the number of its process group belongs to nobody else. If the socket is
closed at the other end, it kills the group by itself.
"""

import os
import signal
import sys
import threading

# The guard outlives them, to tell of the end; the program gets the system's own handlers back.
_SURVIVED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def guard(line: int, program: list[str]) -> None:
    """Run the program, tell how it ended, and wait for the end."""
    os.set_inheritable(line, False)
    for number in _SURVIVED:
        signal.signal(number, lambda *_: None)
    try:
        process = os.posix_spawnp(
            program[0], program, os.environ, setsigdef=[*_SURVIVED, signal.SIGPIPE, signal.SIGXFSZ]
        )
    except (OSError, ValueError) as error:  # ValueError: an empty name
        reason = error.strerror if isinstance(error, OSError) else error
        os.write(line, f"{program[0]!r} cannot be run: {reason}".encode(errors="backslashreplace"))
    else:
        threading.Thread(target=_wait, args=(process, line), daemon=True).start()
    os.read(line, 1)  # nothing ever comes but the end
    os.killpg(0, signal.SIGKILL)


def _wait(process: int, line: int) -> None:
    _, status = os.waitpid(process, 0)
    os.write(line, str(os.waitstatus_to_exitcode(status)).encode())


if __name__ == "__main__":
    guard(int(sys.argv[1]), sys.argv[2:])
