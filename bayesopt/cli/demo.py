"""`bayesopt demo`."""

import argparse

from bayesopt.cli.command import OK, Command


def _configure(parser: argparse.ArgumentParser) -> None:
    pass  # the demonstration parses its own arguments


def _run(options: argparse.Namespace) -> int:
    from bayesopt.demo import main

    main(options.rest, prog="bayesopt demo")
    return OK


DEMO = Command(
    "demo",
    "tune a small neural network in front of your eyes",
    "",
    _configure,
    _run,
    takes_rest=True,
)
