"""`workers`: how much sooner 4, 16 and 64 asynchronous workers reach the regret of one, on a simulated clock.

Hartmann6, Ackley-10 and Levy-20 (their optimum shifted off the centre, differently for each seed) and two
tuning tables. At time 0 each worker is given a configuration; whenever an evaluation ends it is told, and
its worker is given the next one, until all have been started. Asking takes no time. The time of an
evaluation is log-normal with mean 1 and standard deviation 0.5; the i-th to be started takes equally long
for all methods of a seed. Each finished run is one line of `workers.jsonl`; a later call skips what is
there, so an interrupted one goes on where it stopped, and more seeds or methods can be added.
"""

import argparse
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from math import isnan
from pathlib import Path

import numpy as np

from bayesopt import Replicates
from benchmarks import runs
from benchmarks.clock import Alone, Studies, durations, simulate
from benchmarks.peers import available, build
from benchmarks.pictures import draw
from benchmarks.problems.functions import WORKERS, Problem, seeded_problem
from benchmarks.problems.tables import PACKAGE, TABLES, TableProblem, installed, table_problem
from benchmarks.processes import in_processes
from benchmarks.report import Report, Table, can_draw, number, progress
from benchmarks.speedup import Curves, Reference, SpeedUp, after, speed_up

DESCRIPTION = "regret against the number of workers on a simulated clock, beside Optuna's samplers"

OURS = "bayesopt"
VARIANTS = tuple(f"{OURS}:batch={name}" for name in ("qlogei", "ucb_pe", "thompson"))
PEERS = ("optuna-gp", "optuna-tpe", "random")
PROBLEMS = (*WORKERS, *TABLES)
CHECKPOINTS = (50, 100, 200)
TARGET = 0.6  # of the number of workers,
TARGET_UP_TO = 16

_QUICK = {
    "problems": ["hartmann6"],
    "methods": [OURS, "optuna-tpe", "random"],
    "workers": [1, 4],
    "seeds": 2,
    "evaluations": 16,
    "processes": 1,
    "fresh": True,
    "stored": False,
}


@dataclass(frozen=True, order=True)
class Job:
    """One run."""

    problem: str
    method: str
    workers: int
    seed: int


@dataclass(frozen=True)
class Run:
    """What came out of a job: the evaluations that were better than all that had ended before them.

    Attributes:
        evaluations: how many there were in all; end: when the last one ended.
        ended: how many had ended with each of the better ones; time: when that was; regret: the simple
            regret from then on.
    """

    job: Job
    evaluations: int
    end: float
    ended: list[int]
    time: list[float]
    regret: list[float]

    @classmethod
    def of(cls, job: Job, times: Sequence[float], regret: Sequence[float]) -> "Run":
        """From the times of all evaluations and the regret so far, in the order in which they ended."""
        better = [i for i, r in enumerate(regret) if i == 0 or r < regret[i - 1]]
        time, left = ([_rounded(values[i]) for i in better] for values in (times, regret))
        return cls(job, len(times), _rounded(times[-1]), [i + 1 for i in better], time, left)

    def line(self) -> str:
        """As a line of JSON."""
        record = asdict(self)
        return json.dumps({**record.pop("job"), **record})

    @classmethod
    def of_line(cls, line: str) -> "Run":
        """The inverse of `line`."""
        record = json.loads(line)
        job = Job(*(record.pop(name) for name in ("problem", "method", "workers", "seed")))
        return cls(job, **record)


def simple_regret(values: Sequence[float], optimum: float) -> list[float]:
    """Best so far minus the optimum, never negative.

    >>> simple_regret([3.0, 5.0, 1.5], 1.0)
    [2.0, 2.0, 0.5]
    """
    return np.maximum(np.minimum.accumulate(np.array(values)) - optimum, 0.0).tolist()


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    methods = [OURS, *PEERS]
    parser.add_argument(
        "--problems", nargs="+", choices=PROBLEMS, default=list(PROBLEMS), help="(default: all)"
    )
    parser.add_argument(
        "--methods", nargs="+", choices=[*methods, *VARIANTS], default=methods, help="(default: %(default)s)"
    )
    parser.add_argument(
        "--workers", nargs="+", type=int, default=[1, 4, 16, 64], help="how many (default: %(default)s)"
    )
    parser.add_argument("--seeds", type=int, default=20, help="seeds 0 .. SEEDS - 1 (default: %(default)s)")
    parser.add_argument("--evaluations", type=int, default=200, help="of each run (default: %(default)s)")
    parser.add_argument(
        "--processes", type=int, default=2, help="for the peers, one thread each (default: %(default)s)"
    )
    parser.add_argument("--fresh", action="store_true", help="repeat the chosen runs that are done already")
    parser.add_argument(
        "--stored", action="store_true", help="run nothing: report the chosen runs that are done already"
    )


# ------------------------------------------------------------------------------------------------ runs


def problem_of(job: Job) -> Problem | TableProblem:
    """What a job minimises."""
    return table_problem(job.problem) if job.problem in TABLES else seeded_problem(job.problem, job.seed)


def run_together(studies: Studies, jobs: Sequence[Job], evaluations: int) -> list[Run]:
    """Jobs that differ in their seeds alone, as studies in lockstep."""
    problems = [problem_of(job) for job in jobs]
    times = [durations(job.seed, evaluations) for job in jobs]
    ended, values = simulate(studies, problems, jobs[0].workers, times)
    return [
        Run.of(job, when.tolist(), simple_regret(y.tolist(), problem.optimum))
        for job, problem, when, y in zip(jobs, problems, ended, values, strict=True)
    ]


def run_peer(evaluations: int, job: Job) -> Run:
    """One study of a method by itself."""
    peer = build(job.method, problem_of(job).space(), job.seed)
    return run_together(Alone(peer), [job], budget(job, evaluations))[0]


def run_ours(evaluations: int, jobs: Sequence[Job]) -> list[Run]:
    """Our studies of one problem with equally many workers, one for each seed."""
    space, seeds = problem_of(jobs[0]).space(), [job.seed for job in jobs]
    batch = jobs[0].method.partition("=")[2]
    studies = Replicates(space, seeds, method="gp", batch=batch or "auto")
    return run_together(studies, jobs, evaluations)


def is_ours(method: str) -> bool:
    """Whether it is our method or a variant of it."""
    return method.partition(":")[0] == OURS


def budget(job: Job, evaluations: int) -> int:
    """Evaluations of a job: half of them for one worker of Optuna's GPSampler, which takes long.

    The regret that one worker reaches in half of the evaluations is what speed-ups refer to.
    """
    return evaluations // 2 if job.method == "optuna-gp" and job.workers == 1 else evaluations


def jobs_of(args: argparse.Namespace) -> list[Job]:
    """All runs asked for: the cheapest peers first, then seed by seed.

    Cut short at any time, all problems and numbers of workers of a method have about equally many seeds.
    """
    order = ("random", "optuna-tpe", "optuna-gp")
    methods = sorted(args.methods, key=lambda m: order.index(m) if m in order else -1)
    return [
        Job(problem, method, workers, seed)
        for method in methods
        for seed in range(args.seeds)
        for problem in args.problems
        for workers in args.workers
    ]


def run_all(jobs: Sequence[Job], evaluations: int, processes: int) -> Iterator[Run]:
    """The runs of the jobs as they finish: ours in lockstep here, the peers' in other processes."""
    cells: dict[tuple[str, str, int], list[Job]] = {}
    for job in jobs:
        if is_ours(job.method):
            cells.setdefault((job.method, job.problem, job.workers), []).append(job)
    for cell in cells.values():
        yield from run_ours(evaluations, cell)
    theirs = [job for job in jobs if not is_ours(job.method)]
    yield from in_processes(partial(run_peer, evaluations), theirs, processes)


def stored(path: Path, jobs: Sequence[Job], evaluations: int) -> dict[Job, Run]:
    """The runs of the jobs that the file has."""
    known = runs.load(path, Run.of_line)
    done = {job: known[job] for job in jobs if job in known}
    return {job: run for job, run in done.items() if run.evaluations == budget(job, evaluations)}


def complete(
    path: Path, jobs: Sequence[Job], evaluations: int, processes: int, fresh: bool
) -> dict[Job, Run]:
    """Run the jobs that the file lacks, keeping each as it finishes; returns all that were asked for."""
    done = {} if fresh else stored(path, jobs, evaluations)
    missing = [job for job in jobs if job not in done]
    every = runs.complete(path, missing, Run.of_line, run_all(missing, evaluations, processes))
    return {job: every[job] for job in jobs}


# ---------------------------------------------------------------------------------------------- report


@dataclass(frozen=True, eq=False)
class Cell:
    """The runs of one method on one problem with so many workers, by seed."""

    runs: Mapping[int, Run]

    def curves(self, seeds: Iterable[int] | None = None) -> Curves:
        """Regret against time of these seeds, of all if None."""
        found = [self.runs[seed] for seed in (self.runs if seeds is None else seeds)]
        return Curves.of([([*run.time, run.end], [*run.regret, run.regret[-1]]) for run in found])

    def after(self, count: int) -> float:
        """Median regret after so many evaluations; nan if there were not so many."""
        if any(run.evaluations < count for run in self.runs.values()):
            return float("nan")
        return float(np.median([after(run.ended, run.regret, count) for run in self.runs.values()]))

    def reference(self, count: int, seeds: Iterable[int] | None = None) -> Reference:
        """Of one worker with these seeds, all if None: regret after so many evaluations, and their time."""
        found = {seed: self.runs[seed] for seed in (self.runs if seeds is None else seeds)}
        regret = [after(run.ended, run.regret, count) for run in found.values()]
        return Reference(np.array(regret), np.array([sum(durations(seed, count)) for seed in found]))


Cells = Mapping[tuple[str, str], Mapping[int, Cell]]  # (problem, method) -> workers -> cell


def cells_of(done: Mapping[Job, Run], args: argparse.Namespace) -> Cells:
    """The runs in their cells; of each problem and method the seeds that all numbers of workers have."""
    cells = {}
    for problem, method in product(args.problems, args.methods):
        jobs = {
            seed: [Job(problem, method, workers, seed) for workers in args.workers]
            for seed in range(args.seeds)
        }
        seeds = [seed for seed, row in jobs.items() if all(job in done for job in row)]
        if seeds:
            cells[problem, method] = {
                workers: Cell({seed: done[Job(problem, method, workers, seed)] for seed in seeds})
                for workers in args.workers
            }
    return cells


def run(args: argparse.Namespace) -> Report:
    changes = _QUICK if args.quick else {"workers": sorted({1, *args.workers})}
    args = argparse.Namespace(**{**vars(args), **changes})
    args.problems, args.methods = _possible(args.problems, args.methods)
    stem = args.out / ("workers-quick" if args.quick else "workers")
    jobs, path = jobs_of(args), stem.with_suffix(".jsonl")
    if args.stored:
        done = stored(path, jobs, args.evaluations)
    else:
        done = complete(path, jobs, args.evaluations, args.processes, args.fresh)
    cells = cells_of(done, args)
    if not cells:
        raise SystemExit(f"{path} has no seed of any chosen problem and method with all numbers of workers")
    _draw(cells, stem.with_suffix(".png"))
    half = args.evaluations // 2
    checkpoints = [n for n in CHECKPOINTS if n <= args.evaluations] or [half, args.evaluations]
    tables = [_regret_table(cells, checkpoints), _own_table(cells, half)]
    if any(method == OURS for _, method in cells):
        tables.append(_common_table(cells, half))
    settings = {"seeds": args.seeds, "evaluations": args.evaluations}
    return Report("Workers", tables, _summaries(cells, checkpoints, half), settings)


def _possible(problems: Sequence[str], methods: Sequence[str]) -> tuple[list[str], list[str]]:
    """The problems and methods that are installed, in order; for the others, says how to install them."""
    lacking = [] if installed() else [name for name in problems if name in TABLES]
    for name in lacking:
        progress(f"{name} is skipped; install it with: python -m pip install {PACKAGE}")
    peers = available([name for name in methods if not is_ours(name)])
    kept = [name for name in methods if is_ours(name) or name in peers]
    return [name for name in problems if name not in lacking], kept


def _draw(cells: Cells, path: Path) -> None:
    if not can_draw():
        return
    panels: dict[tuple[str, int], dict[str, Curves]] = {}
    for (problem, method), by_workers in cells.items():
        for workers, cell in by_workers.items():
            panels.setdefault((problem, workers), {})[method] = cell.curves()
    draw(panels).savefig(path, dpi=110)


def _regret_table(cells: Cells, checkpoints: Sequence[int]) -> Table:
    """Medians of every method after some evaluations."""
    problems, methods = (list(dict.fromkeys(names)) for names in zip(*cells, strict=True))
    workers = next(iter(cells.values()))

    def cell(problem: str, method: str, count: int) -> str:
        if (problem, method) not in cells:
            return ""
        return " / ".join(number(cells[problem, method][count].after(n)) for n in checkpoints)

    rows = [
        [problem, count, *(cell(problem, method, count) for method in methods)]
        for problem in problems
        for count in workers
    ]
    caption = (
        f"Median simple regret after {' / '.join(map(str, checkpoints))} evaluations: the smallest value "
        "among those that had ended, minus the optimum."
    )
    return Table(["problem", "workers", *methods], rows, caption)


def _own_table(cells: Cells, half: int) -> Table:
    """Speed-up of each method over its own single worker."""
    several = [workers for workers in next(iter(cells.values())) if workers > 1]
    rows = []
    for (problem, method), by_workers in cells.items():
        reference, alone = by_workers[1].reference(half), by_workers[1].curves()
        curves = {workers: by_workers[workers].curves() for workers in several}
        found = {w: speed_up(reference, curve) for w, curve in curves.items()}
        first = {w: speed_up(reference, curve, alone) for w, curve in curves.items()}
        what = [problem, method, reference.size, reference.median]
        rows.append([*what, *map(str, found.values()), *_per_worker(found), *_per_worker(first)])
    at, target = " / ".join(map(str, several)), f"at least {TARGET} up to {TARGET_UP_TO}"
    header = [
        *("problem", "method", "seeds", f"regret of one worker after {half}"),
        *(f"{workers} workers" for workers in several),
        *(f"per worker, {at}", target, f"per worker from its first moment, {at}", f"{target}, from there"),
    ]
    caption = (
        f"Speed-up of each method over itself with one worker: the time that one worker takes for {half} "
        "evaluations (median over seeds) over the time at which the median regret with several workers is "
        f"first at most the median regret of one worker after {half} evaluations. In brackets the middle "
        "90 % of a bootstrap over seeds, in which 0 is never. Per worker: divided by the number of workers. "
        "From its first moment: over the same times, the time at which the median regret of one worker is "
        f"first at most what it is after {half} evaluations; it is earlier where one worker has stood still, "
        "as at the optimum of a table, and then the speed-up is smaller."
    )
    return Table(header, rows, caption)


def _per_worker(found: Mapping[int, SpeedUp]) -> tuple[str, str]:
    """Speed-ups divided by the number of workers, and whether they reach the target."""
    shares = {workers: ratio.value / workers for workers, ratio in found.items()}
    reached = all(share >= TARGET for workers, share in shares.items() if workers <= TARGET_UP_TO)
    return " / ".join(f"{share:.2f}" for share in shares.values()), "yes" if reached else "no"


def _common_table(cells: Cells, half: int) -> Table:
    """Speed-up of every method over our single worker."""
    workers = list(next(iter(cells.values())))
    rows = []
    for (problem, method), by_workers in cells.items():
        ours = cells[problem, OURS][1] if (problem, OURS) in cells else Cell({})
        seeds = [seed for seed in by_workers[1].runs if seed in ours.runs]
        if seeds:
            reference = ours.reference(half, seeds)
            found = [speed_up(reference, by_workers[w].curves(seeds)) for w in workers]
            rows.append([problem, method, reference.size, reference.median, *map(str, found)])
    header = ["problem", "method", "seeds", "regret to reach", *(f"workers: {w}" for w in workers)]
    caption = (
        f"One goal for all methods: the median regret that one worker of {OURS} reaches in {half} "
        "evaluations. The time that these take it over the time at which the median regret of the method is "
        "first at most that. Seeds: those that both have."
    )
    return Table(header, rows, caption)


def _summaries(cells: Cells, checkpoints: Sequence[int], half: int) -> list[dict[str, object]]:
    return [
        {
            "problem": problem,
            "method": method,
            "workers": workers,
            "seeds": list(cell.runs),
            "regret": {str(n): None if isnan(regret := cell.after(n)) else regret for n in checkpoints},
            "speed_up": asdict(speed_up(by_workers[1].reference(half), cell.curves())),
        }
        for (problem, method), by_workers in cells.items()
        for workers, cell in by_workers.items()
    ]
