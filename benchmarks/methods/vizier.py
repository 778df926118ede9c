"""Vizier's Gaussian-process bandit, its default; needs an environment of its own (JAX 0.4)."""

from collections.abc import Mapping
from typing import Any

import jax
from vizier import algorithms
from vizier import pyvizier as vz
from vizier._src.algorithms.designers.gp_ucb_pe import VizierGPUCBPEBandit

from benchmarks.methods.axes import Axis, Config, axes_of, pruned
from benchmarks.methods.protocol import Space, Waiting

_VALUE = "value"


class Vizier:
    """A study; its designers take no conditions: everything is proposed, the inactive values are dropped."""

    def __init__(self, space: Space, seed: int, budget: int) -> None:
        self._axes = axes_of(space)
        goal = vz.MetricInformation(name=_VALUE, goal=vz.ObjectiveMetricGoal.MINIMIZE)
        problem = vz.ProblemStatement(metric_information=[goal])
        for axis in self._axes:
            if axis.levels != 1:
                _add(problem.search_space.root, axis)
        self._designer = VizierGPUCBPEBandit(problem, rng=jax.random.PRNGKey(seed))
        self._waiting = Waiting()
        self._asked = 0

    def ask(self, q: int) -> list[Config]:
        configs = []
        for suggestion in self._designer.suggest(q):
            self._asked += 1
            trial = suggestion.to_trial(self._asked)
            raw = trial.parameters.as_dict()
            config = pruned(self._axes, {axis.name: _value(axis, raw.get(axis.name)) for axis in self._axes})
            configs.append(self._waiting.add(config, trial))
        return configs

    def tell(self, config: Mapping[str, Any], value: float | None, /) -> None:
        trial = self._waiting.pop(config)
        if trial is None:  # results that it did not propose are not taken
            return
        if value is None:
            trial.complete(vz.Measurement(), infeasibility_reason="failed")
        else:
            trial.complete(vz.Measurement(metrics={_VALUE: value}))
        active = algorithms.ActiveTrials(self._waiting.tokens)
        self._designer.update(algorithms.CompletedTrials([trial]), active)


def _add(root: Any, axis: Axis) -> None:
    scale = vz.ScaleType.LOG if axis.log else vz.ScaleType.LINEAR
    if axis.kind == "categorical" and not axis.ordered:
        root.add_categorical_param(axis.name, [str(k) for k in range(len(axis.choices))])
    elif axis.even:
        root.add_int_param(axis.name, 0, axis.levels - 1)
    elif axis.kind == "int":
        root.add_int_param(axis.name, int(axis.low), int(axis.high), scale_type=scale)
    else:
        root.add_float_param(axis.name, axis.low, axis.high, scale_type=scale)


def _value(axis: Axis, raw: Any) -> Any:
    if raw is None:  # it leaves out what came out as nan
        return axis.value(0.5)
    value = axis.read(raw, numbered=axis.even)
    return min(max(value, axis.low), axis.high) if axis.levels is None else value
