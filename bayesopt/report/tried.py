"""Sections about what was tried: the numbers that matter most, progress, leaderboard."""

import math
from collections.abc import Sequence
from itertools import accumulate, pairwise

from bayesopt.report.markup import Markup, joined, number, shown_value, table, tag
from bayesopt.report.run import Run
from bayesopt.report.svg import (
    Axis,
    bottom_axis,
    cross,
    dot,
    drawing,
    left_axis,
    legend,
    line,
    robust,
    scrolling,
    words,
)
from bayesopt.trials import Config, Trial

#: Most trials drawn, and listed.
MOST_DOTS, MOST_ROWS = 1000, 20


def summary(run: Run) -> Markup:
    """The numbers that matter most, as tiles."""
    best, pruned = run.best, sum(trial.pruned for trial in run.trials)
    seconds = sum(trial.seconds or 0.0 for trial in run.trials)
    tiles = [
        ("best value", "none yet" if best is None or best.value is None else number(best.value)),
        ("trials", f"{len(run.trials):,}"),
        ("failed", f"{len(run.failed):,}"),
        ("stopped early", f"{pruned:,}"),
        ("running", f"{len(run.running):,}"),
        ("time evaluating", _duration(seconds)),
    ]
    return tag(
        "div", *(tag("div", tag("b", text), tag("span", name)) for name, text in tiles), class_="tiles"
    )


def _duration(seconds: float) -> str:
    for size, unit in ((86_400, "days"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.3g} s" if seconds else "not known"


# ----------------------------------------------------------------------------------------------- progress


def progress(run: Run) -> Markup:
    """Best so far, and every trial by its state."""
    if not run.trials:
        return tag("p", "No trial yet.")
    width, height, left, top, bottom = 680.0, 320.0, 62.0, 12.0, 286.0
    x = Axis(0.5, len(run.trials) + 0.5, left, width - 12)
    values = [t.value for t in run.trials if t.value is not None]
    y = Axis.over(robust(values, run.maximize), bottom, top + 16)
    every = range(0, len(run.trials), -(-len(run.trials) // MOST_DOTS))
    steps = _steps(run)
    parts = [
        left_axis(y, left, width - 12) if values else "",
        bottom_axis([(x(n), f"{n:g}") for n in _counts(x, len(run.trials))], bottom),
        words((width - 12, height - 2), "trials", "end"),
        *(_trial_mark(run.trials[i], (x(i + 1), y, top + 4)) for i in every),
        *_best_line(run, steps, x, y),
    ]
    note = (
        "" if len(every) == len(run.trials) else f" Of {len(run.trials):,} trials {len(every):,} are drawn."
    )
    key = legend(
        ("best", "best so far"), ("done", "finished"), ("pruned", "stopped early"), ("failed", "failed")
    )
    text = "What lies beyond the axis is drawn at its edge." + note
    return joined([key, scrolling(drawing(width, height, "Progress", *parts)), tag("p", text, class_="note")])


def _counts(axis: Axis, n: int) -> list[float]:
    return sorted({1.0, *(t for t in axis.ticks(8) if t >= 1 and t == int(t) and t <= n)} if n > 1 else {1.0})


def _trial_mark(trial: Trial, place: tuple[float, Axis, float]) -> Markup:
    x, y, edge = place
    if trial.value is None:
        kind = "stopped early" if trial.pruned else "failed"
        return cross((x, edge), "mark failed", f"trial {trial.number}: {kind}")
    kind = "pruned" if trial.pruned else "done"
    state = "stopped early at " if trial.pruned else ""
    return dot(
        (x, y(trial.value)), f"mark {kind}", f"trial {trial.number}: {state}{number(trial.value, 6)}", 3
    )


def _steps(run: Run) -> list[tuple[int, float]]:
    """After how many trials which value became the best."""
    worst = -math.inf if run.maximize else math.inf
    values = (worst if t.value is None or t.pruned else t.value for t in run.trials)
    best = accumulate(values, max if run.maximize else min)
    steps = list(enumerate(best, 1))
    return [b for a, b in pairwise([(0, worst), *steps]) if a[1] != b[1]]


def _best_line(run: Run, steps: Sequence[tuple[int, float]], x: Axis, y: Axis) -> list[Markup]:
    if not steps:
        return []
    points = [(x(steps[0][0]), y(steps[0][1]))]
    for (_, before), (n, value) in pairwise(steps):
        points += [(x(n), y(before)), (x(n), y(value))]
    points.append((x(len(run.trials)), points[-1][1]))
    marks = (
        dot(
            (x(n), y(v)),
            "mark best",
            f"trial {run.trials[n - 1].number}: a new best, {number(v, 6)}",
            4,
            True,
        )
        for n, v in steps[-100:]
    )
    return [line(points, "best"), *marks]


# ------------------------------------------------------------------------------------------ leaderboard


def leaderboard(run: Run) -> Markup:
    """The best trials with their configurations."""
    if not run.finished:
        return tag("p", "No trial has succeeded yet.")
    shown = run.finished[:MOST_ROWS]
    names = [run.space.names[j] for j in run.order]
    rows = [
        [place, number(trial.value or 0.0, 6), trial.number, *(_entry(trial.config, name) for name in names)]
        for place, trial in enumerate(shown, 1)
    ]
    note = f"The best {len(shown)} of {len(run.finished):,} finished trials."
    header = ["", "value", "trial", *names]
    return joined([tag("p", note, class_="note"), table(header, rows, "The best trials")])


def _entry(config: Config, name: str) -> object:
    return (
        shown_value(config[name]) if name in config else tag("span", "—", title="not active", class_="faint")
    )
