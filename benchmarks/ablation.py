"""`ablate`: variants of one setting, listed in a TOML file, and the table of their paired differences.

    method = "bayesopt"
    setting = "batch"                         # a keyword of the method
    values = ["auto", "qlogei", "ucb_pe"]     # the first is what the others are compared with
    problems = ["standing"]                   # names or suites
    seeds = 10
    evaluations = 60
    q = 4                                     # or workers = 4; one at a time if neither is given

Instead of the first three, `variants = ["bayesopt", "bayesopt:batch=ucb_pe,acquisition=ucb"]` names them
in full. Runs are kept and resumed as by `run`; random search is added, because scores are relative to it.
"""

import argparse
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.page import checkpoints, write
from benchmarks.problems import suites
from benchmarks.report import Table
from benchmarks.run import available, complete, possible, tell_trouble
from benchmarks.scores import RANDOM, Scores, variant
from benchmarks.statistics import Estimate, nested_mean
from benchmarks.storage import Job, load

DESCRIPTION = "paired differences between variants of one setting"


@dataclass(frozen=True)
class Ablation:
    """What a file asks for; `variants` are full names of methods, the first is the baseline."""

    variants: Sequence[str]
    problems: Sequence[str]
    seeds: int = 10
    evaluations: int = 100
    q: int = 1
    workers: int = 1

    @classmethod
    def of(cls, text: str) -> "Ablation":
        """From the text of a TOML file.

        Raises:
            ValueError: a key is unknown or missing, or there are less than two variants.
        """
        table = tomllib.loads(text)
        if "setting" in table:
            method, setting = table.pop("method", "bayesopt"), table.pop("setting")
            values = table.pop("values", [])
            table["variants"] = [_label(method, setting, value) for value in values]
        known = {field.name for field in fields(cls)}
        if unknown := table.keys() - known:
            raise ValueError(
                f"unknown keys {sorted(unknown)}; known: method, setting, values, {', '.join(sorted(known))}"
            )
        if missing := {"variants", "problems"} - table.keys():
            raise ValueError(
                f"missing keys {sorted(missing)}; give variants (or setting and values) and problems"
            )
        if len(table["variants"]) < 2:
            raise ValueError(f"an ablation needs at least two variants, got {table['variants']}")
        return cls(**table)


def _label(method: str, setting: str, value: Any) -> str:
    """The full name of a method with one more setting."""
    text = value if isinstance(value, str) else json.dumps(value)
    return f"{method}{',' if ':' in method else ':'}{setting}={text}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("file", type=Path, help="the TOML file")
    parser.add_argument(
        "--problems-path", type=Path, help="a folder with a problems.py, asked for names first"
    )
    parser.add_argument("--processes", type=int, default=1, help="one thread each (default: 1)")
    parser.add_argument("--out", type=Path, help=".jsonl file of the runs (default: beside the TOML file)")


def main(args: argparse.Namespace) -> int:
    """Run what is missing, print the table, write `<out>.md` and `<out>.html`; 1 if a method failed."""
    try:
        asked = Ablation.of(args.file.read_text(encoding="utf-8"))
    except (ValueError, TypeError) as error:
        raise SystemExit(f"{args.file}: {error}") from None
    path = args.out or args.file.with_suffix(".jsonl")
    methods = available([*asked.variants, RANDOM], {})
    problems = possible(suites(asked.problems), args.problems_path)
    jobs = [
        Job(problem, method, seed, asked.q, asked.workers)
        for problem, method, seed in product(problems, methods, range(asked.seeds))
    ]
    trouble = complete(path, jobs, asked.evaluations, methods, problems, args.problems_path, args.processes)
    runs = load(path)
    wanted = set(jobs)
    runs.trials = {job: trials[: asked.evaluations] for job, trials in runs.trials.items() if job in wanted}
    scores = Scores.of(runs)
    names = [variant(Job("", v, 0, asked.q, asked.workers)) for v in asked.variants]
    write([path], runs, names[0], path.with_suffix(""), [("Differences", [table(scores, names)], None)])
    return tell_trouble(trouble)


def table(scores: Scores, names: Sequence[str]) -> Table:
    """Score of each variant minus that of the first, overall and by family, with intervals."""
    points = checkpoints(scores.evaluations)
    groups: Mapping[str, Sequence[str]] = {"all": scores.scored}
    if len(scores.families) > 1:
        groups = {**groups, **{f: [p for p in ps if p in scores.scored] for f, ps in scores.families.items()}}
    rows = [
        [f"{group} ({len(problems)})", name, *(_cell(scores, problems, name, names[0], n) for n in points)]
        for group, problems in groups.items()
        if problems
        for name in names[1:]
    ]
    caption = (
        f"Normalised log10 regret minus that of `{names[0]}`, paired by seed; negative is better. "
        "In brackets 95 %, resampling problems and seeds; * where 0 is outside."
    )
    return Table(["problems", "variant", *(f"after {n}" for n in points)], rows, caption)


def _cell(scores: Scores, problems: Sequence[str], name: str, base: str, n: int) -> str:
    found = difference(scores, problems, name, base, n)
    return "" if found is None else f"{found}{'*' * found.sure}"


def difference(scores: Scores, problems: Sequence[str], name: str, base: str, n: int) -> Estimate | None:
    """Mean difference after n evaluations over problems that both ran on; None if there are none."""
    groups = []
    for problem in problems:
        if (problem, name) in scores.cells and (problem, base) in scores.cells:
            seeds = scores.common_seeds(problem, name, base)
            a, b = (scores.log_regret(problem, v, seeds)[:, n - 1] for v in (name, base))
            groups.append(a - b)
    return nested_mean(groups) if groups else None
