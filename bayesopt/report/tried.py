"""Sections about what was tried: progress, leaderboard, parallel coordinates, learning curves, failures."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise

import numpy as np
from torch import Tensor

from bayesopt.parameters import Categorical
from bayesopt.report.markup import Markup, escaped, joined, number, table, tag
from bayesopt.report.run import Run, spread
from bayesopt.report.svg import (
    Axis,
    bottom_axis,
    cross,
    dot,
    drawing,
    left_axis,
    line,
    shortened,
    words,
)
from bayesopt.trials import Config, Trial

#: Bounds of what is drawn and listed: a report of a thousand trials is no larger than it can be read.
MOST_DOTS, MOST_ROWS, MOST_LINES, MOST_AXES, MOST_CURVES, MOST_STEPS = 1000, 20, 150, 12, 40, 60
MOST_STRIPS = 6

_AMBIGUOUS = ("", "None", "True", "False")


def summary(run: Run) -> Markup:
    """The numbers that matter most, as tiles."""
    best, pruned = run.best, sum(trial.pruned for trial in run.trials)
    seconds = sum(trial.seconds or 0.0 for trial in run.trials)
    tiles = [
        ("best value", "none yet" if best is None or best.value is None else number(best.value, 5)),
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
    legend = _legend(
        ("best", "best so far"), ("done", "finished"), ("pruned", "stopped early"), ("failed", "failed")
    )
    text = "What lies beyond the axis is drawn at its edge." + note
    return joined(
        [legend, _scrolling(drawing(width, height, "Progress", *parts)), tag("p", text, class_="note")]
    )


def robust(values: Sequence[float], maximize: bool) -> list[float]:
    """The values without those that are bad beyond measure, where they would hide the others."""
    if not values:
        return []
    sign = -1.0 if maximize else 1.0
    v = sign * np.asarray(values)
    low, middle = np.quantile(v, [0.0, 0.75])
    limit = middle / 2 + 1.5 * (middle / 2 - low / 2)  # halved: no overflow
    kept = v[v / 2 <= limit] if limit > low / 2 else v
    return [float(each) for each in sign * kept]


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


def _legend(*entries: tuple[str, str]) -> Markup:
    items = (tag("li", tag("i", class_=f"key {kind}"), text) for kind, text in entries)
    return tag("ul", *items, class_="legend")


def _scrolling(chart: Markup) -> Markup:
    return tag("div", chart, class_="wide")


# -------------------------------------------------------------------------------------------- leaderboard


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


def shown_value(value: object) -> str:
    """A value of a parameter; a text in quotes where it could be taken for something else."""
    if isinstance(value, str):
        return repr(value) if value.strip() in _AMBIGUOUS else value
    return number(value, 5) if isinstance(value, float) else str(value)


# ----------------------------------------------------------------------------------- parallel coordinates


def parallel(run: Run) -> Markup:
    """Each trial a line across the parameters to its value; the better, the stronger."""
    if len(run.finished) < 2:
        return tag("p", "Needs two finished trials.")
    columns = run.order[:MOST_AXES]
    chosen = spread(run.finished, MOST_LINES)
    X, active = run.encoded(chosen)
    step, top, bottom = 86.0, 46.0, 300.0
    width, height = step * len(columns) + 130.0, 326.0
    places = [60.0 + step * i for i in range(len(columns) + 1)]
    value = Axis.over(robust([t.value for t in chosen if t.value is not None], run.maximize), bottom, top)
    lines = [
        _parallel_line(run, i, len(chosen), trial, (X[i], active[i]), columns, places, value)
        for i, trial in reversed(list(enumerate(chosen)))
    ]
    axes = [
        _parallel_axis(run, j, x, top, bottom, i)
        for i, (j, x) in enumerate(zip(columns, places, strict=False))
    ]
    last = [
        line([(places[-1], top), (places[-1], bottom)], "axis"),
        *(words((places[-1] + 7, value(t) + 4), text) for t, text in value.labels()),
        words((places[-1], top - 26), "value", "middle", "label strong"),
    ]
    label = "Parallel coordinates of the finished trials"
    left_out = run.space.dim - len(columns)
    note = f"{len(chosen)} of {len(run.finished):,} finished trials, the best ones among them. " + (
        f"The {len(columns)} most important parameters of {run.space.dim}. " if left_out else ""
    )
    note += "A line breaks where a parameter is not active."
    chart = drawing(width, height, label, *lines, *axes, *last, class_="chart parallel")
    return joined([_scrolling(chart), tag("p", note, class_="note")])


def _parallel_line(
    run: Run, rank: int, count: int, trial: Trial, row: tuple[Tensor, Tensor], columns: Sequence[int],
    places: Sequence[float], value: Axis,
) -> Markup:  # fmt: skip
    assert trial.value is not None
    x, on = row
    pieces: list[list[tuple[float, float]]] = [[]]
    for j, place in zip(columns, places, strict=False):
        if bool(on[j]):
            pieces[-1].append((place, value.start + float(x[j]) * (value.end - value.start)))
        else:
            pieces.append([])
    pieces[-1].append((places[-1], value(trial.value)))
    path = "".join(
        "M" + "L".join(f"{px:.0f} {py:.1f}" for px, py in (piece * 2 if len(piece) == 1 else piece))
        for piece in pieces
        if piece
    )
    quality = min(4, 5 * rank // count) if rank else "best"
    title = tag("title", f"trial {trial.number}: {number(trial.value, 6)}")
    return tag("path", title, d=path, class_=f"thread q{quality}")


def _parallel_axis(run: Run, j: int, x: float, top: float, bottom: float, place: int) -> Markup:
    name, parameter = run.space.names[j], list(run.space.values())[j]
    label = tag("g", tag("title", name), words((x, top - 26), shortened(name, 12), "middle", "label strong"))
    parts = [line([(x, top), (x, bottom)], "axis"), label]
    if isinstance(parameter, Categorical):
        count = len(parameter.choices)
        shown = range(0, count, -(-count // 12))
        parts += [
            _choice(parameter.choices[k], (x + 5, bottom - (k + 0.5) / count * (bottom - top) + 4))
            for k in shown
        ]
    else:
        parts += [
            words((x, top - 8), number(float(parameter.high)), "middle"),
            words((x, bottom + 17), number(float(parameter.low)), "middle"),
        ]
    return joined(parts)


def _choice(value: object, at: tuple[float, float]) -> Markup:
    return tag("g", tag("title", value), words(at, shortened(shown_value(value), 10)))


# ---------------------------------------------------------------------------------------- learning curves


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
    legend = _legend(
        ("best", "the best trial"), ("done", "finished"), ("pruned", "stopped early"), ("failed", "failed")
    )
    note = f"{len(chosen)} of {len(reported):,} curves, the best ones among them."
    chart = _scrolling(drawing(width, height, "Learning curves", *parts))
    return joined([legend, chart, tag("p", note, class_="note")])


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


# ------------------------------------------------------------------------------------------------ failures


def failures(run: Run) -> Markup:
    """What went wrong, and where the failures lie."""
    if not run.failed:
        return tag("p", "Nothing has failed.")
    told = Counter(last_line(trial.error) for trial in run.failed)
    kinds = [[count, text] for text, count in told.most_common(MOST_ROWS)]
    rows = [[t.number, last_line(t.error), _brief(t.config)] for t in run.failed[-MOST_ROWS:][::-1]]
    ways = f"in {len(told):,} different ways" if len(told) > 1 else "all in the same way"
    share = f"{len(run.failed):,} of {len(run.trials):,} trials failed, {ways}."
    return joined(
        [
            tag("p", share),
            table(["times", "last line of the error"], kinds, "Kinds of failures"),
            tag("details", tag("summary", f"the last {len(rows)} of them"),
                table(["trial", "last line of the error", "configuration"], rows, "Failed trials")),
            _where(run),
        ]
    )  # fmt: skip


def last_line(error: str | None, most: int = 200) -> str:
    """The last line of a traceback that says something, cut to so many characters."""
    lines = [each.strip() for each in (error or "").splitlines() if each.strip()]
    return shortened(lines[-1], most) if lines else "no number was returned"


def _brief(config: Config) -> Markup:
    pairs = [f"{name}={shown_value(value)}" for name, value in list(config.items())[:MOST_AXES]]
    more = len(config) - len(pairs)
    return escaped(shortened(", ".join(pairs), 300) + (f" and {more} more" if more > 0 else ""))


def _where(run: Run) -> Markup:
    """Failed and successful trials along the parameters that tell them apart best."""
    good = [trial for trial in run.trials if trial.value is not None]
    if not good:
        return tag("p", "Nothing has succeeded, so nothing tells where evaluations fail.")
    (X, on), (B, off) = run.encoded(good), run.encoded(run.failed)
    apart = [_separation(X[on[:, j], j], B[off[:, j], j]) for j in range(run.space.dim)]
    columns = sorted(range(run.space.dim), key=lambda j: -apart[j])[:MOST_STRIPS]
    strips = [
        _strip(run, j, _thinned(X[on[:, j], j]), _thinned(B[off[:, j], j]), apart[j])
        for j in columns
        if apart[j] > 0.0
    ]
    note = (
        "Failures (crosses) and successes (dots) along the parameters that tell them apart best; the number "
        "is the largest difference of their distributions, 0 to 1 (Kolmogorov and Smirnov)."
    )
    return joined(
        [tag("h3", "Where they lie"), tag("p", note, class_="note"), tag("div", *strips, class_="panels")]
    )


def _thinned(x: Tensor, most: int = 150) -> list[float]:
    return [float(v) for v in x[:: max(1, -(-len(x) // most))]]


def _separation(a: Tensor, b: Tensor) -> float:
    """Largest difference of two empirical distribution functions, 0 if one is empty."""
    if not len(a) or not len(b):
        return 0.0
    one, two = (np.sort(t.numpy()) for t in (a, b))
    at = np.concatenate([one, two])
    below = [np.searchsorted(v, at, side="right") / len(v) for v in (one, two)]
    return float(np.abs(below[0] - below[1]).max())


def _strip(run: Run, j: int, good: list[float], bad: list[float], apart: float) -> Markup:
    name, parameter = run.space.names[j], list(run.space.values())[j]
    x = Axis(0.0, 1.0, 14, 286)
    parts = [
        line([(14, 78), (286, 78)], "axis"),
        *(dot((x(v), 60 + 5 * math.sin(11.0 * i)), "mark done", None, 2.5) for i, v in enumerate(good)),
        *(cross((x(v), 34 + 5 * math.sin(11.0 * i)), "mark failed", None, 2.5) for i, v in enumerate(bad)),
        words((14, 14), shortened(name, 26), class_="label strong"),
        words((286, 14), f"{apart:.2f}", "end"),
    ]
    if isinstance(parameter, Categorical):
        count = len(parameter.choices)
        room = max(3, 40 // count)
        ticks = [
            (x((k + 0.5) / count), shortened(shown_value(parameter.choices[k]), room))
            for k in range(min(count, 12))
        ]
        parts.append(bottom_axis(ticks, 78))
    else:
        low, high = (number(float(v)) for v in (parameter.low, parameter.high))
        parts += [words((14, 94), low), words((286, 94), high, "end")]
    return drawing(300, 100, f"Failures along {name}", *parts)
