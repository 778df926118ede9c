"""`replicates`: throughput of many studies in lockstep beside as many single ones, on one core.

In a process with one thread, `Replicates` and single `Optimizer`s run Hartmann6 side by side, round by
round; what counts is the time in ask and tell. A few singles stand for all of them: their mean, times the
number of studies. Then the same beside Optuna's `GPSampler`: 20 studies in lockstep, and 20 of Optuna's one
after the other, as it is with the package `greenlet` and as it is without, which Optuna can do without.
"""

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any, TypeVar

import torch

from bayesopt import Optimizer, Replicates
from benchmarks.peers import build
from benchmarks.problems.functions import hartmann6_problem
from benchmarks.report import Report, Table, progress
from benchmarks.scaling import run_python

DESCRIPTION = "throughput of replicates in lockstep beside single runs, on one core"

TARGET = 5.0
PEER = "optuna-gp"
PEER_TARGET, SECONDS_TARGET = 20.0, 60.0

T = TypeVar("T")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--studies", type=int, default=32, help="in lockstep (default: %(default)s)")
    parser.add_argument("--singles", type=int, default=6, help="single runs measured (default: %(default)s)")
    parser.add_argument("--evaluations", type=int, default=60, help="of each study (default: %(default)s)")
    parser.add_argument("--no-optuna", action="store_true", help="only the first part")


class Clock:
    """Adds up the seconds of the calls that go through it."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self, call: Callable[..., T], *args: object) -> T:
        start = time.perf_counter()
        result = call(*args)
        self.seconds += time.perf_counter() - start
        return result


def race(studies: int, singles: int, evaluations: int) -> list[tuple[float, float]]:
    """Seconds of ask and tell in each round: all replicates together, and the mean of the singles."""
    problem = hartmann6_problem()
    together = Replicates(problem.space(), seeds=range(studies), method="gp")
    alone = [Optimizer(problem.space(), seed=seed, method="gp") for seed in range(singles)]
    rounds = []
    for _ in range(evaluations):
        lockstep, single = Clock(), Clock()
        configs = lockstep(together.ask)
        lockstep(together.tell, configs, [problem(config) for config in configs])
        for study in alone:
            config = single(study.ask)
            single(study.tell, config, problem(config))
        rounds.append((lockstep.seconds, single.seconds / singles))
    return rounds


def probe(studies: int, singles: int, evaluations: int) -> None:
    """In a process of its own: print the rounds of a `race` on one thread as JSON, after a warm-up."""
    torch.set_num_threads(1)
    race(studies, 1, 10)
    print(json.dumps(race(studies, singles, evaluations)))


def race_optuna(studies: int, evaluations: int) -> dict[str, Any]:
    """Seconds of ask and tell, and median regret, of ours in lockstep and of Optuna's, round by round."""
    problem = hartmann6_problem()
    together = Replicates(problem.space(), seeds=range(studies), method="gp")
    peers = [build(PEER, problem.space(), seed, evaluations) for seed in range(studies)]
    lockstep, single = Clock(), Clock()
    ours, theirs = [math.inf] * studies, [math.inf] * studies
    for _ in range(evaluations):
        configs = lockstep(together.ask)
        values = [problem(config) for config in configs]
        lockstep(together.tell, configs, values)
        ours = list(map(min, ours, values))
        for i, peer in enumerate(peers):
            config = single(peer.ask)
            value = problem(config)
            single(peer.tell, config, value)
            theirs[i] = min(theirs[i], value)
    left = {
        name: statistics.median(best) - problem.optimum for name, best in (("ours", ours), ("theirs", theirs))
    }
    return {"seconds": {"ours": lockstep.seconds, "theirs": single.seconds}, "regret": left}


def probe_optuna(studies: int, evaluations: int, greenlet: bool) -> None:
    """In a process of its own: print a `race_optuna` on one thread as JSON, after a warm-up."""
    if not greenlet:
        sys.modules["greenlet"] = None  # type: ignore[assignment]  # as if it were not installed
    torch.set_num_threads(1)
    race_optuna(1, 12)
    print(json.dumps(race_optuna(studies, evaluations)))


def _optuna_table(found: dict[str, dict[str, Any]], studies: int, evaluations: int) -> Table:
    rows = []
    for name, race in found.items():
        ours, theirs = race["seconds"]["ours"], race["seconds"]["theirs"]
        rows.append(
            [name, ours, theirs, f"{theirs / ours:.1f}x", race["regret"]["ours"], race["regret"]["theirs"]]
        )
    caption = (
        f"Hartmann6, {studies} studies of {evaluations} evaluations, one thread, in one process, round by "
        f"round: seconds of ask and tell (target: {SECONDS_TARGET:g}), and the median regret in the end."
    )
    header = [
        *("Optuna's GPSampler", "ours in lockstep, s", "GPSampler, s", f"ratio (target {PEER_TARGET:g}x)"),
        *("our regret", "its regret"),
    ]
    return Table(header, rows, caption)


def _optuna(studies: int, evaluations: int) -> dict[str, dict[str, Any]]:
    found = {}
    for greenlet in (True, False):
        name = "with greenlet" if greenlet else "without greenlet"
        if greenlet and find_spec("greenlet") is None:
            continue
        progress(f"replicates: {studies} beside GPSampler {name}, {evaluations} evaluations each")
        call = f"probe_optuna({studies}, {evaluations}, {greenlet})"
        code = f"from benchmarks.replicates import probe_optuna; {call}"
        found[name] = json.loads(run_python(code, threads=1))
    return found


def run(args: argparse.Namespace) -> Report:
    studies, singles, evaluations = args.studies, args.singles, args.evaluations
    peer_studies, peer_evaluations = 20, 100
    if args.quick:
        studies, singles, evaluations = 4, 1, 12
        peer_studies, peer_evaluations = 2, 12
    progress(f"replicates: {studies} in lockstep and {singles} alone, {evaluations} evaluations each")
    code = f"from benchmarks.replicates import probe; probe({studies}, {singles}, {evaluations})"
    rounds = json.loads(run_python(code, threads=1))
    settings = {"studies": studies, "singles measured": singles, "evaluations": evaluations}
    tables, results = [_table(rounds, studies)], {"rounds": rounds}
    if not args.no_optuna:
        found = _optuna(peer_studies, peer_evaluations)
        tables.append(_optuna_table(found, peer_studies, peer_evaluations))
        results["optuna"] = found
    return Report("Replicates in lockstep", tables, results, settings)


def _table(rounds: Sequence[Sequence[float]], studies: int) -> Table:
    """Totals, by thirds of the run and for all of it."""
    third = -(-len(rounds) // 3)
    parts = [(start, min(start + third, len(rounds))) for start in range(0, len(rounds), third)]
    rows = [_row(f"{low + 1}-{high}", rounds[low:high], studies) for low, high in parts]
    rows.append(_row(f"all (target {TARGET:g}x)", rounds, studies))
    header = ["evaluations", f"{studies} in lockstep, s", f"{studies} single runs, s", "throughput"]
    return Table(header, rows, f"Hartmann6, {studies} studies, one thread: total seconds in ask and tell.")


def _row(label: str, rounds: Sequence[Sequence[float]], studies: int) -> list[Any]:
    lockstep, single = sum(r[0] for r in rounds), studies * sum(r[1] for r in rounds)
    return [label, lockstep, single, f"{single / lockstep:.1f}x"]
