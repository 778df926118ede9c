"""BBOB (Hansen et al. 2009) and its suites with whole numbers (Tusar et al. 2019) and noise.

`bbob/f1/d5/i1` comes from the package `ioh`, with its exact optimum; `bbob-mixint/f1/d5/i1` and
`bbob-noisy/f101/d5/i1` come from `coco-experiment`. The noise is COCO's own stream of random numbers, which
each study enters at another place.
"""

import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from bayesopt import Float, Int
from bayesopt.space import Parameter
from benchmarks.problems.base import SMOOTH_FLOOR, Config, MissingError, Problem

NAMES = (
    *(f"bbob/f{f}/d{d}/i1" for d in (2, 5, 10, 20) for f in range(1, 25)),
    *(f"bbob-mixint/f{f}/d{d}/i1" for d in (5, 10, 20) for f in range(1, 25)),
    *(f"bbob-noisy/f{f}/d{d}/i1" for d in (2, 5, 10, 20) for f in range(101, 131)),
)
_NAME = re.compile(r"(bbob|bbob-mixint|bbob-noisy)/f(\d+)/d(\d+)/i(\d+)")


def get(name: str, seed: int) -> Problem:
    """A function, dimension and instance; KeyError if the name is not one."""
    match = _NAME.fullmatch(name)
    if match is None:
        raise KeyError(name)
    suite, *numbers = match.groups()
    f, d, instance = map(int, numbers)
    return _ioh(name, f, d, instance) if suite == "bbob" else _coco(name, suite, f, d, instance, seed)


def _ioh(name: str, f: int, d: int, instance: int) -> Problem:
    try:
        import ioh
    except ImportError as error:
        raise MissingError("python -m pip install ioh") from error

    function = ioh.get_problem(f, instance=instance, dimension=d, problem_class=ioh.ProblemClass.BBOB)
    parameters = {f"x{j}": Float(-5.0, 5.0) for j in range(d)}

    def value(config: Config) -> float:
        return float(function([config[key] for key in parameters]))

    return Problem(name, "bbob", parameters, value, float(function.optimum.y), SMOOTH_FLOOR)


def _coco(name: str, suite: str, f: int, d: int, instance: int, seed: int) -> Problem:
    try:
        import cocoex
    except ImportError as error:
        raise MissingError("python -m pip install coco-experiment") from error

    number = f if f < 100 else f - 100
    found = cocoex.Suite(suite, "", f"dimensions:{d} function_indices:{number} instance_indices:{instance}")
    if len(found) != 1:
        raise KeyError(name)
    function = found[0]
    parameters = _box(function.lower_bounds, function.upper_bounds, function.number_of_integer_variables)
    optimum = _optimum(function)
    if suite == "bbob-noisy":
        for _ in range(1009 * seed):
            function(np.zeros(d))

    def value(config: Config, suite: Any = found) -> float:  # the suite owns the function
        return float(function(np.array([config[key] for key in parameters], dtype=np.float64)))

    return Problem(name, suite, parameters, value, optimum, SMOOTH_FLOOR)


def _box(low: Sequence[float], high: Sequence[float], whole: int) -> dict[str, Parameter]:
    return {
        f"x{j}": Int(int(a), int(b)) if j < whole else Float(float(a), float(b))
        for j, (a, b) in enumerate(zip(low, high, strict=True))
    }


def _optimum(function: Any) -> float:
    """COCO tells where its optimum is by writing a file into the working directory."""
    with tempfile.TemporaryDirectory() as folder, _inside(folder):
        function._best_parameter("print")
        best = np.loadtxt("._bbob_problem_best_parameter.txt")
    # Noise at the optimum is a factor of zero; COCO adds 1.01e-8 there.
    return float(function(best)) - (1.01e-8 if "noisy" in function.id else 0.0)


@contextmanager
def _inside(folder: str) -> Iterator[None]:
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
