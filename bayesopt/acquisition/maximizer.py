"""Maximisation of an acquisition over a mixed, conditional space, for a batch of studies at once.

Raw candidates -> the best and some other starts -> batched BFGS on the numeric columns, in coordinates
scaled by the lengthscales -> exhaustive one-coordinate moves on the discrete columns, alternating with
BFGS while they help. A small finite space is simply enumerated.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from bayesopt import bfgs
from bayesopt.acquisition.candidates import MANY_LEVELS, Draws, Moves, perturbed, quasi_random
from bayesopt.acquisition.region import Region
from bayesopt.acquisition.surface import Surface
from bayesopt.device import CPU, Watch, constant, put
from bayesopt.rows import take
from bayesopt.space import Space

#: Step of the differences that give the curvature, and the least one that is believed, where a unit is a
#: lengthscale and the acquisition in nats; dimension past which learning it in steps is cheaper.
_DIFFERENCE = 1e-3
_LEAST_CURVATURE = 1.0
_MOST_CURVED = 40

#: Largest finite space that is enumerated instead of searched.
ENUMERABLE = 1024


@dataclass(frozen=True)
class Effort:
    """How hard to look. The defaults are measured by `python -m benchmarks quality`.

    sobol, local: raw candidates, quasi-random and perturbed incumbents.
    starts: points polished by BFGS; half are the best candidates, half chosen by chance among good ones.
    moved: how many of the polished points try discrete moves; rounds: how often at most.
    options: of the BFGS.
    curved: whether it starts from the measured curvature, or learns it in three times the evaluations.
    """

    sobol: int = 256
    local: int = 128
    starts: int = 8
    moved: int = 3
    rounds: int = 3
    options: bfgs.Options = bfgs.Options(evaluations=6, ftol=1e-3, first_step=0.5, max_step=1.0)
    curved: bool = True


DEFAULT_EFFORT = Effort()


@torch.no_grad()
def maximize(
    surface: Surface,
    X: Tensor,
    z: Tensor,
    draws: Draws,
    effort: Effort = DEFAULT_EFFORT,
    region: Region | None = None,
) -> tuple[Tensor, Tensor]:
    """Points of high acquisition, best first: snapped `(b, k, d)` and their values `(b, k)`.

    The first is the maximiser found; the others are there for callers who may not take it, because it has
    been tried already.

    Args:
        surface: what is maximised.
        X, z: observed encoded points `(b, n, d)` and their outcomes `(b, n)`, for the perturbed incumbents.
        draws: random numbers, for `effort.sobol` and `effort.local` candidates.
        effort: how hard to look; region: where, everywhere if None. A small finite space is no place for one.
    """
    space = surface.space
    grid = enumerated(space, X.device)
    if grid is not None:
        points, active = (t.expand(X.shape[0], *t.shape) for t in grid)
        return ranked(points, surface.value(points, active))
    raw, active = candidates(space, X, z, draws, effort, region)
    raw_value = surface.value(raw, active)
    points, value = polish(surface, raw, raw_value, draws.gumbel, effort, region)
    spare, spare_value = best_of(raw, raw_value)
    return ranked(torch.cat([points, spare], 1), torch.cat([value, spare_value], 1))


def candidates(
    space: Space, X: Tensor, z: Tensor, draws: Draws, effort: Effort, region: Region | None = None
) -> tuple[Tensor, Tensor]:
    """Raw candidates `(b, m, d)`, snapped, with their activity masks."""
    spread, near = quasi_random(space, effort.sobol, draws.shift), perturbed(space, X, z, draws)
    if region is not None:
        spread, near = region.place(spread), region.clamp(near)
    return space.snap(torch.cat([spread, near], 1))


def polish(
    surface: Surface, X: Tensor, value: Tensor, gumbel: Tensor, effort: Effort, region: Region | None = None
) -> tuple[Tensor, Tensor]:
    """The best and some other candidates `(b, effort.starts, d)`, climbed and moved, and their values."""
    return climb(surface, *_starts(X, value, gumbel, effort.starts), effort, region)


def climb(
    surface: Surface, X: Tensor, value: Tensor, effort: Effort, region: Region | None = None
) -> tuple[Tensor, Tensor]:
    """Points `(b, r, d)` climbed by gradients, the best also along discrete columns; none gets worse."""
    X, value = _climb(surface, X, value, effort, region)
    return _move(surface, X, value, effort, region)


@lru_cache(maxsize=16)
def enumerated(space: Space, device: torch.device = CPU) -> tuple[Tensor, Tensor] | None:
    """All points of a small finite space with their activity masks, None for a larger one."""
    if space.size > ENUMERABLE:
        return None
    X, active = space.encode(list(space.grid()))
    return put(X, device), put(active, device)


def best_of(X: Tensor, value: Tensor, count: int = 64) -> tuple[Tensor, Tensor]:
    """Some of the best candidates, best first: kept at hand in case what was climbed to is taken."""
    value, order = value.topk(min(count, value.shape[1]), -1)
    return take(X, order), value


def ranked(X: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Points and values, best first."""
    # Stable: equal values (a flat acquisition) keep the candidates' order on every device.
    value, order = value.sort(dim=-1, descending=True, stable=True)
    return take(X, order), value


def _starts(X: Tensor, value: Tensor, gumbel: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The best half outright; the rest by Gumbel-top-k sampling, which keeps other basins in the race."""
    count = min(count, value.shape[1])
    best = value.topk((count + 1) // 2, -1).indices
    spread = torch.nan_to_num(value, neginf=-1e300).std(-1, keepdim=True).clamp(1e-9, 1e9)
    score = (value / (0.3 * spread) + gumbel).scatter(1, best, -torch.inf)
    index = torch.cat([best, score.topk(count - best.shape[1], -1).indices], 1)
    return take(X, index), value.gather(1, index)


def climbed_columns(space: Space) -> tuple[bool, ...]:
    """The columns moved by gradients: continuous ones, and numeric ones with many levels."""
    return tuple(
        levels is None or (levels > MANY_LEVELS and not categorical)
        for levels, categorical in zip(space.levels, space.categorical, strict=True)
    )


def _climb(
    surface: Surface, X: Tensor, value: Tensor, effort: Effort, region: Region | None
) -> tuple[Tensor, Tensor]:
    """BFGS from every point on the numeric columns, the others fixed; never worse than the start."""
    space = surface.space
    climbed = climbed_columns(space)
    if not any(climbed):
        return X, value
    free = constant(climbed, torch.bool, X.device)
    scale = surface.scale.unsqueeze(1)
    least, most = (0.0, 1.0) if region is None else (region.lower.unsqueeze(1), region.upper.unsqueeze(1))
    lower = torch.where(free, least, X) / scale
    upper = torch.where(free, most, X) / scale
    # Activity stays as it is at the start: a climb across a condition on a number would meet a cliff.
    _, active = space.snap(X)

    def descent(u: Tensor, keep: Tensor | None) -> tuple[Tensor, Tensor]:
        unit, on = (scale, active) if keep is None else (scale[keep], active[keep])
        on = on if on.shape == u.shape else on.repeat_interleave(u.shape[1] // on.shape[1], 1)
        a, gradient = surface.rows(keep).value_and_gradient(u * unit, on)
        return -a, gradient * unit.neg() * free

    start = X / scale
    if effort.curved and space.dim <= _MOST_CURVED:
        H, first = _inverse_curvature(descent, start, free)
        solution = bfgs.minimize(descent, start, lower, upper, effort.options, H, first)
    else:
        longer = replace(effort.options, evaluations=3 * effort.options.evaluations)
        solution = bfgs.minimize(descent, start, lower, upper, longer)
    found, active = space.snap(solution.x * scale)
    # Snapping moves integers, so the climbed value does not stand: the configuration itself is scored.
    exact = all(levels is None for levels, c in zip(space.levels, climbed, strict=True) if c)
    found_value = -solution.value if exact and not space.has_conditions else surface.value(found, active)
    better = found_value > value
    return torch.where(better[..., None], found, X), torch.where(better, found_value, value)


def _inverse_curvature(
    descent: bfgs.Objective, u: Tensor, free: Tensor
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Saddle-free inverse Hessian `(b, r, d, d)`, value and gradient at u; Dauphin et al. (2014), section 4.

    Differences of the closed-form gradient, all in one evaluation: far cheaper than the ticks in which BFGS
    would learn the same. Negative curvature counts by its size, so that the step leaves a saddle downhill.
    """
    b, r, d = u.shape
    offsets = _DIFFERENCE * torch.eye(d + 1, d, dtype=u.dtype, device=u.device).roll(1, 0)  # row 0 is zero
    f, g = descent((u.unsqueeze(2) + offsets).flatten(1, 2), None)
    f, g = f.view(b, r, d + 1), g.view(b, r, d + 1, d)
    hessian = (g[:, :, 1:] - g[:, :, :1]) * (free.unsqueeze(-1) / _DIFFERENCE)
    # A row that broke down starts along its gradient; eigh would refuse the whole batch.
    symmetric = (0.5 * (hessian + hessian.mT)).nan_to_num(0.0, 0.0, 0.0)
    values, vectors = torch.linalg.eigh(symmetric)
    H = (vectors / values.abs().clamp_min(_LEAST_CURVATURE).unsqueeze(-2)) @ vectors.mT
    return H, (f[:, :, 0], g[:, :, 0])


def _move(
    surface: Surface, X: Tensor, value: Tensor, effort: Effort, region: Region | None
) -> tuple[Tensor, Tensor]:
    """Steepest one-coordinate discrete moves of the best points, polished by BFGS, while any helps."""
    moves = moves_of(surface.space)
    if not len(moves):
        return X, value
    X, value = ranked(X, value)
    rest = X[:, effort.moved :], value[:, effort.moved :]
    X, value = X[:, : effort.moved], value[:, : effort.moved]
    shorter = replace(effort.options, evaluations=max(4, effort.options.evaluations // 2))
    brief = replace(effort, options=shorter)
    watch = Watch(1)
    for _ in range(effort.rounds):
        near = moves.apply(X).flatten(1, 2)
        # Steps along a long column may lead out of the region.
        near, active = surface.space.snap(near if region is None else region.clamp(near))
        near_value = surface.value(near, active).view(*value.shape, len(moves))
        best_value, best = near_value.max(-1)
        improved = best_value > value + effort.options.ftol  # more than rounding: staying put is a move too
        helped = watch(improved.any())
        if helped is not None and not bool(helped):
            break
        near = near.view(*value.shape, len(moves), -1)
        best_point = near.gather(2, best[..., None, None].expand(-1, -1, 1, near.shape[-1]))[:, :, 0]
        moved, moved_value = _climb(surface, best_point, best_value, brief, region)
        X = torch.where(improved[..., None], moved, X)
        value = torch.where(improved, moved_value, value)
    return torch.cat([X, rest[0]], 1), torch.cat([value, rest[1]], 1)


@lru_cache(maxsize=64)
def moves_of(space: Space) -> Moves:
    """The discrete moves of a space."""
    return Moves.of(space)
