"""Objectives for worker processes, which import this file; it must stay light."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path


def bowl(config):
    return (config["x"] - 0.3) ** 2


def bowl_with_std(config):
    return bowl(config), 0.25


def scaled_bowl(config, scale):
    return scale * bowl(config)


def pid(config):
    time.sleep(0.05)
    return os.getpid()


def torch_is_loaded(config):
    return float("torch" in sys.modules)


def is_at_home(config):
    program, method = config["home"].split()
    return float(sys.argv[0] == program and str(multiprocessing.get_start_method(allow_none=True)) == method)


def variable(config):
    return float(os.environ[config["name"]])


class UnpicklableError(Exception):
    def __reduce__(self):
        raise TypeError("not for the post")


MISHAPS = {
    "value": lambda: 1.5,
    "none": lambda: None,
    "raises": lambda: {}["learning_rate"],
    "raises something unpicklable": lambda: raising(UnpicklableError("cuda went away")),
    "exits": lambda: sys.exit("no data"),
    "interrupts itself": lambda: raising(KeyboardInterrupt()),
    "returns text": lambda: "0.5",
    "returns something unpicklable": lambda: lambda: 0.5,
    "returns what cannot be unpickled": lambda: Landmine(),
    "ends the process": lambda: os._exit(0),
    "is killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "crashes": os.abort,
    "closes all files": lambda: (os.closerange(3, 256), time.sleep(60)),
    "hangs": lambda: time.sleep(60),
    "ignores signals": lambda: ignoring(),
}


def raising(exception):
    raise exception


def ignoring():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        with suppress(BaseException):  # as stubborn as can be
            time.sleep(60)


def mishap(config):
    return MISHAPS[config["what"]]()


class Landmine:
    """Pickles, but does not unpickle; callable, so that it can be an objective."""

    def __call__(self, config):
        return 0.0

    def __reduce__(self):
        return raising, (ImportError("no module named secret"),)


def with_subprocess(config):
    """Start a program, note its process id, and wait for it too long."""
    program = subprocess.Popen(["sleep", "60"])
    Path(config["file"]).write_text(str(program.pid))
    program.wait()


def dies_and_leaves_a_child(config):
    """Die while a child holds all open files, as the workers of a PyTorch DataLoader do."""
    if os.fork() == 0:
        time.sleep(60)
    os._exit(3)


def note_and_sleep(config):
    Path(config["folder"], str(os.getpid())).touch()
    time.sleep(config["seconds"])
    return 1.0


def curve(config, trial):
    """Reports three times; stops when it is told to, by returning nothing."""
    for step in range(3):
        trial.report(bowl(config) + 1.0 / (step + 1), step)
        if trial.should_prune():
            return None
    return bowl(config)


def misreporting(config, trial):
    trial.report("a lot", 0)
