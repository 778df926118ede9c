"""What the processes of the tests do; they import this file, and are killed."""

import sys
import time

from bayesopt import Study
from bayesopt.storage import owners


def say(text):
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def hold(url, name, count):
    """Ask for trials and never tell them."""
    study = Study(storage=url, name=name)
    for trial in study.ask(int(count)):
        say(str(trial.number))
    time.sleep(600)


def freeze(url, name):
    """Take a turn and never end it."""
    study = Study(storage=url, name=name)
    with study._ledger.turn():
        say("turn")
        time.sleep(600)


def identity():
    say(repr(owners.myself()))
    time.sleep(600)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
