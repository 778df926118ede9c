"""`bayesopt tell`: what came out of a trial."""

import argparse
import json
import re
from collections.abc import Mapping

from bayesopt.cli.command import OK, Command, add_study_options, open_study, say, say_json
from bayesopt.cli.rows import row

DETAILS = """\
    bayesopt tell 0 0.25                                   trial 0 scored 0.25
    bayesopt tell 1 --failed --error "out of memory"       trial 1 failed; so do nan and inf
    bayesopt tell 2 0.31 --std 0.04                        a mean and its standard error
    bayesopt tell --config '{"lr": 0.01, "layers": 2}' 0.3     a result that nobody asked for
"""


def _configure(parser: argparse.ArgumentParser) -> None:
    # argparse takes -1e-3, -inf and -nan for options.
    parser._negative_number_matcher = re.compile(r"-(\d|\.\d|inf|nan)", re.IGNORECASE)
    parser.add_argument(
        "words", nargs="*", metavar="[NUMBER] VALUE", help="number of the trial, and its value"
    )
    parser.add_argument(
        "--std", type=float, help="standard deviation of the noise in the value, if it is known"
    )
    parser.add_argument("--failed", action="store_true", help="the evaluation failed; there is no value")
    parser.add_argument("--error", metavar="TEXT", help="what went wrong, with --failed")
    parser.add_argument("--config", metavar="JSON", help="a configuration instead of the number of a trial")
    parser.add_argument("--seconds", type=float, help="how long it took; by default, since it was asked for")
    add_study_options(parser, json_help="print the trial as a JSON object")


def _run(options: argparse.Namespace) -> int:
    trial, value = _understood(options)
    with open_study(options) as study:
        told = study.tell(trial, value, std=options.std, error=options.error, seconds=options.seconds)
    if options.json:
        say_json(row(told))
    else:
        say(f"trial {told.number}: {'failed' if told.value is None else told.value}")
    return OK


def _understood(options: argparse.Namespace) -> tuple[int | Mapping[str, object], float | None]:
    """The trial, by number or configuration, and its value, None if it failed."""
    words = list(options.words)
    needed = ["NUMBER"] * (options.config is None) + ["VALUE"] * (not options.failed)
    if len(words) != len(needed):
        raise ValueError(
            f"expected {' '.join(needed) or 'nothing'}, got {' '.join(words) or 'nothing'}; see --help"
        )
    if options.error is not None and not options.failed:
        raise ValueError("--error goes with --failed")
    if options.std is not None and options.failed:
        raise ValueError("--std goes with a value, not with --failed")
    if options.seconds is not None and not 0 <= options.seconds < float("inf"):
        raise ValueError(f"--seconds must be a number >= 0, got {options.seconds}")
    trial = _number(words[0]) if options.config is None else _config(options.config)
    return trial, None if options.failed else _value(words[-1])


def _number(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ValueError(f"expected the number of a trial, as `ask` and `trials` show it, got {text!r}")
    return int(text)


def _config(text: str) -> Mapping[str, object]:
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"--config is not JSON: {error}") from None
    if not isinstance(config, dict):
        raise ValueError(f'--config must be a JSON object such as {{"lr": 0.01}}, got {text}')
    return config


def _value(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(
            f"expected a number as the value, got {text!r}; pass --failed if there is none"
        ) from None


TELL = Command("tell", "say what came out of a trial", DETAILS, _configure, _run)
