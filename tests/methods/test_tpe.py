"""TPE as a function of the history: what must not matter does not, what must does."""

import math
from dataclasses import replace

import pytest
import torch

from bayesopt import Categorical, Float, Int, Space
from bayesopt.beliefs import Normal
from bayesopt.methods.history import History, generator
from bayesopt.methods.tpe import (
    TPE,
    _among,
    _best,
    _climbed_abreast,
    _climbed_alone,
    _codes,
    _picks,
    _picks_at_home,
    _Taken,
    density_ratio,
    propose_tpe,
)
from bayesopt.rows import take
from tests.methods.histories import places

FLAT = Space({"x": Float(0.0, 1.0), "y": Float(0.0, 1.0), "z": Float(0.0, 1.0)})
TREE = Space(
    {
        "x": Float(0.0, 1.0),
        "c": Categorical(["a", "b", "c"]),
        "u": Float(0.0, 1.0, when={"c": "a"}),
        "k": Int(1, 40, when={"c": ["a", "b"]}),
    }
)
TABLE = Space({"a": Categorical(["p", "q", "r"]), "k": Int(1, 4), "o": Categorical([1, 2], ordered=True)})
SETTINGS = [TPE(), TPE(sharp_every=1), TPE(sharp_every=0), TPE(joint=False)]
NAMES = ["turns", "sharp", "smooth", "univariate"]


def target(X):
    """Best at 0.3 in every column."""
    return (X - 0.3).square().sum(-1)


def history(space, device, b=2, n=30, pending=0, seed=0):
    """Random configurations of b studies and their outcomes."""
    X = torch.stack([space.sample(n + pending, generator(seed, s)) for s in range(b)]).to(device)
    X, active = space.snap(X)
    active = active.expand(X.shape)
    y = target(X[:, :n])
    at = places(n, 0).expand(b, -1)
    return History(X[:, :n], active[:, :n], y, X[:, n:], active[:, n:], tuple(range(b)), n + pending, at)


@pytest.mark.parametrize("options", SETTINGS, ids=NAMES)
@pytest.mark.parametrize("space", [FLAT, TREE, TABLE], ids=["flat", "tree", "table"])
def test_proposals_are_valid_new_and_the_same_for_a_study_in_a_batch(space, options, device):
    known = history(space, device, b=3, n=12, pending=2)
    X = propose_tpe(space, known, 5, options)
    torch.testing.assert_close(space.snap(X)[0], X, rtol=0, atol=0)
    for i in range(3):
        everything = [space.key(c) for c in space.decode(torch.cat([known.known()[i], X[i]]))]
        new = everything[-5:]
        assert len(set(new)) == min(5, len(set(new) - set(everything[:-5]))) == 5
        rows = {name: getattr(known, name)[i : i + 1] for name in ("X", "active", "y")}
        rest = {name: getattr(known, name)[i : i + 1] for name in ("X_pending", "active_pending", "seeds")}
        alone = propose_tpe(space, replace(known, **rows, **rest), 5, options)
        torch.testing.assert_close(alone[0], X[i], rtol=0, atol=1e-9)


@pytest.mark.parametrize("options", SETTINGS, ids=NAMES)
@pytest.mark.parametrize("transform", [torch.exp, lambda y: 1e9 * y - 7.0, lambda y: -1.0 / (y + 0.1)])
def test_only_the_ranks_of_outcomes_matter(options, transform, device):
    known = history(TREE, device)
    X = propose_tpe(TREE, known, 2, options)
    assert torch.equal(propose_tpe(TREE, replace(known, y=transform(known.y)), 2, options), X)
    assert not torch.equal(propose_tpe(TREE, replace(known, y=-known.y), 2, options), X)


def test_randomness_belongs_to_seed_and_number_asked(device):
    known = history(FLAT, device, b=1)
    X = propose_tpe(FLAT, known, 2)
    assert torch.equal(propose_tpe(FLAT, known, 2), X)
    assert not torch.equal(propose_tpe(FLAT, replace(known, seeds=(5,)), 2), X)
    assert not torch.equal(propose_tpe(FLAT, replace(known, asked=known.asked + 4), 2), X)


@pytest.mark.parametrize("options", SETTINGS, ids=NAMES)
def test_a_finite_space_is_proposed_once_and_then_again(options, device):
    known = history(TABLE, device, b=1, n=0)
    for _ in range(8):
        X = propose_tpe(TABLE, known, 3, options)
        both, active = TABLE.snap(torch.cat([known.X, X], 1))
        known = replace(known, X=both, active=active, y=target(both), asked=known.asked + 3)
    assert TABLE.size == 24 == len({TABLE.key(c) for c in TABLE.decode(known.X[0])})
    assert propose_tpe(TABLE, known, 2, options).shape == (1, 2, 3)


def test_a_large_finite_space_is_not_repeated(device):
    space = Space({f"k{i}": Int(1, 6) for i in range(4)})  # too many to enumerate
    known = history(space, device, b=1, n=10)
    for _ in range(40):
        X = propose_tpe(space, known, 2)
        both, active = space.snap(torch.cat([known.X, X], 1))
        known = replace(known, X=both, active=active, y=target(both), asked=known.asked + 2)
    assert len({space.key(c) for c in space.decode(known.X[0, 10:])}) == 80
    assert target(known.X[0, 60:]).mean() < 0.5 * target(known.X[0, :10]).mean()


@pytest.mark.parametrize("m", [2, 60])
def test_points_are_known_up_to_rounding(m, device):
    U = torch.rand(2, 100 + m, 3, dtype=torch.float64, generator=generator(0)).to(device)
    taken, new = U[:, :100], U[:, 100:]
    noise = 2e-16 * torch.rand(2, m, 3, dtype=torch.float64, generator=generator(1)).to(device)
    assert bool(_among(_codes(taken[:, :m] + noise), _codes(taken)).all())
    close = (
        taken[:, :m] + 1e-9 * torch.eye(3, dtype=U.dtype, device=device)[torch.arange(m, device=device) % 3]
    )
    for points in (new, close):
        assert not bool(_among(_codes(points), _codes(taken)).any())
    assert not bool(_among(_codes(new), _codes(taken[:, :0])).any())


@pytest.mark.parametrize("options", SETTINGS, ids=NAMES)
@pytest.mark.parametrize("space", [FLAT, TREE], ids=["flat", "tree"])
def test_finds_better_points_than_chance(space, options, device):
    known = history(space, device, b=4, n=10)
    for _ in range(30):
        x = propose_tpe(space, known, 1, options)
        X, active = space.snap(torch.cat([known.X, x], 1))
        known = replace(known, X=X, active=active, y=target(X), asked=known.asked + 1)
    by_chance = history(space, device, b=4, n=2000, seed=3).y
    assert float(known.y[:, -10:].median(-1).values.mean()) < float(by_chance.quantile(0.1, -1).mean())


def test_failures_are_bad_however_many(device):
    known = history(FLAT, device, n=60)
    failed = known.X[..., 0] < 0.5
    count = int(failed.sum(-1).min())
    rank = torch.where(failed, known.X[..., 0], 2.0).argsort(-1)[:, :count]
    y = known.y.scatter(1, rank, torch.nan)  # the same number in both studies
    ratio = density_ratio(FLAT, replace(known, y=y), TPE())
    centres, on = ratio.good.centre, ratio.good.active
    assert bool(
        (centres[..., 0] > known.X.gather(1, rank[..., None].expand(-1, -1, 3))[..., 0].amax())[
            on[..., 0]
        ].all()
    )
    assert ratio.bad.centre.shape[1] + centres.shape[1] == 60 + 2
    X = propose_tpe(FLAT, replace(known, y=y), 4)
    assert bool((X[..., 0] > 0.4).all())
    nothing = propose_tpe(FLAT, replace(known, y=torch.full_like(y, torch.nan)), 3)
    assert nothing.shape == (2, 3, 3)


def test_a_parameter_is_learnt_from_the_configurations_that_have_it(device):
    known = history(TREE, device, b=1, n=200)
    y = target(known.X) + 5.0 * (known.X[..., 1] > 1 / 3)  # "a" is best, and there u = 0.3
    ratio = density_ratio(TREE, replace(known, y=y), TPE())
    u = torch.linspace(0.0, 1.0, 101, dtype=torch.float64, device=device)
    X = torch.tensor([0.3, 1 / 6, 0.5, 0.3], dtype=torch.float64, device=device).repeat(1, 101, 1)
    X[0, :, 2] = u
    X, active = TREE.snap(X)
    good, bad = ratio.log_densities(X, active)
    best = u[(good - bad)[0].argmax()]
    assert abs(float(best) - 0.3) < 0.2


@pytest.mark.parametrize("options", SETTINGS, ids=NAMES)
def test_what_is_pending_counts_as_bad(options, device):
    known = history(FLAT, device, b=1, n=40)
    x = propose_tpe(FLAT, known, 1, options)
    waiting = replace(known, X_pending=x, active_pending=torch.ones_like(x, dtype=torch.bool))
    before = density_ratio(FLAT, known, options).log_densities(x, waiting.active_pending)
    after = density_ratio(FLAT, waiting, options).log_densities(x, waiting.active_pending)
    assert float(after[1] - before[1]) > 0.5 and float(after[0] - before[0]) == 0.0
    assert float((propose_tpe(FLAT, waiting, 1, options) - x).abs().amax()) > 0.01


@pytest.mark.parametrize("options", SETTINGS[:3], ids=NAMES[:3])
def test_a_batch_is_no_crowd(options, device):
    known = history(FLAT, device, b=4, n=60)
    X = propose_tpe(FLAT, known, 8, options)
    apart = torch.cdist(X, X) + 9.0 * torch.eye(8, dtype=X.dtype, device=device)
    assert float(apart.amin(-1).median()) > 0.05
    by_chance = history(FLAT, device, b=4, n=500, seed=3).y
    assert bool((target(X).median(-1).values < by_chance.quantile(0.25, -1)).all())


def test_a_belief_leads_until_outcomes_know_better(device):
    believed = Space({"x": Float(0.0, 1.0, belief=Normal(0.8, 0.05)), "y": Float(0.0, 1.0)})
    early = propose_tpe(believed, history(believed, device, b=4, n=3), 1)
    assert bool(((early[..., 0] - 0.8).abs() < 0.15).all())
    U = torch.rand(4, 300, 2, dtype=torch.float64, generator=generator(0)).to(device)
    late = history(believed, device, b=4, n=300)
    late = replace(late, X=U, y=target(U))
    assert bool(((propose_tpe(believed, late, 1)[..., 0] - 0.3).abs() < 0.2).all())


@pytest.mark.parametrize("sharp", [False, True])
def test_a_long_history_is_thinned_and_says_nearly_the_same(sharp, device):
    known = history(FLAT, device, b=2, n=4000)
    thin, full = (density_ratio(FLAT, known, TPE(most_bad=most), sharp) for most in (TPE().most_bad, 10_000))
    assert thin.bad.centre.shape[1] == TPE().most_bad + 1 and full.bad.centre.shape[1] == 3976
    X, active = full.good.sample(500, [generator(s, 1) for s in range(2)])
    ranks = [(good - bad).argsort(-1).argsort(-1).double() for good, bad in
             (ratio.log_densities(X, active) for ratio in (thin, full))]  # fmt: skip
    for pair in zip(*ranks, strict=True):
        assert float(torch.corrcoef(torch.stack(pair))[0, 1]) > 0.9


def test_the_climb_never_loses(device):
    known = history(FLAT, device, b=3, n=50)
    active = torch.ones(3, 1, 3, dtype=torch.bool, device=device)
    known = replace(known, asked=2)  # the sharp turn
    ratio = density_ratio(FLAT, known, TPE(), True)
    climbed, near = propose_tpe(FLAT, known, 1), propose_tpe(FLAT, known, 1, TPE(candidates=24))
    best = [good - bad for good, bad in (ratio.log_densities(x, active) for x in (climbed, near))]
    draws, _ = ratio.good.sample(2400, [generator(s, 2, 0) for s in range(3)])
    good, bad = ratio.log_densities(draws, active.expand(3, 2400, 3))
    assert bool((best[0][:, 0] >= (good - bad).amax(-1)).all())
    assert bool((best[1][:, 0] > (good - bad).quantile(0.95, -1)).all())


@pytest.mark.parametrize("n", [30, 2000])
@pytest.mark.parametrize("sharp", [False, True])
@pytest.mark.parametrize("space", [FLAT, TREE], ids=["flat", "tree"])
def test_a_single_proposal_is_the_best_of_all_draws(space, sharp, n, device):
    known = history(space, device, b=4, n=n)
    ratio = density_ratio(space, known, TPE(), sharp)
    X, active = ratio.good.sample(2400, [generator(s, 2, 0) for s in range(4)])
    good, bad = ratio.log_densities(X, active)
    chosen = _best(ratio, X, active, _Taken(known.X, known.X_pending))
    above, below = ratio.log_densities(chosen, space.activity(chosen))
    torch.testing.assert_close((above - below)[:, 0], (good - bad).amax(-1))


@pytest.mark.parametrize("space", [FLAT, TREE], ids=["flat", "tree"])
def test_one_point_climbs_as_among_others(space):
    ratio = density_ratio(space, history(space, "cpu", b=1, n=60), TPE(), True)
    X, _ = ratio.good.sample(20, [generator(0, 1)])
    for x in X[0]:
        (alone, better), (abreast, gained) = (
            climb(ratio, x[None, None]) for climb in (_climbed_alone, _climbed_abreast)
        )
        torch.testing.assert_close(alone, abreast, rtol=0, atol=1e-7)
        assert bool((better == gained).all())


@pytest.mark.parametrize("picks", [_picks, _picks_at_home], ids=["torch", "numpy"])
@pytest.mark.parametrize("space", [FLAT, TREE], ids=["flat", "tree"])
def test_each_of_a_batch_is_the_best_given_those_before(space, picks):
    ratio = density_ratio(space, history(space, "cpu", b=3), TPE())
    X, _ = ratio.good.sample(30, [generator(s, 1) for s in range(3)])
    X = torch.cat([X, X[:, :10]], 1)  # points that are there twice are taken once
    active = space.activity(X)
    good, bad = ratio.log_densities(X, active)
    kernels = ratio.liars(X).log_kernels(X, active).mT
    found = picks(kernels, _codes(X), good, bad - math.log(ratio.liar_weight), 8)
    seen = torch.zeros_like(good, dtype=torch.bool)
    for k in range(8):
        before = take(X, found[:, :k])
        good, bad = (ratio.beside(before) if k else ratio).log_densities(X, active)
        torch.testing.assert_close(
            take(good - bad, found[:, k : k + 1])[:, 0], (good - bad).masked_fill(seen, -torch.inf).amax(-1)
        )
        seen |= _among(_codes(X), _codes(take(X, found[:, k : k + 1])))
    assert bool((seen.sum(-1) >= 8).all())
    assert all(len(set(row)) == 8 for row in _codes(take(X, found)).tolist())
