"""What the Gaussian process says about configurations, in the units of the outcomes; and which arm spoke."""

from typing import NamedTuple

import torch
from torch import Tensor

from bayesopt.acquisition import Acquisition, expected_improvement, probability_of_improvement
from bayesopt.acquisition.distinct import SAME, is_taken
from bayesopt.methods.gp import Learnt, batch_rule, is_exploration
from bayesopt.methods.history import History
from bayesopt.methods.local import Local
from bayesopt.surrogates.outcomes import OutcomeScale

#: Standard deviations from the median to the 16 % and 84 % quantiles, as they are called.
_SIGMA = 1.0


class Forecast(NamedTuple):
    """About m configurations of b studies, each `(b, m)`; outcomes are minimised, noise aside.

    All but the last suppose that the evaluation succeeds.

    Attributes:
        median, low, high: of the objective there; low and high are one standard deviation of the model
            away, the 16 % and 84 % quantiles.
        improvement: `E[max(best - f, 0)]` over the best that the model believes to have been seen.
        better: the probability of any improvement.
        success: the probability that the evaluation succeeds, 1 while none has failed.
    """

    median: Tensor
    low: Tensor
    high: Tensor
    improvement: Tensor
    better: Tensor
    success: Tensor


@torch.no_grad()
def forecast(learnt: Learnt, X: Tensor, active: Tensor) -> Forecast:
    """What to expect at snapped points X `(b, m, d)`."""
    F = learnt.model.embedding(X, active)
    mu, var = learnt.outcomes.marginals(F)
    scale = OutcomeScale.of(learnt.y)
    median, low, high = (scale.outcome(mu + k * _SIGMA * var.sqrt()) for k in (0.0, -1.0, 1.0))
    success = torch.ones_like(mu) if learnt.feasibility is None else learnt.feasibility.value(F).exp()
    better = probability_of_improvement(mu, var, learnt.best)
    return Forecast(median, low, high, mean_improvement(scale, mu, var, learnt.best), better, success)


def mean_improvement(scale: OutcomeScale, mu: Tensor, var: Tensor, best: Tensor) -> Tensor:
    """`E[max(y(best) - y(z), 0)]` in outcome units `(b, m)` for z with mean mu and variance var `(b, m)`.

    With `h(t) = E[max(t - z, 0)]`, the expected improvement below t, and y linear with slope c_k between
    the knots t_k and t_k+1, it is `sum_k c_k (h(t_k+1) - h(t_k))`, the sum up to the best `(b, 1)`. Mostly
    there is one summand: below the best outcome y is one straight line.
    """
    below = int((scale.z < best).sum(-1).max())
    t = torch.cat([scale.z[..., :below].minimum(best), best], -1)
    h = expected_improvement(mu.unsqueeze(-1), var.unsqueeze(-1), t.unsqueeze(-2))
    dt = t.diff()
    slope = torch.where(dt > 0, scale.outcome(t).diff() / dt, 0.0)
    return scale.unit * h[..., 0] + (slope.unsqueeze(-2) * h.diff()).sum(-1)


def noise_deviation(learnt: Learnt) -> Tensor:
    """Standard deviation of the fitted noise `(b,)`, in outcome units where outcomes are good."""
    return learnt.outcomes.noise.sqrt() * OutcomeScale.of(learnt.y).unit[..., 0]


def arm_of(
    learnt: Learnt, history: History, x: Tensor, acquisition: Acquisition, batch: str, local: bool
) -> str:
    """Which arm of `propose_gp` has made the next proposal x `(d,)` of a single study.

    "acquisition", "trust region", "quadratic" or a `methods.descent.Move`; "exploration" and "confidence
    bound" beside pending ones, "draw" by Thompson sampling; "again" whichever it was, where x was told.
    """
    if bool(is_taken(x[None, None], history.X)):
        return "again"
    rule = batch_rule(batch, acquisition.log_form(), 1, history.X_pending.shape[1])
    if rule == "thompson":
        return "draw"
    advice = Local.of(learnt.model, history, 1).advice[0] if local else None
    if advice is not None:
        first = advice.first[0][advice.preference[0] > 0.0]
        if bool(((first - x).abs().amax(-1) < SAME).any()):
            return advice.names[0]
        if bool(advice.make[0]):
            return "trust region"
    if rule == "ucb_pe":
        return "exploration" if is_exploration(history.asked, local) else "confidence bound"
    return "acquisition"
