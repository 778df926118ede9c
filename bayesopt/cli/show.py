"""`bayesopt best` and `bayesopt trials`: what a study has found."""

import argparse

from bayesopt.cli.command import (
    OK,
    Command,
    FailedError,
    add_study_options,
    open_study,
    say_json,
    say_table,
    shown,
)
from bayesopt.cli.rows import row, rows, say_trial

_ERROR_WIDTH = 60


def _configure_best(parser: argparse.ArgumentParser) -> None:
    add_study_options(parser, json_help="print the trial as a JSON object")


def _run_best(options: argparse.Namespace) -> int:
    with open_study(options) as study:
        best, count, name = study.best, len(study.trials), study.name
    if best is None:
        raise FailedError(f"study {name!r} has no best trial: none of its {count} trials has succeeded")
    if options.json:
        say_json(row(best))
        return OK
    say_trial(best)
    return OK


def _configure_trials(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--sort", choices=["number", "value"], default="number", help="best first, with value"
    )
    add_study_options(parser, json_help="print one JSON object on a line for each trial")


def _run_trials(options: argparse.Namespace) -> int:
    with open_study(options) as study:
        found, names, maximize = rows(study), [*study.space], study.maximize
    if options.sort == "value":
        sign = -1.0 if maximize else 1.0
        found.sort(key=lambda each: (each["value"] is None, sign * (each["value"] or 0.0)))
    if options.json:
        for each in found:
            say_json(each)
        return OK
    say_table(
        ["number", "state", "value", "seconds", *names, "error"],
        [
            [str(each["number"]), each["state"], _or_nothing(each["value"]), _or_nothing(each["seconds"])]
            + [shown(each["config"][name]) if name in each["config"] else "" for name in names]
            + [_brief(each["error"])]
            for each in found
        ],
    )
    return OK


def _or_nothing(value: float | None) -> str:
    return "" if value is None else shown(value)


def _brief(error: str | None) -> str:
    """The end of a traceback's last line, or the beginning of another message."""
    lines = (error or "").strip().splitlines() or [""]
    line = lines[-1] if lines[0].startswith("Traceback") else lines[0]
    line = line if len(line) <= _ERROR_WIDTH else line[: _ERROR_WIDTH - 3] + "..."
    return line and shown(line)


BEST = Command(
    "best",
    "show the best trial",
    "    $ bayesopt best --storage sqlite:///tuning.db --name resnet --json | jq .config\n",
    _configure_best,
    _run_best,
)
TRIALS = Command(
    "trials",
    "list all trials",
    "    $ bayesopt trials --sort value | head\n",
    _configure_trials,
    _run_trials,
)
