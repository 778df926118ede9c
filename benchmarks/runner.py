"""Runs methods on problems, resumably: see `storage` for what is kept.

Our studies of one problem, one for each seed, advance in lockstep as one tensor program; a study of a peer
is a task by itself. Tasks go to as many processes as are asked for.

A run that was cut short goes on like this. Ours is restored from its trials and proposes what it would have
proposed. A peer, and ours with several workers, is played again from its beginning: it is asked again, and
told what the file holds, so that no evaluation is done twice. If it then proposes something else than
before, its earlier trials no longer count, and it starts again.
"""

import math
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from benchmarks.clock import Clock, durations
from benchmarks.methods import Chosen, Method
from benchmarks.methods.protocol import UnsupportedError
from benchmarks.problems import Problem, get
from benchmarks.storage import Job, Trial, append

Config = Mapping[str, Any]
T = TypeVar("T")


class Studies(Protocol):
    """Studies in lockstep."""

    def ask(self, q: int) -> Sequence[Sequence[Config]]:
        """q configurations for each."""

    def tell(self, configs: Sequence[Sequence[Config]], values: Sequence[Sequence[float | None]], /) -> None:
        """Outcomes of each."""


@dataclass(frozen=True, eq=False)
class Alone:
    """One study of a peer as `Studies`."""

    method: Method

    def ask(self, q: int) -> list[list[Config]]:
        return [list(self.method.ask(q))]

    def tell(self, configs: Sequence[Sequence[Config]], values: Sequence[Sequence[float | None]], /) -> None:
        for config, value in zip(configs[0], values[0], strict=True):
            self.method.tell(config, value)


class DivergedError(Exception):
    """A method that is played again proposes something else than the file holds."""


@dataclass(frozen=True, eq=False)
class Task:
    """Jobs that differ in their seeds alone and have equally many trials: several for ours, one for a peer.

    Attributes:
        kept: trials of each job that the file holds; evaluations: how many there are to be.
    """

    jobs: Sequence[Job]
    kept: Sequence[Sequence[Trial]]
    evaluations: int
    method: Chosen
    path: Path
    problems_path: Path | None = None

    def afresh(self) -> "Task":
        """The same without what is kept."""
        nothing: list[list[Trial]] = [[] for _ in self.jobs]
        return Task(self.jobs, nothing, self.evaluations, self.method, self.path, self.problems_path)


@dataclass(eq=False)
class Stopwatch:
    """Adds up the seconds of the calls that go through it."""

    seconds: float = 0.0

    def __call__(self, call: Callable[..., T], *args: Any) -> T:
        start = time.perf_counter()
        result = call(*args)
        self.seconds += time.perf_counter() - start
        return result

    def share(self, parts: int) -> float:
        """One of so many parts of what has added up, which starts again from 0."""
        seconds, self.seconds = self.seconds / parts, 0.0
        return seconds


@dataclass(eq=False)
class Evaluations:
    """The evaluations of the jobs of a task: out of the file if it has them, done and written otherwise."""

    task: Task
    problems: Sequence[Problem]
    _known: list[dict[int, Trial]] = field(init=False)

    def __post_init__(self) -> None:
        self._known = [{trial.asked: trial for trial in trials} for trials in self.task.kept]

    def value(
        self, i: int, asked: int, config: Config, seconds: float, ended: float | None = None
    ) -> float | None:
        """Outcome of a configuration of the i-th job."""
        job = self.task.jobs[i]
        if (known := self._known[i].get(asked)) is not None:
            if not same(known.config, config):
                raise DivergedError(f"{job}, trial {asked}: {dict(known.config)} before, {dict(config)} now")
            return known.value
        rng = np.random.default_rng([job.seed, asked, 7])
        value, true = self.problems[i].evaluate(config, rng)
        trial = Trial(asked, dict(config), value, true, seconds, ended)
        append(self.task.path, [{**job.record(), **trial.record()}])
        return value


def same(a: Config, b: Config) -> bool:
    """Whether two configurations are the same to rounding: a batch of studies rounds differently from one."""
    return a.keys() == b.keys() and all(_close(a[key], b[key]) for key in a)


def _close(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9)
    return type(a) is type(b) and a == b


# ------------------------------------------------------------------------------------------------ loops


def run(task: Task) -> None:
    """Do the evaluations that a task lacks.

    Raises:
        UnsupportedError: the method cannot search this space, or not with so many at once.
    """
    try:
        _run(task)
    except DivergedError:
        append(task.path, [{**job.record(), "restart": True} for job in task.jobs])
        _run(task.afresh())


def _run(task: Task) -> None:
    job = task.jobs[0]
    problems = [get(j.problem, j.seed, task.problems_path) for j in task.jobs]
    if task.method.entry.sequential and max(job.q, job.workers) > 1:
        raise UnsupportedError(f"{task.method.name} evaluates one configuration at a time")
    evaluations = Evaluations(task, problems)
    studies, done = _studies(task, problems)
    if job.workers == 1:
        _in_batches(studies, evaluations, done)
    else:
        _asynchronously(studies, evaluations)


def _studies(task: Task, problems: Sequence[Problem]) -> tuple[Studies, int]:
    """The studies, and how many evaluations they have been told already."""
    job, space, budget = task.jobs[0], problems[0].space.to_dict(), task.evaluations
    if not task.method.ours:
        return Alone(task.method.build(space, job.seed, budget)), 0
    studies = task.method.build_together(space, [j.seed for j in task.jobs], budget)
    done = len(task.kept[0]) // job.q * job.q if job.workers == 1 else 0
    if done:
        studies.restore([[vars(trial) for trial in trials[:done]] for trials in task.kept])
    return studies, done


def _in_batches(studies: Studies, evaluations: Evaluations, done: int) -> None:
    """Ask for q, evaluate all, tell all."""
    task, watch = evaluations.task, Stopwatch()
    while done < task.evaluations:
        q = min(task.jobs[0].q, task.evaluations - done)
        proposals = watch(studies.ask, q)
        seconds = watch.share(q * len(task.jobs))
        values = [
            [evaluations.value(i, done + k, config, seconds) for k, config in enumerate(configs)]
            for i, configs in enumerate(proposals)
        ]
        watch(studies.tell, proposals, values)
        done += q


def _asynchronously(studies: Studies, evaluations: Evaluations) -> None:
    """Each worker gets the next configuration the moment it is free, on a simulated clock; asking is free."""
    task, problems, watch = evaluations.task, evaluations.problems, Stopwatch()
    count = task.evaluations
    clocks = [Clock(durations(job.seed, count)) for job in task.jobs]
    seconds: list[float] = []

    def start() -> None:
        for clock, problem, configs in zip(clocks, problems, watch(studies.ask, 1), strict=True):
            factor = 1.0 if problem.duration is None else problem.duration(configs[0])
            clock.start(configs[0], factor)
        seconds.append(watch.share(len(task.jobs)))

    for _ in range(min(task.jobs[0].workers, count)):
        start()
    for _ in range(count):
        ended = [clock.finish() for clock in clocks]
        values = [
            [evaluations.value(i, place, config, seconds[place], clocks[i].now)]
            for i, (place, config) in enumerate(ended)
        ]
        watch(studies.tell, [[config] for _, config in ended], values)
        if clocks[0].started < count:
            start()


# ------------------------------------------------------------------------------------------------ tasks


def tasks_of(
    jobs: Sequence[Job], kept: Mapping[Job, Sequence[Trial]], evaluations: int, methods: Mapping[str, Chosen],
    path: Path, problems_path: Path | None,
) -> list[Task]:  # fmt: skip
    """What is left to do: ours first, in lockstep; then the peers', seed by seed."""
    groups: dict[tuple[Any, ...], list[Job]] = {}
    for job in jobs:
        done = len(kept.get(job, ()))
        if done < evaluations:
            alone = job.seed if not methods[job.method].ours else -1
            groups.setdefault((alone, job.problem, job.method, job.q, job.workers, done), []).append(job)
    return [
        Task(
            group,
            [kept.get(job, []) for job in group],
            evaluations,
            methods[group[0].method],
            path,
            problems_path,
        )
        for _, group in sorted(groups.items(), key=lambda item: item[0][0])
    ]


@dataclass(frozen=True)
class Trouble:
    """A task that was not done: the method cannot do it (`unsupported`), or it failed with an error."""

    job: Job
    reason: str
    unsupported: bool


def attempt(task: Task) -> Trouble | None:
    """Run a task; a peer that fails costs its own runs only."""
    try:
        run(task)
    except UnsupportedError as reason:
        return Trouble(task.jobs[0], str(reason), unsupported=True)
    except Exception:
        if task.method.ours:
            raise
        return Trouble(task.jobs[0], traceback.format_exc(), unsupported=False)
    return None
