"""Random histories such as an optimiser meets them, in the unit box."""

from dataclasses import dataclass

import numpy as np

from bayesopt import Float, Space
from benchmarks.problems.functions import (
    CENTRED,
    Array,
    Problem,
    branin_problem,
    hartmann_bowl,
    matern_sample,
    shifted,
)


@dataclass(frozen=True, eq=False)
class History:
    """Points `X (n, d)` of the unit box in the order of their evaluation, and their outcomes `y (n,)`."""

    seed: int
    problem: str
    layout: str
    X: Array
    y: Array


def unit_box(d: int) -> Space:
    """The space of the histories."""
    return Space({f"x{j}": Float(0.0, 1.0) for j in range(d)})


def random_history(seed: int, sizes: tuple[int, int] = (10, 150)) -> History:
    """History number `seed`: 10 to 150 points of 2 to 10 parameters; test functions and GP draws, some noisy.

    Half of the histories are clustered as in a run: their second half lies around the best point so far.
    """
    rng = np.random.default_rng([seed, 2])
    n, d = int(rng.integers(sizes[0], sizes[1] + 1)), int(rng.integers(2, 11))
    return _history(seed, n, d, rng)


def history_of(seed: int, n: int, d: int) -> History:
    """A random history of a given size."""
    return _history(seed, n, d, np.random.default_rng([seed, 3]))


def _history(seed: int, n: int, d: int, rng: np.random.Generator) -> History:
    problem = _problem(d, rng)
    layout = str(rng.choice(["uniform", "clustered"]))
    X = rng.random((n, d))
    y = np.array([problem.at_unit(u) for u in X])
    if layout == "clustered":
        for i in range(n // 2, n):
            radius = 10.0 ** rng.uniform(-2.5, -0.7)
            X[i] = np.clip(X[y[:i].argmin()] + radius * rng.standard_normal(d), 0.0, 1.0)
            y[i] = problem.at_unit(X[i])
    if rng.random() < 0.25:
        y = y + 0.05 * y.std() * rng.standard_normal(n)
        layout += ", noisy"
    return History(seed, problem.name, layout, X, y)


def _problem(d: int, rng: np.random.Generator) -> Problem:
    """A third draws from a GP prior, the rest test functions that exist in d dimensions."""
    special = {"branin": d == 2, "hartmann": d >= 6}
    names = [*CENTRED, *(name for name, exists in special.items() if exists)]
    name = "matern" if rng.random() < 1 / 3 else str(rng.choice(names))
    if name == "matern":
        return matern_sample(d, rng)
    if name == "branin":
        return branin_problem()
    return hartmann_bowl(d) if name == "hartmann" else shifted(name, d, rng)
