"""Failures: what went wrong, and where."""

import math
from collections import Counter

import numpy as np
from torch import Tensor

from bayesopt.parameters import Categorical
from bayesopt.report.markup import Markup, escaped, joined, number, shown_value, table, tag
from bayesopt.report.run import Run
from bayesopt.report.svg import Axis, bottom_axis, cross, dot, drawing, line, shortened, words
from bayesopt.trials import Config

#: Most rows of a table, parameters with a strip, parameters named in a row.
MOST_ROWS, MOST_STRIPS, MOST_NAMES = 20, 6, 12


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
    pairs = [f"{name}={shown_value(value)}" for name, value in list(config.items())[:MOST_NAMES]]
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
