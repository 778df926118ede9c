"""`bayesopt report`: a study as one HTML file."""

import argparse

from bayesopt.cli.command import OK, Command, add_study_options, open_study, say, say_json

DETAILS = """\
Progress, leaderboard, what comes next and why, what is still to be gained, which parameters matter,
learning curves and failures, in a file that needs no network and runs no script.

    bayesopt report --storage sqlite:///tuning.db --name resnet -o resnet.html
"""


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", metavar="FILE", help="by default the study's name and .html")
    add_study_options(parser, json_help="print the file's name as a JSON object")


def _run(options: argparse.Namespace) -> int:
    from bayesopt import report

    with open_study(options) as study:
        path = options.output or f"{study.name}.html".replace("/", "_")
        report.write(study, path)
    if options.json:
        say_json({"report": path})
    else:
        say(path)
    return OK


REPORT = Command("report", "write a study as one HTML file", DETAILS, _configure, _run)
