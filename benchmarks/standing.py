"""`standing`: the small set of problems behind `make bench`, and the table in the README that shows it.

What was done is kept in `standing.part.jsonl` until all of it is, so an interrupted call goes on. Then it is
compared with the earlier `standing.jsonl.gz`, takes its place (without configurations, which nobody needs
to report), and the README's table is written anew.
"""

import argparse
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from benchmarks.page import Section, regressions, write
from benchmarks.problems import suites
from benchmarks.report import RESULTS, markdown_table, progress
from benchmarks.run import available, complete, possible, tell_trouble
from benchmarks.scores import Scores
from benchmarks.statistics import nested_mean
from benchmarks.storage import Job, Runs, load, pack

DESCRIPTION = "the standing set: refreshes the README's table"

METHODS = ("bayesopt", "optuna-gp", "optuna-tpe", "cma-lq", "random")
README = Path(__file__).parents[1] / "README.md"


def add_arguments(
    parser: argparse.ArgumentParser,
    suite: str = "standing",
    methods: Sequence[str] = METHODS,
    evaluations: int = 60,
) -> None:
    """The arguments of a command whose results are kept and shown in the README, with its defaults."""
    parser.add_argument("--problems", nargs="+", default=[suite], help="(default: %(default)s)")
    parser.add_argument("--methods", nargs="+", default=list(methods), help="(default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=10, help="seeds 0 .. SEEDS - 1 (default: %(default)s)")
    parser.add_argument(
        "--evaluations", type=int, default=evaluations, help="of each run (default: %(default)s)"
    )
    parser.add_argument("--processes", type=int, default=2, help="one thread each (default: %(default)s)")
    parser.add_argument(
        "--folder", type=Path, default=RESULTS, help="of the results (default: benchmarks/results)"
    )
    parser.add_argument("--readme", type=Path, default=README, help="to refresh (default: README.md)")


def main(args: argparse.Namespace) -> int:
    """0 if everything was done and nothing got worse."""
    kept = args.folder / "standing.jsonl.gz"
    runs, first, worse = completed("standing", args), list[Section](), 0
    if kept.exists():
        table, worse = regressions(runs, load(kept))
        first = [("Since the earlier run", [table], None)]
    write([kept], runs, None, args.folder / "standing", first)
    keep("standing", runs, args.folder)
    show(args.readme, "standing", readme_table(runs))
    progress(f"{args.readme.name} has the new table; {worse} results got worse")
    return int(worse > 0)


def completed(name: str, args: argparse.Namespace) -> Runs:
    """The runs asked for, after doing those that `<name>.part.jsonl` lacks.

    Raises:
        SystemExit: a method failed.
    """
    part = args.folder / f"{name}.part.jsonl"
    methods = available(args.methods, {})
    problems = possible(suites(args.problems), None)
    jobs = [Job(*job) for job in product(problems, methods, range(args.seeds))]
    if failed := tell_trouble(
        complete(part, jobs, args.evaluations, methods, problems, None, args.processes)
    ):
        raise SystemExit(failed)
    return load(part)


def keep(name: str, runs: Runs, folder: Path) -> None:
    """Pack finished runs as `<name>.jsonl.gz`; the next call begins anew."""
    pack(runs, folder / f"{name}.jsonl.gz")
    (folder / f"{name}.part.jsonl").unlink()


def show(readme: Path, name: str, lines: str) -> None:
    """Put lines between the README's marks of that name."""
    text = readme.read_text(encoding="utf-8")
    readme.write_text(refreshed(text, name, lines), encoding="utf-8")


def refreshed(text: str, name: str, lines: str) -> str:
    r"""The text with other lines between the marks of that name.

    Raises:
        ValueError: it does not have both marks once, in order.

    >>> refreshed("a\n<!-- job: begin -->\nold\n<!-- job: end -->\nb", "job", "new")
    'a\n<!-- job: begin -->\nnew\n<!-- job: end -->\nb'
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed or begin in after or end in after:
        raise ValueError(f"expected one {begin} and then one {end} in the README")
    return f"{before}{begin}\n{lines}\n{end}{after}"


def readme_table(runs: Runs) -> str:
    """Scores by family, and how the numbers came about."""
    scores = Scores.of(runs)
    variants = sorted(scores.variants, key=lambda name: not name.startswith("bayesopt"))  # ours first
    groups: dict[str, Sequence[str]] = {"all": scores.scored, **scores.families}
    rows = [
        [_title(group, problems), *(_score(scores, problems, variant) for variant in variants)]
        for group, problems in groups.items()
    ]
    return f"{markdown_table(['problems', *variants], rows)}\n\n{made(runs, scores, 'standing')}"


def made(runs: Runs, scores: Scores, name: str) -> str:
    """How the numbers came about, and where the others are."""
    session = runs.machines[-1]
    machine = session["machine"]
    seeds = max(len(cell.seeds) for cell in scores.cells.values())
    return (
        f"`{session['command']}`: {seeds} seeds, "
        f"{scores.evaluations} evaluations; {machine['cpu']}, {machine['cores']} cores, one thread a run; "
        f"torch {machine['torch']}, optuna {machine['optuna']}; {machine['date']}; "
        f"[full tables](benchmarks/results/{name}.md)."
    )


def _title(group: str, problems: Sequence[str]) -> str:
    return f"{group}, {len(problems)} problem{'s' * (len(problems) > 1)}"


def _score(scores: Scores, problems: Sequence[str], variant: str) -> str:
    """Mean score with its interval over problems and seeds; empty if the variant did not run on all."""
    problems = [p for p in problems if p in scores.scored]
    if not problems or variant not in scores.everywhere(problems):
        return ""
    found = nested_mean([scores.log_regret(p, variant)[:, scores.evaluations - 1] for p in problems])
    return f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})"
