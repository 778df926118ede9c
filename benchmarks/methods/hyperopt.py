"""hyperopt's TPE, asked and told through its `Trials`.

Conditions on one categorical parent become nested choices, as hyperopt wants them; a space with other
conditions is searched flat: all parameters are proposed, the inactive ones dropped.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from hyperopt import JOB_STATE_DONE, STATUS_FAIL, STATUS_OK, Domain, Trials, hp, space_eval, tpe

from benchmarks.methods.axes import Axis, Config, axes_of, pruned
from benchmarks.methods.protocol import Space, Waiting


class Hyperopt:
    """A study; results that it did not propose are not taken."""

    def __init__(self, space: Space, seed: int, budget: int) -> None:
        self._axes = axes_of(space)
        self._nested = all(_nests(axis, self._axes) for axis in self._axes)
        self._space = _level(self._axes, None, None) if self._nested else _flat(self._axes)
        self._domain, self._trials = Domain(lambda _: 0.0, self._space), Trials()
        self._rng = np.random.default_rng(seed)
        self._waiting = Waiting()

    def ask(self, q: int) -> list[Config]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return [self._ask() for _ in range(q)]

    def _ask(self) -> Config:
        ids = self._trials.new_trial_ids(1)
        self._trials.refresh()
        trial = tpe.suggest(ids, self._domain, self._trials, int(self._rng.integers(2**31)))[0]
        self._trials.insert_trial_docs([trial])
        self._trials.refresh()
        drawn = {key: value[0] for key, value in trial["misc"]["vals"].items() if value}
        raw = _flattened(space_eval(self._space, drawn))
        config = pruned(self._axes, {axis.name: _read(axis, raw.get(axis.name)) for axis in self._axes})
        return self._waiting.add(config, trial["tid"])

    def tell(self, config: Mapping[str, Any], value: float | None, /) -> None:
        number = self._waiting.pop(config)
        trial = next((t for t in self._trials._dynamic_trials if t["tid"] == number), None)
        if trial is not None:
            trial["state"] = JOB_STATE_DONE
            failed = {"status": STATUS_FAIL}
            trial["result"] = failed if value is None else {"status": STATUS_OK, "loss": value}
            self._trials.refresh()


def _nests(axis: Axis, axes: Sequence[Axis]) -> bool:
    """Whether it hangs on nothing, or on one unordered parent."""
    if not axis.when:
        return True
    parent = next(a for a in axes if a.name in axis.when)
    return len(axis.when) == 1 and parent.kind == "categorical" and not parent.ordered


def _flat(axes: Sequence[Axis]) -> dict[str, Any]:
    return {axis.name: _expression(axis, axis.name) for axis in axes}


def _level(axes: Sequence[Axis], parent: Axis | None, value: Any, label: str = "") -> dict[str, Any]:
    """What is active below a value of a parent, as a dictionary of expressions."""
    found = {}
    for axis in axes:
        here = (
            not axis.when
            if parent is None
            else parent.name in axis.when and axis.active({parent.name: value})
        )
        if not here:
            continue
        name = label + axis.name
        children = any(axis.name in other.when for other in axes)
        if children:
            branches = [_level(axes, axis, c, f"{name}={c}/") for c in axis.choices]
            options = [{axis.name: k, **branch} for k, branch in enumerate(branches)]
            found[axis.name] = hp.choice(name, options)
        else:
            found[axis.name] = _expression(axis, name)
    return found


def _flattened(tree: Mapping[str, Any]) -> Config:
    """Nested choices as one dictionary."""
    flat: Config = {}
    for name, value in tree.items():
        flat.update(_flattened(value) if isinstance(value, Mapping) else {name: value})
    return flat


def _expression(axis: Axis, label: str) -> Any:
    if axis.levels is not None and (axis.kind == "categorical" and not axis.ordered):
        return hp.choice(label, list(range(axis.levels)))
    if axis.even:
        return hp.quniform(label, -0.5, axis.levels - 0.5, 1)
    low, high = (axis.low - 0.5, axis.high + 0.5) if axis.levels else (axis.low, axis.high)
    if axis.log:
        return hp.loguniform(label, float(np.log(low)), float(np.log(high)))
    return hp.uniform(label, low, high)


def _read(axis: Axis, raw: Any) -> Any:
    """The value that hyperopt means; None where it proposes none."""
    if raw is None:
        return None
    if axis.levels is None:
        return min(max(float(raw), axis.low), axis.high)
    if axis.log:
        return int(min(max(round(raw), axis.low), axis.high))
    return axis.level(int(min(max(round(raw), 0), axis.levels - 1)))
