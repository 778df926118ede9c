"""Parallel coordinates: every trial a line across its parameters to its value."""

from collections.abc import Sequence

from torch import Tensor

from bayesopt.parameters import Categorical
from bayesopt.report.markup import Markup, joined, number, shown_value, tag
from bayesopt.report.run import Run, spread
from bayesopt.report.svg import Axis, drawing, line, robust, scrolling, shortened, words
from bayesopt.trials import Trial

#: Most lines, and most parameters.
MOST_LINES, MOST_AXES = 150, 12


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
    return joined([scrolling(chart), tag("p", note, class_="note")])


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
