"""Pictures of a run. Needs matplotlib: `pip install "bayesopt-torch[plots]"`."""

from __future__ import annotations

import math
from itertools import accumulate, cycle
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from os import PathLike

    from matplotlib.figure import Figure

    from bayesopt.books import Result

# Okabe and Ito's colours, which colour-blind readers tell apart; the line styles are for print in black.
STYLES = (("#0072B2", "-"), ("#D55E00", "--"), ("#009E73", "-."), ("#CC79A7", ":"), ("#000000", "-"))
LEGEND = "Lines: best so far. Dots: single evaluations. Crosses: failed ones."


def best_so_far(values: Sequence[float | None], *, maximize: bool = False) -> list[float]:
    """The best value after each evaluation, nan before the first one that succeeded.

    >>> best_so_far([3.0, None, 5.0, 1.0])
    [3.0, 3.0, 3.0, 1.0]
    """
    better = max if maximize else min
    worst = -math.inf if maximize else math.inf
    best = accumulate((worst if value is None else value for value in values), better)
    return [math.nan if value == worst else value for value in best]


def plot_progress(
    results: Mapping[str, Result],
    path: str | PathLike[str] | None = None,
    *,
    ylabel: str = "objective",
    maximize: bool = False,
) -> Figure:
    """Draw what each run had found after each evaluation; the evaluations themselves are faint dots.

    Failed evaluations are crosses at the upper edge. The axis of the values is logarithmic when all of them
    are positive and span more than a factor of 30.

    Args:
        results: The runs by the names that the legend shows.
        path: Where to save the picture; the ending chooses the format (`.png`, `.svg`, `.pdf`).
        ylabel: What the objective measures.
        maximize: Whether larger is better.

    Returns:
        The figure, for further drawing. It belongs to no window and to no global state.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for (name, result), (colour, line) in zip(results.items(), cycle(STYLES), strict=False):
        values = result.values
        numbers = range(1, len(values) + 1)
        best = best_so_far(values, maximize=maximize)
        dots = [math.nan if value is None else value for value in values]
        failed = [number for number, value in zip(numbers, values, strict=True) if value is None]
        axes.plot(numbers, best, line, color=colour, linewidth=2, drawstyle="steps-post", label=name)
        axes.plot(numbers, dots, "o", color=colour, alpha=0.3, markersize=5, markeredgewidth=0)
        if failed:
            axes.plot(failed, [0.98] * len(failed), "x", color=colour, transform=axes.get_xaxis_transform())

    finite = [value for result in results.values() for value in result.values if value is not None]
    if finite and min(finite) > 0 and max(finite) > 30 * min(finite):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel("evaluations")
    axes.set_ylabel(ylabel)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper left", ncols=2, frameon=False, title=LEGEND, alignment="left")
    if path is not None:
        figure.savefig(path, dpi=150)
    return figure
