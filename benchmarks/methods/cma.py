"""CMA-ES of the package `cma`, in the unit box: plain, and with a linear-quadratic surrogate (lq-CMA-ES).

Whole numbers and ordered choices are rounded; choices without an order are not for it. A failed evaluation
counts as very bad.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any

import cma
import numpy as np

from benchmarks.methods.axes import Axis, Config, at_unit, axes_of
from benchmarks.methods.protocol import Inverted, Space, Waiting, need_numbers

_FAILED = 1e30
_SIGMA = 0.3  # of the width of the box: what the package recommends


def _options(axes: Sequence[Axis], seed: int, **more: Any) -> dict[str, Any]:
    discrete = [j for j, axis in enumerate(axes) if axis.levels is not None]
    if discrete and "integer_variables" not in more:
        # The unit box has steps of 1 / levels: below that, a discrete axis would stand still.
        steps = [1.0 / axis.levels if axis.levels else 0.0 for axis in axes]
        more["minstd"] = [0.2 * step for step in steps]
    return {"bounds": [0, 1], "seed": seed + 1, "verbose": -9, **more}  # seed 0 would be the clock


def _start(d: int, seed: int) -> list[float]:
    return np.random.default_rng([seed, d]).random(d).tolist()


class CMA:
    """A generation after the other; once it has converged, a new start from another point."""

    def __init__(self, space: Space, seed: int, budget: int) -> None:
        self._axes = axes_of(space)
        need_numbers(self._axes, "cma")
        self._seeds = count(1000 * seed)
        self._waiting = Waiting()
        self._renew()

    def _renew(self) -> None:
        seed = next(self._seeds)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            start = _start(len(self._axes), seed)
            self._es = cma.CMAEvolutionStrategy(start, _SIGMA, _options(self._axes, seed))
        self._sampled = False  # since the last update: cma wants it before each
        self._todo: list[Any] = []
        self._points: list[Any] = []
        self._values: list[float] = []

    def ask(self, q: int) -> list[Config]:
        return [self._ask() for _ in range(q)]

    def _ask(self) -> Config:
        if not self._todo:
            self._sample()
        point = self._todo.pop(0)
        return self._waiting.add(at_unit(self._axes, point.tolist()), (self._es, point))

    def _sample(self) -> None:
        """Points of the current distribution: a generation, or more of them while it is under way."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._todo, self._sampled = list(self._es.ask()), True

    def tell(self, config: Mapping[str, Any], value: float | None, /) -> None:
        strategy, point = self._waiting.pop(config) or (None, None)
        if strategy is not self._es:  # foreign, or of a start that has ended meanwhile
            return
        self._points.append(point)
        self._values.append(_FAILED if value is None else value)
        if len(self._points) >= self._es.popsize:
            self._update()

    def _update(self) -> None:
        if not self._sampled:
            self._sample()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._es.tell(self._points, self._values)
            self._points, self._values, self._todo, self._sampled = [], [], [], False
            if self._es.stop():
                self._renew()


class LQ(Inverted):
    """lq-CMA-ES: the same with a surrogate that saves evaluations; restarted until the budget is spent."""

    def __init__(self, space: Space, seed: int, budget: int) -> None:
        axes = axes_of(space)
        need_numbers(axes, "cma-lq")

        def minimise(objective: Callable[[Any], float]) -> None:
            for again in count(1000 * seed):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    options = _options(axes, again, maxfevals=10 * budget)
                    cma.fmin_lq_surr2(objective, _start(len(axes), again), _SIGMA, options)

        super().__init__(minimise, lambda point: at_unit(axes, np.clip(point, 0, 1).tolist()), _FAILED)
