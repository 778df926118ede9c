"""Fits that depend on the history alone: warm-started along its prefixes."""

import logging
from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from bayesopt.device import sure
from bayesopt.rows import take
from bayesopt.surrogates.gp import HEAT, GaussianProcess, Optimum, fit_hyperparameters
from bayesopt.surrogates.model import LARGEST_FIT, Model
from bayesopt.surrogates.outcomes import half_rank, half_rank_std

log = logging.getLogger("bayesopt")

#: Longest history that is also fitted from the prior. Past it the likelihood has, as measured, one basin
#: that matters, and the optimum of a slightly shorter history lies in it.
_LONGEST_COLD = 256


#: Shortest prefix that is fitted.
SHORTEST_PREFIX = 8


def rungs(n: int, largest: int) -> Iterator[tuple[int, bool]]:
    """Lengths below n of the prefixes that are fitted, 5 % apart, and whether from the prior too, 20 % apart.

    The further a history has grown past its last rung, the more evaluations its warm fit takes. Past
    `LARGEST_FIT` the fit to a rung serves all asks up to the next, 20 % apart; none is longer than `largest`.
    """
    length, last_cold = SHORTEST_PREFIX, 0
    while length < min(n, largest):
        cold = 1.2 * last_cold <= length <= _LONGEST_COLD
        yield length, cold
        last_cold = length if cold else last_cold
        length = max(length + 2, int((1.05 if length < LARGEST_FIT else 1.2) * length))


class Cache(Protocol):
    """Keeps what was fitted to prefixes of a history; see `fit_surrogate`. `kind` names the history."""

    def get(self, kind: str, length: int) -> Optimum | None:
        """The optimum at a prefix, None where it is not known for every study."""

    def put(self, kind: str, length: int, optimum: Optimum, /) -> None:
        """Keep it."""


class NoCache:
    """Forgets everything."""

    def get(self, kind: str, length: int) -> Optimum | None:
        return None

    def put(self, kind: str, length: int, optimum: Optimum, /) -> None:
        return None


NO_CACHE = NoCache()


def fit_surrogate(
    model: Model, F: Tensor, y: Tensor, cache: Cache = NO_CACHE, std: Tensor | None = None
) -> GaussianProcess:
    """The fit at n observations, warm-started from the fit to a prefix of the same history.

    The warm start must not depend on when the study happened to be asked, or a resumed study would propose
    differently from one that never stopped. So it comes from prefixes of fixed lengths, each fitted from
    the one before and, while that is cheap, from the prior too. Whoever has the history can compute them;
    `cache` only saves the work.

    Args:
        model: the surrogate; F: features `(b, n, D)`; y: raw outcomes `(b, n)`.
        cache: of the optima at prefix lengths.
        std: known standard deviations of the outcomes `(b, n)`, nan where not known; None for all unknown.
    """
    n, warm = F.shape[1], warm_start(model, F, y, cache, std)
    z, variance = half_rank(y), _variance(y, std)
    if n > min(LARGEST_FIT, model.largest) and warm is not None:
        if n > model.largest:
            index = most_relevant(z, model.largest)
            F, z = take(F, index), take(z, index)
            variance = None if variance is None else take(variance, index)
        return GaussianProcess.of(model.kernel, warm.theta, F, z, variance)
    optimum = _fit_all(model, F, z, variance, warm)
    if (n, False) in rungs(n + 1, model.largest):  # a later ask starts from it
        cache.put("outcomes", n, optimum)
    return GaussianProcess.of(model.kernel, optimum.theta, F, z, variance)


def warm_start(model: Model, F: Tensor, y: Tensor, cache: Cache, std: Tensor | None = None) -> Optimum | None:
    """The fit to the longest prefix of `fit_surrogate` that is shorter than the history; None without one."""
    warm: Optimum | None = None
    missing = []
    for length, cold in reversed(list(rungs(F.shape[1], model.largest))):
        warm = cache.get("outcomes", length)
        if warm is not None:
            break
        missing.append((length, cold))
    for length, cold in reversed(missing):
        told = None if std is None else std[:, :length]
        warm = _fit_prefix(model, F[:, :length], y[:, :length], told, warm, cold)
        cache.put("outcomes", length, warm)
    return warm


def _variance(y: Tensor, std: Tensor | None) -> Tensor | None:
    """Known noise variances on the scale of `half_rank(y)`."""
    return None if std is None else half_rank_std(y, std).square()


def most_relevant(z: Tensor, count: int) -> Tensor:
    """Places `(b, count)` of the observations that a proposal conditions on, of more.

    The best half, and as many spread evenly over the ranks of the others.

    The others matter: without them the surrogate forgets where it is bad, and explores there again.
    """
    half = count // 2
    order = z.argsort(dim=-1, stable=True)
    spread = torch.linspace(half, z.shape[-1] - 1, count - half, device=z.device).long()
    return torch.cat([order[:, :half], order[:, spread]], 1)


def _fit_all(model: Model, F: Tensor, z: Tensor, variance: Tensor | None, warm: Optimum | None) -> Optimum:
    """The fit to the whole history; where that has no value, from the prior; else what the prefix had.

    Study by study: one that breaks down does not change what its neighbours in the batch get.
    """
    optimum = fit_hyperparameters(F, z, model.kernel, model.priors, None, warm, known=variance)
    if warm is None or sure(torch.isfinite(optimum.value)):
        return optimum
    log.warning("the fit broke down from its warm start; refitting from the prior")
    optimum = _where_finite(optimum, fit_hyperparameters(F, z, model.kernel, model.priors, known=variance))
    if sure(torch.isfinite(optimum.value)):
        return optimum
    log.warning("the fit broke down from the prior too; keeping the last good hyper-parameters")
    return _where_finite(optimum, warm)


def _where_finite(first: Optimum, second: Optimum) -> Optimum:
    """The first optimum of each study, the second where the first has no value."""
    ok = torch.isfinite(first.value)
    theta = torch.where(ok[:, None], first.theta, second.theta)
    H = torch.where(ok[:, None, None], first.H, second.H)
    return Optimum(theta, H, torch.where(ok, first.value, second.value))


def _fit_prefix(
    model: Model, F: Tensor, y: Tensor, std: Tensor | None, warm: Optimum | None, cold: bool
) -> Optimum:
    """From the warm start; if cold, the best of that and the starts of the prior after a heat."""
    z, variance = half_rank(y), _variance(y, std)
    if warm is not None and cold:
        starts = torch.cat([warm.theta[:, None], model.priors.starts.expand(len(F), -1, -1)], 1)
        warm = fit_hyperparameters(F, z, model.kernel, model.priors, starts, None, HEAT, variance)
    return _fit_all(model, F, z, variance, warm)
