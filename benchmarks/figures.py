"""Pictures of a comparison, as matplotlib figures. Need matplotlib: `pip install "bayesopt-torch[plots]"`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.scores import Scores
from benchmarks.statistics import (
    COCO_TARGETS,
    Array,
    Ranks,
    bootstrap_band,
    cliques,
    ecdf,
    runtimes,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Style = tuple[str, str]

# Okabe and Ito's colours, which colour-blind readers tell apart; the lines are for print in black.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINES = ("-", "--", "-.", (0, (1, 1)), (0, (5, 1)))
GREY: Style = ("#888888", ":")

BAND_RESAMPLES = 300
_NONE = 1e300  # stands for the regret before the first success
_SOME = 1e299


def styles(scores: Scores) -> dict[str, Style]:
    """A colour and a line for each variant, the same in all pictures; random search is grey."""
    plain = [v for v in scores.variants if v.split()[0] != "random"]
    found = zip(plain, islice(cycle(zip(cycle(COLOURS), _lines(), strict=False)), len(plain)), strict=True)
    return {**dict(found), **{v: GREY for v in scores.variants if v not in plain}}


def _lines() -> list[Any]:
    return [LINES[i % len(LINES)] for i in range(len(COLOURS) * len(LINES))]


def curves(scores: Scores, problems: Sequence[str]) -> Figure:
    """Median regret against evaluations, a panel for each problem, with the bootstrap band of the median.

    The lowest edge of a panel stands for everything below it, zero included.
    """
    look, columns = styles(scores), min(4, len(problems))
    figure, panels = _grid(len(problems), columns, (3.3, 2.4))
    for axes, problem in zip(panels, problems, strict=False):
        regrets = {v: scores.regret(problem, v) for v in scores.variants if (problem, v) in scores.cells}
        medians = {v: np.median(np.minimum(regret, _NONE), axis=0) for v, regret in regrets.items()}
        positive = np.concatenate([m[(m > 0) & (m < _SOME)] for m in medians.values()])
        floor = 0.5 * float(positive.min()) if len(positive) else 1e-12
        top = 10.0 * max(float(positive.max()) if len(positive) else 0.0, floor)
        for variant, regret in regrets.items():
            n, shown = np.arange(1, regret.shape[1] + 1), medians[variant] < _SOME
            low, high = bootstrap_band(
                np.minimum(regret, _NONE), lambda v: np.median(v, axis=0), BAND_RESAMPLES
            )
            edges = (np.clip(edge, floor, top)[shown] for edge in (low, high))
            colour, line = look[variant]
            axes.plot(
                n[shown],
                np.maximum(medians[variant], floor)[shown],
                color=colour,
                linestyle=line,
                linewidth=1.5,
            )
            axes.fill_between(n[shown], *edges, color=colour, alpha=0.13, linewidth=0)
        axes.set_yscale("log")
        axes.set_title(problem, fontsize=9)
    return _finished(figure, look, "evaluations", "simple regret, median")


def best_values(scores: Scores, y: str) -> Figure:
    """Best value so far, a panel for each problem: median over seeds, and the middle half of them.

    The first tenth of the evaluations may lie above the upper edge.
    """
    from matplotlib.ticker import LogLocator, NullFormatter

    look = styles(scores)
    figure, panels = _grid(len(scores.problems), min(2, len(scores.problems)), (4.4, 3.2))
    for axes, problem in zip(panels, scores.problems, strict=False):
        found = {v: cell.values for (p, v), cell in scores.cells.items() if p == problem}
        largest = max(float(values[np.isfinite(values)].max()) for values in found.values())
        shown = {v: np.minimum(values, 10.0 * largest) for v, values in found.items()}  # before a success
        for variant, values in shown.items():
            low, middle, high = np.quantile(values, [0.25, 0.5, 0.75], axis=0)
            n, (colour, line) = np.arange(1, len(middle) + 1), look[variant]
            axes.plot(n, middle, color=colour, linestyle=line, linewidth=1.8, drawstyle="steps-post")
            axes.fill_between(n, low, high, color=colour, alpha=0.13, linewidth=0, step="post")
        early = [float(np.median(values[:, values.shape[1] // 10])) for values in shown.values()]
        axes.set_yscale("log")
        axes.set_ylim(0.97 * min(float(values.min()) for values in shown.values()), max(early))
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_title(problem, fontsize=10)
    note = "Lines: median over seeds. Shaded: the middle half of the seeds."
    return _finished(figure, look, "evaluations", y, note)


def family_means(scores: Scores, families: Mapping[str, Sequence[str]]) -> Figure:
    """Mean normalised log-regret against evaluations, a panel for each family."""
    look = styles(scores)
    figure, panels = _grid(len(families), min(3, len(families)), (4.2, 3.0))
    for axes, (family, problems) in zip(panels, families.items(), strict=False):
        for variant in scores.everywhere(problems):
            means = [scores.log_regret(p, variant)[:, : scores.evaluations] for p in problems]
            mean = np.mean([m.mean(0) for m in means], axis=0)
            low, high = _mean_band(means)
            n = np.arange(1, len(mean) + 1)
            colour, line = look[variant]
            axes.plot(n, mean, color=colour, linestyle=line, linewidth=1.6)
            axes.fill_between(n, low, high, color=colour, alpha=0.13, linewidth=0)
        axes.axhline(0.0, color="#bbbbbb", linewidth=0.8)
        axes.set_title(f"{family} ({len(problems)})", fontsize=10)
    return _finished(figure, look, "evaluations", "normalised log10 regret, mean")


def _mean_band(groups: Sequence[Array]) -> tuple[Array, Array]:
    """95 % of the mean over these problems when their seeds are resampled."""
    rng = np.random.default_rng(0)
    draws = [
        np.mean([g[rng.integers(len(g), size=len(g))].mean(0) for g in groups], axis=0)
        for _ in range(BAND_RESAMPLES)
    ]
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    return low, high


def target_shares(scores: Scores, families: Mapping[str, Sequence[str]]) -> Figure:
    """Share of (run, target) pairs reached, against evaluations over dimension, a panel for each family."""
    look = styles(scores)
    figure, panels = _grid(len(families), min(3, len(families)), (4.2, 3.0))
    for axes, (family, problems) in zip(panels, families.items(), strict=False):
        for variant in scores.everywhere(problems):
            budgets, share = shares(scores, problems, variant)
            colour, line = look[variant]
            axes.plot(budgets, share, color=colour, linestyle=line, linewidth=1.6, drawstyle="steps-post")
        axes.set_xscale("log")
        axes.set_ylim(0.0, 1.0)
        axes.set_title(f"{family} ({len(problems)})", fontsize=10)
    return _finished(figure, look, "evaluations / dimension", "share of targets reached")


def shares(scores: Scores, problems: Sequence[str], variant: str) -> tuple[Array, Array]:
    """The ECDF of a variant: budgets, in evaluations over dimension, and shares.

    Ends at the budget that all problems have.
    """
    times = [target_times(scores, p, variant) / scores.about[p].dim for p in problems]
    end = min(scores.evaluations / scores.about[p].dim for p in problems)
    start = min(1.0 / scores.about[p].dim for p in problems)
    budgets = np.geomspace(start, end, 200)
    return budgets, np.mean([ecdf(t, budgets * (1 + 1e-12)) for t in times], axis=0)


def target_times(scores: Scores, problem: str, variant: str) -> Array:
    """Run times `(S, T)` to each of 51 targets.

    On BBOB they are COCO's; elsewhere they go from 10 times what random search leaves to the floor.
    """
    about = scores.about[problem]
    if about.family.startswith("bbob"):
        targets = COCO_TARGETS
    else:
        targets = scores.left[problem] * 10.0 ** np.linspace(1.0, math.log10(about.floor), 51)
    return runtimes(scores.regret(problem, variant), targets)


def rank_diagram(ranks: Ranks, names: Sequence[str], problems: int) -> Figure:
    """Mean ranks on a line; a bar joins those that are no further apart than the critical difference."""
    from matplotlib.figure import Figure

    order = np.argsort(ranks.mean)
    half = -(-len(names) // 2)
    bars = cliques(ranks)
    height = 1.3 + 0.14 * len(bars) + 0.24 * half
    figure = Figure(figsize=(8.0, height))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_xlim(-1.15, len(names) + 2.15)
    axes.set_ylim(-height, 0.0)
    axes.axis("off")
    top = -0.75
    axes.plot([1, len(names)], [top, top], color="black", linewidth=1)
    for rank in range(1, len(names) + 1):
        axes.plot([rank, rank], [top, top + 0.07], color="black", linewidth=1)
        axes.text(rank, top + 0.1, str(rank), ha="center", va="bottom", fontsize=9)
    _scale(axes, ranks, problems, len(names))
    for place, (low, high) in enumerate(bars):
        y = top - 0.12 - 0.14 * place
        axes.plot([low - 0.04, high + 0.04], [y, y], color="#444444", linewidth=4, solid_capstyle="butt")
    below = top - 0.2 - 0.14 * len(bars)
    for place, index in enumerate(order):
        left = place < half
        row = place if left else len(order) - 1 - place
        y, x = below - 0.24 * row, ranks.mean[index]
        edge, align = (0.55, "right") if left else (len(names) + 0.45, "left")
        axes.plot([x, x, edge], [top, y, y], color="#666666", linewidth=0.8)
        label = f"{names[index]}  {x:.2f}" if left else f"{x:.2f}  {names[index]}"
        axes.text(edge + (-0.05 if left else 0.05), y, label, ha=align, va="center", fontsize=9)
    return figure


def _scale(axes: Any, ranks: Ranks, problems: int, methods: int) -> None:
    """The critical difference as a length."""
    length = min(ranks.distance, methods - 1)
    axes.plot([1, 1 + length], [-0.32, -0.32], color="#D55E00", linewidth=2)
    text = f"critical difference {ranks.distance:.2f} ({problems} problems, 5 %)"
    axes.text(1, -0.27, text, ha="left", va="bottom", fontsize=9, color="#D55E00")


def proposal_times(scores: Scores) -> Figure:
    """Median seconds of a proposal against evaluations, over all problems and seeds."""
    from matplotlib.figure import Figure

    look = styles(scores)
    figure = Figure(figsize=(7.0, 3.6), layout="constrained")
    axes = figure.subplots()
    for variant in scores.variants:
        rows = [
            cell.seconds[:, : scores.evaluations] for (_, v), cell in scores.cells.items() if v == variant
        ]
        median = np.median(np.concatenate(rows), axis=0)
        colour, line = look[variant]
        n = np.arange(1, len(median) + 1)
        axes.plot(n, _smoothed(np.maximum(median, 1e-6)), color=colour, linestyle=line, linewidth=1.5)
    axes.set_yscale("log")
    return _finished(figure, look, "evaluations", "seconds a proposal, median")


def _smoothed(values: Array, width: int = 5) -> Array:
    """Running median."""
    padded = np.pad(values, width // 2, mode="edge")
    return np.median(np.lib.stride_tricks.sliding_window_view(padded, width), axis=-1)


def _grid(count: int, columns: int, size: tuple[float, float]) -> tuple[Figure, list[Any]]:
    from matplotlib.figure import Figure

    rows = -(-count // columns)
    width, height = max(size[0] * columns, 6.5), size[1] * rows + 0.9
    figure = Figure(figsize=(width, height), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for unused in panels[count:]:
        unused.set_visible(False)
    return figure, panels


def _finished(figure: Figure, look: Mapping[str, Style], x: str, y: str, note: str = "") -> Figure:
    """Axes, grids and the legend, which may have a note above it."""
    from matplotlib.lines import Line2D

    for axes in figure.axes:
        axes.grid(alpha=0.25)
        axes.tick_params(which="both", labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    figure.supxlabel(x, fontsize=10)
    figure.supylabel(y, fontsize=10)
    lines = [Line2D([], [], color=colour, linestyle=line) for colour, line in look.values()]
    columns = max(1, min(len(lines), int(figure.get_figwidth() / 2.0)))
    legend = figure.legend(
        lines, list(look), loc="outside upper left", ncols=columns, frameon=False, fontsize=9
    )
    legend.set_title(note or None, {"size": 9})
    legend.set_alignment("left")
    return figure
