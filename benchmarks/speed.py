"""`speed`: how long one proposal takes, beside BoTorch and Optuna's GPSampler.

Every method starts from the same configurations and values, then asks, evaluates its own proposal and
tells it, so the history grows as in a run. Asks are interleaved, one of each method in turn, so that
whatever else the machine does hits all of them alike. The first ask of each method is told apart: it warms
up the process, and ours its cache of fits to shorter histories, which a running study has.

There `bayesopt` is the plain Gaussian process, one model and one acquisition. What the default adds follows
from how its own proposals fared, so it is timed in runs of its own, after about a hundred evaluations.
"""

import argparse
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.methods import METHODS, OURS
from benchmarks.peers import Peer, available, build
from benchmarks.problems.functions import Problem, hartmann_bowl, shifted
from benchmarks.report import Report, Table, number, progress, spread

DESCRIPTION = "time of one proposal beside BoTorch and Optuna's GPSampler"

PEERS = ("botorch", "optuna-gp")


@dataclass(frozen=True)
class Cell:
    """A history of n configurations of d parameters, how often it is asked, how much faster we want to be."""

    n: int
    d: int
    asks: int
    targets: tuple[float, ...] = ()  # ratio to each of PEERS


CELLS: tuple[Cell, ...] = (
    Cell(20, 6, 10),
    Cell(100, 6, 10, (20.0, 8.0)),
    Cell(100, 20, 10, (20.0, 8.0)),
    Cell(500, 10, 5, (5.0, 5.0)),
    Cell(1000, 20, 3, (5.0, 5.0)),
)
QUICK: tuple[Cell, ...] = (Cell(20, 6, 2),)

#: Ours in runs: the default, and the plain Gaussian process.
DEFAULT, PLAIN = f"{OURS}:method=auto", OURS


@dataclass(frozen=True)
class Run:
    """Evaluations of a shifted function of d parameters, the last asks of which are timed; our limit, ms."""

    function: str
    d: int
    evaluations: int = 110
    timed: int = 20
    limit: float | None = None


RUNS: tuple[Run, ...] = (
    Run("rosenbrock", 6, limit=60.0),
    Run("rastrigin", 6, limit=60.0),
    Run("rosenbrock", 20, limit=250.0),
    Run("rastrigin", 20, limit=250.0),
)
QUICK_RUNS: tuple[Run, ...] = (Run("rosenbrock", 2, 12, 3),)


def parse_cell(text: str) -> Cell:
    """One of the usual cells, or another one of that size, asked five times.

    >>> parse_cell("100x6").asks, parse_cell("250x6")
    (10, Cell(n=250, d=6, asks=5, targets=()))
    """
    n, d = (int(part) for part in text.split("x"))
    if n < 10 or d < 6:
        raise argparse.ArgumentTypeError(f"expected n >= 10 and d >= 6, got {text}")
    return next((cell for cell in CELLS if (cell.n, cell.d) == (n, d)), Cell(n, d, asks=5))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    methods = ["bayesopt", *PEERS]
    parser.add_argument(
        "--methods", nargs="+", default=methods, choices=METHODS, help="(default: %(default)s)"
    )
    parser.add_argument(
        "--cells", nargs="+", type=parse_cell, metavar="NxD", help="other sizes than the usual, such as 250x6"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the initial history and of the methods")


def time_asks(cell: Cell, methods: Sequence[str], seed: int) -> dict[str, list[float]]:
    """Seconds of each ask of each method, the one that warms up first."""
    problem = hartmann_bowl(cell.d)
    history = [problem.config(u) for u in np.random.default_rng(seed).random((cell.n, cell.d))]
    peers = {name: build(name, problem.space(), seed) for name in methods}
    for peer in peers.values():
        for config in history:
            peer.tell(config, problem(config))
    return _seconds(peers, problem, cell.asks + 1)


def time_run(run: Run, methods: Sequence[str], seed: int) -> dict[str, list[float]]:
    """Seconds of the last asks of each method, which have evaluated nothing but their own proposals."""
    problem = shifted(run.function, run.d, np.random.default_rng(seed))
    peers = {name: build(name, problem.space(), seed, run.evaluations) for name in methods}
    seconds = _seconds(peers, problem, run.evaluations)
    return {name: values[-run.timed :] for name, values in seconds.items()}


def _seconds(peers: Mapping[str, Peer], problem: Problem, asks: int) -> dict[str, list[float]]:
    """Of each ask of peers that are told what their own proposals are worth, one of each in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in peers}
    for _ in range(asks):
        for name, peer in peers.items():
            start = time.perf_counter()
            proposal = peer.ask()
            seconds[name].append(time.perf_counter() - start)
            peer.tell(proposal, problem(proposal))
    return seconds


def run(args: argparse.Namespace) -> Report:
    methods = available(args.methods)
    cells = args.cells or (QUICK if args.quick else CELLS)
    results = []
    for cell in cells:
        progress(f"speed: n = {cell.n}, d = {cell.d}")
        seconds = time_asks(cell, methods, args.seed)
        results.append(
            {
                "n": cell.n,
                "d": cell.d,
                "first_seconds": {name: s[0] for name, s in seconds.items()},
                "seconds": {name: s[1:] for name, s in seconds.items()},
            }
        )
    tables = [_table(cells, results, methods), _first_table(results, methods)]
    runs = QUICK_RUNS if args.quick else RUNS
    if PLAIN in methods and not args.cells:
        in_runs = []
        for each in runs:
            progress(f"speed: a run on {each.function}, d = {each.d}")
            seconds = time_run(each, [DEFAULT, *methods], args.seed)
            in_runs.append({"function": each.function, "d": each.d, "seconds_in_run": seconds})
        tables.append(_runs_table(runs, in_runs, methods))
        results += in_runs
    settings = {"seed": args.seed, "threads": args.threads or "default"}
    return Report("Time of one proposal", tables, results, settings)


def _table(cells: Sequence[Cell], results: Sequence[dict[str, Any]], methods: Sequence[str]) -> Table:
    peers = [name for name in methods if name != "bayesopt" and "bayesopt" in methods]
    header = ["n", "d", *(f"{name}, ms" for name in methods), *(f"{name} / bayesopt" for name in peers)]
    rows = []
    for cell, result in zip(cells, results, strict=True):
        seconds = result["seconds"]
        times = [spread(seconds[name], 1e3) for name in methods]
        rows.append([cell.n, cell.d, *times, *(_ratio(cell, name, seconds) for name in peers)])
    return Table(
        header, rows, "Median (min-max) of repeated asks while the history grows, and ratios of medians."
    )


def _first_table(results: Sequence[dict[str, Any]], methods: Sequence[str]) -> Table:
    rows = [[r["n"], r["d"], *(1e3 * r["first_seconds"][name] for name in methods)] for r in results]
    caption = "The first ask after the history has been told, nothing cached yet; not in the medians above."
    return Table(["n", "d", *(f"{name}, ms" for name in methods)], rows, caption)


def _runs_table(runs: Sequence[Run], results: Sequence[dict[str, Any]], methods: Sequence[str]) -> Table:
    peers = [name for name in methods if name != PLAIN]
    header = ["function", "d", "default, ms", "plain, ms", *(f"{name}, ms" for name in peers)]
    rows = []
    for each, result in zip(runs, results, strict=True):
        ours, *others = (spread(result["seconds_in_run"][name], 1e3) for name in (DEFAULT, PLAIN, *peers))
        ours += f" (limit {number(each.limit)})" if each.limit else ""
        rows.append([each.function, each.d, ours, *others])
    first, last = runs[0].evaluations - runs[0].timed, runs[0].evaluations - 1
    caption = (
        f"Median (min-max) of the asks after {first} to {last} evaluations of a method's own proposals: our "
        "default, local proposals and descents included, the plain Gaussian process, and the others."
    )
    return Table(header, rows, caption)


def _ratio(cell: Cell, peer: str, seconds: dict[str, list[float]]) -> str:
    ratio = statistics.median(seconds[peer]) / statistics.median(seconds["bayesopt"])
    target = dict(zip(PEERS, cell.targets, strict=False)).get(peer)
    return f"{number(ratio)}x" + (f" (target {number(target)}x)" if target else "")
