"""Proposals as pure functions of (seed, history), for a batch of studies at once.

`propose_gp` is the engine's one path from histories to configurations: outcome transform, fit, acquisition,
maximiser. It keeps nothing: `Optimizer` holds the history, `warm_starts` is a cache that can be dropped.
"""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.quasirandom import SobolEngine

from bayesopt.acquisition import Acquisition, Surface, maximize
from bayesopt.acquisition.candidates import Draws
from bayesopt.acquisition.maximizer import DEFAULT_EFFORT, Effort
from bayesopt.kernels import Embedding, Kernel, Stationary
from bayesopt.space import Space
from bayesopt.surrogates.gp import GaussianProcess, Optimum, fit_hyperparameters
from bayesopt.surrogates.outcomes import half_rank
from bayesopt.surrogates.priors import Priors, default_priors

log = logging.getLogger("bayesopt")

#: Two encoded points closer than this in every coordinate are the same configuration.
SAME = 1e-9


@dataclass(frozen=True, eq=False)
class Model:
    """The surrogate of a space: how configurations become features, the covariance, the priors."""

    space: Space
    embedding: Embedding
    kernel: Kernel
    priors: Priors

    @classmethod
    @lru_cache(maxsize=64)
    def of(cls, space: Space, device: torch.device) -> "Model":
        """Matern 5/2 with one lengthscale a parameter, and one for each activity indicator."""
        embedding = Embedding.of(space)
        kernel = Stationary(groups=embedding.groups)
        return cls(space, embedding, kernel, default_priors(kernel, space.dim).to(device))


@dataclass(frozen=True, eq=False)
class History:
    """What b studies know, in canonical order (see `Optimizer`), encoded.

    Attributes:
        X, active: told configurations `(b, n, d)`; y: outcomes to minimise `(b, n)`, nan for a failure.
        X_pending, active_pending: asked and not yet told, `(b, k, d)`.
        seeds: of the studies; asked: how many configurations each has been asked for so far.
    """

    X: Tensor
    active: Tensor
    y: Tensor
    X_pending: Tensor
    active_pending: Tensor
    seeds: tuple[int, ...]
    asked: int

    def known(self) -> Tensor:
        """Told and pending points `(b, n + k, d)`."""
        return torch.cat([self.X, self.X_pending], 1)


# ------------------------------------------------------------------------------------------ randomness


def generator(seed: int, *stream: int) -> torch.Generator:
    """An independent generator for each (seed, stream...); in use are (asked,) and (asked, slot)."""
    state = np.random.SeedSequence([seed, *stream]).generate_state(2, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))


def design_size(space: Space) -> int:
    """Length of the initial design: `d + 1` within [4, 8]."""
    return min(max(space.dim + 1, 4), 8)


@lru_cache(maxsize=256)
def _sobol_block(seed: int, d: int, block: int) -> Tensor:
    engine = SobolEngine(d, scramble=True, seed=seed % 2**31)
    if block:
        engine.fast_forward(256 * block)
    return engine.draw(256, dtype=torch.float64)


def sobol_point(space: Space, seed: int, index: int) -> Tensor:
    """Point `index` of the study's design `(d,)`, snapped: the centre, then a scrambled Sobol sequence."""
    if index == 0:
        return space.snap(space.centre())[0]
    block, row = divmod(index - 1, 256)
    return space.from_uniform(_sobol_block(seed, space.dim, block)[row])


def random_point(space: Space, seed: int, asked: int) -> Tensor:
    """An independent draw from the beliefs, uniform without any, `(d,)`."""
    return space.sample(1, generator(seed, asked))[0]


# ------------------------------------------------------------------------------------------- surrogate


#: Longest history that is also fitted from the prior. Past it the likelihood has, as measured, one basin
#: that matters, and the optimum of a slightly shorter history lies in it.
_LONGEST_COLD = 256


#: Most observations that a proposal conditions on. Of a longer history it takes the best and some others,
#: with the hyper-parameters of the longest prefix: the cost of an exact fit grows with n^3.
LARGEST_FIT = 2048


#: Shortest prefix that is fitted.
SHORTEST_PREFIX = 8


def _rungs(n: int) -> Iterator[tuple[int, bool]]:
    """Lengths below n of the prefixes that are fitted, 5 % apart, and whether from the prior too, 15 % apart.

    The further a history has grown past its last rung, the more evaluations its warm fit takes.
    """
    length, last_cold = SHORTEST_PREFIX, 0
    while length < min(n, LARGEST_FIT):
        cold = 1.15 * last_cold <= length <= _LONGEST_COLD
        yield length, cold
        last_cold = length if cold else last_cold
        length = max(length + 2, int(1.05 * length))


def fit_surrogate(
    model: Model,
    F: Tensor,
    y: Tensor,
    cached: Callable[[int], Optimum | None] = lambda length: None,
    store: Callable[[int, Optimum], None] = lambda length, optimum: None,
) -> GaussianProcess:
    """The fit at n observations, warm-started from the fit to a prefix of the same history.

    The warm start must not depend on when the study happened to be asked, or a resumed study would propose
    differently from one that never stopped. So it comes from prefixes of fixed lengths, each fitted from
    the one before and, while that is cheap, from the prior too. Whoever has the history can compute them;
    `cached` only saves the work.

    Args:
        model: the surrogate; F: features `(b, n, D)`; y: raw outcomes `(b, n)`, nan for failures.
        cached, store: look up and keep the optimum at a prefix length.
    """
    warm: Optimum | None = None
    for length, cold in _rungs(F.shape[1]):
        if not bool(torch.isfinite(y[:, :length]).any(-1).all()):
            continue
        known = cached(length)
        if known is None:
            known = _fit_prefix(model, F[:, :length], y[:, :length], warm, cold)
            store(length, known)
        warm = known
    z = half_rank(y)
    if F.shape[1] > LARGEST_FIT and warm is not None:
        F, z = _most_relevant(F, z)
        return GaussianProcess.of(model.kernel, warm.theta, F, z)
    return GaussianProcess.of(model.kernel, _fit_all(model, F, z, warm).theta, F, z)


def _most_relevant(F: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """The best half of `LARGEST_FIT` observations, and as many spread evenly over the ranks of the others.

    The others matter: without them the surrogate forgets where it is bad, and explores there again.
    """
    half = LARGEST_FIT // 2
    order = z.argsort(dim=-1, stable=True)
    spread = torch.linspace(half, z.shape[-1] - 1, LARGEST_FIT - half, device=z.device).long()
    index = torch.cat([order[:, :half], order[:, spread]], 1)
    return F.gather(1, index[..., None].expand(-1, -1, F.shape[-1])), z.gather(1, index)


def _fit_all(model: Model, F: Tensor, z: Tensor, warm: Optimum | None) -> Optimum:
    """The fit to the whole history; where that has no value, from the prior; else what the prefix had.

    Study by study: one that breaks down does not change what its neighbours in the batch get.
    """
    optimum = fit_hyperparameters(F, z, model.kernel, model.priors, None, warm)
    if warm is None or bool(torch.isfinite(optimum.value).all()):
        return optimum
    log.warning("the fit broke down from its warm start; refitting from the prior")
    optimum = _where_finite(optimum, fit_hyperparameters(F, z, model.kernel, model.priors))
    if bool(torch.isfinite(optimum.value).all()):
        return optimum
    log.warning("the fit broke down from the prior too; keeping the last good hyper-parameters")
    return _where_finite(optimum, warm)


def _where_finite(first: Optimum, second: Optimum) -> Optimum:
    """The first optimum of each study, the second where the first has no value."""
    ok = torch.isfinite(first.value)
    theta = torch.where(ok[:, None], first.theta, second.theta)
    H = torch.where(ok[:, None, None], first.H, second.H)
    return Optimum(theta, H, torch.where(ok, first.value, second.value))


def _fit_prefix(model: Model, F: Tensor, y: Tensor, warm: Optimum | None, cold: bool) -> Optimum:
    if warm is None or not cold:
        return fit_hyperparameters(F, half_rank(y), model.kernel, model.priors, None, warm)
    starts = torch.cat([warm.theta[:, None], model.priors.starts.expand(len(F), -1, -1)], 1)
    return fit_hyperparameters(F, half_rank(y), model.kernel, model.priors, starts)


# ------------------------------------------------------------------------------------------- proposals


@torch.no_grad()
def propose_gp(
    model: Model,
    history: History,
    q: int,
    acquisition: Acquisition,
    cached: Callable[[int], Optimum | None] = lambda length: None,
    store: Callable[[int, Optimum], None] = lambda length, optimum: None,
    effort: Effort = DEFAULT_EFFORT,
) -> Tensor:
    """q proposals for each study, `(b, q, d)` snapped; every study needs one successful evaluation.

    Pending points, and the q - 1 earlier ones of the same call, enter as observations of their own
    posterior mean (Ginsbourger et al. 2010, "kriging believer"): the mean stays, the variance collapses.
    """
    device = history.X.device
    F = model.embedding(history.X, history.active)
    gp = fit_surrogate(model, F, history.y, cached, store)
    best = gp.fitted().amin(-1, keepdim=True)
    taken = history.known()
    z = gp.y if gp.y.shape == history.y.shape else half_rank(history.y)  # a long history is thinned
    if history.X_pending.shape[1]:
        gp = _believe(gp, model.embedding(history.X_pending, history.active_pending))
    chosen: list[Tensor] = []
    for slot in range(q):
        surface = Surface(model.space, model.embedding, gp, acquisition.log_form(), best)
        generators = [generator(seed, history.asked, slot) for seed in history.seeds]
        draws = Draws.of(generators, model.space.dim, effort.sobol, effort.local, device)
        points, value = maximize(surface, history.X, z, draws, effort)
        x = _first_untried(points, value, taken, model.space, generators)
        chosen.append(x)
        taken = torch.cat([taken, x[:, None]], 1)
        if slot + 1 < q:
            gp = _believe(gp, model.embedding(*model.space.snap(x[:, None])))
    return torch.stack(chosen, 1)


def _believe(gp: GaussianProcess, F: Tensor) -> GaussianProcess:
    return gp.condition_on(F, gp.marginals(F)[0])


def is_tried(points: Tensor, taken: Tensor) -> Tensor:
    """Which of the points `(b, m, d)` are among `taken (b, n, d)`, as a mask `(b, m)`."""
    if taken.shape[1] == 0:
        return torch.zeros(points.shape[:2], dtype=torch.bool, device=points.device)
    return torch.cdist(points, taken, p=torch.inf).amin(-1) < SAME


def _first_untried(
    points: Tensor, value: Tensor, taken: Tensor, space: Space, generators: Sequence[torch.Generator]
) -> Tensor:
    """The best point of each study that is neither told nor pending; the best of all where none is left."""
    if not bool(is_tried(points[:, :1], taken).any()) and bool(torch.isfinite(value[:, 0]).all()):
        return points[:, 0]  # the maximisers themselves, nearly always
    tried = is_tried(points, taken) | ~torch.isfinite(value)
    first = (~tried).to(torch.int8).argmax(-1)  # 0 where all are tried: the maximiser itself
    x = points[torch.arange(len(points), device=points.device), first]
    for i in tried.all(-1).nonzero()[:, 0].tolist():
        x[i] = untried(space, taken[i], generators[i], x[i])
    return x


def untried(space: Space, taken: Tensor, source: torch.Generator, fallback: Tensor) -> Tensor:
    """A point `(d,)` not in `taken (n, d)`: by chance, by enumeration where chance is slow, else `fallback`.

    The fallback, a repeated evaluation, is all that is left once a finite space is exhausted.
    """
    points = space.sample(256, source).to(taken.device)
    fresh = ~is_tried(points[None], taken[None])[0]
    if bool(fresh.any()):
        return points[int(fresh.to(torch.int8).argmax())]
    if not math.isinf(space.size):  # an untried one is found after at most len(taken) + 1 steps
        seen = {space.key(config) for config in space.decode(taken.cpu())}
        for config in space.grid():
            if space.key(config) not in seen:
                return space.encode([config])[0][0].to(taken.device)
    log.warning("every configuration of the space has been tried; proposing one again")
    return fallback
