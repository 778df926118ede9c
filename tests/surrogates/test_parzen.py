"""Parzen mixtures against closed forms, plain loops and their own draws."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from bayesopt import Categorical, Float, Int, Space
from bayesopt.beliefs import Centre, Normal, Weights
from bayesopt.methods.history import generator
from bayesopt.surrogates.bandwidths import magic_clip, neighbour_gap, scott
from bayesopt.surrogates.parzen import ParzenMixture

LINES = {
    "float": Float(-1.0, 2.0),
    "log float": Float(1e-4, 1.0, log=True),
    "int": Int(1, 5),
    "step": Float(0.0, 1.0, step=0.25),
    "log int": Int(1, 20, log=True),
    "long log int": Int(1, 5000, log=True),
    "long int": Int(0, 700),
    "ordered": Categorical([1, 2, 4, 8], ordered=True),
    "choices": Categorical(["a", "b", "c"]),
    "float belief": Float(0.0, 1.0, belief=Normal(0.3, 0.2)),
    "int belief": Int(1, 9, belief=Centre(3, 0.5)),
    "choice belief": Categorical(["a", "b"], belief=Weights([0.8, 0.2])),
}
TREE = Space(
    {
        "x": Float(0.0, 1.0),
        "c": Categorical(["a", "b", "c"]),
        "u": Float(0.0, 1.0, when={"c": "a"}, belief=Normal(0.3, 0.2)),
        "k": Int(1, 4, when={"c": ["a", "b"]}),
        "d": Categorical(["p", "q"], when={"k": [2, 3]}, belief=Weights([0.7, 0.3])),
        "v": Float(0.1, 1.0, log=True, when={"d": "p"}),
    }
)
EVERYTHING = [Space({"x": parameter}) for parameter in LINES.values()] + [TREE]


def mixture(space, device, b=2, n=6, seed=0):
    """n random kernels and a prior for b studies."""
    X, active = space.snap(
        torch.stack([space.sample(n + 1, generator(seed, s)) for s in range(b)]).to(device)
    )
    active = active.clone()
    X[:, -1], active[:, -1] = 0.5, False
    U = torch.stack([torch.rand(n + 1, space.dim + 1, generator=generator(seed, s, 1)) for s in range(b)])
    U = U.double().to(device)
    return ParzenMixture.of(space, X, active, 0.04 + 0.3 * U[..., 1:], 0.1 + U[..., 0])


def points(space, device, b=2, m=40, seed=3):
    """Uniform points of the space and their activity."""
    U = torch.stack([torch.rand(m, space.dim, generator=generator(seed, s)) for s in range(b)])
    return space.snap(U.double().to(device))


def with_gradient(mix, X, active, without=None):
    """Log density and its gradient in the points."""
    value, slope = mix.log_density_and_slope(mix.columns.features(X, active), without)
    return value, mix.columns.pullback(X, active, slope)


def level_values(space, column):
    """Encoded values of all levels of a column."""
    return torch.from_numpy(space.axes[column].encode(torch.arange(space.levels[column]).double().numpy()))


def bin_edges(space, column):
    """Where the bins of a column end, from 0 to 1."""
    inner = [space.axes[column].threshold(k) for k in range(1, space.levels[column])]
    return torch.tensor([0.0, *inner, 1.0], dtype=torch.float64)


def loop(mix, X, active):
    """`log p` at one point X `(d,)` of study 0, kernel by kernel and column by column."""
    space, total = mix.columns.space, 0.0
    for i in range(mix.centre.shape[1]):
        density = float(mix.log_weight[0, i].exp())
        for j in range(space.dim):
            if not active[j]:
                continue
            if not mix.active[0, i, j]:
                density *= math.exp(float(space.belief_columns(X)[0][j]))
                continue
            c, s, levels = float(mix.centre[0, i, j]), float(mix.scale[0, i, j]), space.levels[j]
            if space.categorical[j]:
                at = (torch.arange(levels).double() + 0.5) / levels
                rows = X.cpu().repeat(levels, 1)
                rows[:, j] = at
                belief = space.belief_columns(rows)[0][:, j].exp()
                own = (at - c).abs() < 1e-9
                level = int(X[j] * levels)
                density *= (1 - s) * float(own[level]) * levels + s * float(belief[level])
            elif levels is not None:
                at = level_values(space, j)
                edges = bin_edges(space, j)
                mass = (-0.5 * ((at - c) / s) ** 2).exp() * edges.diff()
                density *= math.exp(-0.5 * ((float(X[j]) - c) / s) ** 2) / float(mass.sum())
            else:
                density *= stats.truncnorm.pdf(float(X[j]), -c / s, (1 - c) / s, c, s)
        total += density
    return math.log(total)


@pytest.mark.parametrize("space", EVERYTHING, ids=[*LINES, "tree"])
def test_density_equals_a_loop_over_kernels_and_columns(space, device):
    mix = mixture(space, device)
    X, active = points(space, device, m=15)
    value = mix.log_density(X, active)[0]
    long = {"long int", "long log int"} & {name for name, p in LINES.items() if p is space.get("x")}
    expected = [loop(mix, x, on) for x, on in zip(X[0], active[0].expand(X[0].shape), strict=True)]
    tolerance = 2e-3 if long else 1e-9
    torch.testing.assert_close(
        value.cpu(), torch.tensor(expected, dtype=torch.float64), rtol=0, atol=tolerance
    )


@pytest.mark.parametrize("name", LINES)
def test_density_of_one_parameter_integrates_to_one(name, device):
    space = Space({"x": LINES[name]})
    mix = mixture(space, device, n=12)
    levels = space.levels[0]
    if levels is None:
        X = (torch.arange(200_000).double() + 0.5) / 200_000
        width = torch.full_like(X, 1 / 200_000)
    else:
        X, width = level_values(space, 0), bin_edges(space, 0).diff()
    X = X.to(device).expand(2, -1).unsqueeze(-1)
    total = (mix.log_density(X, torch.ones_like(X, dtype=torch.bool)).exp() * width.to(device)).sum(-1)
    exact = levels is None or levels <= 128
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-6 if exact else 2e-3)


def test_density_over_a_conditional_space_integrates_to_one(device):
    mix = mixture(TREE, device)
    U = torch.quasirandom.SobolEngine(TREE.dim, scramble=True, seed=1).draw(2**17, dtype=torch.float64)
    density = mix.log_density(*TREE.snap(U.to(device).expand(2, -1, -1))).exp()
    torch.testing.assert_close(density.mean(-1).cpu(), torch.ones(2).double(), rtol=0, atol=2e-3)


def test_kernel_without_active_columns_is_the_belief(device):
    X, active = points(TREE, device)
    half = torch.full((2, 1, TREE.dim), 0.5, dtype=torch.float64, device=device)
    prior = ParzenMixture.of(TREE, half, half < 0, half, half[..., 0])
    torch.testing.assert_close(prior.log_density(X, active), TREE.belief(X)[0])
    U = torch.rand(500, TREE.dim + 1, dtype=torch.float64, generator=generator(1))
    drawn, _ = prior.sample(500, [generator(1), generator(2)])
    torch.testing.assert_close(drawn[0], TREE.from_uniform(U[:, 1:].to(device)))


@pytest.mark.parametrize("space", [Space({"x": Float(0, 1), "k": Int(1, 50)}), TREE], ids=["flat", "tree"])
def test_gradient_equals_autograd(space, device):
    mix = mixture(space, device)
    X, active = points(space, device)
    without = torch.zeros(X.shape[1], mix.centre.shape[1], dtype=torch.bool, device=device)
    without[::2, 1] = True
    value, gradient = with_gradient(mix, X, active, without)
    x = X.clone().requires_grad_()
    logs = mix.log_weight.unsqueeze(1) + mix.log_kernels(x, active)
    logs.masked_fill(without, -math.inf).logsumexp(-1).sum().backward()
    slope = space.belief_columns(X)[1]  # which autograd cannot see through the tables
    torch.testing.assert_close(value, logs.masked_fill(without, -math.inf).logsumexp(-1).detach())
    plain = torch.tensor(
        [not c and p.belief is None for c, p in zip(space.categorical, space.values(), strict=True)]
    )
    assert bool((slope[..., plain] == 0).all())
    torch.testing.assert_close(gradient[..., plain], (x.grad * active)[..., plain])
    assert bool((gradient[~active.expand(X.shape)] == 0).all())


def test_gradient_where_there_is_a_belief_equals_differences(device):
    space = Space({"x": Float(0.0, 1.0, belief=Normal(0.3, 0.2)), "y": Float(0.0, 1.0)})
    mix = mixture(space, device)
    mix.active[:, 2, 0] = False
    mix = ParzenMixture.of(space, mix.centre, mix.active, mix.scale, mix.log_weight.exp())
    X, active = points(space, device)
    step = torch.tensor([1e-6, 0.0], dtype=X.dtype, device=device)
    rise = mix.log_density(X + step, active) - mix.log_density(X - step, active)
    gradient = with_gradient(mix, X, active)[1][..., 0]
    torch.testing.assert_close(gradient, rise / 2e-6, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("name", LINES)
def test_draws_of_one_parameter_follow_the_density(name, device):
    space = Space({"x": LINES[name]})
    mix = mixture(space, device, b=1)
    drawn, _ = mix.sample(4000, [generator(5)])
    marginal = mix.sample_marginals(4000, [generator(6)])
    everywhere = torch.ones_like(drawn, dtype=torch.bool)
    torch.testing.assert_close(
        mix.log_density(drawn, everywhere), mix.log_marginals(drawn, everywhere)[..., 0]
    )
    if space.levels[0] is None:
        ends = torch.linspace(0.0, 1.0, 41, dtype=torch.float64)
        fine = (torch.arange(40 * 500, dtype=torch.float64) + 0.5) / (40 * 500)
        width = torch.full_like(fine, 1 / len(fine))
    else:  # cells of whole bins, not too light
        fine, edges = level_values(space, 0), bin_edges(space, 0)
        ends, width = edges[torch.linspace(0, len(fine), min(len(fine), 40) + 1).long()], edges.diff()
    at = fine.to(device)[None, :, None]
    density = mix.log_density(at, torch.ones_like(at, dtype=torch.bool))[0].exp().cpu()
    cell = torch.bucketize(fine, ends[1:-1])
    mass = torch.zeros(len(ends) - 1, dtype=torch.float64).index_add(0, cell, density * width)
    for sample in (drawn, marginal):
        counts = torch.bincount(torch.bucketize(sample[0, :, 0].cpu(), ends[1:-1]), minlength=len(mass))
        assert stats.chisquare(counts.numpy(), 4000 * (mass / mass.sum()).numpy()).pvalue > 1e-3


def test_draws_from_a_conditional_space_follow_the_density(device):
    mix = mixture(TREE, device, b=1, seed=2)
    U = torch.quasirandom.SobolEngine(TREE.dim, scramble=True, seed=1).draw(2**16, dtype=torch.float64)
    X, active = TREE.snap(U.to(device)[None])
    weight = mix.log_density(X, active).exp()[0]
    drawn, on = mix.sample(20_000, [generator(7)])
    for statistic in (
        lambda x, a: a.double(),
        lambda x, a: x,
        lambda x, a: x.square() * a,
        lambda x, a: x[:, :1] * a * (x - 0.3),
    ):
        expected = (statistic(X[0], active[0]) * weight[:, None]).mean(0)
        sample = statistic(drawn[0], on[0])
        error = sample.std(0) / 20_000**0.5 + 5e-4
        assert bool(((sample.mean(0) - expected).abs() < 4 * error).all())


def test_marginals_are_over_the_kernels_that_are_active_there(device):
    space = Space({"c": Categorical(["a", "b"]), "u": Float(0.0, 1.0, when={"c": "a"})})
    configs = [{"c": "a", "u": 0.2}, {"c": "b"}, {"c": "a", "u": 0.9}, {"c": "b"}]
    X, active = (t[None].to(device) for t in space.encode(configs))
    scale = torch.full_like(X, 0.1)
    mix = ParzenMixture.of(space, X, active, scale, torch.ones_like(X[..., 0]))
    at = torch.tensor([[[0.25, 0.2], [0.25, 0.6], [0.75, 0.5]]], dtype=X.dtype, device=device)
    value = mix.log_marginals(at, space.activity(at))[0].exp().cpu()
    density = [
        sum(stats.truncnorm.pdf(x, -c / 0.1, (1 - c) / 0.1, c, 0.1) for c in (0.2, 0.9)) / 2
        for x in (0.2, 0.6)
    ]
    torch.testing.assert_close(value[:, 1], torch.tensor([*density, 1.0], dtype=torch.float64))
    torch.testing.assert_close(value[:, 0], torch.ones(3).double())


def test_joined_is_a_mixture_of_mixtures(device):
    first, second = mixture(TREE, device), mixture(TREE, device, n=3, seed=9)
    X, active = points(TREE, device)
    joined = first.joined(second, 0.3).log_density(X, active).exp()
    apart = 0.7 * first.log_density(X, active).exp() + 0.3 * second.log_density(X, active).exp()
    torch.testing.assert_close(joined, apart)


def test_parts_are_mixtures_of_their_kernels_and_rows_are_studies(device):
    mix, (X, active) = mixture(TREE, device), points(TREE, device)
    kernels = mix.centre, mix.active, mix.scale, mix.log_weight.exp()
    parts = ParzenMixture.several(TREE, [4, 3], *kernels[:3], mix.log_weight)
    for part, cut in zip(parts, (slice(4), slice(4, None)), strict=True):
        rows = [each[:, cut] for each in kernels]
        expected = ParzenMixture.of(TREE, *rows).log_density(X, active)
        torch.testing.assert_close(
            expected + rows[3].sum(-1, keepdim=True).log(), part.log_density(X, active)
        )
        one = part.rows(torch.tensor([1], device=device))
        torch.testing.assert_close(one.log_density(X[1:], active[1:]), part.log_density(X, active)[1:])
        alone, _ = one.sample(50, [generator(4)])
        torch.testing.assert_close(alone[0], part.sample(50, [generator(3), generator(4)])[0][1])


@pytest.mark.parametrize("space", EVERYTHING, ids=[*LINES, "tree"])
def test_tangents_are_below_a_density_and_touch_it(space, device):
    mix = mixture(space, device)
    features = mix.columns.features(*points(space, device))
    log_density = mix.log_density_of(features)
    five, one = (log_density - mix.log_bound_of(features, features[:, :k]) for k in (5, 1))
    assert float(five.min()) > -1e-9 and float(five[:, :5].abs().max()) < 1e-9
    assert bool((five <= one + 1e-9).all())


def test_neighbour_gap():
    centre = np.array([0.1, 0.5, 0.2, 0.5, 0.9])[None, :, None]
    active = np.array([True, True, True, True, False])[None, :, None]
    np.testing.assert_allclose(neighbour_gap(centre, active)[0, :4, 0], [0.1, 0.3, 0.3, 0.0], atol=1e-15)
    assert neighbour_gap(centre[:, :1], active[:, :1]).item() == pytest.approx(0.9)
    assert neighbour_gap(centre[:, :0], active[:, :0]).shape == (1, 0, 1)


def test_scott_is_the_standard_deviation_of_points_and_a_uniform_one():
    centre = np.random.default_rng(0).random((1, 9, 2))
    active = np.ones_like(centre, dtype=bool)
    active[:, 6:, 1] = False
    h = scott(centre, active, np.ones(9))[0, 0]
    for j, n in ((0, 9), (1, 6)):
        variance = centre[0, :n, j].var()
        assert h[j] == pytest.approx(((n * variance + 1 / 12) / (n + 1)) ** 0.5 * n ** (-1 / 6))


def test_magic_clip():
    h = np.array([0.0, 0.05, 0.2, 3.0])[None, :, None]
    assert magic_clip(h, np.ones((1, 8, 1), bool)).flatten().tolist() == [0.1, 0.1, 0.2, 1.0]
    assert magic_clip(h[:, :1], np.ones((1, 5000, 1), bool)).item() == 0.01
