"""Runs that are kept as they finish, a line of JSON each, so that an interrupted benchmark can go on."""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from benchmarks.report import progress

Job = Any  # what identifies a run: any hashable value


class Run(Protocol):
    """What came out of a job."""

    job: Job

    def line(self) -> str:
        """As a line of JSON."""


R = TypeVar("R", bound=Run)


def load(path: Path, of_line: Callable[[str], R]) -> dict[Job, R]:
    """The runs kept in a file, the latest of equals; a last line cut short by an interruption is dropped."""
    if not path.exists():
        return {}
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
    return {run.job: run for run in map(of_line, lines)}


def complete(
    path: Path, missing: Sequence[Job], of_line: Callable[[str], R], results: Iterable[R]
) -> dict[Job, R]:
    """Keep the results of the missing jobs, each as it comes; returns them with those that the file had.

    Runs that are to be replaced leave the file first. Where there are none the file only grows, so that
    two programs may fill it at once.
    """
    old = load(path, of_line)
    done = {job: run for job, run in old.items() if job not in set(missing)}
    path.parent.mkdir(parents=True, exist_ok=True)
    if len(done) < len(old) or not _ends_whole(path):
        _rewrite(path, done.values())
    progress(f"{path.stem}: {len(done)} runs are kept, {len(missing)} to do")
    for count, run in enumerate(results, 1):
        done[run.job] = run
        with path.open("a", encoding="utf-8") as file:
            file.write(run.line() + "\n")
        if count % 10 == 0:
            progress(f"{path.stem}: {count} of {len(missing)}")
    return done


def _ends_whole(path: Path) -> bool:
    """Whether no line was cut short."""
    return not path.exists() or path.read_bytes()[-1:] in (b"", b"\n")


def _rewrite(path: Path, runs: Iterable[Run]) -> None:
    """Replace the file at one stroke: an interruption leaves the old one."""
    new = path.with_name(path.name + ".new")
    new.write_text("".join(run.line() + "\n" for run in runs), encoding="utf-8")
    os.replace(new, path)
