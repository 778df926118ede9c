"""`failures`: does a method learn where evaluations fail?

Test functions of which a third of the space fails: where a draw from a GP prior, another one for each seed,
is above its 2/3 quantile ("region"), or where the coordinates add up to more than theirs, as large networks
run out of memory ("corner"). In "few" only the last 3 % of such a corner fails, in "chance" every fifth
evaluation does, wherever it is: there is nothing to learn there, and learning must do no harm.
"""

import argparse
import math
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from benchmarks.methods import METHODS
from benchmarks.peers import available, build
from benchmarks.problems.functions import Array, Problem, hartmann6_problem, matern_sample, shifted
from benchmarks.report import Report, Table, number, progress, torch_threads

DESCRIPTION = "failed evaluations and best values on problems of which a part fails"

_METHODS = ("bayesopt", "optuna-gp", "optuna-tpe", "random")
_CHECKPOINTS = (30, 60)

Fails = Callable[[Array], bool]


def region(d: int, rng: np.random.Generator) -> Fails:
    """A third of the unit box, of no simple shape."""
    g = matern_sample(d, rng)
    limit = float(np.quantile([g.at_unit(u) for u in rng.random((2000, d))], 2 / 3))
    return lambda u: g.at_unit(u) > limit


def corner(share: float, d: int, rng: np.random.Generator) -> Fails:
    """The given share of the unit box, around its upper corner."""
    limit = float(np.quantile(rng.random((100_000, d)).sum(-1), 1 - share))
    return lambda u: float(u.sum()) > limit


def chance(u: Array) -> bool:
    """Every fifth point, without any pattern that a model could learn."""
    return math.sin(1e4 * float((u * (7919 + 131 * np.arange(len(u)))).sum())) < -math.cos(math.pi / 5)


def failing_problem(name: str, seed: int) -> tuple[Problem, Fails]:
    """A function and where it fails, in the unit box."""
    rng = np.random.default_rng([seed, 40])
    if name == "matern4, region":
        return matern_sample(4, rng), region(4, rng)
    if name == "rosenbrock5, region":
        return shifted("rosenbrock", 5, rng), region(5, rng)
    if name == "levy5, corner":
        return shifted("levy", 5, rng), corner(1 / 3, 5, rng)
    if name == "hartmann6, corner":
        return hartmann6_problem(), corner(1 / 3, 6, rng)
    if name == "hartmann6, few":
        return hartmann6_problem(), corner(0.03, 6, rng)
    if name == "hartmann6, chance":
        return hartmann6_problem(), chance
    raise ValueError(f"problem must be one of {', '.join(PROBLEMS)}, got {name!r}")


PROBLEMS = (
    "matern4, region",
    "rosenbrock5, region",
    "levy5, corner",
    "hartmann6, corner",
    "hartmann6, few",
    "hartmann6, chance",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--problems", nargs="+", choices=PROBLEMS, default=list(PROBLEMS), help="(default: all)"
    )
    parser.add_argument(
        "--methods", nargs="+", choices=METHODS, default=list(_METHODS), help="(default: all)"
    )
    parser.add_argument("--seeds", type=int, default=10, help="seeds 0 .. SEEDS - 1 (default: %(default)s)")


def one_run(problem: str, evaluations: int, method: str, seed: int) -> dict[str, Any]:
    """Values in order, None for a failure."""
    function, fails = failing_problem(problem, seed)
    low, high = np.array(function.bounds).T
    peer = build(method, function.space(), seed)
    values: list[float | None] = []
    for _ in range(evaluations):
        config = peer.ask()
        unit = (np.array([config[f"x{j}"] for j in range(function.dim)]) - low) / (high - low)
        values.append(None if fails(unit) else function(config))
        peer.tell(config, values[-1])
    return {"problem": problem, "method": method, "seed": seed, "values": values}


def run(args: argparse.Namespace) -> Report:
    problems, seeds, evaluations = args.problems, args.seeds, max(_CHECKPOINTS)
    if args.quick:
        problems, seeds, evaluations = problems[:1], 1, 12
    methods = available(args.methods)
    found = []
    with torch_threads(args.threads or 1):
        for problem in problems:
            progress(f"failures: {problem}")
            work = partial(one_run, problem, evaluations)
            found += [work(method, seed) for method in methods for seed in range(seeds)]
    tables = [
        _table(
            problems, methods, found, "Failed evaluations, mean over seeds, of the first and of all.", _failed
        ),
        _table(problems, methods, found, "Best value, median over seeds, after as many evaluations.", _best),
    ]
    return Report(
        "Learning where evaluations fail", tables, found, {"seeds": seeds, "evaluations": evaluations}
    )


def _table(
    problems: list[str], methods: list[str], found: list[dict[str, Any]], caption: str,
    cell: Callable[[list[list[float | None]], int], float],
) -> Table:  # fmt: skip
    rows = []
    for problem in problems:
        row = [problem]
        for method in methods:
            runs = [f["values"] for f in found if (f["problem"], f["method"]) == (problem, method)]
            row.append(" / ".join(number(cell(runs, n)) for n in _CHECKPOINTS))
        rows.append(row)
    checkpoints = " / ".join(map(str, _CHECKPOINTS))
    return Table([f"after {checkpoints} evaluations", *methods], rows, caption)


def _failed(runs: list[list[float | None]], n: int) -> float:
    return statistics.mean(sum(v is None for v in values[:n]) for values in runs)


def _best(runs: list[list[float | None]], n: int) -> float:
    return statistics.median(
        min((v for v in values[:n] if v is not None), default=math.inf) for values in runs
    )
