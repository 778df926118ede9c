"""SMAC3: its black-box facade where everything is a number, its facade for hyper-parameters elsewhere."""

import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ConfigSpace import (
    AndConjunction,
    CategoricalHyperparameter,
    ConfigurationSpace,
    EqualsCondition,
    InCondition,
    OrdinalHyperparameter,
    UniformFloatHyperparameter,
    UniformIntegerHyperparameter,
)
from smac import BlackBoxFacade, HyperparameterOptimizationFacade, Scenario
from smac.runhistory import TrialValue
from smac.runhistory.enumerations import StatusType

from benchmarks.methods.axes import Axis, Config, accepted, axes_of, pruned
from benchmarks.methods.protocol import Space, UnsupportedError, Waiting

_FAILED = 1e30


class SMAC:
    """A study, asked and told; results that it did not propose are not taken."""

    def __init__(self, space: Space, seed: int, budget: int) -> None:
        logging.getLogger("smac").setLevel(logging.ERROR)
        self._axes = axes_of(space)
        known = _configuration_space(self._axes, seed)
        plain = all(axis.kind != "categorical" and not axis.when for axis in self._axes)
        facade = BlackBoxFacade if plain else HyperparameterOptimizationFacade
        self._folder = tempfile.TemporaryDirectory(prefix="smac")
        scenario = Scenario(
            known,
            deterministic=True,
            n_trials=max(budget, 2),
            seed=seed,
            output_directory=Path(self._folder.name),
        )
        design = facade.get_initial_design(scenario)
        self._facade = facade(
            scenario, lambda config, seed: 0.0, initial_design=design, overwrite=True, logging_level=False
        )
        self._waiting = Waiting()

    def ask(self, q: int) -> list[Config]:
        return [self._ask() for _ in range(q)]

    def _ask(self) -> Config:
        info = self._facade.ask()
        raw = {_parsed[0]: _parsed[1] for _parsed in dict(info.config).items()}
        config = pruned(self._axes, {a.name: _read(a, raw.get(a.name)) for a in self._axes})
        return self._waiting.add(config, info)

    def tell(self, config: Mapping[str, Any], value: float | None, /) -> None:
        info = self._waiting.pop(config)
        if info is not None:
            status = StatusType.CRASHED if value is None else StatusType.SUCCESS
            cost = _FAILED if value is None else value
            self._facade.tell(info, TrialValue(cost=cost, time=0.1, status=status))


def _configuration_space(axes: Sequence[Axis], seed: int) -> ConfigurationSpace:
    known = ConfigurationSpace(seed=seed)
    made = {axis.name: _hyperparameter(axis) for axis in axes}
    known.add(list(made.values()))
    for axis in axes:
        conditions = [
            _condition(made[axis.name], made[name], next(a for a in axes if a.name == name), condition)
            for name, condition in axis.when.items()
        ]
        if conditions:
            known.add(conditions[0] if len(conditions) == 1 else AndConjunction(*conditions))
    return known


def _hyperparameter(axis: Axis) -> Any:
    if axis.levels == 1:
        return CategoricalHyperparameter(axis.name, [0])
    if axis.kind == "categorical":
        numbers = list(range(axis.levels or 0))
        return (OrdinalHyperparameter if axis.ordered else CategoricalHyperparameter)(axis.name, numbers)
    if axis.numbered:
        return UniformIntegerHyperparameter(axis.name, 0, (axis.levels or 1) - 1)
    if axis.kind == "int":
        return UniformIntegerHyperparameter(axis.name, int(axis.low), int(axis.high), log=axis.log)
    return UniformFloatHyperparameter(axis.name, axis.low, axis.high, log=axis.log)


def _condition(child: Any, parent: Any, axis: Axis, condition: Any) -> Any:
    if isinstance(condition, Mapping):
        if axis.levels is None:
            raise UnsupportedError(f"smac knows no ranges of a continuous parent ({axis.name})")
        values = [axis.level(k) for k in range(axis.levels)]
        low, high = condition.get("min", values[0]), condition.get("max", values[-1])
        values = [value for value in values if low <= value <= high]
    else:
        values = accepted(condition)
    if axis.numbered:
        values = [axis.index(value) for value in values]
    return (
        EqualsCondition(child, parent, values[0]) if len(values) == 1 else InCondition(child, parent, values)
    )


def _read(axis: Axis, raw: Any) -> Any:
    return None if raw is None else axis.read(raw, numbered=axis.numbered)
