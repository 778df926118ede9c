"""How much each parameter matters: what the model's lengthscales say, and what the data say."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bayesopt.kernels import Stationary
from bayesopt.methods.history import generator
from bayesopt.surrogates.gp import GaussianProcess

if TYPE_CHECKING:
    from bayesopt.methods.gp import Learnt

#: Fewest observations from which some can be held out; most that are looked at.
FEWEST, _MOST = 10, 256

_FOLDS, _SHUFFLES = 5, 8
_CONFIGS = 512

#: Two shares disagree if one is so many times the other, and larger by so much.
_TIMES, _MARGIN = 2.5, 0.1


@dataclass(frozen=True)
class Importance:
    """Shares of the parameters, each kind adding up to 1.

    Attributes:
        model: of the squared distance, in lengthscales, between two random configurations.
        data: of the error that predictions of held-out trials gain when the values of one parameter are
            shuffled; all 0 if none gains any.
        score: R^2 of these predictions, at most 1, on the scale of the transformed outcomes.
    """

    model: tuple[float, ...]
    data: tuple[float, ...]
    score: float

    def disagreements(self) -> list[int]:
        """Columns of which the two say different things."""
        return [
            j
            for j, (a, b) in enumerate(zip(self.model, self.data, strict=True))
            if abs(a - b) > _MARGIN and max(a, b) > _TIMES * min(a, b)
        ]

    def order(self) -> list[int]:
        """Columns, the most important first, by both together."""
        both = [a + b for a, b in zip(self.model, self.data, strict=True)]
        return sorted(range(len(both)), key=lambda j: -both[j])


@torch.no_grad()
def importance(learnt: "Learnt") -> Importance | None:
    """Of a single study; None where there are too few observations."""
    gp = learnt.outcomes.select(0)
    if gp.y.shape[-1] < FEWEST:
        return None
    source = torch.tensor(learnt.model.embedding.source, device=gp.X.device)
    data, score = _by_shuffling(gp, source, learnt.model.space.dim)
    return Importance(_by_lengthscale(learnt, gp, source), data, score)


def _by_lengthscale(learnt: "Learnt", gp: GaussianProcess, source: Tensor) -> tuple[float, ...]:
    space, kernel = learnt.model.space, gp.kernel
    assert isinstance(kernel, Stationary)
    X, active = space.snap(space.sample(_CONFIGS, generator(0)))
    F = learnt.model.embedding(X.to(gp.X.device), active.to(gp.X.device))
    spread = kernel.scaled(gp.theta[:-1], F).var(0)  # half the mean squared difference of two
    return _shares(spread.new_zeros(space.dim).index_add_(0, source, spread))


def _by_shuffling(gp: GaussianProcess, source: Tensor, d: int) -> tuple[tuple[float, ...], float]:
    """Permutation importance, Breiman (2001), section 10, on five folds; the hyper-parameters stay.

    The values of inactive parameters and whether they are active are shuffled together.
    """
    draws = generator(1)
    n = min(gp.y.shape[-1], _MOST)
    chosen = torch.randperm(gp.y.shape[-1], generator=draws)[:n].to(gp.X.device)
    F, z = gp.X[chosen], gp.y[chosen]
    plain, shuffled = z.new_zeros(()), z.new_zeros(d)
    for test in torch.arange(n, device=z.device).tensor_split(_FOLDS):
        train = torch.ones(n, dtype=torch.bool, device=z.device)
        train[test] = False
        fold = GaussianProcess.of(gp.kernel, gp.theta, F[train], z[train])
        plain += (fold.marginals(F[test])[0] - z[test]).square().sum()
        others = torch.randint(n, (_SHUFFLES, len(test)), generator=draws).to(z.device)
        for j in range(d):
            moved = torch.where(source == j, F[others], F[test])  # (shuffles, test, D)
            mean = fold.marginals(moved.flatten(0, 1))[0].view(_SHUFFLES, -1)
            shuffled[j] += (mean - z[test]).square().mean(0).sum()
    total = (z - z.mean()).square().sum().clamp_min(1e-300)
    return _shares((shuffled - plain).clamp_min(0.0)), float(1.0 - plain / total)


def _shares(parts: Tensor) -> tuple[float, ...]:
    total = parts.sum()
    return tuple((parts / total if total > 0 else torch.zeros_like(parts)).tolist())
