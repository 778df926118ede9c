"""`bayesopt export`: all trials, for other programs."""

import argparse
import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from bayesopt.cli.command import OK, Command, add_study_options, open_study, say
from bayesopt.cli.rows import FIELDS, Row, rows
from bayesopt.cli.template import text_of

DETAILS = """\
Each trial has number, state (complete, failed, pruned or running), value, std (of its noise, where it was
told), seconds, error and config. csv has a column config.NAME for each parameter, empty where it is inactive;
choices that are no texts are written as in JSON. json is one list, jsonl one object on each line.

    bayesopt export --format csv -o trials.csv
"""


def as_csv(found: Sequence[Row], names: Sequence[str]) -> str:
    """A table with a head; None is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*FIELDS, *(f"config.{name}" for name in names)])
    for each in found:
        config = each["config"]
        fields = ["" if each[field] is None else text_of(each[field]) for field in FIELDS]
        writer.writerow(fields + [text_of(config[name]) if name in config else "" for name in names])
    return text.getvalue()


def as_json(found: Sequence[Row], names: Sequence[str]) -> str:
    """One list."""
    return json.dumps(found, indent=1) + "\n"


def as_jsonl(found: Sequence[Row], names: Sequence[str]) -> str:
    """One object on each line."""
    return "".join(json.dumps(each) + "\n" for each in found)


FORMATS: dict[str, Callable[[Sequence[Row], Sequence[str]], str]] = {
    "csv": as_csv, "json": as_json, "jsonl": as_jsonl,
}  # fmt: skip


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", choices=FORMATS, help="by default that of the file's name, or csv")
    parser.add_argument("-o", "--output", metavar="FILE", help="write it there instead of standard output")
    add_study_options(parser, json_help="the same as --format json")


def _run(options: argparse.Namespace) -> int:
    write = FORMATS[_format(options)]
    with open_study(options) as study:
        text = write(rows(study), [*study.space])
    if options.output is None:
        say(text.removesuffix("\n"))
    else:
        Path(options.output).write_text(text, encoding="utf-8", newline="")
    return OK


def _format(options: argparse.Namespace) -> str:
    if options.json and options.format not in (None, "json"):
        raise ValueError(f"--json and --format {options.format} contradict each other")
    suffix = Path(options.output or "").suffix.removeprefix(".")
    return options.format or ("json" if options.json else suffix if suffix in FORMATS else "csv")


EXPORT = Command("export", "write all trials as CSV or JSON", DETAILS, _configure, _run)
