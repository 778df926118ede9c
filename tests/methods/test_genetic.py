"""The genetic algorithm: a function of the history, its operators one by one, better than chance."""

import math
from dataclasses import replace

import pytest
import torch

from bayesopt import Categorical, Float, Int, Space
from bayesopt.acquisition.distinct import is_taken
from bayesopt.methods import genetic
from bayesopt.methods.genetic import DESIGN, MUTATIONS, PARENTS, propose_genetic
from bayesopt.methods.history import History, generator
from bayesopt.methods.quasi_random import sobol_point
from tests.methods.histories import CHOICES, CONDITIONAL, FINITE, MIXED, SMOOTH, SPACES, history, one, places

spaces = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES.keys())


def histories(space, device="cpu"):
    """Before the first result, few results, failures only, many results of which some failed."""
    many = min(40, int(min(space.size, 50)) - 5)
    return (
        history(space, device, n=0, pending=0),
        history(space, device, n=3, pending=1),
        history(space, device, n=min(14, many), pending=0, failures=range(min(14, many))),
        history(space, device, n=many, pending=2, failures=(0, 3)),
    )


def minimised(space, f, n, seeds=(0,), propose=propose_genetic):
    """Outcomes `(b, n)` of studies with nothing pending."""
    b = len(seeds)
    X, y = torch.empty(b, 0, space.dim, dtype=torch.float64), torch.empty(b, 0, dtype=torch.float64)
    while X.shape[1] < n:
        active = space.snap(X)[1].expand(X.shape)
        h = History(
            X,
            active,
            y,
            X[:, :0],
            active[:, :0],
            tuple(seeds),
            X.shape[1],
            places(X.shape[1], 0).expand(len(seeds), -1),
        )
        x = propose(space, h, 1)
        X, y = torch.cat([X, x], 1), torch.cat([y, f(x)], 1)
    return y


def chance(space, h, q):
    return torch.stack([space.sample(q, generator(seed, h.asked)) for seed in h.seeds])


@spaces
def test_proposals_are_snapped_new_and_a_function_of_the_history(space, device):
    for h in histories(space, device):
        X = propose_genetic(space, h, 3)
        assert X.shape == (3, 3, space.dim) and X.device == h.X.device
        torch.testing.assert_close(X, space.snap(X)[0], rtol=0, atol=0)
        assert not is_taken(X, h.known()).any()
        for i in range(3):
            assert len(X[i].unique(dim=0)) == 3
            torch.testing.assert_close(X[i : i + 1], propose_genetic(space, one(h, i), 3), rtol=0, atol=0)


def test_the_design_comes_first_and_stays_until_something_succeeds():
    for n, failures in ((0, ()), (DESIGN - 3, ()), (30, range(30))):
        h = history(SMOOTH, n=n, pending=2, failures=failures)
        X = propose_genetic(SMOOTH, h, 1)
        expected = [sobol_point(SMOOTH, seed, n + 2) for seed in h.seeds]
        torch.testing.assert_close(X[:, 0], torch.stack(expected), rtol=0, atol=0)


def test_a_study_without_a_success_does_not_change_its_neighbour():
    h = history(MIXED, n=20, pending=1)
    failed = replace(h, y=torch.cat([h.y[:1] * torch.nan, h.y[1:]]))
    torch.testing.assert_close(propose_genetic(MIXED, failed, 2)[1:], propose_genetic(MIXED, h, 2)[1:])


@spaces
def test_only_ranks_matter_and_only_those_of_the_parents(space):
    h = histories(space)[-1]
    order = h.y.nan_to_num(torch.inf).argsort(-1)
    rank = order.argsort(-1).to(h.y.dtype)
    monotone = torch.where(h.y.isnan(), torch.nan, rank)
    worse = torch.where(rank < PARENTS, h.y, torch.nan)  # the others may as well have failed
    expected = propose_genetic(space, h, 2)
    for y in (monotone, worse):
        torch.testing.assert_close(propose_genetic(space, replace(h, y=y), 2), expected, rtol=0, atol=0)


def test_parents_are_the_best_of_a_tournament():
    h = history(SMOOTH, n=60, pending=0)
    draws = torch.rand(3, 4000, 3, generator=generator(0), dtype=torch.float64)
    X, _ = genetic._parents(h, draws)
    for i in range(3):
        order = h.y[i].argsort()
        found = [(X[i] == x).all(-1).double().mean() for x in h.X[i, order]]
        # P(the best of 3 uniform ranks is at least k of PARENTS) = (1 - k / PARENTS)^3
        law = (1 - torch.arange(61, dtype=X.dtype) / PARENTS).clamp(min=0) ** 3
        torch.testing.assert_close(torch.stack(found), -law.diff(), atol=0.03, rtol=0)


def test_columns_under_one_condition_are_one_group():
    when = {"c": ["a", "b"]}
    space = Space(
        {
            "x": Float(0, 1), "u": Float(0, 1, when=when), "c": Categorical(["a", "b", "c"]),
            "v": Int(0, 3, when=when), "w": Int(0, 3, when={"c": "c"}),
        }
    )  # fmt: skip
    assert genetic._groups(space) == [0, 1, 2, 1, 4]


@spaces
def test_a_child_takes_what_it_is_lacking_from_the_other_parent(space):
    """Choices come from a parent that has them, numbers lie between the parents or a half beyond."""
    X, on = space.snap(space.sample(2000, generator(1)).view(1, 2, 1000, -1).transpose(0, 1))
    on = on.expand(X.shape)
    U = torch.rand(4, 1, 1000, space.dim, generator=generator(2), dtype=torch.float64)
    child = genetic._crossed(space, (X[0], on[0]), (X[1], on[1]), U[0, ..., :1] < 0.7, *U[1:])
    low, high = X.amin(0), X.amax(0)
    spread = 0.5 * (high - low)
    both, neither = on.all(0), ~on.any(0)
    inside = (child >= low - spread - 1e-12) & (child <= high + spread + 1e-12)
    assert inside[both].all()
    only = torch.where(on[0], X[0], X[1])
    torch.testing.assert_close(child[~both & ~neither], only[~both & ~neither], rtol=0, atol=0)
    torch.testing.assert_close(child[neither], U[3][neither], rtol=0, atol=0)
    for j in (j for j, categorical in enumerate(space.categorical) if categorical):
        one_of_them = (child[..., j] == X[0, ..., j]) | (child[..., j] == X[1, ..., j])
        assert (one_of_them | neither[..., j]).all()
    same = genetic._crossed(space, (X[0], on[0]), (X[1], on[1]), U[0, ..., :1] < 0.0, *U[1:])
    torch.testing.assert_close(torch.where(on[0], same, 0.5), X[0], rtol=0, atol=0)


@spaces
def test_a_mutation_changes_a_few_active_columns_and_one_at_least(space):
    X, active = space.snap(space.sample(3000, generator(1))[None])
    U = [torch.rand(1, 3000, k, generator=generator(2, k), dtype=torch.float64) for k in (1, space.dim)]
    step = torch.rand(1, 3000, space.dim, generator=generator(3), dtype=torch.float64)
    mutant = genetic._mutated(space, X, *U, step)
    changed = mutant != X
    assert not (changed & ~active).any()
    at_a_bound = ((X == 0) | (X == 1)).any(-1)
    assert (changed.any(-1) | at_a_bound).all()
    assert changed.sum(-1).double().mean() < MUTATIONS + 0.5
    for j in (j for j, levels in enumerate(space.levels) if levels and space.categorical[j]):
        after, still = space.snap(mutant)
        moved = after[..., j] != X[..., j]  # a redrawn choice is another one
        assert (moved == changed[..., j])[(still & active).expand(X.shape)[..., j]].all()


def test_a_finite_space_is_exhausted_without_a_repetition():
    for space in (FINITE, CHOICES):
        X = torch.empty(1, 0, space.dim, dtype=torch.float64)
        while X.shape[1] < space.size:
            on = torch.ones_like(X, dtype=torch.bool)
            h = History(X, on, X.sum(-1), X[:, :0], on[:, :0], (0,), X.shape[1], places(X.shape[1], 0))
            X = torch.cat([X, propose_genetic(space, h, 1)], 1)
        assert len(X[0].unique(dim=0)) == space.size


def sphere(X):
    return (X - 0.3).square().sum(-1)


@pytest.mark.parametrize("space", [SMOOTH, MIXED, CONDITIONAL], ids=["smooth", "mixed", "conditional"])
def test_it_is_better_than_chance_for_every_seed(space):
    seeds, best = tuple(range(8)), space.sample(1, generator(50))

    def f(X):
        return (X - best).square().sum(-1)

    ours, theirs = (minimised(space, f, 120, seeds, p).amin(-1) for p in (propose_genetic, chance))
    assert (ours < theirs).sum() >= 7
    assert float((ours / theirs).log().mean()) < math.log(0.5)


@pytest.mark.slow
def test_it_converges():
    space = Space({f"x{i}": Float(0.0, 1.0) for i in range(5)})
    assert minimised(space, sphere, 600, (0, 1, 2)).amin(-1).max() < 1e-4
