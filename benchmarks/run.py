"""`run`: methods on problems; every trial is a line of a file, an interrupted run goes on where it stopped.

Problems and methods are named as in `benchmarks.problems` and `benchmarks.methods`; a suite is a text file
with the name of a problem on each line. Seeds are the same for all methods.
"""

import argparse
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from itertools import product
from pathlib import Path

from benchmarks.methods import OURS, Chosen, chosen
from benchmarks.problems import MissingError, Problem, get, suites
from benchmarks.processes import in_processes
from benchmarks.report import machine, progress
from benchmarks.runner import Trouble, attempt, tasks_of
from benchmarks.storage import About, Job, append, load, open_for_append

DESCRIPTION = "run methods on problems, resumably"


def add_arguments(
    parser: argparse.ArgumentParser, suite: str = "standing", known: Sequence[str] = (OURS, "random")
) -> None:
    """Those of `run`, with the problems and methods of whoever builds on it."""
    parser.add_argument(
        "--problems", nargs="+", default=[suite], help="names, or suites (default: %(default)s)"
    )
    parser.add_argument(
        "--methods", nargs="+", default=list(known),
        help="name or name:key=value,... (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--seeds", type=_seeds, default=_seeds("10"), help="a number, or FIRST:END (default: 10)"
    )
    parser.add_argument("--evaluations", type=int, default=100, help="of each run (default: 100)")
    parser.add_argument("--q", type=int, default=1, help="configurations asked for at a time (default: 1)")
    parser.add_argument(
        "--workers", type=int, default=1, help="asynchronous, on a simulated clock (default: 1)"
    )
    parser.add_argument(
        "--problems-path", type=Path, help="a folder with a problems.py, asked for names first"
    )
    parser.add_argument("--processes", type=int, default=1, help="one thread each (default: 1)")
    parser.add_argument(
        "--python",
        action="extend",
        nargs="+",
        default=[],
        metavar="NAME=PATH",
        help="interpreters of methods that need their own",
    )
    parser.add_argument("--out", type=Path, required=True, help="the file, .jsonl; it only grows")


def _seeds(text: str) -> list[int]:
    first, colon, end = text.rpartition(":")
    return list(range(int(first) if colon else 0, int(end)))


def main(args: argparse.Namespace) -> int:
    """0 if everything was done, or is not possible; 1 if a method failed."""
    if args.q > 1 and args.workers > 1:
        raise SystemExit("--q and --workers do not go together: batches, or asynchronous workers")
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes to come
    pythons = dict(pair.partition("=")[::2] for pair in args.python)
    methods = available(args.methods, pythons)
    problems = possible(suites(args.problems), args.problems_path)
    jobs = [
        Job(problem, method, seed, args.q, args.workers)
        for problem, method, seed in product(problems, methods, args.seeds)
    ]
    trouble = complete(
        args.out, jobs, args.evaluations, methods, problems, args.problems_path, args.processes
    )
    return tell_trouble(trouble)


def available(labels: Sequence[str], pythons: Mapping[str, str]) -> dict[str, Chosen]:
    """The methods that are installed; for the others, says how to install them."""
    methods = {}
    for label in dict.fromkeys(labels):
        try:
            method = chosen(label, pythons)
            if method.ours:  # a wrong setting shows at once
                method.build_together({"x": {"type": "float", "low": 0.0, "high": 1.0}}, [0], 1)
        except (TypeError, ValueError) as error:
            raise SystemExit(f"--methods {label}: {error}") from None
        if method.lacking:
            progress(f"{label} is skipped; install it with: {method.lacking}")
        else:
            methods[label] = method
    return methods


def possible(names: Sequence[str], path: Path | None) -> dict[str, Problem]:
    """The problems whose packages are installed; for the others, says how to install them."""
    problems = {}
    for name in names:
        try:
            problems[name] = get(name, 0, path)
        except MissingError as error:
            progress(f"{name} is skipped; install what it needs with: {error}")
        except ModuleNotFoundError as error:  # in somebody else's folder
            progress(f"{name} is skipped; install what it needs with: python -m pip install {error.name}")
        except ValueError as error:
            raise SystemExit(f"--problems: {error}") from None
    return problems


def complete(
    path: Path, jobs: Sequence[Job], evaluations: int, methods: Mapping[str, Chosen],
    problems: Mapping[str, Problem], problems_path: Path | None, processes: int,
) -> list[Trouble]:  # fmt: skip
    """Do the evaluations that a file lacks."""
    open_for_append(path)
    runs = load(path)
    tasks = tasks_of(jobs, runs.trials, evaluations, methods, path, problems_path)
    missing = sum(evaluations - len(kept) for task in tasks for kept in task.kept)
    progress(f"{path.name}: {len(jobs) * evaluations - missing} evaluations are kept, {missing} to do")
    if not tasks:
        return []
    about = [About.of(problem) for name, problem in problems.items() if name not in runs.about]
    append(path, [session(methods), *(a.record() for a in about)])
    with progress_bar(path, missing):
        return [trouble for trouble in in_processes(attempt, tasks, processes) if trouble is not None]


def session(methods: Mapping[str, Chosen]) -> dict[str, object]:
    """The line that says what ran: machine, versions, command."""
    versions = {m.name: m.version for m in methods.values() if m.version}
    command = " ".join(["python -m benchmarks", *map(_without_folders, sys.argv[1:])])
    return {"machine": machine(), "methods": versions, "command": command, "date": date.today().isoformat()}


def _without_folders(argument: str) -> str:
    """An argument that is a path, or NAME=PATH, without the folders: they are nobody's business.

    >>> _without_folders("hebo=/home/me/env/bin/python"), _without_folders("bbob/f1/d5/i1")
    ('hebo=python', 'bbob/f1/d5/i1')
    """
    name, equals, path = argument.rpartition("=")
    return f"{name}{equals}{Path(path).name}" if path.startswith("/") else argument


def tell_trouble(trouble: Sequence[Trouble]) -> int:
    """Say what was not done, each reason once; whether there were errors."""
    for one in {(t.job.problem, t.job.method, t.unsupported): t for t in trouble}.values():
        kind = "skipped" if one.unsupported else "FAILED"
        progress(f"{one.job.method} on {one.job.problem}: {kind}: {one.reason}")
    return int(any(not t.unsupported for t in trouble))


@contextmanager
def progress_bar(path: Path, total: int) -> Iterator[None]:
    """Show how many lines the file has gained, whoever writes them, and the time that is left."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    left = (TextColumn("left"), TimeRemainingColumn())
    stop = threading.Event()
    with Progress(*columns, *left, console=Console(stderr=True), transient=False) as bar:
        shown = bar.add_task(path.name, total=total)
        watcher = threading.Thread(
            target=_watch, args=(path, stop, lambda n: bar.advance(shown, n)), daemon=True
        )
        watcher.start()
        try:
            yield
        finally:
            stop.set()
            watcher.join()


def _watch(path: Path, stop: threading.Event, advance: Callable[[int], None]) -> None:
    """Count the lines that are added, twice a second."""
    with path.open("rb") as file:
        file.seek(0, os.SEEK_END)
        while True:
            last = stop.wait(0.5)
            advance(file.read().count(b"\n"))
            if last:
                return
