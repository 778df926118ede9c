"""Thompson sampling: each proposal minimises one function drawn from the posterior.

Thompson (1933); by pathwise samples, Wilson et al. (2020): a drawn function is a formula, so all of them
are evaluated at all candidates by two matrix products, and each is then minimised by its gradient.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bayesopt import bfgs
from bayesopt.acquisition.candidates import Draws
from bayesopt.acquisition.distinct import SAME, is_taken, untried
from bayesopt.acquisition.maximizer import Effort, candidates, climb, enumerated
from bayesopt.acquisition.surface import Surface, Term
from bayesopt.device import entries, sure
from bayesopt.surrogates.gp import GaussianProcess, Paths

#: Many functions share the candidates; each is climbed from its best one.
EFFORT = Effort(
    sobol=1024,
    local=512,
    starts=1,
    moved=1,
    rounds=1,
    options=bfgs.Options(evaluations=4, ftol=1e-3, first_step=0.3, max_step=1.0),
    curved=False,
)

#: Candidates evaluated at once for all functions: bounds the random features held in memory.
_CHUNK = 512


@dataclass(frozen=True, eq=False)
class Lowest(Term):
    """`-f_s(x)` of s drawn functions, function s in batch place s."""

    paths: Paths

    @property
    def width(self) -> int:
        return self.paths.w.numel()

    def value(self, F: Tensor) -> Tensor:
        return -self.paths.each(F)

    def value_and_gradient(self, F: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            F = F.detach().requires_grad_()
            value = -self.paths.each(F)
            (gradient,) = torch.autograd.grad(value.sum(), F)
        return value.detach(), gradient

    def rows(self, keep: Tensor) -> "Lowest":
        return Lowest(self.paths.select(keep))


@dataclass(frozen=True, eq=False)
class Shared(Term):
    """A term of one study, under the points of all functions."""

    term: Term

    @property
    def width(self) -> int:
        return self.term.width

    def value(self, F: Tensor) -> Tensor:
        return self.term.value(F.flatten(0, 1).unsqueeze(0)).view(F.shape[:2])

    def value_and_gradient(self, F: Tensor) -> tuple[Tensor, Tensor]:
        value, gradient = self.term.value_and_gradient(F.flatten(0, 1).unsqueeze(0))
        return value.view(F.shape[:2]), gradient.view(F.shape)

    def rows(self, keep: Tensor) -> "Shared":
        return self


def thompson(
    surface: Surface,
    gp: GaussianProcess,
    X: Tensor,
    z: Tensor,
    taken: Tensor,
    q: int,
    source: torch.Generator,
    effort: Effort = EFFORT,
) -> Tensor:
    """q points `(q, d)` of one study, each the minimiser of its own draw that is not taken yet.

    Args:
        surface: the terms common to all proposals, one study.
        gp: the surrogate of that study, one batch dimension of 1.
        X, z: observed points `(1, n, d)` and their outcomes `(1, n)`; taken `(1, m, d)`.
        q: how many; source: of the functions and the candidates.
    """
    space, single = surface.space, gp.select(0)
    paths = single.sample_paths(q, source)
    grid = enumerated(space, X.device)
    draws = Draws.of([source], space.dim, effort.sobol, effort.local, X.device)
    raw, active = candidates(space, X, z, draws, effort) if grid is None else (t[None] for t in grid)
    F = surface.embedding(raw, active)[0]
    value = -torch.cat([paths(part) for part in F.split(entries(_CHUNK, F))], -1)  # (q, m)
    if not surface.flat:
        value = value + surface.value(raw, active)
    first = value.argmax(-1)
    points = raw[0, first].unsqueeze(1)
    if grid is None:
        own = replace(
            surface, terms=(Lowest(paths), *map(Shared, surface.terms)), scale=surface.scale.expand(q, -1)
        )
        points, _ = climb(own, points, value.gather(1, first[:, None]), effort)
    return _distinct(points[:, 0], raw[0], value, taken[0], surface, source)


def _distinct(
    points: Tensor, raw: Tensor, value: Tensor, taken: Tensor, surface: Surface, source: torch.Generator
) -> Tensor:
    """The points in order, a repeated one replaced by its function's best candidate that is still free."""
    known = torch.cat([taken, points])
    again = torch.cdist(points, known, p=torch.inf) < SAME
    again &= torch.arange(len(known), device=again.device) < len(taken) + torch.arange(
        len(points), device=again.device
    ).unsqueeze(-1)
    if sure(~again):
        return points
    free = ~is_taken(raw[None], torch.cat([taken, points])[None])[0]
    for i in again.any(-1).nonzero()[:, 0].tolist():
        best = torch.where(free, value[i], -torch.inf).argmax()
        if bool(free[best]):
            points[i] = raw[best]
        else:
            points[i] = untried(surface.space, torch.cat([taken, points]), source, points[i])
        free &= ~is_taken(raw[None], points[i][None, None])[0]
    return points
