"""Pictures of regret against time. Need matplotlib: `pip install "bayesopt-torch[plots]"`."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

from bayesopt.plots import STYLES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from benchmarks.problems.functions import Array
    from benchmarks.speedup import Curves

Panels = Mapping[tuple[str, int], Mapping[str, "Curves"]]  # (problem, workers) -> method -> curves

NOTE = "Lines: median simple regret over seeds. Shaded: the middle half of the seeds. Lower edge: zero."


def draw(panels: Panels) -> Figure:
    """Regret against simulated time: a row for each problem, a column for each number of workers."""
    from matplotlib.figure import Figure

    problems, workers = (list(dict.fromkeys(names)) for names in zip(*panels, strict=True))
    methods = dict.fromkeys(method for curves in panels.values() for method in curves)
    styles = dict(zip(methods, cycle(STYLES), strict=False))
    figure = Figure(figsize=(3.2 * len(workers), 2.2 * len(problems) + 0.8), layout="constrained")
    grid = figure.subplots(len(problems), len(workers), sharex="col", sharey="row", squeeze=False)
    for row, problem in zip(grid, problems, strict=True):
        shown = [panels[problem, count] for count in workers]
        floor, top = _limits([curves for by_method in shown for curves in by_method.values()])
        row[0].set_ylim(floor, top)
        for axes, by_method, count in zip(row, shown, workers, strict=True):
            for method, curves in by_method.items():
                _line(axes, curves, floor, *styles[method])
            axes.set_title(f"{problem}, {count} worker{'s' * (count > 1)}", fontsize=10)
    _finish(figure, grid, styles)
    return figure


def _limits(several: list[Curves]) -> tuple[float, float]:
    """Below the smallest median that is not zero, above the medians after a fifth of the time."""
    medians = [curves.quantile(0.5) for curves in several]
    positive = [float(row[row > 0].min()) for row in medians if (row > 0).any()]
    early = [row[curves.times > 0.2 * curves.times[-1]] for row, curves in zip(medians, several, strict=True)]
    start = [float(row[np.isfinite(row)].max()) for row in early]
    return 0.5 * min(positive, default=1e-12), 1.5 * max(max(start), 1e-12)


def _line(axes: Any, curves: Curves, floor: float, colour: str, line: str) -> None:
    def shown(q: float) -> Array:
        regret = np.maximum(curves.quantile(q), floor)
        return np.where(np.isfinite(regret), regret, np.nan)

    axes.plot(curves.times, shown(0.5), line, color=colour, linewidth=1.6, drawstyle="steps-post")
    low, high = shown(0.25), shown(0.75)
    axes.fill_between(curves.times, low, high, color=colour, alpha=0.12, linewidth=0, step="post")


def _finish(figure: Figure, grid: Any, styles: Mapping[str, tuple[str, str]]) -> None:
    """Axes, grids and the legend."""
    from matplotlib.lines import Line2D

    for axes in grid.flat:
        axes.set_yscale("log")
        axes.set_xlim(left=0)
        axes.grid(alpha=0.25)
        axes.tick_params(which="both", labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("simulated time, in mean evaluations", fontsize=10)
    figure.supylabel("simple regret", fontsize=10)
    lines = [Line2D([], [], color=colour, linestyle=line) for colour, line in styles.values()]
    figure.legend(
        lines, styles, loc="outside upper left", ncols=len(lines), frameon=False, title=NOTE, alignment="left"
    )
