"""`tpe`: our tree-structured Parzen estimator beside Optuna's, as shipped, and beside hyperopt's.

Speed, in one process: both are told the same history, then each asks and tells its own proposal, in turns,
so that whatever else the machine does hits both alike. A proposal is timed by a monotonic clock and by the
processor time of the thread, which other programs on the machine do not lengthen. A history of a million,
ours alone, has a process of its own, whose memory is read.

How well it searches: `benchmarks run` on a suite, resumed from `--runs`, and paired tests by kind of problem,
see `versus`.
"""

import argparse
import inspect
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bayesopt import Float, Optimizer
from bayesopt.methods.tpe import DEFAULT
from benchmarks.peers import available, build
from benchmarks.problems.functions import Problem, hartmann_bowl
from benchmarks.report import Report, Table, number, progress, spread
from benchmarks.scaling import forget_peak, memory_in_use, run_python
from benchmarks.versus import METHODS, Comparison, compared, tables

DESCRIPTION = "the tree-structured Parzen estimator beside Optuna's and hyperopt's"

PARTS = ("speed", "million", "efficiency")
PEER = "optuna-tpe"
CLOCKS = ("wall", "cpu")
BATCH = 64
BATCH_TARGET = 3.0
LONG = (1_000_000, 10)
LONG_TARGET = 1.0  # seconds


@dataclass(frozen=True)
class Cell:
    """A history of n configurations of d parameters, how often it is asked, and what is wanted in words."""

    n: int
    d: int
    asks: int
    target: str = ""


CELLS: tuple[Cell, ...] = (
    Cell(100, 6, 40, "at most 3 times Optuna's time, with 100 times its candidates"),
    Cell(1_000, 10, 30),
    Cell(10_000, 10, 20, "at least 30 times faster than Optuna"),
)
QUICK: tuple[Cell, ...] = (Cell(30, 6, 4),)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS, help="(default: all)")
    parser.add_argument(
        "--problems", nargs="+", default=["standing"], help="names, or suites (default: standing)"
    )
    parser.add_argument(
        "--problems-path", type=Path, help="a folder with a problems.py, asked for names first"
    )
    parser.add_argument("--called", metavar="NAME", help="of the problems in the tables (default: as given)")
    parser.add_argument("--seeds", type=int, default=10, help="seeds 0 .. SEEDS - 1 (default: %(default)s)")
    parser.add_argument("--evaluations", type=int, default=100, help="of each run (default: %(default)s)")
    parser.add_argument("--processes", type=int, default=1, help="one thread each (default: %(default)s)")
    parser.add_argument(
        "--runs", nargs="+", type=Path, metavar="FILE",
        help="what `run` has written; the first takes what all lack (default: tpe.jsonl beside the results)",
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------- speed


@dataclass(eq=False)
class Clocks:
    """Seconds of calls, one entry each, by the clock on the wall and of the thread's processor time."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def __call__(self, call: Callable[..., Any], *args: Any) -> Any:
        """What the call returns."""
        wall, cpu = time.perf_counter(), time.thread_time()
        result = call(*args)
        self.cpu.append(time.thread_time() - cpu)
        self.wall.append(time.perf_counter() - wall)
        return result

    def record(self) -> dict[str, list[float]]:
        """As plain values, without the first call, which warms up."""
        return {"wall": self.wall[1:], "cpu": self.cpu[1:]}


def _told(problem: Problem, n: int, seed: int) -> tuple[list[dict[str, float]], list[float]]:
    configs = [problem.config(u) for u in np.random.default_rng(seed).random((n, problem.dim))]
    return configs, [problem(config) for config in configs]


def race(cell: Cell, seed: int, peers: Sequence[str]) -> dict[str, dict[str, list[float]]]:
    """Seconds of each proposal, ours and of the peers, in turns; each follows one more result."""
    problem = hartmann_bowl(cell.d)
    configs, values = _told(problem, cell.n, seed)
    methods: dict[str, Any] = {"bayesopt": Optimizer(problem.space(), seed=seed, method="tpe")}
    methods["bayesopt"].tell(configs, values)
    for name in peers:
        methods[name] = build(name, problem.space(), seed)
        for config, value in zip(configs, values, strict=True):
            methods[name].tell(config, value)
    clocks = {name: Clocks() for name in methods}
    for _ in range(cell.asks + 1):
        for name, method in methods.items():
            proposal = clocks[name](method.ask)
            method.tell(proposal, problem(proposal))
    return {name: clock.record() for name, clock in clocks.items()}


def race_batches(cell: Cell, seed: int) -> dict[str, dict[str, list[float]]]:
    """Seconds of `ask(1)` and of `ask(BATCH)` of ours, in turns; the batches are forgotten again."""
    problem = hartmann_bowl(cell.d)
    study = Optimizer(problem.space(), seed=seed, method="tpe")
    study.tell(*_told(problem, cell.n, seed))
    one, many = Clocks(), Clocks()
    for _ in range(cell.asks + 1):
        proposal = one(study.ask)
        study.tell(proposal, problem(proposal))
        study.forget(many(study.ask, BATCH))
    return {"1": one.record(), str(BATCH): many.record()}


def _ratio(above: dict[str, list[float]], below: dict[str, list[float]], clock: str) -> float:
    return statistics.median(above[clock]) / statistics.median(below[clock])


def _candidates_of_optuna() -> int:
    import optuna

    parameters = inspect.signature(optuna.samplers.TPESampler.__init__).parameters
    return int(parameters["n_ei_candidates"].default)


def _speed_table(found: Sequence[dict[str, Any]], peers: Sequence[str]) -> Table:
    names = ["bayesopt", *peers]
    rows = []
    for cell in found:
        for clock in CLOCKS:
            times = [spread(cell["seconds"][name][clock], 1e3) for name in names]
            ratios = [_ratio(cell["seconds"][peer], cell["seconds"]["bayesopt"], clock) for peer in peers]
            rows.append([cell["n"], cell["d"], clock, *times, *(f"{number(r)}x" for r in ratios)])
    header = [
        "n",
        "d",
        "clock",
        *(f"{name}, ms" for name in names),
        *(f"{name} / bayesopt" for name in peers),
    ]
    scored = f"{DEFAULT.candidates} candidates scored by ours"
    if PEER in peers:
        scored += f", {_candidates_of_optuna()} by Optuna's"
    wanted = "; ".join(f"n = {cell.n}: {cell.target}" for cell in CELLS if cell.target)
    caption = (
        f"One proposal after one more result, {scored}: median (min-max) of repeated asks while the history "
        f"grows, and ratios of medians; the first ask is not counted. Targets: {wanted}."
    )
    return Table(header, rows, caption)


def _batch_table(found: Sequence[dict[str, Any]]) -> Table:
    rows = [
        [cell["n"], cell["d"], clock]
        + [spread(cell["batches"][q][clock], 1e3) for q in ("1", str(BATCH))]
        + [f"{number(_ratio(cell['batches'][str(BATCH)], cell['batches']['1'], clock))}x"]
        for cell in found
        for clock in CLOCKS
    ]
    caption = f"A batch beside one proposal, ours, in turns. Target: at most {BATCH_TARGET:g} times the time."
    return Table(["n", "d", "clock", "ask(1), ms", f"ask({BATCH}), ms", "ratio"], rows, caption)


# ------------------------------------------------------------------------------------------ a long history


def probe_long(n: int, d: int, seed: int, asks: int) -> None:
    """In a process of its own: print as JSON seconds and MB of a `tell` of n results, and of the asks."""
    names = [f"x{j}" for j in range(d)]
    U = np.random.default_rng(seed).random((n, d))
    configs = [dict(zip(names, row, strict=True)) for row in U.tolist()]
    values = ((U - 0.4) ** 2).sum(1).tolist()
    study = Optimizer({name: Float(0.0, 1.0) for name in names}, seed=seed, method="tpe")
    tell, one, many = Clocks(), Clocks(), Clocks()
    given = memory_in_use(peak=False)
    tell(study.tell, configs, values)
    held, at_most = memory_in_use(peak=False), memory_in_use(peak=True)
    forget_peak()
    for _ in range(asks + 1):
        proposal = one(study.ask)
        study.tell(proposal, float(proposal["x0"]))
        study.forget(many(study.ask, BATCH))
    memory = {"given": given, "told": held, "peak_of_tell": at_most, "peak_of_asks": memory_in_use(peak=True)}
    times = {"tell": {"wall": tell.wall, "cpu": tell.cpu}, "1": one.record(), str(BATCH): many.record()}
    print(json.dumps({"n": n, "d": d, "seconds": times, "mb": memory}))


def _long(n: int, d: int, seed: int, asks: int, threads: int | None) -> dict[str, Any]:
    progress(f"tpe: n = {n}, d = {d}")
    code = f"from benchmarks.tpe import probe_long; probe_long({n}, {d}, {seed}, {asks})"
    found: dict[str, Any] = json.loads(run_python(code, threads))
    return found


def _long_table(found: dict[str, Any]) -> Table:
    rows = [
        [what, *(spread(found["seconds"][key][clock]) for clock in CLOCKS)]
        for what, key in (("tell, all at once", "tell"), ("ask(1)", "1"), (f"ask({BATCH})", str(BATCH)))
    ]
    mb = {name: number(value, 4) for name, value in found["mb"].items()}
    added = found["mb"]["peak_of_asks"] - found["mb"]["told"]
    caption = (
        f"{found['n']:,} results of {found['d']} parameters, ours, in a process of its own. Target of an "
        f"ask: {LONG_TARGET:g} s. Memory: {mb['given']} MB with what is to be told, {mb['told']} MB once it "
        f"is told ({mb['peak_of_tell']} MB at most during the tell); asks add {number(added)} MB at most."
    )
    return Table(["", "wall, s", "cpu, s"], rows, caption)


# ------------------------------------------------------------------------------------------------ command


def run(args: argparse.Namespace) -> Report:
    found: list[Table] = []
    results: dict[str, Any] = {}
    peers = available([PEER])
    if "speed" in args.parts:
        results["speed"] = [_raced(cell, peers) for cell in (QUICK if args.quick else CELLS)]
        found += [_speed_table(results["speed"], peers), _batch_table(results["speed"])]
    if "million" in args.parts:
        n, d = (2_000, LONG[1]) if args.quick else LONG
        results["million"] = _long(n, d, 0, 2 if args.quick else 10, args.threads)
        found.append(_long_table(results["million"]))
    if "efficiency" in args.parts:
        comparison = _compared(args)
        results["efficiency"] = comparison.record()
        found += tables(comparison)
    return Report("Tree-structured Parzen estimators", found, results, {"threads": args.threads or "default"})


def _raced(cell: Cell, peers: Sequence[str]) -> dict[str, Any]:
    progress(f"tpe: n = {cell.n}, d = {cell.d}")
    return {"n": cell.n, "d": cell.d, "seconds": race(cell, 0, peers), "batches": race_batches(cell, 0)}


def _compared(args: argparse.Namespace) -> Comparison:
    names, seeds, evaluations = args.problems, args.seeds, args.evaluations
    if args.quick:
        names, seeds, evaluations = ["branin", "cond/layers"], 2, 14
    files = args.runs or [args.out / ("tpe-quick.jsonl" if args.quick else "tpe.jsonl")]
    path, processes = args.problems_path, args.processes
    return compared(files, names, path, METHODS, seeds, evaluations, processes, args.called)
