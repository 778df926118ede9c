"""Choosing q points at once, greedily, beside whatever is unfinished."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bayesopt import bfgs
from bayesopt.acquisition.candidates import Draws, gumbel, quasi_random
from bayesopt.acquisition.distinct import SAME, first_free, is_taken
from bayesopt.acquisition.fantasies import BatchAcquisition, Fantasies, Fantasised, Screen
from bayesopt.acquisition.joint import JointPosterior, QLogExpectedImprovement
from bayesopt.acquisition.maximizer import (
    DEFAULT_EFFORT,
    Effort,
    best_of,
    candidates,
    climbed_columns,
    enumerated,
    polish,
    ranked,
)
from bayesopt.acquisition.region import Nearby
from bayesopt.acquisition.surface import Surface
from bayesopt.device import constant, put

#: Of the slots after the first: their candidates include what the slots before them climbed to.
LATER = replace(DEFAULT_EFFORT, starts=6, options=replace(DEFAULT_EFFORT.options, evaluations=3))

#: Generators of slot i, one for each study.
Generators = Callable[[int], list[torch.Generator]]


@dataclass(frozen=True, eq=False)
class Situation:
    """What the choice of a batch knows of b studies.

    Attributes:
        surface: the terms common to all slots.
        X, z: observed points `(b, n, d)` and their outcomes `(b, n)`; taken `(b, m, d)`: not to be proposed.
        nearby: for each slot of the batch, where it looks if it is a local proposal, None if it is not.
    """

    surface: Surface
    X: Tensor
    z: Tensor
    taken: Tensor
    nearby: tuple[Nearby | None, ...]


@torch.no_grad()
def greedy(
    known: Situation,
    fantasies: Fantasies,
    base: Tensor,
    rule: Callable[[int], BatchAcquisition],
    generators: Generators,
    effort: Effort = DEFAULT_EFFORT,
) -> Tensor:
    """q points `(b, q, d)`, each maximising its acquisition given the ones before.

    The candidates are evaluated once; every slot then costs a column of covariances and a short climb from
    the best of them and of the points that earlier slots climbed to.

    Args:
        known: the studies.
        fantasies: their surrogates, with everything that is under way.
        base: innovations of the q new points `(b, q, s)`, 0 for believed ones.
        rule: the acquisition of each slot.
        generators: of each slot's choice of starts.
        effort: of the first slot.
    """
    surface, space = known.surface, known.surface.space
    grid = enumerated(space, known.X.device)
    first = generators(0)
    draws = Draws.of(first, space.dim, effort.sobol, effort.local, known.X.device)
    if grid is None:
        raw, active = candidates(space, known.X, known.z, draws, effort)
    else:
        raw, active = (t.expand(known.X.shape[0], *t.shape) for t in grid)
    region = next((local.region for local in known.nearby if local is not None), None)
    if region is not None and grid is None:  # which few of the candidates are in
        inside = space.snap(region.place(quasi_random(space, effort.local, draws.shift)))
        raw, active = (torch.cat(pair, 1) for pair in zip((raw, active), inside, strict=True))
    screen = _screen(surface, raw, active, fantasies)
    taken, chosen = known.taken, []
    for slot in range(base.shape[-2]):
        acquisition = rule(slot)
        value = screen.value(acquisition, fantasies.best)
        local = known.nearby[slot] if grid is None else None
        if local is not None:
            value = value.masked_fill(~local.region.holds(screen.X), -torch.inf)
        source = generators(slot) if slot else first
        points, point_value = best_of(screen.X, value)
        if grid is None:
            target = surface.of(Fantasised(fantasies, acquisition), *surface.terms)
            noise = draws.gumbel if draws.gumbel.shape == value.shape else _gumbel(source, value)
            found, found_value = polish(
                target,
                screen.X,
                value,
                noise,
                LATER if slot else effort,
                None if local is None else local.region,
            )
            found, found_value = ranked(found, found_value)
            points = torch.cat([found, points], 1)
            point_value = torch.cat([found_value, point_value], 1)
            screen = screen.joined(_screen(surface, *space.snap(found), fantasies))
        if local is not None:
            points, point_value = local.before(points, point_value)
        x = first_free(points, point_value, taken, space, source).unsqueeze(1)
        chosen.append(x)
        taken = torch.cat([taken, x], 1)
        if slot + 1 < base.shape[-2]:
            F = surface.embedding(*space.snap(x))
            fantasies = fantasies.extend(F, base[:, slot : slot + 1])
            screen = screen.extended(fantasies)
            beside = surface.beside(F)
            if beside is not surface:
                surface, screen = beside, replace(screen, common=beside.value(screen.X, screen.active))
    return torch.cat(chosen, 1)


def _screen(surface: Surface, X: Tensor, active: Tensor, fantasies: Fantasies) -> Screen:
    common = X.new_zeros(X.shape[:2]) if surface.flat else surface.value(X, active)
    return Screen.of(X, active, surface.embedding(X, active), common, fantasies)


def _gumbel(source: list[torch.Generator], like: Tensor) -> Tensor:
    uniform = [torch.rand(like.shape[1], generator=g, dtype=torch.float64) for g in source]
    return gumbel(put(torch.stack(uniform), like.device))


@torch.no_grad()
def climb_jointly(
    known: Situation, fantasies: Fantasies, base: Tensor, X: Tensor, options: bfgs.Options
) -> Tensor:
    """The batch X `(b, q, d)` after BFGS on its joint qLogEI over all numeric columns at once.

    A study keeps its batch where the climb does not help, or leads to a point that is taken.

    Args: base: standard normals `(b, q, s)`; fantasies with the same s.
    """
    surface, space = known.surface, known.surface.space
    b, q, d = X.shape
    free = constant(climbed_columns(space), torch.bool, X.device)
    scale = surface.scale.unsqueeze(1)
    _, active = space.snap(X)
    acquisition = QLogExpectedImprovement()

    def descent(u: Tensor, keep: Tensor | None) -> tuple[Tensor, Tensor]:
        rows = slice(None) if keep is None else keep
        posterior = JointPosterior(fantasies if keep is None else fantasies.rows(keep), base[rows])
        points = u.view(-1, q, d) * scale[rows]
        value, dF = posterior.value_and_gradient(acquisition, surface.embedding(points, active[rows]))
        gradient = surface.embedding.pullback(dF) * scale[rows] * (free & active[rows])
        return -value.unsqueeze(-1), -gradient.reshape(-1, 1, q * d)

    start = (X / scale).view(b, 1, q * d)
    lower = (torch.where(free, 0.0, X) / scale).view(b, 1, q * d)
    upper = (torch.where(free, 1.0, X) / scale).view(b, 1, q * d)
    solution = bfgs.minimize(descent, start, lower, upper, options)
    found, on = space.snap(solution.x.view(b, q, d) * scale)
    posterior = JointPosterior(fantasies, base)
    before = posterior.value(acquisition, surface.embedding(X, active))
    after = posterior.value(acquisition, surface.embedding(found, on))
    others = torch.cdist(found, found, p=torch.inf) + torch.eye(q, dtype=X.dtype, device=X.device)
    good = (after > before) & ~is_taken(found, known.taken).any(-1) & (others.flatten(1).amin(-1) > SAME)
    return torch.where(good[:, None, None], found, X)
