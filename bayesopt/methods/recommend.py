"""Which of the tried configurations to take, where the best outcome may be the luckiest one."""

from typing import NamedTuple

import torch
from torch import Tensor

from bayesopt.methods.history import History
from bayesopt.rows import take
from bayesopt.surrogates.model import LARGEST_FIT, Model
from bayesopt.surrogates.outcomes import OutcomeScale
from bayesopt.surrogates.prefixes import NO_CACHE, Cache, fit_surrogate


class Chosen(NamedTuple):
    """For each of b studies a place among the told configurations, and the belief about it, `(b,)` each.

    value, std: posterior mean and standard deviation of the outcome without noise, in units of the outcome.
    """

    place: Tensor
    value: Tensor
    std: Tensor


@torch.no_grad()
def lowest_mean(model: Model, history: History, eligible: Tensor, cache: Cache = NO_CACHE) -> Chosen:
    """The told configuration with the lowest posterior mean; of a long history, among the best outcomes.

    Args:
        model: the surrogate; cache: of its fits.
        history: each study with the same number > 0 of successes.
        eligible: which of the told ones may be chosen `(b, n)`, at least one of each study's successes.
    """
    F = model.embedding(history.X, history.active)
    F_known, y = take(F, history.succeeded), take(history.y, history.succeeded)
    std = None if history.std is None else take(history.std, history.succeeded)
    gp = fit_surrogate(model, F_known, y, cache, std)
    outcome = history.y.nan_to_num(nan=torch.inf).masked_fill(~eligible, torch.inf)
    near = outcome.topk(min(LARGEST_FIT, outcome.shape[-1]), -1, largest=False)
    mean, var = gp.marginals(take(F, near.indices))
    first = mean.masked_fill(near.values == torch.inf, torch.inf).argmin(-1, keepdim=True)
    mu, sigma = mean.gather(1, first), var.gather(1, first).sqrt()
    value, low, high = OutcomeScale.of(y).outcome(torch.cat([mu, mu - sigma, mu + sigma], -1)).unbind(-1)
    return Chosen(near.indices.gather(1, first)[:, 0], value, 0.5 * (high - low))
