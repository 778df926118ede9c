"""Problems of somebody else's folder, given on the command line: `--problems-path FOLDER`.

The folder has a `problems.py` with `get(name)`, which raises KeyError for a name that it does not know. A
problem has `params`, each with `name`, `kind` ("float", "int", "categorical"), `low`, `high`, `log`,
`choices`, `ordered` and `conditions` (pairs of a parent and the values that switch it on);
`evaluate(config)`; `best_known`, None where nobody knows it; where there are learning curves, `has_curve`
and `evaluate_curve(config)`.
"""

import importlib.util
import math
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from bayesopt import Categorical, Float, Int
from bayesopt.space import Parameter
from benchmarks.problems.base import FLOOR, SMOOTH_FLOOR, Problem


def get(folder: Path, name: str) -> Problem:
    """A problem of the folder; KeyError if it has none of that name."""
    return _get(folder.resolve(), name)


@cache
def _get(folder: Path, name: str) -> Problem:
    found = _module(folder).get(name)
    family = name.partition("/")[0]
    best = math.nan if found.best_known is None else float(found.best_known)
    floor = SMOOTH_FLOOR if family.startswith("bbob") else FLOOR
    curve = found.evaluate_curve if getattr(found, "has_curve", False) else None
    parameters = {p.name: _parameter(p) for p in found.params}
    return Problem(name, family, parameters, found.evaluate, best, floor, curve=curve)


@cache
def _module(folder: Path) -> ModuleType:
    path = folder / "problems.py"
    if not path.is_file():
        raise FileNotFoundError(f"--problems-path expects a folder with a problems.py, {path} is none")
    spec = importlib.util.spec_from_file_location(f"problems_of_{folder.name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def _parameter(p: Any) -> Parameter:
    when: dict[str, list[Any]] = {}
    for parent, values in p.conditions or ():
        known = when.get(parent)
        when[parent] = list(values) if known is None else [v for v in values if v in known]
    condition = when or None
    if p.kind == "categorical":
        return Categorical(list(p.choices), ordered=bool(getattr(p, "ordered", False)), when=condition)
    if p.kind == "int":
        return Int(int(p.low), int(p.high), log=bool(p.log), when=condition)
    if p.kind == "float":
        return Float(float(p.low), float(p.high), log=bool(p.log), when=condition)
    raise ValueError(f"kind of parameter {p.name!r} must be float, int or categorical, got {p.kind!r}")
