"""`bayesopt demo`."""

import argparse

from bayesopt.cli.command import OK, Command, FailedError


def _configure(parser: argparse.ArgumentParser) -> None:
    pass  # the demonstration parses its own arguments


def _run(options: argparse.Namespace) -> int:
    from bayesopt.demo import main

    try:
        main(options.rest, prog="bayesopt demo")
    except ModuleNotFoundError as error:
        raise FailedError(f"{error}; the demo needs: pip install 'bayesopt-torch[demo]'") from error
    return OK


DEMO = Command(
    "demo",
    "tune a small neural network in front of your eyes",
    "",
    _configure,
    _run,
    takes_rest=True,
)
