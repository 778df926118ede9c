"""Sections about what was learnt: importance, slices of the posterior, the next proposal."""

import torch
from torch import Tensor

from bayesopt.explanation import ARMS, Prediction, percent
from bayesopt.report.importance import FEWEST
from bayesopt.report.markup import Markup, joined, number, shown_value, table, tag
from bayesopt.report.run import Run
from bayesopt.report.svg import Axis, band, bar, bottom_axis, dot, drawing, left_axis, line, shortened, words
from bayesopt.trials import Trial

MOST_BARS = 25

_STEPS, _FEW_LEVELS = 41, 12


def missing(run: Run) -> Markup | None:
    """Why there is no model to show."""
    if run.learnt is not None:
        return None
    if not run.seer._record.outcomes_differ():
        return tag("p", "Needs two outcomes that differ.")
    return tag("p", "The model breaks down on these results.")


def _whose(run: Run) -> Markup:
    if run.seer is run.optimizer:
        return joined([])
    text = (
        f"The method, {run.optimizer._learner.method!r}, has no model of the outcomes. This Gaussian process "
        f"was fitted for the report, to {len(run.seer.trials):,} of {len(run.trials):,} trials."
    )
    return tag("p", text, class_="note")


# --------------------------------------------------------------------------------------------- importance


def importance(run: Run) -> Markup:
    """Two bars for each parameter: what the lengthscales say, and what held-out predictions say."""
    if (reason := missing(run)) is not None:
        return reason
    found = run.importance
    if found is None:
        return tag("p", f"Needs {FEWEST} trials with an outcome.")
    columns = run.order[:MOST_BARS]
    height, left = 34.0 * len(columns) + 6, 150.0
    x = Axis(0.0, max(*found.model, *found.data, 1e-9), 0.0, 440.0)
    parts = []
    for row, j in enumerate(columns):
        y, name = 34.0 * row + 4, run.space.names[j]
        parts.append(tag("g", tag("title", name), words((left - 8, y + 17), shortened(name, 15), "end")))
        for offset, share, kind, who in (
            (0, found.model[j], "model", "the lengthscales"), (13, found.data[j], "data", "the data"),
        ):  # fmt: skip
            title = f"{name}: {percent(share)} by {who}"
            parts.append(bar((left, y + offset), x(share), 11, kind, title))
            parts.append(words((left + x(share) + 6, y + offset + 10), percent(share), class_="label small"))
    legend = tag(
        "ul",
        tag(
            "li",
            tag("i", class_="key model"),
            "the model: share of its distance between random configurations",
        ),
        tag(
            "li", tag("i", class_="key data"), "the data: share of what shuffling costs held-out predictions"
        ),
        class_="legend",
    )
    chart = tag("div", drawing(680, height, "Importance", *parts), class_="wide")
    return joined([_whose(run), legend, chart, _reliability(found.score), _disagreements(run)])


def _reliability(score: float) -> Markup:
    if score < 0.3:
        text = (
            f"Held-out trials are hardly predicted (R² = {score:.2f}): the results are so few, or so noisy, "
            "that what the data say is little more than chance."
        )
        return tag("p", text, class_="warning")
    return tag("p", f"Held-out trials are predicted with R² = {score:.2f}.", class_="note")


def _disagreements(run: Run) -> Markup:
    assert run.importance is not None
    items = []
    for j in run.importance.disagreements():
        model, data, name = run.importance.model[j], run.importance.data[j], run.space.names[j]
        says = f"{percent(model)} by the lengthscales, {percent(data)} by the data: "
        why = (
            "the model lets outcomes vary quickly along it, but knowing it hardly helps to predict them."
            if model > data
            else "outcomes change slowly along it, but by a lot: a trend rather than a valley."
        )
        items.append(tag("li", tag("b", name), ": ", says, why))
    if not items:
        return tag("p", "Lengthscales and data agree about every parameter.", class_="note")
    return joined([tag("h3", "Where they disagree"), tag("ul", *items)])


# ------------------------------------------------------------------------------------------------- slices


def slices(run: Run) -> Markup:
    """The posterior along each parameter, the others as in the best trial."""
    if (reason := missing(run)) is not None:
        return reason
    panels = [_slice(run, j) for j in run.order]
    note = (
        "What the model expects if one parameter moves and the others stay as in the best trial: the median, "
        "and the band that holds 68 %. The ring is the trial itself. A parameter that is not active in the "
        "best trial is shown around the best trial in which it is."
    )
    return joined([_whose(run), tag("p", note, class_="note"), tag("div", *panels, class_="panels")])


def _slice(run: Run, j: int) -> Markup:
    name = run.space.names[j]
    base = next((trial for trial in run.finished if name in trial.config), None)
    if base is None or base.value is None:
        return tag("p", tag("b", name), ": not active in any finished trial.", class_="note")
    grid = _grid(run, base, j)
    configs, found = run.space.decode(grid), run.predictions(grid)
    x, here = Axis(0.0, 1.0, 62, 290), float(run.encoded([base])[0][0, j])
    y = Axis.over([v for p in found for v in (p.low, p.high)] + [base.value], 166, 30)
    levels = run.space.levels[j]
    few = levels is not None and levels <= _FEW_LEVELS
    ticks = range(len(grid)) if few else (0, len(grid) // 2, len(grid) - 1)
    room = 38 // max(1, len(ticks))
    shown = [(x(float(grid[i, j])), shortened(shown_value(configs[i][name]), max(3, room))) for i in ticks]
    places = [x(float(row[j])) for row in grid]
    marks = _levels(places, found, y, [c[name] for c in configs]) if few else _curve(places, found, y)
    parts = [
        words((10, 16), shortened(name, 30), class_="label strong"),
        left_axis(y, 62, 290, 4),
        bottom_axis(dict(shown).items(), 166, 290),
        marks,
        dot((x(here), y(base.value)), "ring", f"trial {base.number}: {number(base.value, 6)}", 5),
    ]
    return drawing(300, 190, f"Slice along {name}", *parts)


def _grid(run: Run, base: Trial, j: int) -> Tensor:
    """Encoded configurations `(m, d)` along column j, each once."""
    levels = run.space.levels[j]
    steps = torch.linspace(0.0, 1.0, _STEPS, dtype=torch.float64)
    if levels is not None and levels <= _FEW_LEVELS:
        steps = (torch.arange(levels, dtype=torch.float64) + 0.5) / levels
    X = run.encoded([base])[0].repeat(len(steps), 1)
    X[:, j] = steps
    X, active = run.space.snap(X)
    X = X[active[:, j]]
    first = torch.ones(len(X), dtype=torch.bool)
    first[1:] = X[1:, j] != X[:-1, j]
    return X[first]


def _curve(places: list[float], found: list[Prediction], y: Axis) -> Markup:
    low, middle, high = (
        [(x, y(getattr(p, which))) for x, p in zip(places, found, strict=True)]
        for which in ("low", "median", "high")
    )
    return joined([band(high, low, "band"), line(middle, "median")])


def _levels(places: list[float], found: list[Prediction], y: Axis, values: list[object]) -> Markup:
    parts = []
    for x, p, value in zip(places, found, values, strict=True):
        title = f"{shown_value(value)}: {number(p.median)}, 68 % between {number(p.low)} and {number(p.high)}"
        parts += [
            line([(x, y(p.low)), (x, y(p.high))], "whisker"),
            dot((x, y(p.median)), "mark median", title),
        ]
    return joined(parts)


# --------------------------------------------------------------------------------------- the next proposal


def proposal(run: Run) -> Markup:
    """Where the next proposal comes from, and what is expected of it."""
    explanation = run.explanation
    arm = ARMS.get(explanation.arm, "")
    text = [
        tag("p", tag("b", explanation.method), ": ", explanation.reason, "."),
        tag("p", arm[:1].upper(), arm[1:], ".") if arm else "",
    ]
    if explanation.config is None:
        return joined(text)
    rows = [[name, shown_value(value)] for name, value in explanation.config.items()]
    text.append(table(["parameter", "value"], rows, "The next configuration"))
    p, fit = explanation.prediction, explanation.fit
    if explanation.density_ratio is not None:
        ratio = number(explanation.density_ratio, 3)
        text.append(tag("p", f"Good results are {ratio} times as dense there as bad ones."))
    if p is not None and fit is not None:
        facts = [
            [
                "expected outcome",
                f"{number(p.median, 6)}, with 68 % between {number(p.low, 6)} and {number(p.high, 6)}",
            ],
            ["best so far, as the model sees it", number(fit.best, 6)],
            ["expected improvement", number(p.improvement, 3)],
            ["chance of any improvement", percent(p.better)],
            ["chance of success", percent(p.success)],
            ["noise of an evaluation", f"{number(fit.noise, 3)} (standard deviation)"],
        ]
        text.append(
            table(["expected of it", ""], facts, "What is expected of the next configuration", "wide facts")
        )
    return joined(text)


# ------------------------------------------------------------------------------------ still to be gained


def gain(run: Run) -> Markup:
    """How much better than the best trial the best configuration may still be."""
    if (reason := missing(run)) is not None:
        return reason
    regret = run.seer.regret()
    if regret is None:
        return tag("p", "Not estimated before the design is complete.")
    facts = [
        ["with 95 %, at most", number(regret.bound, 3)],
        ["as likely more as less than", number(regret.median, 3)],
        ["on average", number(regret.mean, 3)],
        ["expected from the most promising single evaluation", number(regret.improvement, 3)],
    ]
    text = (
        "The difference between the best trial and the best configuration of all, in functions drawn from "
        "the model. What the model does not suspect it does not reckon with, such as a narrow valley where "
        "nothing was evaluated."
    )
    note = tag("p", text, class_="note")
    return joined(
        [_whose(run), table(["still to be gained", ""], facts, "Still to be gained", "wide facts"), note]
    )
