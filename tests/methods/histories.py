"""Studies for the tests of methods: spaces of every kind, and histories of them as tensors."""

import torch

from bayesopt import Categorical, Float, Int, Space
from bayesopt.methods.history import History, generator

SMOOTH = Space({"x": Float(-1.0, 1.0), "y": Float(0.1, 10.0, log=True), "z": Float(0.0, 1.0)})
MIXED = Space(
    {
        "x": Float(0.0, 1.0),
        "k": Int(1, 200, log=True),
        "c": Categorical(["a", "b", "c"]),
        "m": Int(0, 3),
        "one": Int(5, 5),
    }
)
CONDITIONAL = Space(
    {
        "u": Float(0.0, 1.0, when={"c": "a"}),  # declared before its parent
        "c": Categorical(["a", "b", "c"]),
        "k": Int(1, 40, when={"c": ["a", "b"]}),
        "s": Categorical(["p", "q"], when={"k": [1, 2, 3]}),
        "x": Float(0.0, 1.0),
    }
)
FINITE = Space({"a": Int(1, 3), "c": Categorical(["x", "y"]), "s": Float(0.0, 1.0, step=0.25)})
CHOICES = Space(
    {"c": Categorical(["x", "y", "z"]), "d": Categorical([1, 2, 3, 4, 5], when={"c": ["y", "z"]})}
)
SPACES = {
    "smooth": SMOOTH, "mixed": MIXED, "conditional": CONDITIONAL, "finite": FINITE, "choices": CHOICES,
}  # fmt: skip


def history(space, device="cpu", n=12, pending=2, seeds=(0, 1, 2), foreign=0, failures=()):
    """Random told and pending points of studies; those at the places of `failures` failed."""
    X = torch.stack([distinct(space, n + pending, seed) for seed in seeds]).to(device)
    X, active = space.snap(X)
    y = torch.sin(5.0 * X).sum(-1)[:, :n]
    y[:, list(failures)] = torch.nan
    active = active.expand(X.shape)
    at = places(n, foreign).expand(len(seeds), -1)
    return History(X[:, :n], active[:, :n], y, X[:, n:], active[:, n:], tuple(seeds), n + pending, at)


def places(n, foreign):
    """Asked one after the other, after some results brought along."""
    return torch.cat([torch.full((foreign,), -1), torch.arange(n - foreign)])[None]


def distinct(space, count, seed):
    """Different random points `(count, d)`, in random order."""
    X = space.sample(2000, generator(seed, 99)).unique(dim=0)
    return X[torch.randperm(len(X), generator=generator(seed, 98))][:count]


def one(h, i):
    """Study i alone."""
    parts = [t[i : i + 1] for t in (h.X, h.active, h.y, h.X_pending, h.active_pending)]
    return History(*parts, h.seeds[i : i + 1], h.asked, h.at[i : i + 1])
