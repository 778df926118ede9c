"""`stopping`: when a run is stopped by what is still to be gained, was it right, and how much was saved?

Each run goes on to the end of its budget, and notes after every evaluation the bound on the regret and the
true one. The table then says for two tolerances, shares of the median regret of random configurations, when
`stop_when="regret"` would have stopped, and what the regret was by then.
"""

import argparse
import math
import statistics
import time
from typing import Any

import numpy as np

from bayesopt import Optimizer
from bayesopt.explanation import Regret
from bayesopt.stopping import PATIENCE, earliest_end
from benchmarks.problems import get
from benchmarks.report import Report, Table, number, progress, torch_threads

DESCRIPTION = "how right it is to stop by the bound on the regret, and what it saves"

PROBLEMS = (
    "branin",
    "hartmann6",
    "shifted/rosenbrock/d5",
    "shifted/levy/d5",
    "shifted/rastrigin/d2",
    "table/hpolib/protein_structure",
    "cond/jenatton",
    "hartmann6+noise=0.1",
)

SHARES = (0.01, 0.001)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--problems", nargs="+", default=list(PROBLEMS), help="(default: all eight)")
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0 .. SEEDS - 1 (default: %(default)s)")
    parser.add_argument("--evaluations", type=int, default=100, help="budget (default: %(default)s)")


def typical_regret(name: str) -> float:
    """Median regret of random configurations."""
    problem, rng = get(name), np.random.default_rng(0)
    configs = Optimizer(problem.space, method="random").ask(200)
    values = [problem.evaluate(config, rng)[1] for config in configs]
    return statistics.median(v - problem.optimum for v in values if v is not None)


def one_run(name: str, evaluations: int, seed: int) -> dict[str, Any]:
    """After each evaluation bound, mean, gain of one evaluation, true regret; and the median seconds."""
    problem, rng = get(name, seed), np.random.default_rng([seed, 90])
    opt = Optimizer(problem.space, seed=seed)
    rows: list[list[float]] = []
    seconds: dict[str, list[float]] = {"ask": [], "fit": [], "bound": []}
    best, true = math.inf, math.inf
    for _ in range(evaluations):
        start = time.process_time()
        config = opt.ask()  # with what was learnt for the bound
        seconds["ask"].append(time.process_time() - start)
        seen, value = problem.evaluate(config, rng)
        opt.tell(config, seen)
        if seen is not None and value is not None and seen < best:
            best, true = seen, value - problem.optimum
        start = time.process_time()
        opt._learner.learnt()
        between = time.process_time()
        regret = opt.regret()
        seconds["fit"].append(between - start)
        seconds["bound"].append(time.process_time() - between)
        found = [math.inf] * 3 if regret is None else [regret.bound, regret.mean, regret.improvement]
        rows.append([*found, true])
    typical = {what: statistics.median(values[len(values) // 5 :]) for what, values in seconds.items()}
    return {
        "problem": name,
        "seed": seed,
        "rows": [list(map(_short, row)) for row in rows],
        "seconds": typical,
    }


def _short(value: float) -> float:
    """Few digits: the results are kept."""
    return float(f"{value:.3g}")


def stops_after(small: list[bool], earliest: int, patience: int = PATIENCE) -> int:
    """After how many evaluations the regret has been small for long enough; all of them if never.

    >>> stops_after([True, True, True, False, True, True, True, False], 4), stops_after([False, True], 0)
    (7, 2)
    """
    ends = (n for n in range(max(patience, earliest), len(small) + 1) if all(small[n - patience : n]))
    return next(ends, len(small))


def run(args: argparse.Namespace) -> Report:
    problems, seeds, evaluations = args.problems, args.seeds, args.evaluations
    if args.quick:
        problems, seeds, evaluations = problems[:1], 1, 25
    found = []
    with torch_threads(args.threads or 1):
        for name in problems:
            progress(f"stopping: {name}")
            found += [one_run(name, evaluations, seed) for seed in range(seeds)]
    tables = [_table(problems, found, share, evaluations) for share in SHARES]
    settings = {"seeds": seeds, "evaluations": evaluations, "patience": PATIENCE}
    return Report("When to stop", [*tables, _times(found)], found, settings)


def _table(problems: list[str], found: list[dict[str, Any]], share: float, evaluations: int) -> Table:
    rows, total, right, stopped, saved = [], 0, 0, 0, 0
    for name in problems:
        tolerance = share * typical_regret(name)
        runs = [f["rows"] for f in found if f["problem"] == name]
        earliest = earliest_end(get(name).space)
        ends = [
            stops_after([Regret(0.0, mean, bound, 0.0).within(tolerance) for bound, mean, *_ in r], earliest)
            for r in runs
        ]
        done = [(r, end) for r, end in zip(runs, ends, strict=True) if end < evaluations]
        under = [r[end - 1][3] <= tolerance for r, end in done]
        stopped, right, total = stopped + len(done), right + sum(under), total + len(runs)
        saved += sum(evaluations - end for end in ends)
        worst = max((r[end - 1][3] / tolerance for r, end in done), default=math.nan)
        reached = [next((n for n, row in enumerate(r, 1) if row[3] <= tolerance), math.inf) for r in runs]
        rows.append(
            [
                name, number(tolerance), f"{len(done)} of {len(runs)}", f"{sum(under)} of {len(done)}",
                number(worst), number(statistics.median(ends)), number(statistics.median(reached)),
            ]
        )  # fmt: skip
    caption = (
        f"Tolerance: {100 * share:g} % of the median regret of random configurations. Of {total} runs "
        f"{stopped} stopped before {evaluations} evaluations, {right} of them with a regret within it. "
        f"Of all evaluations {100 * saved / (total * evaluations):.0f} % were saved."
    )
    header = [
        "problem", "tolerance", "stopped", "of these within it", "worst regret / tolerance",
        "evaluations, median", "the tolerance was reached after, median",
    ]  # fmt: skip
    return Table(header, rows, caption)


def _times(found: list[dict[str, Any]]) -> Table:
    def median(what: str) -> float:
        return 1e3 * statistics.median(f["seconds"][what] for f in found)

    rows = [
        ["the fit, which the next ask needs too", median("fit")],
        ["the bound", median("bound")],
        ["the rest of the next ask", median("ask")],
    ]
    return Table(["what", "ms of processor time, median"], rows, "What it costs.")
