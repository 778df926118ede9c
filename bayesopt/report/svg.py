"""Drawings as inline SVG: their colours are the page's, so they are light or dark with it.

Lengths are in units of the drawing, which is as wide as the page lets it be. Marks carry a `<title>`, which
browsers show when the pointer rests on them and screen readers read.
"""

import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from bayesopt.report.markup import Markup, joined, number, tag

Point = tuple[float, float]

_TINY, _HUGE = sys.float_info.min, sys.float_info.max


@dataclass(frozen=True)
class Axis:
    """Values between `low` and `high`, from `start` to `end` of the drawing; maybe logarithmic."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    @classmethod
    def over(cls, values: Iterable[float], start: float, end: float) -> "Axis":
        """One that holds these, with a margin; logarithmic if they are positive and span a factor of 100."""
        finite = [v for v in values if math.isfinite(v)] or [0.0, 1.0]
        low, high = min(finite), max(finite)
        if low > 0 and high / low > 100:
            margin = math.exp(0.05 * (math.log(high) - math.log(low)))
            return cls(max(low / margin, _TINY), min(high * margin, _HUGE), start, end, log=True)
        margin = 0.05 * high - 0.05 * low or 0.5 * abs(high) or 1.0
        return cls(max(low - margin, -_HUGE), min(high + margin, _HUGE), start, end)

    def __call__(self, value: float) -> float:
        """Its place; at the edge what is beyond it."""
        low, high, value = map(self._linear, (self.low, self.high, value))
        share = min(max((value - low) / (high - low), 0.0), 1.0)
        return self.start + share * (self.end - self.start)

    def _linear(self, value: float) -> float:
        """Halved, so that no difference overflows; or its logarithm."""
        return math.log(max(value, self.low)) if self.log else value / 2

    def ticks(self, most: int = 6) -> list[float]:
        """Round values, at most so many.

        >>> Axis(0.0, 1.0, 0, 100).ticks(6), Axis(0.01, 50.0, 0, 100, log=True).ticks()
        ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [0.01, 0.1, 1.0, 10.0])
        """
        if self.log:
            first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
            stride = max(1, math.ceil((last - first + 1) / most))
            return [10.0**k for k in range(first, last + 1, stride)]
        span = self.high - self.low
        if not math.isfinite(span) or span <= 0:
            return [self.low, self.high]
        raw = span / max(1, most - 1)
        size = 10.0 ** math.floor(math.log10(raw))
        step = next(size * m for m in (1, 2, 5, 10) if size * m >= raw * (1 - 1e-9))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [round(k * step, 12 - math.floor(math.log10(step))) for k in range(first, last + 1)]

    def labels(self, most: int = 6) -> list[tuple[float, str]]:
        """The ticks with their texts, which tell them apart."""
        ticks = self.ticks(most)
        digits = 4
        if len(ticks) > 1 and not self.log and (step := ticks[1] - ticks[0]) > 0:
            largest = max(map(abs, ticks))
            digits = max(digits, min(15, 1 + math.ceil(math.log10(largest / step) - 1e-9)))
        return [(value, number(value, digits)) for value in ticks]


def drawing(width: float, height: float, label: str, *parts: object, class_: str = "chart") -> Markup:
    """A drawing with a name for those who cannot see it."""
    return tag(
        "svg", tag("title", label), *parts,
        viewBox=f"0 0 {width:g} {height:g}", role="img", aria_label=label, class_=class_,
    )  # fmt: skip


def line(points: Sequence[Point], class_: str, title: str | None = None) -> Markup:
    """A polyline."""
    text = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return tag("polyline", *_title(title), points=text, class_=class_)


def band(upper: Sequence[Point], lower: Sequence[Point], class_: str) -> Markup:
    """The area between two lines."""
    text = " ".join(f"{x:.1f},{y:.1f}" for x, y in [*upper, *reversed(lower)])
    return tag("polygon", points=text, class_=class_)


def dot(at: Point, class_: str, title: str | None = None, radius: float = 3.5, key: bool = False) -> Markup:
    """A disc; one that is `key` can be reached by the keyboard."""
    x, y = at
    focus = {"tabindex": 0, "role": "img", "aria_label": title} if key else {}
    return tag(
        "circle", *_title(title), cx=f"{x:.1f}", cy=f"{y:.1f}", r=f"{radius:g}", class_=class_, **focus
    )


def cross(at: Point, class_: str, title: str | None = None, size: float = 3.5) -> Markup:
    """A diagonal cross."""
    x, y = at
    path = (
        f"M{x - size:.1f} {y - size:.1f}l{2 * size:g} {2 * size:g}m0 {-2 * size:g}l{-2 * size:g} {2 * size:g}"
    )
    return tag("path", *_title(title), d=path, class_=class_)


def bar(at: Point, width: float, height: float, class_: str, title: str) -> Markup:
    """A rectangle, its upper left corner at a point."""
    x, y = at
    return tag(
        "rect", *_title(title), x=f"{x:.1f}", y=f"{y:.1f}", width=f"{max(width, 0.5):.1f}",
        height=f"{height:g}", class_=class_, tabindex=0, role="img", aria_label=title,
    )  # fmt: skip


def words(at: Point, text: object, anchor: str = "start", class_: str = "label") -> Markup:
    """A short text; its anchor is "start", "middle" or "end"."""
    x, y = at
    return tag("text", text, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor, class_=class_)


def shortened(text: object, most: int = 14) -> str:
    """A text cut to so many characters."""
    text = " ".join(str(text).split())
    return text if len(text) <= most else text[: most - 1] + "…"


def left_axis(axis: Axis, x: float, right: float, most: int = 6) -> Markup:
    """Grid lines and numbers of a vertical axis at x, up to the right edge."""
    rows = [(axis(value), text) for value, text in axis.labels(most)]
    return joined(
        part
        for y, text in rows
        for part in (line([(x, y), (right, y)], "rule"), words((x - 6, y + 4), text, "end"))
    )


def bottom_axis(ticks: Iterable[tuple[float, object]], y: float, right: float = math.inf) -> Markup:
    """Texts at places of a horizontal axis at y; one near the right edge ends there."""
    return joined(words((x, y + 16), text, "end" if x > right - 12 else "middle") for x, text in ticks)


def _title(title: str | None) -> tuple[Markup, ...]:
    return () if title is None else (tag("title", title),)


def legend(*entries: tuple[str, str]) -> Markup:
    """What the colours mean: the class of a mark, and its name."""
    items = (tag("li", tag("i", class_=f"key {kind}"), text) for kind, text in entries)
    return tag("ul", *items, class_="legend")


def scrolling(chart: Markup) -> Markup:
    """A drawing that keeps a legible size where the screen is narrow."""
    return tag("div", chart, class_="wide")


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
