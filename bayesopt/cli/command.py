"""What a subcommand is, and the options that several of them share."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bayesopt.space import Space
    from bayesopt.storage.study import Study

STORAGE = "sqlite:///bayesopt.db"

#: Exit codes, besides 128 + the number of a signal that ended it.
OK, FAILED, USAGE = 0, 1, 2


class FailedError(Exception):
    """The command was fine, but what it asks for is not to be had: exit code 1."""


@dataclass(frozen=True)
class Command:
    """A subcommand.

    Attributes:
        name: what the user types.
        summary: one line for the list of commands.
        details: what else its help says, an example included.
        configure: adds its arguments to a parser.
        run: does it, and returns the exit code. Its arguments have `program` too: the words after `--`.
            Raises ValueError or TypeError for a mistake of the user, anything else for a failure.
        takes_program: whether what follows `--` is a program to run.
        takes_rest: whether it parses its arguments by itself: they come as `rest`.
    """

    name: str
    summary: str
    details: str
    configure: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
    takes_program: bool = False
    takes_rest: bool = False


# --- options ----------------------------------------------------------------------------------------------


def count(text: str) -> int:
    """A whole number >= 1, for argparse."""
    if not text.isascii() or not text.isdigit() or int(text[:10]) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number >= 1, got {text!r}")
    return int(text[:10])


def duration(text: str) -> float:
    """Seconds, > 0, for argparse."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number of seconds > 0, got {text!r}")
    return seconds


def add_study_options(parser: argparse.ArgumentParser, json_help: str) -> None:
    """Those of every command that opens a study."""
    group = parser.add_argument_group("study")
    group.add_argument(
        "--storage",
        metavar="URL",
        default=STORAGE,
        help="sqlite:///FILE.db for one machine, postgresql://USER:PASSWORD@HOST/DATABASE for many; by "
        "default %(default)s",
    )
    group.add_argument(
        "--name", help="of the study; by default that of the space file, or that of the only study there is"
    )
    parser.add_argument("--json", action="store_true", help=json_help)


def add_new_study_options(parser: argparse.ArgumentParser) -> None:
    """Those of the commands that can begin a study."""
    group = parser.add_argument_group("search")
    group.add_argument("--seed", type=int, help="of everything random; by default that of the study, or 0")
    group.add_argument("--method", help="auto, gp, tpe, cmaes, genetic, grid, sobol, random; by default auto")
    group.add_argument(
        "--maximize", action="store_true", default=None, help="larger values are better; of a new study"
    )
    group.add_argument(
        "--on-space-change",
        choices=["error", "extend"],
        default="error",
        help="if the study has another space than the file: stop (the default), or go on with the new one "
        "where all old trials still fit",
    )


def load_space(path: str) -> Space:
    """The space in a TOML or JSON file.

    Raises:
        ValueError, TypeError: not such a file; the message names it.
    """
    from bayesopt.space import Space

    readers = {".toml": Space.from_toml, ".json": Space.from_json}
    suffix = Path(path).suffix.lower()
    if suffix not in readers:
        raise ValueError(f"{path}: a space file ends in .toml or .json")
    try:
        return readers[suffix](Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    except RecursionError:
        raise ValueError(f"{path}: it is nested too deeply to be a space") from None
    except (ValueError, TypeError) as error:
        raise type(error)(f"{path}: {error}") from None


def open_study(options: argparse.Namespace, space: Space | None = None, **more: object) -> Study:
    """The study that the options name.

    Args:
        options: what `add_study_options` and perhaps `add_new_study_options` have added.
        space: that of the file; None for a study that there is.
        more: further arguments of `Study`.

    Raises:
        ValueError, TypeError, ConnectionError: see `Study`.
    """
    import optuna

    from bayesopt.storage.study import Study

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if space is not None:
        for option in ("seed", "method", "maximize", "on_space_change"):
            more[option] = getattr(options, option)
    name = options.name or _default_name(options, space)
    return Study(space, storage=options.storage, name=name, **more)  # type: ignore[arg-type]


def _default_name(options: argparse.Namespace, space: Space | None) -> str:
    if space is not None:
        return Path(options.space).stem
    from bayesopt.storage.opening import close_storage, open_storage
    from bayesopt.storage.study import HEARTBEAT

    storage = open_storage(options.storage, HEARTBEAT, must_exist=True)
    try:
        names = [study.study_name for study in storage.get_all_studies()]
    finally:
        close_storage(storage)
    if len(names) != 1:
        there = f"there are {', '.join(map(repr, sorted(names)))}" if names else "there is none"
        raise ValueError(f"which study of {options.storage}? Pass --name; {there}")
    return names[0]


# --- output -----------------------------------------------------------------------------------------------


def say(text: str) -> None:
    """A line for the user, or for the next program."""
    sys.stdout.write(text + "\n")


def say_json(value: object) -> None:
    """One JSON document on a line of its own."""
    say(json.dumps(value))


def shown(value: object) -> str:
    r"""A value on one line, whatever characters it has; numbers in brief.

    >>> [shown(value) for value in (None, 0.1234567891, "a b", "a\nb", "", True)]
    ['null', '0.123457', 'a b', '"a\\nb"', '""', 'true']
    """
    if isinstance(value, float):
        return f"{value:.6g}"
    plain = isinstance(value, str) and value.strip() and value.isprintable()
    return str(value) if plain else json.dumps(value)


def in_full(value: object) -> str:
    """The same, numbers with all of their digits."""
    return repr(value) if isinstance(value, float) else shown(value)


def say_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Rows under their heads, to the right, without colour or frames."""
    cells = [[shown(head) for head in heads], *rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        say("  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
