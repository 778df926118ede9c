"""`job`: two real trainings tuned with 40 evaluations, and the README's picture of it.

A convolutional network on images of MNIST and gradient boosting on the digits, see `problems.images` and
`problems.training`. As `standing` does, it goes on where it was interrupted, keeps the trials in
`job.jsonl.gz` and the tables in `job.md`; the curves are in `job.png`.
"""

import argparse
from pathlib import Path

import numpy as np

from benchmarks.methods import OURS
from benchmarks.page import write
from benchmarks.report import Table, can_draw, number, progress
from benchmarks.scores import Scores
from benchmarks.standing import add_arguments as add_kept_arguments
from benchmarks.standing import completed, keep, made, show
from benchmarks.statistics import Array, paired_p
from benchmarks.storage import load

DESCRIPTION = "real trainings: refreshes the README's picture"

METHODS = (OURS, "optuna-tpe", "optuna-gp", "random")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_kept_arguments(parser, "job", METHODS, 40)
    parser.add_argument("--stored", action="store_true", help="run nothing: show the results that are kept")


def main(args: argparse.Namespace) -> int:
    """0 if everything was done."""
    kept = args.folder / "job.jsonl.gz"
    runs = load(kept) if args.stored else completed("job", args)
    if not runs.trials:
        raise SystemExit(f"no trials in {kept}")
    scores = Scores.of(runs)
    table = loss_table(scores)
    write([kept], runs, None, args.folder / "job", [("Validation loss", [table], None)])
    if not args.stored:
        keep("job", runs, args.folder)
    draw(scores, args.folder / "job.png")
    show(args.readme, "job", f"{table.markdown()}\n\n{made(runs, scores, 'job')}")
    progress(f"{args.readme.name} has the new table")
    return 0


def loss_table(scores: Scores) -> Table:
    """The smallest loss of each method at the end, and when the first method's median was as good."""
    ours = scores.variants[0]
    pairs = sorted(scores.cells, key=lambda pair: scores.problems.index(pair[0]))
    rows = [_row(scores, problem, variant, ours) for problem, variant in pairs]
    header = ["problem", "method", "median", "quartiles", "p", f"{ours} needs"]
    caption = (
        f"Smallest validation loss after {scores.evaluations} evaluations, over seeds; p of a Wilcoxon "
        f"signed-rank test against {ours}, paired by seed, not corrected for their number; and the "
        f"evaluations that {ours} needs until its median is at most this one."
    )
    return Table(header, rows, caption)


def _row(scores: Scores, problem: str, variant: str, ours: str) -> list[object]:
    end = scores.evaluations - 1
    low, middle, high = np.quantile(scores.cells[problem, variant].values[:, end], [0.25, 0.5, 0.75])
    row = [problem, variant, number(middle), f"{number(low)} to {number(high)}"]
    if variant == ours:
        return [*row, "", ""]
    seeds = scores.common_seeds(problem, variant, ours)
    a, b = (scores.cells[problem, v].of(seeds)[:, end] for v in (variant, ours))
    there = first_at_most(np.median(scores.cells[problem, ours].values, axis=0), middle)
    return [*row, number(paired_p(a, b), 2), "never" if there is None else there]


def first_at_most(curve: Array, level: float) -> int | None:
    """Evaluations after which a curve `(N,)` of best values is at most a level; None if it never is.

    >>> first_at_most(np.array([3.0, 2.0, 2.0, 1.0]), 2.5), first_at_most(np.array([3.0]), 2.5)
    (2, None)
    """
    reached = curve <= level
    return int(reached.argmax()) + 1 if reached.any() else None


def draw(scores: Scores, path: Path) -> None:
    """The picture of the README, if matplotlib is there."""
    if not can_draw():
        return
    from benchmarks import figures

    figures.best_values(scores, "best validation loss so far").savefig(path, dpi=150)
