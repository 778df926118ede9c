"""The maximiser: gradients of the surface, mixed spaces, batches."""

import itertools

import pytest
import torch
from botorch.acquisition import LogExpectedImprovement as BoTorchLogEI
from botorch.optim import optimize_acqf

from bayesopt import Categorical, Float, Int, Space
from bayesopt.acquisition import ACQUISITIONS, Effort, Pointwise, Surface, maximize
from bayesopt.acquisition.candidates import Draws, Moves
from bayesopt.acquisition.maximizer import DEFAULT_EFFORT
from bayesopt.beliefs import Normal
from bayesopt.interop.botorch import BoTorchModel
from bayesopt.kernels import Embedding, Stationary
from bayesopt.methods.history import generator
from bayesopt.surrogates.gp import fit
from bayesopt.surrogates.outcomes import half_rank
from bayesopt.surrogates.priors import default_priors

SPACES = {
    "smooth": Space({"x": Float(0.0, 1.0), "y": Float(0.0, 1.0), "z": Float(0.0, 1.0)}),
    "integers": Space({"k": Int(0, 60), "m": Int(0, 4), "x": Float(0.0, 1.0)}),
    "conditional": Space(
        {
            "x": Float(0.0, 1.0),
            "c": Categorical(["a", "b", "c"]),
            "u": Float(0.0, 1.0, when={"c": "a"}),
            "k": Int(1, 40, when={"c": ["a", "b"]}),
        }
    ),
    "belief": Space({"x": Float(0.0, 1.0, belief=Normal(0.2, 0.1)), "y": Float(0.0, 1.0)}),
}
spaces = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES.keys())


def surface(space, device, acquisition="log_ei", b=2, n=14):
    embedding = Embedding.of(space)
    kernel = Stationary(groups=embedding.groups)
    X = torch.stack([space.sample(n, generator(seed)) for seed in range(b)])
    X, active = space.snap(X)
    y = torch.sin(4 * X).sum(-1) + (X[..., 0] - 0.4) ** 2
    priors = default_priors(kernel, space.dim).to(device)
    gp = fit(embedding(X.to(device), active.to(device)), half_rank(y.to(device)), kernel, priors)
    best = gp.fitted().amin(-1, keepdim=True)
    return Surface.over(space, embedding, gp, Pointwise(gp, ACQUISITIONS[acquisition], best)), X.to(device)


def propose(surface_, X, effort=DEFAULT_EFFORT, seeds=(0, 1)):
    draws = Draws.of([generator(s) for s in seeds], X.shape[-1], effort.sobol, effort.local, X.device)
    return maximize(surface_, X, surface_.terms[0].gp.y, draws, effort)


@spaces
@pytest.mark.parametrize("acquisition", ACQUISITIONS)
def test_gradient_equals_finite_differences(space, acquisition, device):
    target, _ = surface(space, device, acquisition)
    X, active = space.snap(torch.stack([space.sample(5, generator(9, s)) for s in range(2)]).to(device))
    _, gradient = target.value_and_gradient(X, active)
    for j in range(space.dim):
        step = torch.zeros(space.dim, dtype=X.dtype, device=device)
        step[j] = 1e-6
        up, down = (target.value_and_gradient(X + s * step, active)[0] for s in (1, -1))
        moves = active[..., j] & (not space.categorical[j])
        expected = torch.where(moves, (up - down) / 2e-6, 0.0)
        if space.has_belief:  # a piecewise linear table: away from its kinks only
            ok = (gradient[..., j] - expected).abs() < 1e-2 * (1 + expected.abs())
            assert ok.double().mean() > 0.7
        else:
            torch.testing.assert_close(gradient[..., j], expected, rtol=1e-4, atol=1e-5)


@spaces
def test_values_agree_with_and_without_gradient_and_in_chunks(space, device, monkeypatch):
    target, X = surface(space, device)
    X, active = space.snap(X)
    value = target.value(X, active)
    torch.testing.assert_close(value, target.value_and_gradient(X, active)[0])
    monkeypatch.setattr("bayesopt.acquisition.surface._CHUNK_ENTRIES", 90)
    torch.testing.assert_close(target.value(X, active), value)


@spaces
def test_proposals_are_valid_ranked_and_better_than_a_dense_search(space, device):
    target, X = surface(space, device)
    points, value = propose(target, X)
    assert (value.diff(dim=-1) <= 0).all()
    snapped, active = space.snap(points)
    torch.testing.assert_close(points, snapped)
    torch.testing.assert_close(value[:, :5], target.value(snapped, active)[:, :5], rtol=1e-6, atol=1e-6)
    dense, on = space.snap(torch.stack([space.sample(20_000, generator(5))] * 2).to(device))
    assert (value[:, 0] >= target.value(dense, on).amax(-1) - 0.05).all()


@spaces
def test_a_batch_proposes_what_its_studies_would_alone(space, device):
    target, X = surface(space, device, b=3)
    together, _ = propose(target, X, seeds=(0, 1, 2))
    for i in range(3):
        keep = torch.tensor([i], device=device)
        alone, _ = propose(target.rows(keep), X[i : i + 1], seeds=(i,))
        torch.testing.assert_close(together[i, 0], alone[0, 0], rtol=0, atol=1e-7)


@pytest.mark.filterwarnings("ignore")
def test_log_ei_reaches_botorch_on_the_same_posterior(device):
    target, X = surface(SPACES["smooth"], device, b=6)
    _, value = propose(target, X, seeds=range(6))
    theirs = []
    for i in range(6):
        acquisition = BoTorchLogEI(
            BoTorchModel(target.terms[0].gp.select(i)), best_f=-target.terms[0].best[i, 0]
        )
        bounds = torch.tensor([[0.0] * 3, [1.0] * 3], dtype=torch.float64, device=device)
        theirs.append(optimize_acqf(acquisition, bounds, q=1, num_restarts=6, raw_samples=256)[1])
    assert ((value[:, 0] - torch.stack(theirs)) > -0.05).sum() >= 5


def test_a_small_finite_space_is_searched_exactly(device):
    space = Space(
        {"a": Categorical(["p", "q", "r"]), "k": Int(0, 20), "m": Int(0, 3, when={"a": ["p", "q"]})}
    )
    target, X = surface(space, device)
    points, value = propose(target, X)
    assert points.shape[1] == space.size == 2 * 21 * 4 + 21
    grid, active = space.encode(list(space.grid()))
    everything = target.value(grid.expand(2, -1, -1).to(device), active.expand(2, -1, -1).to(device))
    torch.testing.assert_close(value[:, 0], everything.amax(-1))


def test_discrete_moves_cover_every_level_of_short_columns():
    space = Space(
        {"c": Categorical(["a", "b", "c"]), "k": Int(0, 4), "many": Int(0, 99), "x": Float(0.0, 1.0)}
    )
    moves = Moves.of(space)
    near = space.decode(moves.apply(space.centre()[None, None])[0, 0])
    start = space.decode(space.centre()[None])[0]
    assert {c["c"] for c in near} == set("abc") and {c["k"] for c in near} == set(range(5))
    changed = [{name for name in start if config[name] != start[name]} for config in near]
    assert all(len(names) <= 1 and "x" not in names for names in changed)
    assert {abs(c["many"] - start["many"]) for c in near} >= {0, 1, 2, 5, 20}


def test_discrete_moves_find_a_corner_that_no_candidate_hit(device):
    """20 binary switches: 10^6 configurations, one optimum; moves climb to it from the best candidate."""
    space = Space({f"s{i}": Categorical([0, 1]) for i in range(20)})
    embedding = Embedding.of(space)
    X, active = space.snap(space.sample(60, generator(1)))
    truth = torch.tensor(list(itertools.islice(itertools.cycle([0.25, 0.75, 0.75]), 20)), dtype=torch.float64)
    y = (truth != X).double().sum(-1)
    kernel = Stationary(groups=embedding.groups)
    gp = fit(
        embedding(X, active)[None].to(device),
        half_rank(y)[None].to(device),
        kernel,
        default_priors(kernel, 20).to(device),
    )
    best = gp.fitted().amin(-1, keepdim=True)
    target = Surface.over(space, embedding, gp, Pointwise(gp, ACQUISITIONS["ucb"], best))
    effort = Effort(sobol=32, local=16, rounds=20)
    with_moves = propose(target, X[None].to(device), effort, seeds=(0,))
    without = propose(target, X[None].to(device), Effort(sobol=32, local=16, rounds=0), seeds=(0,))
    assert with_moves[1][0, 0] > without[1][0, 0]
    mismatches = (with_moves[0][0, 0].cpu() != truth).sum()
    assert mismatches <= 3


@pytest.mark.parametrize("shape", [(1,), (3,)])
def test_draws_of_a_study_do_not_depend_on_its_neighbours(shape):
    together = Draws.of([generator(s, 4) for s in range(3)], 5, 16, 8, torch.device("cpu"))
    alone = Draws.of([generator(2, 4)], 5, 16, 8, torch.device("cpu"))
    for name in ("shift", "pick", "scale", "moved", "fresh", "noise", "gumbel"):
        torch.testing.assert_close(getattr(together, name)[2:], getattr(alone, name), rtol=0, atol=0)
