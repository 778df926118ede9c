"""`curves`: what pruners save, and what it costs.

Recorded learning curves, told step by step to an Optuna study in memory, one trial at a time; an epoch is a
report. In "random" every pruner sees the same configurations, drawn at random; in "proposals" they are ours,
and depend on what the pruner has left of the curves before. The goal of a run is the best final value that
the run of the same seed finds without a pruner; what counts is how many epochs are spent until a trial has
finished with it. A run has stopped the best if a stopped trial would have ended better than all others.

Each run is a line of `--runs`; those that it has are not run again.
"""

import argparse
import json
import math
import statistics
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner

from bayesopt import CurvePruner, Space, Study
from bayesopt.methods.history import generator
from benchmarks.problems import Problem, get
from benchmarks.report import Report, Table, number, percent, progress

DESCRIPTION = "epochs saved by pruners on recorded learning curves, and best trials stopped"

NONE = "none"
PRUNERS: dict[str, Callable[[], BasePruner]] = {
    NONE: NopPruner,
    "CurvePruner": CurvePruner,
    "Median": MedianPruner,
    "ASHA": SuccessiveHalvingPruner,
    "Hyperband": HyperbandPruner,
    "Median, patient": lambda: MedianPruner(n_startup_trials=10, n_warmup_steps=5),
}
SOURCES = ("random", "proposals")

Run = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--problems-path", type=Path, help="a folder with a problems.py, asked for names first"
    )
    parser.add_argument(
        "--problems", nargs="+", default=["train/network/digits"],
        help="names of problems with learning curves (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--sources", nargs="+", choices=SOURCES, default=["random"], help="(default: random)")
    parser.add_argument("--pruners", nargs="+", choices=PRUNERS, default=list(PRUNERS), help="(default: all)")
    parser.add_argument("--seeds", type=int, default=20, help="seeds 0 .. SEEDS - 1 (default: %(default)s)")
    parser.add_argument("--trials", type=int, default=60, help="of each run (default: %(default)s)")
    parser.add_argument("--runs", type=Path, help="(default: curves.jsonl beside the results)")


def study_of(problem: Problem, source: str, seed: int, pruner: BasePruner) -> Study:
    method = "random" if source == "random" else "auto"
    return Study(problem.space, seed=seed, method=method, pruner=pruner)


def random_configs(space: Space, seed: int, count: int) -> list[dict[str, Any]]:
    """The same for every pruner."""
    return space.decode(space.sample(count, generator(seed, 0)))


def one_run(problem: Problem, source: str, seed: int, pruner: str, trials: int) -> Run:
    """Epochs spent at each better final value, and what became of the trials."""
    if problem.curve is None:
        raise SystemExit(f"problem {problem.name} has no learning curves")
    configs = random_configs(problem.space, seed, trials) if source == "random" else None
    epochs, best, stopped, steps, improvements = 0, math.inf, [], 0, []
    with study_of(problem, source, seed, PRUNERS[pruner]()) as study:
        for i in range(trials):
            if configs is not None:
                study.enqueue(configs[i])
            trial = study.ask()
            curve = [float(v) for v in problem.curve(trial.config)]
            ended = _evaluate(trial, curve)
            epochs, steps = epochs + ended, len(curve)
            study.tell(trial, curve[-1], pruned=ended < len(curve))
            if ended < len(curve):
                stopped.append(curve[-1])
            elif curve[-1] < best:
                best = curve[-1]
                improvements.append([epochs, best])
    return {
        "problem": problem.name, "source": source, "seed": seed, "pruner": pruner, "trials": trials,
        "epochs": epochs, "of": trials * steps, "stopped": len(stopped), "improvements": improvements,
        "stopped_best": bool(stopped) and min(stopped) < best,
    }  # fmt: skip


def _evaluate(trial: Any, curve: Sequence[float]) -> int:
    """Report until the end, or the advice to stop; how many reports that were."""
    for step, value in enumerate(curve, 1):
        trial.report(value, step)
        if step < len(curve) and trial.should_prune():
            return step
    return len(curve)


def epochs_to(run: Run, goal: float) -> float:
    """Epochs until a trial has finished with the goal, inf if none has."""
    return next((epochs for epochs, value in run["improvements"] if value <= goal), math.inf)


def run(args: argparse.Namespace) -> Report:
    problems = args.problems[:1] if args.quick else args.problems
    seeds, trials = (1, 12) if args.quick else (args.seeds, args.trials)
    path = args.runs or args.out / f"curves{'-quick' * args.quick}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore", ExperimentalWarning)  # Hyperband
    wanted = [
        (p, s, k, n) for s in args.sources for p in problems for k in range(seeds) for n in args.pruners
    ]
    found = _known(path, trials)
    with path.open("a", encoding="utf-8") as file:
        for name, source, seed, pruner in wanted:
            if (name, source, seed, pruner) in found:
                continue
            if seed == 0 and pruner == args.pruners[0]:
                progress(f"curves: {name}, {source}")
            done = one_run(get(name, path=args.problems_path), source, seed, pruner, trials)
            found[name, source, seed, pruner] = done
            file.write(json.dumps(done) + "\n")
            file.flush()
    runs = {key: found[key] for key in wanted}
    tables = [table(runs, problems, source, seeds, args.pruners) for source in args.sources]
    each = [by_problem(runs, problems, source, seeds, args.pruners) for source in args.sources]
    summary = [dict(zip(t.header, row, strict=True)) for t in tables for row in t.rows]
    return Report("Stopping early", tables + each, summary, {"seeds": seeds, "trials": trials})


Key = tuple[str, str, int, str]


def _known(path: Path, trials: int) -> dict[Key, Run]:
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    runs = [json.loads(line) for line in lines]
    return {(r["problem"], r["source"], r["seed"], r["pruner"]): r for r in runs if r["trials"] == trials}


def ratios(runs: dict[Key, Run], problem: str, source: str, seeds: int, pruner: str) -> list[float]:
    """Epochs to the goal, of those that it takes without a pruner, seed by seed."""
    found = []
    for seed in range(seeds):
        full = runs[problem, source, seed, NONE]["improvements"]
        found.append(epochs_to(runs[problem, source, seed, pruner], full[-1][1]) / full[-1][0])
    return found


def table(
    runs: dict[Key, Run], problems: Sequence[str], source: str, seeds: int, pruners: Sequence[str]
) -> Table:
    rows = []
    for pruner in pruners:
        mine = [runs[p, source, seed, pruner] for p in problems for seed in range(seeds)]
        ratio = [r for p in problems for r in ratios(runs, p, source, seeds, pruner)]
        bad = sum(r["stopped_best"] for r in mine)
        rows.append(
            [
                source, pruner, percent(statistics.mean(r["epochs"] / r["of"] for r in mine)),
                _ratio(ratio), percent(np.isfinite(ratio).mean()),
                f"{number(100 * bad / len(mine))} % ({bad} of {len(mine)})",
            ]
        )  # fmt: skip
    header = [
        "configurations",
        "pruner",
        "epochs in all",
        "epochs to the goal",
        "goal reached",
        "best stopped",
    ]
    caption = (
        f"{len(problems)} problems, {seeds} seeds, configurations: {source}. Epochs in all, of those without "
        "a pruner, mean. Epochs until the best final value of the run without a pruner is reached, of those "
        "that it takes there: median (quartiles); inf where it is never reached. Runs that reach it. Runs in "
        "which a stopped trial would have been the best."
    )
    return Table(header, rows, caption)


def _ratio(ratio: Sequence[float]) -> str:
    low, middle, high = np.quantile(ratio, [0.25, 0.5, 0.75], method="nearest")
    return f"{number(middle, 2)} ({number(low, 2)}-{number(high, 2)})"


def by_problem(
    runs: dict[Key, Run], problems: Sequence[str], source: str, seeds: int, pruners: Sequence[str]
) -> Table:
    rows = []
    for problem in problems:
        row = [problem]
        for pruner in pruners:
            ratio = float(np.quantile(ratios(runs, problem, source, seeds, pruner), 0.5, method="nearest"))
            bad = sum(runs[problem, source, seed, pruner]["stopped_best"] for seed in range(seeds))
            row.append(f"{number(ratio, 2)} / {bad}")
        rows.append(row)
    caption = (
        f"Configurations: {source}. Median of the epochs to the goal, of those without a pruner; and how "
        f"many of {seeds} runs stopped the best."
    )
    return Table(["problem", *pruners], rows, caption)
