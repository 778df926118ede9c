"""`efficiency`: how good the best configuration is after 30, 50 and 100 evaluations, beside every peer.

`run` and `report` in one: all evaluations go to `efficiency.jsonl`, which only grows - an interrupted call
goes on, and more problems, seeds or methods can be added by later ones - then tables, pictures and the
diagram of mean ranks are made of everything it holds. `efficiency.jsonl.gz` keeps the values without the
configurations.

A peer that needs an interpreter of its own gets it with `--python`, and its share by a call of its own:

    python -m benchmarks efficiency --methods hebo --seeds 2 --python hebo=/path/to/python
"""

import argparse
from pathlib import Path

from benchmarks import page, run
from benchmarks.report import RESULTS, can_draw
from benchmarks.scores import Scores
from benchmarks.storage import Runs, load, pack

DESCRIPTION = "regret after 30, 50 and 100 evaluations beside every peer"

METHODS = ("bayesopt", "optuna-gp", "optuna-tpe", "hyperopt", "cma-lq", "smac", "ax", "random")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    run.add_arguments(parser, "efficiency", METHODS)
    parser.set_defaults(out=RESULTS / "efficiency.jsonl")


def main(args: argparse.Namespace) -> int:
    """0 if everything was done, or is not possible."""
    trouble = run.main(args)
    runs = load(args.out)
    if runs.trials:
        stem = args.out.with_suffix("")
        pack(runs, stem.with_suffix(".jsonl.gz"))
        page.write([stem.with_suffix(".jsonl.gz")], runs, None, stem)
        draw_ranks(runs, stem.with_suffix(".png"))
    return trouble


def draw_ranks(runs: Runs, path: Path) -> None:
    """The critical-difference diagram of all problems, where at least two methods ran on two of them."""
    scores = Scores.of(runs)
    names = scores.everywhere(scores.scored)
    if min(len(names), len(scores.scored)) < 2:
        return
    if not can_draw():
        return
    from benchmarks.figures import rank_diagram

    ranks = page.ranks_after(scores, scores.scored, names, scores.evaluations)
    rank_diagram(ranks, names, len(scores.scored)).savefig(path, dpi=150)
