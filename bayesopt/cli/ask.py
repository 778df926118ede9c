"""`bayesopt ask`: configurations to try, for whoever evaluates them elsewhere."""

import argparse
from collections.abc import Mapping, Sequence

from bayesopt.cli.command import (
    OK,
    Command,
    add_new_study_options,
    add_study_options,
    count,
    in_full,
    load_space,
    open_study,
    say_json,
    say_table,
)

DETAILS = """\
The trials run until `bayesopt tell` says what came out; nobody else gets them meanwhile. The first
ask begins the study, and needs the space file.

    $ bayesopt ask space.toml -q 2
    number                     lr  layers
         0                  0.001       4
         1  0.0003124785692453116       2
    $ bayesopt tell 0 0.25
    $ bayesopt ask --json
    {"number": 2, "config": {"lr": 0.0075, "layers": 1}}
"""


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "space", nargs="?", help="space file, .toml or .json; not needed once there is a study"
    )
    parser.add_argument("-q", type=count, default=1, metavar="COUNT", help="how many to ask for (1)")
    add_study_options(parser, json_help="print one JSON object on a line for each trial")
    add_new_study_options(parser)


def _run(options: argparse.Namespace) -> int:
    space = None if options.space is None else load_space(options.space)
    with open_study(options, space) as study:
        trials = study.ask(options.q, watched=False)
        names = [*study.space]
    if options.json:
        for trial in trials:
            say_json({"number": trial.number, "config": trial.config})
    else:
        say_table(["number", *names], [[str(each.number), *_exact(each.config, names)] for each in trials])
    return OK


def _exact(config: Mapping[str, object], names: Sequence[str]) -> list[str]:
    """Numbers with all of their digits: somebody is going to copy them. Nothing for the inactive."""
    return ["" if name not in config else in_full(config[name]) for name in names]


ASK = Command(
    "ask", "get configurations to try by hand, or from a program of your own", DETAILS, _configure, _run
)
