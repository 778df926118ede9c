"""Where the maximiser looks first: quasi-random points, perturbed incumbents, discrete neighbours."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.quasirandom import SobolEngine

from bayesopt.device import constant, put
from bayesopt.rows import take
from bayesopt.space import Space

#: Scales of the perturbations of incumbents, in encoded units: from the basin to its last digits.
PERTURBATION_SCALES = (0.2, 0.05, 0.01, 0.002)

#: Discrete parameters with more levels than this are climbed as if continuous, then moved by steps.
MANY_LEVELS = 20


@dataclass(frozen=True, eq=False)
class Draws:
    """Random numbers of one proposal for b studies, each from that study's own generator.

    Drawn at once and on the CPU, so that a study gets the same ones in a batch as alone, on any device.

    Attributes:
        shift: `(b, 1, d)` rotation of the quasi-random points.
        pick: `(b, k)` which incumbent is perturbed; scale `(b, k, 1)`; moved, fresh `(b, k, d)` uniforms;
        noise: `(b, k, d)` standard normals.
        gumbel: `(b, m)` noise of the choice of starts.
    """

    shift: Tensor
    pick: Tensor
    scale: Tensor
    moved: Tensor
    fresh: Tensor
    noise: Tensor
    gumbel: Tensor

    @classmethod
    def of(
        cls, generators: list[torch.Generator], d: int, sobol: int, local: int, device: torch.device
    ) -> "Draws":
        """Draw for `sobol` quasi-random and `local` perturbed candidates in d dimensions."""
        sizes = [d, local, local, local * d, local * d, sobol + local]
        uniform = torch.stack([torch.rand(sum(sizes), generator=g, dtype=torch.float64) for g in generators])
        noise = torch.stack([torch.randn(local, d, generator=g, dtype=torch.float64) for g in generators])
        uniform, noise = put(uniform, device), put(noise, device)
        shift, pick, scale, moved, fresh, flat = uniform.split(sizes, -1)
        b = len(generators)
        return cls(
            shift=shift[:, None], pick=pick, scale=scale[..., None],
            moved=moved.view(b, local, d), fresh=fresh.view(b, local, d), noise=noise,
            gumbel=gumbel(flat),
        )  # fmt: skip


def gumbel(uniform: Tensor) -> Tensor:
    """Standard Gumbel noise from uniforms."""
    return -torch.log(-torch.log(uniform.clamp(1e-12, 1 - 1e-12)))


@lru_cache(maxsize=64)
def _sobol(count: int, d: int, device: torch.device) -> Tensor:
    return SobolEngine(d, scramble=True, seed=7).draw(count, dtype=torch.float64).to(device)


def quasi_random(space: Space, count: int, shift: Tensor) -> Tensor:
    """Sobol points with each study's own rotation (Cranley & Patterson 1976), `(b, count, d)`, not snapped.

    Half of them follow the beliefs where there are any; the rest stay uniform, so that a wrong belief
    cannot hide the optimum.
    """
    U = (_sobol(count, space.dim, shift.device) + shift) % 1.0
    if not space.has_belief:
        return U
    half = count // 2
    return torch.cat([space.from_uniform(U[:, :half]), U[:, half:]], 1)


def perturbed(space: Space, X: Tensor, z: Tensor, draws: Draws, top: int = 5) -> Tensor:
    """Neighbours of the best observed points: normal steps on numeric columns, redraws on discrete ones.

    Args:
        X: observed `(b, n, d)`; z: their outcomes `(b, n)`; `top` best ones are perturbed, better more often.

    Returns `(b, k, d)`, not snapped.
    """
    d = space.dim
    best = z.topk(min(top, z.shape[-1]), -1, largest=False).indices
    chosen = best.gather(1, (draws.pick.square() * best.shape[-1]).long())
    base = take(X, chosen)
    scales = constant(PERTURBATION_SCALES, X.dtype, X.device)
    scale = scales[(draws.scale * len(PERTURBATION_SCALES)).long()]
    step = scale * draws.noise * (draws.moved < max(0.3, min(1.0, 8.0 / d)))
    moved = (base + step).clamp(0.0, 1.0)
    discrete = tuple(levels is not None and levels <= MANY_LEVELS for levels in space.levels)
    if not any(discrete):
        return moved
    rate = min(0.9, max(0.05, 1.5 / sum(discrete)))
    is_discrete = constant(discrete, torch.bool, X.device)
    redrawn = torch.where(draws.moved < rate, draws.fresh, base)
    return torch.where(is_discrete, redrawn, moved)


@dataclass(frozen=True)
class Moves:
    """One-coordinate moves on the discrete columns: every level of a short one, steps along a long one."""

    column: tuple[int, ...]
    level: tuple[float, ...]  # encoded target, nan for a step
    step: tuple[float, ...]  # encoded step, 0 for a target

    @classmethod
    def of(cls, space: Space) -> "Moves":
        """All moves of a space; empty for a continuous one."""
        rows: list[tuple[int, float, float]] = []
        for j, levels in enumerate(space.levels):
            if levels is None or levels == 1:
                continue
            if levels <= MANY_LEVELS or space.categorical[j]:
                rows += [(j, (k + 0.5) / levels, 0.0) for k in range(levels)]
                continue
            steps = {1.0, 2.0, round(0.05 * levels), round(0.2 * levels)}
            rows += [(j, float("nan"), sign * s / levels) for s in sorted(steps) if s > 0 for sign in (-1, 1)]
        column, level, step = zip(*rows, strict=True) if rows else ((), (), ())
        return cls(column, level, step)

    def __len__(self) -> int:
        return len(self.column)

    def apply(self, X: Tensor) -> Tensor:
        """Every move of every point: `(b, k, d) -> (b, k, len(self), d)`, not snapped."""
        column = constant(self.column, torch.int64, X.device)
        level, step = (constant(each, X.dtype, X.device) for each in (self.level, self.step))
        target = torch.where(level.isnan(), X[..., column] + step, level).clamp(0.0, 1.0)
        moved = X[..., None, :].repeat(1, 1, len(self), 1)
        index = column[:, None].expand(*moved.shape[:-1], 1)
        return moved.scatter_(-1, index, target[..., None])
