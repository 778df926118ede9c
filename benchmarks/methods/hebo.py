"""HEBO with the model that won the NeurIPS 2020 challenge; needs an environment of its own (numpy 1.26)."""

from collections.abc import Mapping
from typing import Any

import hebo.models.model_factory as factory
import numpy as np
import pandas as pd
import torch
from hebo.design_space.design_space import DesignSpace
from hebo.models.gp.gpy_wgp import GPyGP
from hebo.optimizers.hebo import HEBO as Engine  # noqa: N811

from benchmarks.methods.axes import Axis, Config, axes_of, pruned
from benchmarks.methods.protocol import Space, Waiting


class HEBO:
    """A study; conditions are unknown to it: everything is proposed, the inactive values are dropped."""

    def __init__(self, space: Space, seed: int, budget: int) -> None:
        factory.model_dict["gpy"] = GPyGP  # the released package no longer lists it
        np.random.seed(seed)  # noqa: NPY002 - it draws from the global generators
        torch.manual_seed(seed)
        self._axes = axes_of(space)
        known = DesignSpace().parse([_parameter(axis) for axis in self._axes])
        self._engine = Engine(
            known, model_name="gpy", rand_sample=max(8, len(self._axes) + 1), scramble_seed=seed
        )
        self._waiting = Waiting()

    def ask(self, q: int) -> list[Config]:
        proposals = self._engine.suggest(n_suggestions=q)
        return [self._read(proposals.iloc[[i]]) for i in range(q)]

    def _read(self, row: "pd.DataFrame") -> Config:
        raw = row.iloc[0]
        values = {axis.name: axis.read(raw[axis.name], numbered=axis.even) for axis in self._axes}
        return self._waiting.add(pruned(self._axes, values), row)

    def tell(self, config: Mapping[str, Any], value: float | None, /) -> None:
        row = self._waiting.pop(config)
        if row is not None and value is not None:  # it knows no failures
            self._engine.observe(row, np.array([[value]]))


def _parameter(axis: Axis) -> dict[str, Any]:
    if axis.kind == "categorical" and not axis.ordered:
        return {"name": axis.name, "type": "cat", "categories": list(range(len(axis.choices)))}
    if axis.even:
        return {"name": axis.name, "type": "int", "lb": 0, "ub": axis.levels - 1}
    kind = "pow_int" if axis.kind == "int" else "pow" if axis.log else "num"
    return {"name": axis.name, "type": kind, "lb": axis.low, "ub": axis.high}
