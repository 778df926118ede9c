"""Optuna's samplers as shipped, by define-by-run: a trial suggests what is active, parents first."""

import warnings
from collections.abc import Mapping
from typing import Any

import optuna

from benchmarks.methods.axes import Axis, Config, axes_of
from benchmarks.methods.protocol import Space, Waiting


class Optuna:
    """A study in memory.

    An ordered choice is an integer to it, the number of the choice: its own categories know no order.
    """

    def __init__(self, space: Space, seed: int, budget: int, *, sampler: str, **settings: Any) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._axes = axes_of(space)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # experimental arguments of the samplers
            made = getattr(optuna.samplers, sampler)(seed=seed, **settings)
            self._study = optuna.create_study(sampler=made)
        self._waiting = Waiting()

    def ask(self, q: int) -> list[Config]:
        return [self._ask() for _ in range(q)]

    def _ask(self) -> Config:
        trial, config = self._study.ask(), {}
        for axis in self._axes:
            if axis.active(config):
                config[axis.name] = _read(axis, trial._suggest(axis.name, _distribution(axis)))
        return self._waiting.add(config, trial)

    def tell(self, config: Mapping[str, Any], value: float | None, /) -> None:
        state = optuna.trial.TrialState.FAIL if value is None else optuna.trial.TrialState.COMPLETE
        if (trial := self._waiting.pop(config)) is not None:
            self._study.tell(trial, value, state=state)
            return
        active = [axis for axis in self._axes if axis.name in config]
        distributions = {axis.name: _distribution(axis) for axis in active}
        params = {axis.name: _written(axis, config[axis.name]) for axis in active}
        self._study.add_trial(
            optuna.trial.create_trial(params=params, distributions=distributions, state=state, value=value)
        )


def _distribution(axis: Axis) -> Any:
    kinds = optuna.distributions
    if axis.kind == "float":
        return kinds.FloatDistribution(axis.low, axis.high, log=axis.log, step=axis.step)
    if axis.kind == "int":
        return kinds.IntDistribution(int(axis.low), int(axis.high), log=axis.log, step=int(axis.step or 1))
    if axis.ordered:
        return kinds.IntDistribution(0, len(axis.choices) - 1)
    return kinds.CategoricalDistribution(tuple(axis.choices))


def _is_numbered(axis: Axis) -> bool:
    return axis.kind == "categorical" and axis.ordered


def _read(axis: Axis, value: Any) -> Any:
    return axis.choices[value] if _is_numbered(axis) else value


def _written(axis: Axis, value: Any) -> Any:
    return axis.index(value) if _is_numbered(axis) else value
