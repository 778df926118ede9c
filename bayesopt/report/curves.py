"""Learning curves: what trials have reported on the way."""

import math
from collections.abc import Mapping

from bayesopt.report.markup import Markup, joined, number, tag
from bayesopt.report.run import Run
from bayesopt.report.svg import (
    Axis,
    bottom_axis,
    dot,
    drawing,
    left_axis,
    legend,
    line,
    robust,
    scrolling,
    words,
)
from bayesopt.trials import Trial

#: Most curves, and most points of each, about.
MOST_CURVES, MOST_STEPS = 40, 60


def learning_curves(run: Run) -> Markup:
    """What trials have reported on the way."""
    if not run.curves:
        return tag("p", "No trial has reported on the way, with trial.report(value, step).")
    state = {trial.number: trial for trial in run.trials}
    order = [t.number for t in run.finished] + [n for n in run.curves if n not in state or state[n].pruned]
    order += [t.number for t in run.failed]
    reported = [n for n in order if n in run.curves]
    chosen = _some(reported, MOST_CURVES)
    width, height, left, top, bottom = 680.0, 320.0, 62.0, 12.0, 286.0
    points = {n: _finite(run.curves[n]) for n in chosen}
    steps = [step for curve in points.values() for step, _ in curve]
    if not steps:
        return tag("p", "No trial has reported a finite value yet.")
    x = Axis(min(steps), max(max(steps), min(steps) + 1), left, width - 12)
    y = Axis.over(robust([v for curve in points.values() for _, v in curve], run.maximize), bottom, top)
    best = run.finished[0].number if run.finished else None
    parts = [
        left_axis(y, left, width - 12),
        bottom_axis([(x(t), number(t)) for t in x.ticks(8) if t == int(t)], bottom),
        words((width - 12, height - 2), "step", "end"),
    ]
    for n in reversed(chosen):
        trial = state.get(n)
        kind = "best" if n == best else "running" if trial is None else _kind(trial)
        places = [(x(step), y(value)) for step, value in points[n]]
        parts += [_curve(places, kind, f"trial {n}: {_fate(trial)}")]
    key = legend(
        ("best", "the best trial"), ("done", "finished"), ("pruned", "stopped early"), ("failed", "failed")
    )
    note = f"{len(chosen)} of {len(reported):,} curves, the best ones among them."
    chart = scrolling(drawing(width, height, "Learning curves", *parts))
    return joined([key, chart, tag("p", note, class_="note")])


def _some(numbers: list[int], most: int) -> list[int]:
    """The first half of so many outright, the rest evenly over the others."""
    half = most // 2
    rest = numbers[half:]
    few = min(len(rest), most - half)
    return numbers[:half] + [rest[k * len(rest) // few] for k in range(few)]


def _finite(curve: Mapping[int, float]) -> list[tuple[int, float]]:
    points = [(step, value) for step, value in curve.items() if math.isfinite(value)]
    stride = max(1, len(points) // MOST_STEPS)
    return points[::stride] + (points[-1:] if (len(points) - 1) % stride else [])


def _kind(trial: Trial) -> str:
    return "pruned" if trial.pruned else "failed" if trial.value is None else "done"


def _fate(trial: Trial | None) -> str:
    if trial is None:
        return "running"
    if trial.value is None:
        return "failed"
    return f"{'stopped early at' if trial.pruned else 'ended with'} {number(trial.value, 6)}"


def _curve(points: list[tuple[float, float]], kind: str, title: str) -> Markup:
    return dot(points[0], f"mark {kind}", title) if len(points) == 1 else line(points, f"curve {kind}", title)
