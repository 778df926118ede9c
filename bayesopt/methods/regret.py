"""What is still to be gained: draws of the simple regret from the posterior.

The regret of the best configuration seen, `f(x+) - min_x f(x)`, is a random variable under the model. Wilson
(2024), "Stopping Bayesian optimization with probabilistic regret bounds", stops when it is at most epsilon
with probability 1 - delta, estimated from functions drawn from the posterior. Here the minimum is taken over
a few hundred points, where those functions can be low, drawn jointly and exactly: that costs less than a
proposal, and the points between them make little difference, see docs/decisions.md.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from bayesopt import bfgs, linalg
from bayesopt.acquisition import LogExpectedImprovement, Pointwise
from bayesopt.acquisition.candidates import Draws, quasi_random
from bayesopt.acquisition.fantasies import innovations
from bayesopt.acquisition.maximizer import Effort, candidates, enumerated, polish
from bayesopt.acquisition.surface import lengthscales
from bayesopt.device import constant, put
from bayesopt.methods.gp import Learnt, situate
from bayesopt.methods.history import History, generator
from bayesopt.methods.insight import mean_improvement
from bayesopt.rows import take
from bayesopt.surrogates.outcomes import OutcomeScale

#: Functions drawn; points at which they are compared, spread over the space and near the best ones.
DRAWS, SPREAD, NEAR = 256, 128, 96

#: How hard the points are looked for, and how many lie around each that is climbed to, at which distances in
#: lengthscales.
_EFFORT = Effort(
    sobol=384,
    local=64,
    starts=3,
    moved=2,
    rounds=2,
    options=bfgs.Options(evaluations=4, ftol=1e-2, first_step=0.5, max_step=1.0),
)
_CLOUD, _DISTANCES = 48, (0.5, 0.15, 0.05)

#: A configuration counts only if its evaluation is likelier than this to succeed.
_LIKELY = 0.5

#: Standard deviations below the mean by which points are compared that a drawn function may be lowest at.
_OPTIMISM = 3.0

#: Added to the variance of a drawn value, as a multiple of the prior's.
_NUGGET = 1e-9


@dataclass(frozen=True, eq=False)
class RegretDraws:
    """Of b studies, in outcome units.

    Attributes:
        regret: how much worse the best observation is than the best point, `(b, s)`, at least 0.
        improvement: the expected improvement of the best single evaluation `(b,)`.
    """

    regret: Tensor
    improvement: Tensor


@torch.no_grad()
def draw_regret(learnt: Learnt, history: History) -> RegretDraws:
    """A function of what was told and of the seeds; pending evaluations do not matter."""
    gp, scale = learnt.outcomes, OutcomeScale.of(learnt.y)
    best = take(gp.X, gp.y.argmin(-1, keepdim=True))
    spread, near = (learnt.model.embedding(*points) for points in _candidates(learnt, history))
    groups = [_lowest(learnt, F, count) for F, count in ((spread, SPREAD), (near, NEAR))]
    F = torch.cat([best, *(torch.where(keep, F, best) for F, keep in groups)], 1)
    mu, covariance = gp.posterior(F)
    covariance.diagonal(dim1=-2, dim2=-1).add_(_NUGGET * gp.prior_variance.unsqueeze(-1))
    e = put(torch.stack([innovations(DRAWS, F.shape[1], seed) for seed in history.seeds]), mu.device)
    f = mu.unsqueeze(-1) + linalg.robust_cholesky(covariance) @ e
    first, lowest = (scale.outcome(values) for values in (f[:, 0], f.amin(1)))
    var = covariance.diagonal(dim1=-2, dim2=-1)
    return RegretDraws(first - lowest, mean_improvement(scale, mu, var, learnt.best).amax(-1))


def _lowest(learnt: Learnt, F: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The features `(b, k, D)` of F that can be lowest, and whether they count `(b, k, 1)`."""
    mu, var = learnt.outcomes.marginals(F)
    optimistic = mu - _OPTIMISM * var.sqrt()
    if learnt.feasibility is not None:
        optimistic = optimistic.masked_fill(learnt.feasibility.value(F).exp() < _LIKELY, torch.inf)
    lowest = optimistic.topk(min(count, F.shape[1]), -1, largest=False)
    return take(F, lowest.indices), torch.isfinite(lowest.values).unsqueeze(-1)


def _candidates(learnt: Learnt, history: History) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Snapped points with their activity: some that are spread over the space, some near the best ones."""
    space = learnt.model.space
    sources = [generator(seed, history.y.shape[1], 0, 1) for seed in history.seeds]
    grid = enumerated(space, learnt.X.device)
    if grid is not None:
        X, active = (t.expand(len(sources), *t.shape) for t in grid)
        return (X, active), (X[:, :0], active[:, :0])
    known = situate(learnt, history, 1)
    draws = Draws.of(sources, space.dim, _EFFORT.sobol, _EFFORT.local, learnt.X.device)
    raw, active = candidates(space, known.X, known.z, draws, _EFFORT)
    expected = Pointwise(learnt.gp, LogExpectedImprovement(), learnt.best)
    surface = known.surface.of(expected, *known.surface.terms)
    value = surface.value(raw, active)
    climbed, _ = polish(surface, raw, value, draws.gumbel, _EFFORT)
    incumbent = take(known.X, known.z.argmin(-1, keepdim=True))
    centres = torch.cat([incumbent, climbed], 1)
    clouds = _clouds(learnt, centres, quasi_random(space, _CLOUD, draws.shift))
    return (raw, active), space.snap(torch.cat([climbed, clouds], 1))


def _clouds(learnt: Learnt, centres: Tensor, U: Tensor) -> Tensor:
    """Points `(b, k c, d)` around centres `(b, c, d)`, at several distances; U `(b, k, d)` in [0, 1]."""
    length = lengthscales(learnt.outcomes, U.shape[-1]).clamp_max(1.0).unsqueeze(1)
    distances = constant(_DISTANCES, U.dtype, U.device).repeat(-(-U.shape[1] // len(_DISTANCES)))
    distance = distances[: U.shape[1], None]
    step = distance * (2.0 * U - 1.0) * length
    return (centres.unsqueeze(2) + step.unsqueeze(1)).flatten(1, 2).clamp(0.0, 1.0)
