"""Batches: as good as BoTorch's, distinct, the same for a study alone or among others."""

import math

import pytest
import torch
from botorch.acquisition.logei import qLogExpectedImprovement
from botorch.optim import optimize_acqf
from botorch.sampling import SobolQMCNormalSampler

from bayesopt import bfgs
from bayesopt.acquisition import ACQUISITIONS, Surface
from bayesopt.acquisition.batch import Situation, climb_jointly, greedy
from bayesopt.acquisition.distinct import first_free, untried
from bayesopt.acquisition.fantasies import Averaged, Fantasies, innovations
from bayesopt.acquisition.joint import JointPosterior, QExpectedImprovement, QLogExpectedImprovement
from bayesopt.acquisition.thompson import thompson
from bayesopt.interop.botorch import BoTorchModel
from bayesopt.methods.history import generator
from tests.acquisition.situations import MIXED, SMOOTH, posterior, some_points

Q = 4
spaces = pytest.mark.parametrize("space", [SMOOTH, MIXED], ids=["smooth", "mixed"])


def situation(space, device, b=2):
    embedding, gp, X, best = posterior(space, device, b)
    return Situation(Surface.over(space, embedding, gp), X, gp.y, X, (None,) * 64), gp, best


def normals(b, q, draws, device, seed=3):
    return torch.stack([innovations(draws, q, seed + i) for i in range(b)]).to(device)


def choose(known, gp, best, q=Q, draws=16):
    b, device = len(known.X), known.X.device
    return greedy(
        known,
        Fantasies.of(gp, best, draws),
        normals(b, q, draws, device),
        lambda slot: Averaged(ACQUISITIONS["log_ei"]),
        lambda slot: [generator(seed, 0, slot) for seed in range(b)],
    )


def qei(known, gp, best, X):
    """By plain Monte Carlo with 8,192 draws, `(b,)`."""
    F = known.surface.embedding(*known.surface.space.snap(X))
    joint = JointPosterior(Fantasies.of(gp, best, 1), normals(len(X), X.shape[1], 2**13, X.device, 11))
    return joint.value(QExpectedImprovement(), F)


@pytest.mark.filterwarnings("ignore")
def test_a_greedy_batch_is_as_good_as_botorchs(device):
    known, gp, best = situation(SMOOTH, device, b=3)
    ours = qei(known, gp, best, choose(known, gp, best))
    bounds = torch.tensor([[0.0] * 3, [1.0] * 3], dtype=torch.float64, device=device)
    theirs = []
    for i in range(3):
        sampler = SobolQMCNormalSampler(torch.Size([128]), seed=i)
        acquisition = qLogExpectedImprovement(BoTorchModel(gp.select(i)), best_f=-best[i, 0], sampler=sampler)
        X, _ = optimize_acqf(acquisition, bounds, Q, num_restarts=4, raw_samples=128, sequential=True)
        theirs.append(X)
    ratio = ours / qei(known, gp, best, torch.stack(theirs))
    assert ratio.mean() > 0.98, ratio


@spaces
def test_a_batch_is_worth_more_than_its_first_points_and_random_ones(space, device):
    known, gp, best = situation(space, device)
    X = choose(known, gp, best)
    values = torch.stack([qei(known, gp, best, X[:, :q]) for q in range(1, Q + 1)])
    assert (values.diff(dim=0) > 0).all()
    rival = torch.stack([qei(known, gp, best, some_points(space, device, 2, Q, s)[0]) for s in range(20)])
    assert (values[-1] > rival.amax(0)).all()


@spaces
def test_the_joint_climb_helps_and_never_hurts(space, device):
    known, gp, best = situation(space, device)
    X = choose(known, gp, best)
    moved = space.snap(X + 0.03 * torch.sin(50 * X))[0]
    e = normals(2, Q, 256, device)
    fantasies, options = Fantasies.of(gp, best, 256), bfgs.Options(evaluations=15, first_step=0.2)
    climbed = climb_jointly(known, fantasies, e, moved, options)
    torch.testing.assert_close(space.snap(climbed)[0], climbed)
    joint, embed = JointPosterior(fantasies, e), known.surface.embedding
    before, after = (joint.value(QLogExpectedImprovement(), embed(*space.snap(x))) for x in (moved, climbed))
    assert (after >= before).all() and (after > before).any()
    torch.testing.assert_close(climbed[..., 1], moved[..., 1]) if space is MIXED else None


@spaces
def test_the_studies_of_a_batch_are_independent(space, device):
    known, gp, best = situation(space, device, b=3)
    together = choose(known, gp, best)
    for i in range(3):
        one = torch.tensor([i], device=device)
        alone = greedy(
            Situation(known.surface.rows(one), known.X[one], known.z[one], known.taken[one], known.nearby),
            Fantasies.of(gp.select(one), best[one], 16),
            normals(3, Q, 16, device)[one],
            lambda slot: Averaged(ACQUISITIONS["log_ei"]),
            lambda slot, seed=i: [generator(seed, 0, slot)],
        )
        torch.testing.assert_close(together[i], alone[0], rtol=0, atol=1e-5)


# --------------------------------------------------------------------------------------------- Thompson


def test_thompson_proposes_each_point_as_often_as_it_is_the_best(device):
    """On ten points of a line: shares of the minimisers of exact joint draws from the posterior."""
    from bayesopt import Int, Space

    space = Space({"k": Int(0, 9)})
    grid, active = space.encode(list(space.grid()))
    embedding, gp, X, _ = posterior(space, device, b=1, n=4)
    surface = Surface.over(space, embedding, gp)
    nothing = grid[None, :0].to(device)
    counts = torch.zeros(10)
    for s in range(300):
        x = thompson(surface, gp, X, gp.y, nothing, 1, generator(s, 1))
        counts[int(x[0, 0] * 10)] += 1
    mu, Sigma = gp.posterior(embedding(grid, active)[None].to(device))
    Sigma = Sigma[0].cpu() + 1e-9 * torch.eye(10, dtype=torch.float64)
    normal = torch.randn(10, 50_000, generator=generator(4), dtype=torch.float64)
    draws = mu[0].cpu()[:, None] + torch.linalg.cholesky(Sigma) @ normal
    share = torch.bincount(draws.argmin(0), minlength=10) / 50_000
    assert (counts / 300 - share).abs().max() < 4 * math.sqrt(0.25 / 300)
    assert (share > 0.02).sum() >= 2  # else the test says nothing


@spaces
def test_thompson_climbs_beyond_its_candidates_and_repeats_nothing(space, device):
    known, gp, _ = situation(space, device, b=1)
    X = thompson(known.surface, gp, known.X, known.z, known.taken, 20, generator(0))
    torch.testing.assert_close(space.snap(X)[0], X)
    every = torch.cat([known.taken[0], X])
    distance = torch.cdist(every, every, p=torch.inf) + torch.eye(len(every), dtype=X.dtype, device=device)
    assert distance[len(known.taken[0]) :].min() > 1e-9
    source = generator(0)
    paths = gp.select(0).sample_paths(20, source)  # the same functions
    dense = known.surface.embedding(*some_points(space, device, 1, 4000))[0]
    reached = paths.each(known.surface.embedding(*space.snap(X[:, None])))[:, 0]
    assert (reached <= paths(dense).amin(-1) + 0.05).double().mean() > 0.8


# --------------------------------------------------------------------------------------------- distinct


def test_the_first_free_point_is_taken_and_a_full_list_is_replaced(device):
    points = torch.tensor([[[0.1], [0.2], [0.3]], [[0.4], [0.5], [0.6]]], dtype=torch.float64, device=device)
    from bayesopt import Float, Space

    space = Space({"x": Float(0.0, 1.0)})
    taken = torch.tensor([[[0.1], [0.3], [0.9]], [[0.4], [0.5], [0.6]]], dtype=torch.float64, device=device)
    value = torch.zeros(2, 3, dtype=torch.float64, device=device)
    value[0, 1] = -torch.inf
    x = first_free(points, value, taken, space, [generator(0), generator(1)])
    for i in range(2):  # one has no finite free point left, the other no free one
        assert (taken[i] - x[i]).abs().min() > 1e-9
    value[0, 1] = -1.0
    assert first_free(points, value, taken, space, [generator(0), generator(1)])[0] == 0.2


def test_untried_finds_the_last_configuration_of_a_finite_space(device):
    from bayesopt import Int, Space

    space = Space({"a": Int(1, 40), "b": Int(1, 30)})
    grid = space.encode(list(space.grid()))[0].to(device)
    missing = 777
    taken = torch.cat([grid[:missing], grid[missing + 1 :]])
    x = untried(space, taken, generator(0), grid[0])
    torch.testing.assert_close(x, grid[missing])
