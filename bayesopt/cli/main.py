"""`bayesopt`: finds the subcommand, and says what went wrong in one line."""

import argparse
import io
import os
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

import bayesopt
from bayesopt.cli.ask import ASK
from bayesopt.cli.command import FAILED, USAGE, Command, FailedError
from bayesopt.cli.demo import DEMO
from bayesopt.cli.export import EXPORT
from bayesopt.cli.report import REPORT
from bayesopt.cli.show import BEST, TRIALS
from bayesopt.cli.tell import TELL
from bayesopt.cli.tune import TUNE

#: In the order of the help. A new one is a `Command` of its own module and a word here.
COMMANDS: tuple[Command, ...] = (TUNE, ASK, TELL, BEST, TRIALS, REPORT, EXPORT, DEMO)

DESCRIPTION = """\
Bayesian optimisation: finds good settings for a program that takes long to run.

Write down what can be varied, in a file such as space.toml:

    [lr]
    type = "float"
    low = 1e-5
    high = 0.1
    log = true

    [layers]
    type = "int"
    low = 1
    high = 6

then let it run the program, which prints a line such as {"loss": 0.25}:

    bayesopt tune space.toml --trials 50 --workers 4 -- python train.py --lr {lr} --layers {layers}
"""

EPILOG = """\
exit codes: 0 it worked; 1 it did not, for instance because every trial failed or the storage cannot be
reached; 2 a mistake in the command or a file; 130, 143 or another number above 128: ended by a signal.
"""

_BROKEN_PIPE = 128 + 13


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"{self.prog}: error: {' '.join(message.split())}; see {self.prog} --help\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand; the exit code.

    Raises:
        SystemExit: help was asked for, or the arguments cannot be understood.
    """
    options = _parsed(sys.argv[1:] if arguments is None else arguments)
    command: Command = options.command
    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal may not have all characters of a choice
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = command.run(options)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # noqa: BLE001 - one line is what a user wants of any of them
        if options.debug:
            traceback.print_exc()
        sys.stderr.write(f"bayesopt {command.name}: error: {_one_line(error)}\n")
        return USAGE if isinstance(error, ValueError | TypeError) else FAILED
    return code


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """The options, with `command`, and with `program` or `rest` where the command takes such."""
    parser = _parser()
    words, program, rest = list(arguments), [], []
    chosen = next((each for each in COMMANDS if words and each.name == words[0]), None)
    if chosen is not None and chosen.takes_rest:
        words, rest = words[:1], words[1:]
    elif chosen is not None and chosen.takes_program and "--" in words:
        place = words.index("--")
        words, program = words[:place], words[place + 1 :]
    options = parser.parse_args(words)
    if not hasattr(options, "command"):
        parser.print_help()
        raise SystemExit(USAGE)
    options.program, options.rest = program, rest
    return options


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = _Parser(
        prog="bayesopt", description=DESCRIPTION, epilog=EPILOG, formatter_class=raw, allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"bayesopt {bayesopt.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for each in COMMANDS:
        sub = commands.add_parser(
            each.name, help=each.summary, description=f"{each.summary}.\n\n{each.details}",
            formatter_class=raw, add_help=not each.takes_rest, allow_abbrev=False,
        )  # fmt: skip
        each.configure(sub)
        sub.add_argument("--debug", action="store_true", help="show the traceback of an error")
        sub.set_defaults(command=each)
    return parser


#: What the engine calls otherwise than the command line does.
_WORDS = {
    "on_space_change='extend'": "--on-space-change extend",
    "study.running lists": "`bayesopt trials` lists",
    "pass a space to begin": "pass a space file to ask or tune, to begin",
}


def _one_line(error: Exception) -> str:
    """What went wrong, in the words of the command line; with the kind of error where it was not foreseen."""
    text = " ".join(str(error).split())
    for engine, command_line in _WORDS.items():
        text = text.replace(engine, command_line)
    foreseen = isinstance(error, ValueError | TypeError | OSError | RuntimeError | FailedError) and text
    return text if foreseen else f"{type(error).__name__}: {text}"
