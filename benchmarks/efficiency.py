"""`efficiency`: how good the best configuration is after 30, 50 and 100 evaluations.

Simple regret - best value so far minus the optimum - on Branin, Hartmann6 and Ackley-10. Ackley's optimum
is shifted off the centre, differently for each seed and equally for all methods. Each finished run is one
line of `efficiency.jsonl`; a later call skips what is there, so an interrupted one goes on where it
stopped, and more seeds or methods can be added.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from scipy.stats import wilcoxon

from bayesopt import Replicates
from benchmarks import runs
from benchmarks.methods import METHODS
from benchmarks.peers import available, build
from benchmarks.problems.functions import EFFICIENCY, seeded_problem
from benchmarks.report import Report, Table, number

DESCRIPTION = "regret after 30, 50 and 100 evaluations beside Optuna's samplers"

CHECKPOINTS = (30, 50, 100)
OURS = "bayesopt"
PEERS = ("optuna-gp", "optuna-tpe")

_QUICK = {"problems": ["branin"], "seeds": 3, "evaluations": 14, "processes": 1, "fresh": True}
_FLOOR = 1e-12  # regrets below are rounding errors of the optimum


@dataclass(frozen=True, order=True)
class Job:
    """One run."""

    problem: str
    method: str
    seed: int


@dataclass(frozen=True)
class Run:
    """What came out of a job: simple regret after each evaluation, seconds spent in ask and tell."""

    job: Job
    regret: list[float]
    seconds: float

    def line(self) -> str:
        """As a line of JSON."""
        regret = [float(f"{r:.6g}") for r in self.regret]
        return json.dumps({**asdict(self.job), "seconds": round(self.seconds, 3), "regret": regret})

    @classmethod
    def of_line(cls, line: str) -> "Run":
        """The inverse of `line`."""
        record = json.loads(line)
        job = Job(record["problem"], record["method"], record["seed"])
        return cls(job, record["regret"], record["seconds"])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    methods = [OURS, *PEERS, "random"]
    parser.add_argument(
        "--problems", nargs="+", choices=EFFICIENCY, default=list(EFFICIENCY), help="(default: all)"
    )
    parser.add_argument(
        "--methods", nargs="+", choices=METHODS, default=methods, help="(default: %(default)s)"
    )
    parser.add_argument("--seeds", type=int, default=30, help="seeds 0 .. SEEDS - 1 (default: %(default)s)")
    parser.add_argument("--evaluations", type=int, default=100, help="of each run (default: %(default)s)")
    parser.add_argument(
        "--processes", type=int, default=2, help="for the peers, one thread each (default: %(default)s)"
    )
    parser.add_argument("--fresh", action="store_true", help="repeat the chosen runs that are done already")


# ------------------------------------------------------------------------------------------------ runs


def simple_regret(values: Sequence[float], optimum: float) -> list[float]:
    """Best so far minus the optimum, never negative.

    >>> simple_regret([3.0, 5.0, 1.5], 1.0)
    [2.0, 2.0, 0.5]
    """
    return np.maximum(np.minimum.accumulate(np.array(values)) - optimum, 0.0).tolist()


def run_peer(evaluations: int, job: Job) -> Run:
    """One study of a method by itself."""
    problem = seeded_problem(job.problem, job.seed)
    peer = build(job.method, problem.space(), job.seed)
    values, seconds = [], 0.0
    for _ in range(evaluations):
        start = time.perf_counter()
        config = peer.ask()
        asked = time.perf_counter()
        values.append(problem(config))
        told = time.perf_counter()
        peer.tell(config, values[-1])
        seconds += time.perf_counter() - told + asked - start
    return Run(job, simple_regret(values, problem.optimum), seconds)


def run_ours(evaluations: int, jobs: Sequence[Job]) -> list[Run]:
    """All seeds of one problem in lockstep; each is charged its share of the time."""
    problems = [seeded_problem(job.problem, job.seed) for job in jobs]
    studies = Replicates(problems[0].space(), seeds=[job.seed for job in jobs], method="auto")
    values, seconds = [], 0.0
    for _ in range(evaluations):
        start = time.perf_counter()
        configs = studies.ask()
        asked = time.perf_counter()
        values.append([problem(config) for problem, config in zip(problems, configs, strict=True)])
        told = time.perf_counter()
        studies.tell(configs, values[-1])
        seconds += time.perf_counter() - told + asked - start
    return [
        Run(job, simple_regret([row[i] for row in values], problem.optimum), seconds / len(jobs))
        for i, (job, problem) in enumerate(zip(jobs, problems, strict=True))
    ]


def run_all(jobs: Sequence[Job], evaluations: int, processes: int) -> Iterator[Run]:
    """The runs of the jobs as they finish: ours in lockstep here, the peers' in other processes."""
    for problem in EFFICIENCY:
        ours = [job for job in jobs if job.method == OURS and job.problem == problem]
        if ours:
            yield from run_ours(evaluations, ours)
    theirs = [job for job in jobs if job.method != OURS]
    yield from runs.in_processes(partial(run_peer, evaluations), theirs, processes)


# --------------------------------------------------------------------------------------------- storage


def load(path: Path) -> dict[Job, Run]:
    """The runs kept in a file."""
    return runs.load(path, Run.of_line)


def complete(
    path: Path, jobs: Sequence[Job], evaluations: int, processes: int, fresh: bool
) -> dict[Job, Run]:
    """Run the jobs that the file lacks, keeping each as it finishes; returns all that were asked for."""
    kept = {} if fresh else load(path)
    missing = [job for job in jobs if job not in kept or len(kept[job].regret) < evaluations]
    done = runs.complete(path, missing, Run.of_line, run_all(missing, evaluations, processes))
    return {job: done[job] for job in jobs}


# ---------------------------------------------------------------------------------------------- report


def run(args: argparse.Namespace) -> Report:
    if args.quick:
        args = argparse.Namespace(**{**vars(args), **_QUICK})
    problems, seeds, evaluations = args.problems, args.seeds, args.evaluations
    methods = available(args.methods)
    jobs = [Job(p, m, seed) for p in problems for m in methods for seed in range(seeds)]
    path = args.out / ("efficiency-quick.jsonl" if args.quick else "efficiency.jsonl")
    done = complete(path, jobs, evaluations, args.processes, args.fresh)
    checkpoints = [n for n in CHECKPOINTS if n <= evaluations] or [evaluations]
    regrets = {
        (p, m): np.array([done[Job(p, m, seed)].regret[:evaluations] for seed in range(seeds)])
        for p in problems
        for m in methods
    }
    tables = [_regret_table(regrets, checkpoints), _verdict_table(regrets, checkpoints)]
    settings = {"seeds": seeds, "evaluations": evaluations}
    return Report("Regret", tables, _summaries(regrets, done, checkpoints), settings)


Regrets = Mapping[tuple[str, str], np.ndarray]  # (problem, method) -> (seeds, evaluations)


def p_value(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Two-sided Wilcoxon signed-rank test of log regret, paired by seed; 1 if they are all equal."""
    difference = np.log10(np.maximum(ours, _FLOOR)) - np.log10(np.maximum(theirs, _FLOOR))
    return 1.0 if not difference.any() else float(wilcoxon(difference).pvalue)


def _quartiles(regret: np.ndarray) -> str:
    low, middle, high = (number(float(q)) for q in np.quantile(regret, [0.25, 0.5, 0.75]))
    return f"{middle} ({low}-{high})"


def _regret_table(regrets: Regrets, checkpoints: Sequence[int]) -> Table:
    """Medians and quartiles of each method, and ours against it."""

    def against(problem: str, method: str, statistic: Callable[[np.ndarray, np.ndarray], str]) -> str:
        ours = regrets.get((problem, OURS))
        if ours is None or method == OURS:
            return ""
        return " / ".join(statistic(ours[:, n - 1], regrets[problem, method][:, n - 1]) for n in checkpoints)

    at = " / ".join(map(str, checkpoints))
    header = ["problem", "method", *(f"after {n}" for n in checkpoints), f"ours better at {at}", f"p at {at}"]
    rows = [
        [
            *(problem, method),
            *(_quartiles(regret[:, n - 1]) for n in checkpoints),
            against(problem, method, lambda ours, theirs: str(int((ours < theirs).sum()))),
            against(problem, method, lambda ours, theirs: number(p_value(ours, theirs), 2)),
        ]
        for (problem, method), regret in regrets.items()
    ]
    caption = (
        "Median simple regret (quartiles); in how many seeds ours is better, "
        "and the p of a Wilcoxon signed-rank test of log regret, paired by seed."
    )
    return Table(header, rows, caption)


def _verdict_table(regrets: Regrets, checkpoints: Sequence[int]) -> Table:
    """Ours beside the better of Optuna's two, medians."""
    rows = []
    for problem in dict.fromkeys(p for p, _ in regrets):
        peers = [m for m in PEERS if (problem, m) in regrets]
        if (problem, OURS) not in regrets or not peers:
            continue
        for n in checkpoints:
            ours, *theirs = (float(np.median(regrets[problem, m][:, n - 1])) for m in (OURS, *peers))
            best = int(np.argmin(theirs))
            verdict = "yes" if ours <= theirs[best] else "no"
            rows.append([problem, n, ours, theirs[best], peers[best], verdict])
    header = ["problem", "evaluations", "ours", "better peer", "which", "ours no worse (target yes)"]
    return Table(header, rows, "Medians beside the better of Optuna's two samplers.")


def _summaries(
    regrets: Regrets, done: Mapping[Job, Run], checkpoints: Sequence[int]
) -> list[dict[str, object]]:
    seconds: dict[tuple[str, str], list[float]] = {}
    for job, run in done.items():
        seconds.setdefault((job.problem, job.method), []).append(run.seconds)
    return [
        {
            "problem": problem,
            "method": method,
            "regret": {str(n): regret[:, n - 1].tolist() for n in checkpoints},
            "seconds": seconds[problem, method],
        }
        for (problem, method), regret in regrets.items()
    ]
