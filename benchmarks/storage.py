"""Runs in a file that only grows: a line of JSON for each trial.

Killed anywhere, the file holds every trial that had ended; a last line cut short is passed over. Beside the
trials there are lines that begin with `machine` (what a session ran on), `about` (a problem) and `restart`
(earlier trials of a run no longer count).
"""

import gzip
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.problems import Problem
from benchmarks.report import progress


@dataclass(frozen=True, order=True)
class Job:
    """One run: `q` configurations at a time, or one at a time for each of several `workers`."""

    problem: str
    method: str
    seed: int
    q: int = 1
    workers: int = 1

    def record(self) -> dict[str, Any]:
        """As plain values."""
        return dict(vars(self))


@dataclass(frozen=True)
class Trial:
    """One evaluation.

    Attributes:
        asked: how many configurations had been asked for before it.
        value: what was observed, None if it failed; true: without noise, the same where there is none.
        seconds: the method's own time for it: its share of the ask, and of the tells since the ask before.
        time: when it ended, in mean evaluations on the simulated clock; None without one.
    """

    asked: int
    config: Mapping[str, Any]
    value: float | None
    true: float | None
    seconds: float
    time: float | None = None

    def record(self) -> dict[str, Any]:
        """As plain values."""
        record = {"asked": self.asked, "config": self.config, "value": self.value}
        if self.true != self.value:
            record["true"] = self.true
        record["seconds"] = float(f"{self.seconds:.4g}")
        if self.time is not None:
            record["time"] = self.time
        return record

    @classmethod
    def of(cls, r: Mapping[str, Any]) -> "Trial":
        """The inverse of `record`."""
        return cls(
            r["asked"],
            r.get("config", {}),
            r["value"],
            r.get("true", r["value"]),
            r["seconds"],
            r.get("time"),
        )


@dataclass(frozen=True)
class About:
    """What a report needs to know of a problem; `optimum` is nan where nobody knows it."""

    name: str
    family: str
    dim: int
    optimum: float
    floor: float

    @classmethod
    def of(cls, problem: Problem) -> "About":
        """Of a problem."""
        return cls(problem.name, problem.family, problem.dim, problem.optimum, problem.floor)

    def record(self) -> dict[str, Any]:
        """As plain values."""
        optimum = None if math.isnan(self.optimum) else self.optimum
        known = {"family": self.family, "dim": self.dim, "optimum": optimum, "floor": self.floor}
        return {"about": self.name, **known}


@dataclass(eq=False)
class Runs:
    """What files hold.

    Attributes:
        trials: of each run, in the order in which they ended.
        about: the problems; machines: what the sessions ran on.
    """

    trials: dict[Job, list[Trial]] = field(default_factory=dict)
    about: dict[str, About] = field(default_factory=dict)
    machines: list[dict[str, Any]] = field(default_factory=list)


def load(*paths: Path) -> Runs:
    """Everything in the files, `.jsonl` or `.jsonl.gz`, those that exist."""
    runs = Runs()
    for path in paths:
        seen: dict[Job, set[int]] = {}
        for record in _records(path):
            _take(runs, record, seen)
    return runs


def _records(path: Path) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    broken = 0
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
        for line in file:
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                broken += bool(line.strip())
    if broken:
        progress(f"{path.name}: {broken} lines were cut short by an interruption and do not count")


def _take(runs: Runs, r: Mapping[str, Any], seen: dict[Job, set[int]]) -> None:
    if "machine" in r:
        runs.machines.append(dict(r))
    elif "about" in r:
        optimum = math.nan if r["optimum"] is None else r["optimum"]
        runs.about[r["about"]] = About(r["about"], r["family"], r["dim"], optimum, r["floor"])
    else:
        job = Job(r["problem"], r["method"], r["seed"], r["q"], r["workers"])
        if "restart" in r:
            runs.trials.pop(job, None)
            seen.pop(job, None)
        elif r["asked"] not in seen.setdefault(job, set()):  # two sessions may have done it at once
            seen[job].add(r["asked"])
            runs.trials.setdefault(job, []).append(Trial.of(r))


def append(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Add lines at one stroke: several processes may write to the file at once."""
    text = "".join(json.dumps(record) + "\n" for record in records)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def open_for_append(path: Path) -> None:
    """Make the folder, and end a line that was cut short."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size:
        with path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                append_newline(path)


def append_newline(path: Path) -> None:
    """End the last line."""
    with path.open("ab") as file:
        file.write(b"\n")


def pack(runs: Runs, path: Path) -> None:
    """Write runs without their configurations, values to 12 digits: enough to report, not to go on."""
    records: list[Mapping[str, Any]] = [*runs.machines, *(about.record() for about in runs.about.values())]
    for job, trials in runs.trials.items():
        for trial in trials:
            rounded = replace(trial, value=_rounded(trial.value), true=_rounded(trial.true))
            record = {**job.record(), **rounded.record()}
            records.append({key: value for key, value in record.items() if key != "config"})
    text = "".join(json.dumps(record) + "\n" for record in records)
    path.write_bytes(gzip.compress(text.encode(), mtime=0))  # the same runs make the same file


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.12g}")
