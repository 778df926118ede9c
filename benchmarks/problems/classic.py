"""Classic test functions: this project's, and those of BoTorch.

`branin`, `hartmann6`, `ackley10`, `levy20`, and `shifted/<name>/d<d>` have optima that are known exactly;
where the usual optimum is the centre of the box it is moved, differently for each seed. `botorch/<Name>/d<d>`
are BoTorch's as they are; the optimum it states, rounded, is polished by a local search.
"""

from collections.abc import Callable
from functools import cache

import numpy as np

from bayesopt import Categorical, Float, Int
from bayesopt.space import Parameter
from benchmarks.problems.base import Config, Problem
from benchmarks.problems.functions import CENTRED, SHIFTED, Array, branin_problem, hartmann6_problem, shifted
from benchmarks.problems.functions import Problem as Function

OWN = ("branin", "hartmann6", *SHIFTED, *(f"shifted/{name}/d{d}" for name in CENTRED for d in (2, 5, 10)))

#: BoTorch's functions and dimensions.
BOTORCH: dict[str, tuple[int, ...]] = {
    "Ackley": (2, 5, 10, 20), "AckleyMixed": (53,), "Beale": (2,), "Branin": (2,), "Bukin": (2,),
    "Cosine8": (8,), "DixonPrice": (5, 10), "DropWave": (2,), "EggHolder": (2,), "Griewank": (5, 10),
    "Hartmann": (3, 6), "HolderTable": (2,), "Levy": (5, 10, 20), "Michalewicz": (5, 10), "Powell": (4, 8),
    "Rastrigin": (5, 10, 20), "Rosenbrock": (5, 10, 20), "Shekel": (4,), "SixHumpCamel": (2,),
    "StyblinskiTang": (5, 10), "ThreeHumpCamel": (2,),
}  # fmt: skip
_FIXED = {name for name, dims in BOTORCH.items() if len(dims) == 1} - {"AckleyMixed"}
NAMES = (*OWN, *(f"botorch/{name}/d{d}" for name, dims in BOTORCH.items() for d in dims))


def get(name: str, seed: int) -> Problem:
    """One of `NAMES`; KeyError if there is none."""
    if name.startswith("botorch/"):
        _, function, d = name.split("/")
        return _botorch(function, int(d.removeprefix("d")))
    return _problem(name, _own(name, seed))


def _own(name: str, seed: int) -> Function:
    if name == "branin":
        return branin_problem()
    if name == "hartmann6":
        return hartmann6_problem()
    function, d = SHIFTED[name] if name in SHIFTED else _parsed(name)
    return shifted(function, d, np.random.default_rng([seed, d]))


def _parsed(name: str) -> tuple[str, int]:
    """`shifted/<name>/d<d>`."""
    kind, _, rest = name.partition("/")
    function, _, d = rest.partition("/d")
    if kind != "shifted" or function not in CENTRED or not d.isdigit():
        raise KeyError(name)
    return function, int(d)


def _problem(name: str, function: Function) -> Problem:
    return Problem(name, "classic", function.space(), function, function.optimum)


@cache
def _botorch(name: str, d: int) -> Problem:
    import torch
    from botorch.test_functions import synthetic

    if name not in BOTORCH or (name in _FIXED and d not in BOTORCH[name]):
        raise KeyError(f"botorch/{name}/d{d}")
    made = getattr(synthetic, name)
    known = made() if name in _FIXED else made(dim=d)
    sign = 1.0 if known.is_minimization_problem else -1.0

    def function(x: Array) -> float:
        value = known.evaluate_true(torch.from_numpy(np.asarray(x, dtype=np.float64))[None])
        return sign * float(value)

    parameters = _parameters(known)
    discrete = any(not isinstance(p, Float) for p in parameters.values())
    optimum = sign * float(known.optimal_value)
    if not discrete and known._optimizers is not None:
        optimum = min(optimum, _polished(function, known._optimizers, known.bounds.T.tolist()))

    def of_config(config: Config) -> float:
        return function(np.array([float(config[key]) for key in parameters]))

    return Problem(f"botorch/{name}/d{d}", "classic", parameters, of_config, optimum)


def _parameters(known: "object") -> dict[str, Parameter]:
    """The space of a test function of BoTorch."""
    whole = set(getattr(known, "discrete_inds", None) or [])
    unordered = set(getattr(known, "categorical_inds", None) or [])
    parameters: dict[str, Parameter] = {}
    for j, (low, high) in enumerate(known.bounds.T.tolist()):  # type: ignore[attr-defined]
        if j in unordered:
            parameters[f"x{j}"] = Categorical(list(range(int(low), int(high) + 1)))
        else:
            parameters[f"x{j}"] = Int(int(low), int(high)) if j in whole else Float(low, high)
    return parameters


def _polished(function: Callable[[Array], float], points: object, bounds: list[list[float]]) -> float:
    """The best value near the published minimisers."""
    from scipy.optimize import minimize

    found = [minimize(function, np.asarray(x, dtype=np.float64), bounds=bounds).fun for x in points]  # type: ignore[attr-defined]
    return float(min(found))
