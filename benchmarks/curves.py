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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
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
    "Median from 12": lambda: MedianPruner(n_warmup_steps=12),
}

Run = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--problems-path", type=Path, help="a folder with a problems.py, asked for names first"
    )
    parser.add_argument(
        "--problems", nargs="+", default=["train/network/digits"],
        help="names of problems with learning curves (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--proposals", nargs="*", default=[], help="problems to run with our proposals too (default: none)"
    )
    parser.add_argument("--pruners", nargs="+", choices=PRUNERS, default=list(PRUNERS), help="(default: all)")
    parser.add_argument("--seeds", type=int, default=20, help="how many (default: %(default)s)")
    parser.add_argument("--first-seed", type=int, default=0, help="(default: %(default)s)")
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
    trials, count = (12, 1) if args.quick else (args.trials, args.seeds)
    seeds = range(args.first_seed, args.first_seed + count)
    groups = [Group("random", args.problems, seeds), Group("proposals", args.proposals, seeds)]
    groups = [group for group in groups if group.problems]
    path = args.runs or args.out / f"curves{'-quick' * args.quick}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore", ExperimentalWarning)  # Hyperband
    runs = _known(path, trials)
    with path.open("a", encoding="utf-8") as file:
        for key in (key for group in groups for pruner in args.pruners for key in group.keys(pruner)):
            if key not in runs:
                name, source, seed, pruner = key
                if seed == seeds[0]:
                    progress(f"curves: {name}, {source}, {pruner}")
                runs[key] = one_run(get(name, path=args.problems_path), source, seed, pruner, trials)
                file.write(json.dumps(runs[key]) + "\n")
                file.flush()
    tables = [table(runs, group, args.pruners) for group in groups]
    each = [by_problem(runs, group, args.pruners) for group in groups]
    summary = [dict(zip(t.header, row, strict=True)) for t in tables for row in t.rows]
    settings = {"seeds": f"{seeds[0]}-{seeds[-1]}", "trials": trials}
    return Report("Stopping early", tables + each, summary, settings)


Key = tuple[str, str, int, str]


def _known(path: Path, trials: int) -> dict[Key, Run]:
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    runs = [json.loads(line) for line in lines]
    return {(r["problem"], r["source"], r["seed"], r["pruner"]): r for r in runs if r["trials"] == trials}


@dataclass(frozen=True)
class Group:
    """Runs that are told together."""

    source: str
    problems: Sequence[str]
    seeds: Sequence[int]

    def keys(self, pruner: str) -> list[Key]:
        return [(problem, self.source, seed, pruner) for problem in self.problems for seed in self.seeds]


def ratios(runs: Mapping[Key, Run], group: Group, pruner: str) -> list[float]:
    """Epochs to the goal, of those that it takes without a pruner, run by run."""
    found = []
    for problem, source, seed, _ in group.keys(pruner):
        epochs, goal = runs[problem, source, seed, NONE]["improvements"][-1]
        found.append(epochs_to(runs[problem, source, seed, pruner], goal) / epochs)
    return found


def table(runs: Mapping[Key, Run], group: Group, pruners: Sequence[str]) -> Table:
    rows = []
    for pruner in pruners:
        mine = [runs[key] for key in group.keys(pruner)]
        ratio = ratios(runs, group, pruner)
        bad = sum(run["stopped_best"] for run in mine)
        rows.append(
            [
                group.source, pruner, percent(statistics.mean(run["epochs"] / run["of"] for run in mine)),
                _ratio(ratio), f"{number(100 * float(np.isfinite(ratio).mean()))} %",
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
        f"{len(group.problems)} problems, {len(group.seeds)} seeds, configurations: {group.source}. Epochs "
        "in all, of those without a pruner, mean. Epochs until the best final value of the run without a "
        "pruner is reached, of those that it takes there: median (quartiles); inf where it is never reached. "
        "Runs that reach it. Runs in which a stopped trial would have been the best."
    )
    return Table(header, rows, caption)


def _ratio(ratio: Sequence[float]) -> str:
    low, middle, high = np.quantile(ratio, [0.25, 0.5, 0.75], method="nearest")
    return f"{number(middle, 2)} ({number(low, 2)}-{number(high, 2)})"


def by_problem(runs: Mapping[Key, Run], group: Group, pruners: Sequence[str]) -> Table:
    rows = []
    for problem in group.problems:
        own, row = replace(group, problems=[problem]), [problem]
        for pruner in pruners:
            ratio = float(np.quantile(ratios(runs, own, pruner), 0.5, method="nearest"))
            bad = sum(runs[key]["stopped_best"] for key in own.keys(pruner))
            row.append(f"{number(ratio, 2)} / {bad}")
        rows.append(row)
    caption = (
        f"Configurations: {group.source}. Median of the epochs to the goal, of those without a pruner; and "
        f"how many of {len(group.seeds)} runs stopped the best."
    )
    return Table(["problem", *pruners], rows, caption)
