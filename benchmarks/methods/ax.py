"""Ax's `Client` with its default strategy; conditions on one value of a choice are dependent parameters."""

import logging
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from ax.api.client import Client
from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig

from benchmarks.methods.axes import Axis, Config, accepted, axes_of, pruned
from benchmarks.methods.protocol import Space, Waiting


class Ax:
    """A study. Choices and steps are their numbers to it; what its conditions cannot say is searched flat."""

    def __init__(self, space: Space, seed: int, budget: int) -> None:
        logging.getLogger("ax").setLevel(logging.ERROR)
        self._axes = axes_of(space)
        nested = all(_is_branch(axis, self._axes) for axis in self._axes)
        self._client = Client(random_seed=seed)
        parameters = [_parameter(axis, self._axes if nested else ()) for axis in self._axes]
        self._client.configure_experiment(parameters=parameters)
        self._client.configure_optimization(objective="-loss")
        self._waiting = Waiting()

    def ask(self, q: int) -> list[Config]:
        """q proposals; it may return fewer at once, and is asked again for the rest."""
        proposals: dict[int, Any] = {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            while len(proposals) < q:
                proposals.update(self._client.get_next_trials(max_trials=q - len(proposals)))
        return [self._waiting.add(self._read(raw), index) for index, raw in proposals.items()]

    def _read(self, raw: Mapping[str, Any]) -> Config:
        values = {a.name: a.read(raw[a.name], numbered=a.numbered) for a in self._axes if a.name in raw}
        return pruned(self._axes, values)

    def tell(self, config: Mapping[str, Any], value: float | None, /) -> None:
        index = self._waiting.pop(config)
        if index is None:
            written = {a.name: _written(a, config[a.name]) for a in self._axes if a.name in config}
            index = self._client.attach_trial(parameters=written)
        if value is None:
            self._client.mark_trial_failed(trial_index=index)
        else:
            self._client.complete_trial(trial_index=index, raw_data={"loss": float(value)})


def _is_branch(axis: Axis, axes: Sequence[Axis]) -> bool:
    """Whether it exists always, or for one value of one choice: Ax wants a tree."""
    parents = [other for other in axes if other.name in axis.when]
    values = [value for condition in axis.when.values() for value in accepted(condition)]
    return len(values) <= 1 and all(parent.kind == "categorical" for parent in parents)


def _parameter(axis: Axis, axes: Sequence[Axis]) -> Any:
    """How Ax declares it; `axes` may hang on it, none if conditions are left out."""
    if axis.kind == "categorical" or axis.levels == 1:
        numbers = list(range(axis.levels or 1))
        below = {
            k: [a.name for a in axes if axis.name in a.when and axis.level(k) in accepted(a.when[axis.name])]
            for k in numbers
        }
        dependent = {k: names for k, names in below.items() if names} or None
        return ChoiceParameterConfig(
            name=axis.name, values=numbers, parameter_type="int", is_ordered=axis.ordered,
            dependent_parameters=dependent,
        )  # fmt: skip
    if axis.numbered:
        return RangeParameterConfig(name=axis.name, bounds=(0, axis.levels - 1), parameter_type="int")
    scaling = "log" if axis.log else "linear"
    bounds = (int(axis.low), int(axis.high)) if axis.kind == "int" else (axis.low, axis.high)
    return RangeParameterConfig(name=axis.name, bounds=bounds, parameter_type=axis.kind, scaling=scaling)


def _written(axis: Axis, value: Any) -> Any:
    return axis.index(value) if axis.numbered else value
