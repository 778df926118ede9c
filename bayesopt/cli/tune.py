"""`bayesopt tune`: the search, with a program as the objective."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from bayesopt.cli.command import (
    OK,
    Command,
    FailedError,
    add_new_study_options,
    add_study_options,
    count,
    duration,
    load_space,
    open_study,
    say,
    say_json,
)
from bayesopt.cli.metric import json_reader, regex_reader
from bayesopt.cli.rows import row, say_trial
from bayesopt.cli.template import Template

if TYPE_CHECKING:
    from bayesopt.books import Result
    from bayesopt.cli.evaluation import Evaluation, Programs
    from bayesopt.space import Space
    from bayesopt.storage.study import Study

DETAILS = """\
    bayesopt tune space.toml --trials 50 --workers 4 -- python train.py --lr {lr} --layers {layers}

The program runs once for each trial, without a shell. {NAME} stands for the value of a parameter, {config}
for all of them as JSON, {trial} for the number of the trial; {{ and }} are braces. Texts come as they are,
anything else as in JSON. Where a parameter does not exist because of its condition, the argument that holds
its placeholder is left out, and so is an option such as --depth that stands by itself just before it. The
environment has BAYESOPT_CONFIG and BAYESOPT_TRIAL.

The metric is in the last line of standard output that is a JSON object with its name, such as
{"loss": 0.25}, or a number. Lines that have a "step" too, such as {"step": 3, "loss": 0.4}, are reported
as intermediate results while it runs; with --pruner, what goes badly is stopped early, by SIGTERM and, after
--grace, SIGKILL. A trial fails if the program ends with another exit code than 0, is killed, takes longer
than --timeout or names no finite metric. All output is kept, in a log for each trial.

Every result is stored at once. The same command, started again after whatever happened, goes on until the
study has --trials trials in all; started several times at once, they share the work. Ctrl-C ends the run and
the programs, whose trials do not count. Linux and macOS only.

exit codes: 0 there is a best trial; 1 none has succeeded; 2 a mistake; 130 and 143 ended by Ctrl-C, SIGTERM.
"""


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.usage = "bayesopt tune SPACE [options] -- PROGRAM [ARGUMENT ...]"
    parser.add_argument("space", metavar="SPACE", help="space file, .toml or .json")
    parser.add_argument("--trials", type=count, default=50, metavar="N", help="of the study in all (50)")
    parser.add_argument("--workers", type=count, default=1, metavar="N", help="programs at once (1)")
    parser.add_argument(
        "--timeout", type=duration, metavar="SECONDS", help="for one trial; by default no limit"
    )
    metric = parser.add_mutually_exclusive_group()
    metric.add_argument("--metric", default="loss", metavar="NAME", help="in lines of JSON (loss)")
    metric.add_argument(
        "--regex",
        metavar="PATTERN",
        help="find the metric by a named group instead, as in 'val_loss=(?P<loss>\\S+)'; the last match "
        "counts. A group called step makes it an intermediate result",
    )
    parser.add_argument(
        "--pruner", metavar="NAME", help="stop early what goes badly: curve, median, asha or hyperband"
    )
    parser.add_argument(
        "--grace", type=duration, default=10.0, metavar="SECONDS", help="from SIGTERM to SIGKILL (10)"
    )
    parser.add_argument("--logs", metavar="FOLDER", help="for the output of each trial; by default NAME-logs")
    parser.add_argument(
        "--env", action="store_true", help="the program reads BAYESOPT_CONFIG: no {NAME} is needed"
    )
    parser.add_argument("--verbose", action="store_true", help="show the output of the programs")
    add_study_options(parser, json_help="print the summary as a JSON object")
    add_new_study_options(parser)


def _run(options: argparse.Namespace) -> int:
    if sys.platform == "win32":
        raise RuntimeError("bayesopt tune needs process groups, which Windows does not have")
    space = load_space(options.space)
    template = Template.parse(options.program)
    template.check({name: _texts(space, name) for name in space}, elsewhere=options.env)
    _check_program(template)
    reader = json_reader(options.metric) if options.regex is None else regex_reader(options.regex)
    from bayesopt.cli.evaluation import Evaluation, Programs
    from bayesopt.workers.pool import thread_limits

    with open_study(options, space, pruner=options.pruner) as study:
        evaluation = Evaluation(
            template, reader, _log_folder(options, study), Programs(),
            environment={**thread_limits(options.workers), **os.environ},
            timeout=options.timeout, grace=options.grace, verbose=options.verbose,
        )  # fmt: skip
        try:
            result = _pursue(evaluation, study, options)
        except _Signalled as end:
            done = f"{len(study.trials)} of {options.trials} trials are done"
            sys.stderr.write(f"bayesopt tune: {end}; {done}, the same command goes on\n")
            return 128 + end.number
        return _summed_up(result, study, options)


def _pursue(evaluation: Evaluation, study: Study, options: argparse.Namespace) -> Result:
    from concurrent.futures import ThreadPoolExecutor

    from bayesopt.study import run

    programs, progress = evaluation.programs, False if options.verbose else None
    with _ended_by_signals(programs), ThreadPoolExecutor(options.workers) as threads, programs:
        return run(evaluation, study, options.trials, executor=threads, progress=progress)


def _texts(space: Space, name: str) -> list[object]:
    """The choices of a parameter, where it has any."""
    from bayesopt.space import Categorical

    parameter = space[name]
    return list(parameter.choices) if isinstance(parameter, Categorical) else []


def _check_program(template: Template) -> None:
    """Raise a ValueError if the program is not there, unless its name depends on a value."""
    word = template.words[0]
    if not word.names and shutil.which(word.fill({})) is None:
        raise ValueError(f"there is no program {word.fill({})!r} that could be run")


def _log_folder(options: argparse.Namespace, study: Study) -> Path:
    folder = Path(options.logs or re.sub(r"[^\w.-]", "_", study.name) + "-logs")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


# --- signals ----------------------------------------------------------------------------------------------


class _Signalled(BaseException):
    """A signal has come that ends the run; not an Exception, so that nobody takes it for a failure."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(
            "interrupted" if number == signal.SIGINT else f"ended by {signal.Signals(number).name}"
        )


@contextmanager
def _ended_by_signals(programs: Programs) -> Iterator[None]:
    """Ctrl-C and its kin end the programs and raise `_Signalled`; a second one kills them."""

    def end(number: int, frame: FrameType | None) -> None:
        first = not programs.stopping
        programs.stop()
        if first:
            raise _Signalled(number)

    signals = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    heard = [each for each in signals if signal.getsignal(each) is not signal.SIG_IGN]  # nohup stays nohup
    before = {each: signal.signal(each, end) for each in heard}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


# --- the end ----------------------------------------------------------------------------------------------


def _summed_up(result: Result, study: Study, options: argparse.Namespace) -> int:
    best = result.optimizer.best
    states = Counter(trial.state for trial in result.trials)
    if options.json:
        counts = {"trials": len(result.trials), "failed": states["failed"], "pruned": states["pruned"]}
        say_json({"study": study.name, **counts, "best": None if best is None else row(best)})
    elif best is not None:
        say(f"{len(result.trials)} trials, {states['failed']} failed, {states['pruned']} pruned")
        say_trial(best)
    if best is None:
        raise FailedError(_lament(result))
    return OK


def _lament(result: Result) -> str:
    """That nothing has succeeded, and how the last error begins: what happened, where the log is."""
    error = next((trial.error for trial in reversed(result.trials) if trial.error), "")
    last = f"; the last one: {', '.join(error.splitlines()[:2])}" if error else ""
    return f"none of {len(result.trials)} trials has succeeded{last}"


TUNE = Command(
    "tune",
    "run a program again and again, with better and better settings",
    DETAILS,
    _configure,
    _run,
    takes_program=True,
)
