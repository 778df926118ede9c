"""CMA-ES: a function of the history, the package's own loop, every kind of space."""

import builtins
from dataclasses import replace

import numpy as np
import pytest
import torch
from cmaes import CMA

from bayesopt import Categorical, Float, Int, Space
from bayesopt.acquisition.distinct import is_taken
from bayesopt.beliefs import Normal
from bayesopt.methods import cmaes
from bayesopt.methods.cmaes import SIGMA, propose_cmaes, replay
from bayesopt.methods.history import History, generator
from tests.methods.histories import CHOICES, FINITE, SMOOTH, SPACES, history, one, places

spaces = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES.keys())
CUBE = Space({f"x{i}": Float(0.0, 1.0) for i in range(4)})


def minimised(space, f, n, seed=0, q=1, start=None):
    """What a study with nothing pending is told, `X (n, d)` and `y (n,)`; `start` was brought along."""
    X, y = start or (torch.empty(0, space.dim, dtype=torch.float64), torch.empty(0, dtype=torch.float64))
    foreign = len(X)
    while len(X) < n:
        h = History(
            X[None], space.snap(X)[1].expand(X.shape)[None], y[None], X[None, :0], X[None, :0].bool(),
            (seed,), len(X) - foreign, places(len(X), foreign),
        )  # fmt: skip
        proposals = propose_cmaes(space, h, q)[0]
        X, y = torch.cat([X, proposals]), torch.cat([y, f(proposals)])
    return X, y


def sphere(X):
    return (X - 0.3).square().sum(-1)


@spaces
@pytest.mark.parametrize("foreign", [0, 13])
def test_proposals_are_snapped_new_and_a_function_of_the_history(space, foreign, device):
    for h in (
        history(space, device, n=2, pending=0),
        history(space, device, n=4, pending=1, failures=range(4)),
        history(space, device, n=min(26, int(min(space.size, 30)) - 4), failures=(0, 3)),
    ):
        n = h.X.shape[1]
        h = replace(h, at=places(n, min(foreign, n)).expand(3, -1))
        q = int(min(3, space.size - h.known().shape[1]))
        X = propose_cmaes(space, h, q)
        assert X.shape == (3, q, space.dim) and X.device == h.X.device
        torch.testing.assert_close(X, space.snap(X)[0], rtol=0, atol=0)
        assert not is_taken(X, h.known()).any()
        for i in range(3):
            assert len(X[i].unique(dim=0)) == q
            cmaes._latest.cache_clear()
            torch.testing.assert_close(X[i : i + 1], propose_cmaes(space, one(h, i), q), rtol=0, atol=0)


@spaces
def test_what_was_asked_before_does_not_matter(space):
    """The cached run of a longer, a shorter and another history, against none."""
    h = history(space, n=min(30, int(min(space.size, 40)) - 4), pending=0)
    cut = min(17, h.X.shape[1] - 1)
    short = replace(h, X=h.X[:, :cut], active=h.active[:, :cut], y=h.y[:, :cut], at=h.at[:, :cut])
    other = replace(h, y=-h.y)
    expected = []
    for each in (short, h, other):
        cmaes._latest.cache_clear()
        expected.append(propose_cmaes(space, each, 1))
    for each in (0, 1, 0, 2, 1, 1):
        X = propose_cmaes(space, (short, h, other)[each], 1)
        torch.testing.assert_close(X, expected[each], rtol=0, atol=0)


@pytest.mark.parametrize("seed", [0, 5])
def test_it_is_the_loop_of_the_package(seed):
    """Without anything pending, in a continuous space: proposal for proposal, bit for bit."""
    X, _ = minimised(CUBE, sphere, 120, seed)
    cma, k = CMA(np.full(4, 0.5), SIGMA, np.tile([0.0, 1.0], (4, 1))), 0
    while k + cma.population_size <= len(X):
        solutions = []
        for _ in range(cma.population_size):
            cma.reseed_rng(int(torch.randint(2**32, (), generator=generator(seed, k, 0))))
            x = cma.ask()
            np.testing.assert_array_equal(X[k], x)
            solutions.append((x, float(sphere(torch.from_numpy(x)))))
            k += 1
        cma.tell(solutions)


def test_it_converges_on_the_sphere():
    assert minimised(CUBE, sphere, 500)[1].min() < 1e-6


def test_only_ranks_matter():
    X, _ = minimised(CUBE, sphere, 150)
    scaled, _ = minimised(CUBE, lambda X: 1e300 * sphere(X) - 1e299, 150)
    torch.testing.assert_close(X, scaled, rtol=0, atol=0)


def test_a_converged_run_begins_again_elsewhere_with_twice_the_population():
    def flat(X):
        return torch.zeros(len(X), dtype=X.dtype)

    line = Space({"x": Float(0.0, 1.0)})
    X, y = minimised(line, flat, 400, q=4)
    sizes = [
        replay(line, X[:k], torch.ones_like(X[:k], dtype=torch.bool), y[:k], 0).size for k in (0, 100, 400)
    ]
    assert sizes[0] == 4 and set(sizes) <= {4, 8, 16, 32} and sizes[0] < sizes[1] < sizes[2]


def test_results_brought_along_are_a_warm_start():
    X = torch.rand(100, 4, generator=generator(3), dtype=torch.float64)
    y = sphere(X)
    y[::3] = torch.nan
    run = replay(CUBE, X, torch.ones_like(X, dtype=torch.bool), y, 0, foreign=100)
    good = y.isfinite()
    top = X[good][y[good].argsort()[: int(0.1 * good.sum())]]
    np.testing.assert_allclose(run.cma.mean, top.mean(0))
    covariance = 0.1**2 * torch.eye(4) + torch.cov(top.T, correction=0)
    np.testing.assert_allclose(run.cma._sigma**2 * run.cma._C, covariance)
    warm = [float(minimised(CUBE, sphere, 124, s, start=(X, y))[1][100:].median()) for s in range(5)]
    cold = [float(minimised(CUBE, sphere, 24, s)[1].median()) for s in range(5)]
    assert all(a < 0.7 * b for a, b in zip(warm, cold, strict=True)), (warm, cold)


def test_beliefs_are_where_it_begins():
    space = Space(
        {
            "c": Categorical(["a", "b", "c"], belief={"a": 0.1, "b": 0.8, "c": 0.1}),
            "x": Float(0.0, 1.0, belief=Normal(0.2, 0.05)),
        }
    )
    empty = torch.empty(0, 2, dtype=torch.float64)
    run = replay(space, empty, empty.bool(), empty[:, 0], 0)
    np.testing.assert_allclose(run.chances[0], [0.1, 0.8, 0.1], atol=0.04)
    np.testing.assert_allclose(run.cma.mean, [0.2], atol=1e-3)


def test_results_brought_along_that_all_failed_change_nothing():
    X = torch.rand(20, 4, generator=generator(3), dtype=torch.float64)
    y = torch.full((20,), torch.nan, dtype=torch.float64)
    run = replay(CUBE, X, torch.ones_like(X, dtype=torch.bool), y, 0, foreign=20)
    np.testing.assert_array_equal(run.cma.mean, 0.5)
    assert run.cma._sigma == SIGMA


def test_a_failure_is_worse_than_any_value():
    """A failure here and there equals the worst value there: the algorithm is told ranks."""
    X, y = minimised(CUBE, sphere, 40)
    active = torch.ones_like(X, dtype=torch.bool)
    bad, failed = y.clone(), y.clone()
    bad[::7], failed[::7] = 1e9 + torch.arange(6.0, dtype=torch.float64), torch.nan
    means = [replay(CUBE, X, active, told, 0).cma.mean for told in (bad, failed)]
    np.testing.assert_array_equal(*means)


@pytest.mark.parametrize("seed", range(3))
def test_integers_and_choices_reach_their_optimum_and_go_on_exploring(seed):
    space = Space(
        {
            "k": Int(0, 9), "m": Int(1, 500, log=True), "x": Float(0.0, 1.0),
            "c": Categorical(["a", "b", "c", "d"]), "u": Int(0, 5, when={"c": ["c", "d"]}),
        }
    )  # fmt: skip

    def f(X):
        return torch.tensor(
            [
                abs(c["k"] - 7) + abs(np.log(c["m"] / 3.0)) + (c["x"] - 0.2) ** 2 + "cbda".index(c["c"])
                + (abs(c.get("u", 9) - 2))
                for c in space.decode(X)
            ], dtype=torch.float64,
        )  # fmt: skip

    X, y = minimised(space, f, 400, seed)
    assert y.min() < 1e-3
    late = space.decode(X[300:])
    assert len({c["k"] for c in late}) > 1 and len({c["c"] for c in late}) > 1


def test_a_finite_space_is_exhausted_without_a_repetition():
    for space in (FINITE, CHOICES):
        X, _ = minimised(space, sphere, int(space.size))
        assert len(X.unique(dim=0)) == space.size


def test_a_missing_package_says_how_to_get_it(monkeypatch):
    imported = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "cmaes":
            raise ImportError(name)
        return imported(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match="pip install cmaes"):
        propose_cmaes(SMOOTH, history(SMOOTH), 1)
