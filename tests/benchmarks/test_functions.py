"""Functions: their optima, what BoTorch says they are, shifts by the seed, draws of a Gaussian process."""

import importlib
import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize as local_search

from benchmarks.problems import functions as problems

UNIT = np.random.default_rng(0).random((5, 10))


KNOWN = [
    problems.branin_problem(),
    problems.hartmann6_problem(),
    problems.hartmann_bowl(9),
    *(problems.shifted(name, 7, np.random.default_rng(1)) for name in problems.CENTRED),
    problems.seeded_problem("ackley10", seed=3),
    problems.seeded_problem("levy20", seed=3),
]


@pytest.mark.parametrize("problem", KNOWN, ids=lambda p: p.name)
def test_optimum_is_the_value_at_the_minimiser_and_a_local_minimum(problem):
    at = np.array(problem.minimiser)
    low, high = np.array(problem.bounds).T
    assert np.all((low < at) & (at < high))
    assert problem.function(at) == pytest.approx(problem.optimum, abs=1e-9)
    assert local_search(problem.function, at, bounds=problem.bounds).fun > problem.optimum - 1e-9


@pytest.mark.parametrize("problem", KNOWN, ids=lambda p: p.name)
def test_no_random_point_beats_the_optimum(problem):
    points = np.random.default_rng(2).random((300, problem.dim))
    assert min(problem.at_unit(u) for u in points) > problem.optimum


@pytest.mark.parametrize(
    ("name", "function", "shift", "dim", "half"),
    [
        ("Ackley", problems.ackley, 0.0, 10, 32.768),
        ("Rastrigin", problems.rastrigin, 0.0, 10, 5.12),
        ("Rosenbrock", problems.rosenbrock, 1.0, 10, 5.0),
        ("Branin", problems.branin, 0.0, 2, 5.0),
        ("Hartmann", problems.hartmann6, 0.0, 6, 1.0),
    ],
)
def test_functions_equal_those_of_botorch(name, function, shift, dim, half):
    test_functions = importlib.import_module("botorch.test_functions")
    oracle = getattr(test_functions, name)(**({} if name == "Branin" else {"dim": dim}), dtype=torch.float64)
    X = (UNIT[:, :dim] - (0.0 if name == "Hartmann" else 0.5)) * half
    expected = oracle._evaluate_true(torch.from_numpy(X + shift).double()).numpy()
    assert [function(x) for x in X] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("name", "half"), [("ackley10", 32.768), ("levy20", 10.0)])
def test_optimum_is_shifted_by_the_seed_alone_and_at_most_60_percent(name, half):
    shifts = np.array([problems.seeded_problem(name, seed).minimiser for seed in range(30)])
    assert np.abs(shifts).max() <= 0.6 * half
    assert len(np.unique(shifts[:, 0])) == 30
    again = problems.seeded_problem(name, 7)
    assert again.minimiser == tuple(shifts[7])


def test_unknown_problems_are_refused():
    with pytest.raises(ValueError, match="problem must be branin, hartmann6 or one of ackley10, levy20"):
        problems.seeded_problem("sphere", 0)


def test_gp_draws_have_the_covariance_of_their_kernel():
    """Over many draws at unit lengthscales: variance 1, correlation Matern 5/2."""
    U = np.array([[0.1, 0.2], [0.4, 0.6]])

    rngs = [np.random.default_rng(seed) for seed in range(3000)]
    draws = [problems.matern_sample(2, rng, lengthscale=np.ones(2), features=64) for rng in rngs]
    values = np.array([[draw.at_unit(u) for u in U] for draw in draws])
    r = math.sqrt(5) * math.dist(*U)
    expected = np.array([[1.0, (1 + r + r * r / 3) * math.exp(-r)]])
    assert np.cov(values.T)[:1] == pytest.approx(expected, abs=0.1)
