"""Distances of mixed and conditional configurations."""

import itertools

import pytest
import torch

from bayesopt import Categorical, Float, Int, Space
from bayesopt.kernels import PROFILES, Embedding, Stationary

SPACE = Space(
    {
        "x": Float(0.0, 1.0),
        "k": Int(0, 9),
        "c": Categorical(["p", "q", "r"]),
        "m": Float(0.0, 1.0, when={"c": "p"}),
        "s": Categorical(["u", "v"], when={"c": ["p", "q"]}),
    }
)
BASE = {"x": 0.3, "k": 4, "c": "r"}


def distance(a, b, device, lengthscales=None):
    """r2 between two configurations."""
    embedding = Embedding.of(SPACE)
    X, active = SPACE.encode([a, b])
    F = embedding(X.to(device), active.to(device))
    scale = torch.ones(embedding.num_groups) if lengthscales is None else torch.tensor(lengthscales)
    Z = F / scale.to(F)[list(embedding.groups)]
    return (Z[0] - Z[1]).square().sum().item()


def test_numeric_and_categorical_contributions(device):
    assert distance(BASE, {**BASE, "x": 0.5}, device) == pytest.approx(0.04)
    assert distance(BASE, {**BASE, "k": 7}, device) == pytest.approx(0.09)
    p = {**BASE, "c": "p", "m": 0.5, "s": "u"}
    assert distance(p, {**p, "s": "v"}, device) == pytest.approx(1.0)
    assert distance(p, {**p, "m": 0.9}, device) == pytest.approx(0.16)


def test_both_inactive_is_no_distance_and_one_active_adds_the_learned_constant(device):
    q = {"x": 0.3, "k": 4, "c": "q", "s": "u"}
    p = {**q, "c": "p", "m": 0.5}
    # lengthscales: x, k, c, m, s, then the indicators of m and s
    only = lambda j, v=1.0: [v if i == j else 1e6 for i in range(7)]  # noqa: E731
    assert distance(q, BASE, device, only(3)) == pytest.approx(0.0, abs=1e-9)
    assert distance(q, p, device, only(3)) == pytest.approx(0.0, abs=1e-9)  # in the middle of its range
    assert distance(q, {**p, "m": 0.9}, device, only(3)) == pytest.approx(0.16, rel=1e-6)
    assert distance(q, p, device, only(5, 0.5)) == pytest.approx(4.0, rel=1e-6)
    assert distance(q, BASE, device, only(6, 0.5)) == pytest.approx(4.0, rel=1e-6)


def test_the_order_of_the_choices_does_not_matter(device):
    configs = [{"c": c, "x": x} for c, x in itertools.product("pqr", (0.1, 0.7))]
    grams = []
    for order in (["p", "q", "r"], ["r", "p", "q"]):
        space = Space({"x": Float(0.0, 1.0), "c": Categorical(order)})
        embedding = Embedding.of(space)
        F = embedding(*(t.to(device) for t in space.encode(configs)))
        theta = torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64, device=device)
        grams.append(Stationary(groups=embedding.groups).gram(theta, F))
    torch.testing.assert_close(*grams)


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES.keys())
def test_gram_of_a_conditional_space_is_positive_semi_definite(profile, device):
    X, active = SPACE.snap(torch.rand(80, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    embedding = Embedding.of(SPACE)
    kernel = Stationary(groups=embedding.groups, profile=profile)
    for seed in range(5):
        noise = torch.randn(
            kernel.num_hyper, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
        )
        K = kernel.gram(noise.to(device), embedding(X.to(device), active.to(device)))
        assert torch.linalg.eigvalsh(K).min() > -1e-10


def test_a_bare_constant_between_active_and_inactive_would_not_be_a_kernel():
    """Why the inactive value is imputed: `delta = c` alone gives negative eigenvalues."""
    x = torch.linspace(0, 1, 12, dtype=torch.float64)
    r2 = torch.full((13, 13), 0.3, dtype=torch.float64)
    r2[:12, :12] = (x[:, None] - x) ** 2
    r2[12, 12] = 0.0
    assert torch.linalg.eigvalsh(PROFILES["matern52"].g(0.5 * r2)).min() < -1e-3


def test_a_space_of_choices_has_no_gradient(device):
    space = Space({"a": Categorical(["p", "q", "r"]), "b": Categorical(["u", "v"])})
    embedding = Embedding.of(space)
    X, active = space.encode(list(space.grid()))
    F = embedding(X.to(device), active.to(device))
    assert (
        F.shape[-1] == 5 and (embedding.pullback(F) == 0.0).all() and embedding.pullback(F).shape == X.shape
    )


def test_pullback_is_the_adjoint_of_the_numeric_columns(device):
    embedding = Embedding.of(SPACE)
    X, active = SPACE.encode([{**BASE, "c": "p", "m": 0.2, "s": "v"}])
    X, active = X.to(device).requires_grad_(), active.to(device)
    weights = torch.randn(1, len(embedding.groups), dtype=torch.float64).to(device)
    (expected,) = torch.autograd.grad((weights * embedding(X, active)).sum(), X)
    torch.testing.assert_close(embedding.pullback(weights), expected)


def test_a_continuous_space_is_its_own_features():
    embedding = Embedding.of(Space({"x": Float(0, 1), "y": Float(0, 1)}))
    X = torch.rand(3, 2)
    assert embedding.identity and embedding(X, X > -1) is X and embedding.pullback(X) is X
