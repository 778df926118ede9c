"""Posteriors on which the acquisition tests agree."""

import torch

from bayesopt import Categorical, Float, Int, Space
from bayesopt.kernels import Embedding, Stationary
from bayesopt.methods.history import generator
from bayesopt.surrogates.gp import fit
from bayesopt.surrogates.outcomes import half_rank
from bayesopt.surrogates.priors import default_priors

SMOOTH = Space({"x": Float(0.0, 1.0), "y": Float(0.0, 1.0), "z": Float(0.0, 1.0)})
MIXED = Space(
    {
        "x": Float(0.0, 1.0),
        "c": Categorical(["a", "b", "c"]),
        "u": Float(0.0, 1.0, when={"c": "a"}),
        "k": Int(1, 40, when={"c": ["a", "b"]}),
    }
)


def posterior(space, device, b=2, n=14, noise=0.0):
    """Embedding, fitted GPs of b studies, observed X and the incumbents `(b, 1)`."""
    embedding = Embedding.of(space)
    kernel = Stationary(groups=embedding.groups)
    X, active = space.snap(torch.stack([space.sample(n, generator(seed)) for seed in range(b)]))
    y = torch.sin(4 * X).sum(-1) + (X[..., 0] - 0.4) ** 2
    y = y + noise * torch.randn(y.shape, generator=generator(5), dtype=y.dtype)
    F = embedding(X.to(device), active.to(device))
    gp = fit(F, half_rank(y.to(device)), kernel, default_priors(kernel, space.dim).to(device))
    return embedding, gp, X.to(device), gp.fitted().amin(-1, keepdim=True)


def some_points(space, device, b, m, seed=9):
    """Snapped points `(b, m, d)` and their activity."""
    return space.snap(torch.stack([space.sample(m, generator(seed, s)) for s in range(b)]).to(device))
