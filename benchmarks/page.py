"""`report`: tables and pictures of what `run` has written, as Markdown and as one self-contained HTML page.

Scores are normalised log-regret, see `benchmarks.scores`; everything is shown for each family of problems.
The first method of the files, or `--baseline`, is what the others are tested against. With `--against OLD`
the same methods of an earlier file are compared, seed by seed, and what got worse is listed.
"""

import argparse
import base64
import html
import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.report import Table, can_draw, number
from benchmarks.scores import REFERENCE, Scores
from benchmarks.statistics import Ranks, friedman, holm, nested_mean, paired_p
from benchmarks.storage import Runs, load

DESCRIPTION = "tables and pictures of runs, as Markdown and HTML"

BEFORE = " (before)"
_CHECKPOINTS = (30, 50, 100, 200, 500)
_ALL = "all"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", type=Path, help="what `run` has written, .jsonl or .jsonl.gz")
    parser.add_argument(
        "--against", nargs="+", type=Path, default=[], help="an earlier run of the same methods"
    )
    parser.add_argument(
        "--baseline", help="the method that the others are tested against (default: the first)"
    )
    parser.add_argument(
        "--out", type=Path, help="without suffix (default: the first file without its suffix)"
    )


def main(args: argparse.Namespace) -> int:
    """Write `<out>.html` and `<out>.md`; 1 if something got worse since the earlier run."""
    runs = load(*args.files)
    if not runs.trials:
        raise SystemExit(f"no trials in {', '.join(map(str, args.files))}")
    first: list[Section] = []
    worse = 0
    if args.against:
        table, worse = regressions(runs, load(*args.against))
        first = [("Since the earlier run", [table], None)]
    out = args.out or args.files[0].with_name(args.files[0].name.split(".jsonl")[0])
    write(args.files, runs, args.baseline, out, first)
    return int(worse > 0)


def write(
    files: Sequence[Path], runs: Runs, baseline: str | None, out: Path, first: "Sequence[Section]" = ()
) -> None:
    """Print the tables and write `<out>.md` and `<out>.html`; some sections may come first."""
    scores = Scores.of(runs)
    baseline = baseline or scores.variants[0]
    if baseline not in scores.variants:
        raise SystemExit(f"--baseline must be one of {', '.join(scores.variants)}, got {baseline!r}")
    sections = [*first, *sections_of(scores, baseline)]
    facts = _facts(runs, files)
    markdown = _markdown(sections, facts)
    Path(f"{out}.md").write_text(markdown, encoding="utf-8")
    if can_draw():
        Path(f"{out}.html").write_text(_html(sections, facts), encoding="utf-8")
    print(markdown)


# ----------------------------------------------------------------------------------------------- sections

Picture = Callable[[], object]
Section = tuple[str, list[Table], Picture | None]


def sections_of(scores: Scores, baseline: str) -> list[Section]:
    """Title, tables, and a picture to draw."""
    from benchmarks import figures

    families = {f: [p for p in problems if p in scores.scored] for f, problems in scores.families.items()}
    families = {family: problems for family, problems in families.items() if problems}
    groups = {_ALL: scores.scored, **families} if len(families) > 1 else families
    sections: list[Section] = []
    if groups:
        first = next(iter(groups.values()))
        sections += [
            ("Scores", [summary(scores, groups, baseline)], lambda: figures.family_means(scores, groups)),
            ("Targets reached", [share_table(scores, groups)], lambda: figures.target_shares(scores, groups)),
            *_rank_sections(scores, first),
        ]
    if scores.unscored:
        rows = [[problem, reason] for problem, reason in scores.unscored.items()]
        sections.append(("Without a score", [Table(["problem", "why"], rows)], None))
    for family, problems in scores.families.items():
        table = problem_table(scores, problems, baseline)
        sections.append((f"Problems: {family}", [table], lambda ps=problems: figures.curves(scores, ps)))  # type: ignore[misc]
    sections.append(("Time of a proposal", [time_table(scores)], lambda: figures.proposal_times(scores)))
    return sections


def _rank_sections(scores: Scores, problems: Sequence[str]) -> list[Section]:
    from benchmarks import figures

    names = scores.everywhere(problems)
    if len(names) < 2 or len(problems) < 2:
        return []
    points = checkpoints(scores.evaluations)
    ranks = [ranks_after(scores, problems, names, n) for n in points]
    last = ranks[-1]
    caption = (
        f"Mean rank over {len(problems)} problems by mean score. Friedman's test that all are alike, after "
        f"{scores.evaluations} evaluations: p = {number(last.p, 2)}. Two whose mean ranks differ by less "
        f"than {last.distance:.2f} cannot be told apart (Nemenyi, 5 %)."
    )
    rows = sorted(([name, *means] for name, *means in zip(names, *(r.mean for r in ranks), strict=True)),
                  key=lambda row: row[-1])  # fmt: skip
    table = Table(["method", *(f"after {n}" for n in points)], rows, caption)
    return [("Ranks", [table], lambda: figures.rank_diagram(last, names, len(problems)))]


def ranks_after(scores: Scores, problems: Sequence[str], names: Sequence[str], n: int) -> Ranks:
    """Ranks of variants by their mean scores after n evaluations."""
    means = [[scores.log_regret(p, v)[:, n - 1].mean() for v in names] for p in problems]
    return friedman(np.array(means))


def checkpoints(evaluations: int) -> list[int]:
    """After how many evaluations tables look."""
    return [*(n for n in _CHECKPOINTS if n < evaluations), evaluations]


def summary(scores: Scores, groups: dict[str, list[str]], baseline: str) -> Table:
    """Scores of every variant in every group of problems, and the paired difference to the baseline."""
    points = checkpoints(scores.evaluations)
    rows = []
    for group, problems in groups.items():
        for variant in scores.everywhere(problems):
            means = [
                nested_mean([scores.log_regret(p, variant)[:, n - 1] for p in problems], resamples=1).value
                for n in points
            ]
            difference = "" if variant == baseline else _difference_cell(scores, problems, variant, baseline)
            rows.append([f"{group} ({len(problems)})", variant, *(f"{m:+.2f}" for m in means), *difference])
            if variant == baseline:
                rows[-1] += ["", ""]
    header = [
        *("problems", "method", *(f"after {n}" for n in points)),
        *(f"minus {baseline} (95 %)", "better / worse / level"),
    ]
    caption = (
        "Normalised log10 regret, mean over problems and seeds: 0 is what random search leaves after "
        f"{min(REFERENCE, scores.evaluations)} evaluations, -1 a tenth of it; smaller is better. Differences "
        "are paired by seed, at the end; the interval resamples problems and seeds. Better and worse: "
        "problems on which a Wilcoxon signed-rank test says so at 5 %, after Holm's correction for their "
        "number."
    )
    return Table(header, rows, caption)


def differences(scores: Scores, problem: str, variant: str, baseline: str) -> np.ndarray:
    """Score of a variant minus that of the baseline at the end, for each seed that both have."""
    seeds = scores.common_seeds(problem, variant, baseline)
    a, b = (scores.log_regret(problem, v, seeds)[:, scores.evaluations - 1] for v in (variant, baseline))
    return a - b


def _difference_cell(scores: Scores, problems: Sequence[str], variant: str, baseline: str) -> list[str]:
    if any((p, baseline) not in scores.cells for p in problems):
        return ["", ""]
    found = [differences(scores, p, variant, baseline) for p in problems]
    if any(len(d) == 0 for d in found):
        return ["no common seeds", ""]
    p = holm([paired_p(d, np.zeros_like(d)) for d in found])
    sure = [float(np.sign(np.mean(d))) if q < 0.05 else 0.0 for d, q in zip(found, p, strict=True)]
    counts = [sum(s == sign for s in sure) for sign in (-1.0, 1.0, 0.0)]
    return [str(nested_mean(found)), " / ".join(map(str, counts))]


def share_table(scores: Scores, groups: dict[str, list[str]]) -> Table:
    """Share of targets that were reached in the end."""
    from benchmarks.figures import shares

    rows = []
    for group, problems in groups.items():
        for variant in scores.everywhere(problems):
            budgets, share = shares(scores, problems, variant)
            at = [
                float(share[np.searchsorted(budgets, fraction * budgets[-1] * (1 - 1e-9))])
                for fraction in (0.25, 0.5, 1.0)
            ]
            rows.append(
                [f"{group} ({len(problems)})", variant, *(f"{s:.3f}" for s in at), f"{budgets[-1]:.3g}"]
            )
    header = ["problems", "method", "at a quarter", "at half", "at the end", "end: evaluations / dimension"]
    caption = (
        "Share of (run, target) pairs reached. On BBOB the targets are COCO's 51 precisions from 1e2 to "
        "1e-8; elsewhere 51 from ten times what random search leaves down to a thousandth of it."
    )
    return Table(header, rows, caption)


def problem_table(scores: Scores, problems: Sequence[str], baseline: str) -> Table:
    """Regret on each problem at the end: median and quartiles, and the paired test against the baseline."""
    names = [v for v in scores.variants if any((p, v) in scores.cells for p in problems)]
    rows = [[p, *(_problem_cell(scores, p, v, baseline) for v in names)] for p in problems]
    caption = (
        f"Simple regret after {scores.evaluations} evaluations: median (quartiles) over seeds; and p of a "
        f"Wilcoxon signed-rank test against {baseline}, paired by seed, not corrected for their number."
    )
    return Table(["problem", *names], rows, caption)


def _problem_cell(scores: Scores, problem: str, variant: str, baseline: str) -> str:
    if (problem, variant) not in scores.cells:
        return ""
    end = scores.evaluations - 1
    regret = scores.regret(problem, variant)[:, end]
    low, middle, high = (
        number(float(q), 2) for q in np.quantile(regret, [0.25, 0.5, 0.75], method="nearest")
    )
    text = f"{middle} ({low}-{high})"
    if variant == baseline or (problem, baseline) not in scores.cells:
        return text
    seeds = scores.common_seeds(problem, variant, baseline)
    if len(seeds) < 5:
        return text
    a, b = (scores.regret(problem, v, seeds)[:, end] for v in (variant, baseline))
    finite = np.isfinite(a) & np.isfinite(b)
    return f"{text}, p {number(paired_p(a[finite], b[finite]), 2)}" if finite.any() else text


def time_table(scores: Scores) -> Table:
    """Milliseconds of a proposal."""
    rows = []
    for variant in scores.variants:
        cells = [cell.seconds for (_, v), cell in scores.cells.items() if v == variant]
        every = np.concatenate([c[:, : scores.evaluations].ravel() for c in cells])
        last = np.concatenate([c[:, -max(1, scores.evaluations // 5) :].ravel() for c in cells])
        rows.append(
            [variant, *(1e3 * v for v in (np.median(every), every.mean(), np.median(last), every.max()))]
        )
    header = ["method", "median, ms", "mean, ms", "median of the last fifth, ms", "longest, ms"]
    caption = (
        "The method's own time for a proposal: its ask, and the tells since the ask before. Studies in "
        "lockstep and proposals of a batch share it equally. By the clock on the wall, so other programs on "
        "the machine lengthen it; `python -m benchmarks speed` measures methods side by side."
    )
    return Table(header, [[r[0], *map(float, r[1:])] for r in rows], caption)


# -------------------------------------------------------------------------------------------- regressions


def regressions(now: Runs, before: Runs) -> tuple[Table, int]:
    """Paired differences between two runs of the same methods on the same problems; how many got worse."""
    merged = Runs(dict(now.trials), {**before.about, **now.about})
    for job, trials in before.trials.items():
        merged.trials[replace(job, method=job.method + BEFORE)] = trials
    scores = Scores.of(merged)
    pairs = [
        (problem, variant, old)
        for problem, variant in scores.cells
        if problem in scores.scored and (problem, old := _renamed(variant)) in scores.cells
    ]
    found = [differences(scores, *pair) for pair in pairs]
    usable = [(pair, d) for pair, d in zip(pairs, found, strict=True) if len(d)]
    p = holm([paired_p(d, np.zeros_like(d)) for _, d in usable])
    rows, worse = [], 0
    for (pair, d), q in sorted(zip(usable, p, strict=True), key=lambda item: -float(item[0][1].mean())):
        verdict = "level" if q >= 0.05 else "WORSE" if d.mean() > 0 else "better"
        worse += verdict == "WORSE"
        rows.append([pair[0], pair[1], len(d), str(nested_mean([d])), number(q, 2), verdict])
    header = ["problem", "method", "seeds", "difference (95 %)", "p (Holm)", "verdict"]
    caption = (
        "Normalised log10 regret now minus before at the end, paired by seed, the largest loss first. The "
        "verdict is that of a Wilcoxon signed-rank test at 5 %, corrected for the number of rows."
    )
    return Table(header, rows, caption), worse


def _renamed(variant: str) -> str:
    """The name that the variant has in the earlier run: before its batches or workers."""
    method, space, rest = variant.partition(" ")
    return method + BEFORE + space + rest


# ------------------------------------------------------------------------------------------------- output


def _facts(runs: Runs, files: Sequence[Path]) -> list[str]:
    """What ran where, once each."""
    lines = [
        f"Files: {', '.join(path.name for path in files)}; {sum(map(len, runs.trials.values()))} evaluations."
    ]
    for session in runs.machines:
        machine = "; ".join(f"{k}: {v}" for k, v in session["machine"].items())
        methods = "; ".join(f"{k} {v}" for k, v in session["methods"].items())
        lines.append(f"`{session['command']}` ({machine}{'; ' + methods if methods else ''})")
    return list(dict.fromkeys(lines))


def _markdown(sections: Sequence[Section], facts: Sequence[str]) -> str:
    parts = ["# Comparison"]
    for title, tables, _ in sections:
        parts += [f"## {title}", *(table.markdown() for table in tables)]
    return "\n\n".join([*parts, "## Where the numbers come from", *facts]) + "\n"


_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; font-size: 13px; display: block; overflow-x: auto; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid #ddd; text-align: left; white-space: nowrap; }
td:not(:first-child) { font-variant-numeric: tabular-nums; }
img { max-width: 100%; margin: .5rem 0; } code { font-size: 12px; } h2 { margin-top: 2.5rem; }
p { max-width: 60rem; } .facts { color: #555; font-size: 13px; }
"""


def _html(sections: Sequence[Section], facts: Sequence[str]) -> str:
    body = ["<h1>Comparison</h1>"]
    for title, tables, picture in sections:
        body.append(f"<h2>{html.escape(title)}</h2>")
        if picture is not None:
            body.append(_image(picture(), title))
        body += map(_html_table, tables)
    body.append("<h2>Where the numbers come from</h2>")
    body += [f'<p class="facts">{html.escape(fact)}</p>' for fact in facts]
    head = f'<meta charset="utf-8"><title>Comparison</title><style>{_STYLE}</style>'
    return f"<!doctype html><html lang=en><head>{head}</head><body>{''.join(body)}</body></html>\n"


def _image(figure: object, title: str) -> str:
    """A figure as an image inside the page."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})  # type: ignore[attr-defined]
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{html.escape(title)}" src="data:image/svg+xml;base64,{data}">'


def _html_table(table: Table) -> str:
    def row(cells: Sequence[object], tag: str) -> str:
        texts = (number(c) if isinstance(c, float) else str(c) for c in cells)
        return "<tr>" + "".join(f"<{tag}>{html.escape(text)}</{tag}>" for text in texts) + "</tr>"

    caption = f"<p>{html.escape(table.caption)}</p>" if table.caption else ""
    body = "".join(row(r, "td") for r in table.rows)
    return f"{caption}<table><thead>{row(table.header, 'th')}</thead><tbody>{body}</tbody></table>"
