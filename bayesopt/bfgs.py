"""Bounded BFGS over a batch of independent problems.

Search is decoupled: every row has its own step length and its own inverse Hessian, so a batch gives each
row the iterates it would have alone. One tick of the loop is one evaluation of the objective for every live
row; a row whose trial point is rejected shortens its step while its neighbours move on, which keeps the
shapes static and needs no inner loop.

Bounds are handled by the projected quasi-Newton method of Bertsekas (1982): coordinates at a bound whose
gradient points outwards are frozen for the direction, and the step is projected onto the box.

The inverse Hessian is dense. With at most a few hundred variables a row its p^2 numbers are nothing, and
the rank-two update is a third of the tensor operations of a limited-memory one; at the sizes of this engine
(p about 10, a few rows) operations are what a tick costs. `docs/architecture.md` has the measurement.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bayesopt.device import Watch, put

#: `fun(x, keep) -> (f, g)`: x `(b, r, p)`, f `(b, r)`, g `(b, r, p)`. `keep` holds the indices of the
#: groups still alive along the first dimension, None for all: a caller with per-group data indexes it.
Objective = Callable[[Tensor, Tensor | None], tuple[Tensor, Tensor]]

Array = NDArray[np.float64]

_ARMIJO = 1e-4
_CURVATURE = 1e-10  # s.y / y.y below which an update would spoil the inverse Hessian
_PATIENCE = 5  # ticks without progress: a rejected trial point counts one, an accepted small gain two


class Solution(NamedTuple):
    """`x (b, r, p)`, `value (b, r)`, the inverse Hessian `H (b, r, p, p)` there, and calls made."""

    x: Tensor
    value: Tensor
    H: Tensor
    evaluations: int


@dataclass(frozen=True)
class Options:
    """Stopping rules and step limits, in the units of x and f (log-likelihoods and log-acquisitions: nats).

    evaluations: calls of the objective at most.
    ftol: a row stops when its next quasi-Newton step promises less than this, or after a few smaller gains.
    first_step: length of the first step, taken along the gradient.
    max_step: largest change of any coordinate in one step.
    lag: steps after which to look whether rows are done, see `Watch`; 0 where a step costs more than a wait.
    """

    evaluations: int = 50
    ftol: float = 1e-6
    first_step: float = 0.3
    max_step: float = 2.0
    lag: int | None = None


@dataclass(frozen=True)
class _State:
    x: Tensor  # (b, r, p) accepted point
    f: Tensor  # (b, r)
    g: Tensor  # (b, r, p)
    H: Tensor  # (b, r, p, p) inverse Hessian
    step: Tensor  # (b, r, p) full step of the current search; the trial point is clamp(x + t step)
    t: Tensor  # (b, r)
    idle: Tensor  # (b, r) patience used up
    live: Tensor  # (b, r) bool
    lower: Tensor  # (b, r, p)
    upper: Tensor  # (b, r, p)

    def select(self, keep: Tensor) -> "_State":
        return _State(*(getattr(self, field.name)[keep] for field in fields(self)))


def minimize(
    fun: Objective,
    x0: Tensor,
    lower: Tensor,
    upper: Tensor,
    options: Options | None = None,
    H: Tensor | None = None,
    first: tuple[Tensor, Tensor] | None = None,
) -> Solution:
    """Minimise `b x r` independent problems over boxes, from `x0 (b, r, p)`.

    Args:
        fun: value and gradient; a nan or infinite value is a rejected trial point.
        x0: starting points; projected onto the box.
        lower, upper: bounds, broadcastable to `x0`.
        options: see `Options`.
        H: inverse Hessian `(b, r, p, p)` to begin with, positive definite; from a similar problem it saves
            the ticks that learning it takes.
        first: value and gradient at `x0`, if known, which must then be inside the box.

    Returns the best accepted point of each row. A row never ends above its start.

    >>> target = torch.tensor([0.3, 2.0])
    >>> def fun(x, keep):
    ...     return ((x - target) ** 2).sum(-1), 2 * (x - target)
    >>> x = minimize(fun, torch.zeros(1, 1, 2), torch.zeros(2), torch.ones(2)).x
    >>> [round(v, 4) for v in x.flatten().tolist()]
    [0.3, 1.0]
    """
    options = options or Options()
    state = _init(fun, x0, lower.to(x0).expand_as(x0), upper.to(x0).expand_as(x0), options, H, first)
    result = Solution(state.x, state.f, state.H, 1)
    keep: Tensor | None = None
    fresh, evaluations = H is None, 1
    watch = Watch(options.lag)
    while evaluations < options.evaluations:
        alive = watch(state.live.any(-1))
        if alive is not None:  # what is dead stays dead: an old look only finds fewer of them
            count = int(alive.sum())
            if count == 0:
                break
            if count <= 0.75 * alive.numel():
                result = _store(result, state, keep)
                index = put(alive.nonzero()[:, 0], x0.device)
                keep = index if keep is None else keep[index]
                state, watch = state.select(index), Watch(options.lag)
        state = _tick(fun, state, keep, options, rescale=fresh and evaluations == 1)
        evaluations += 1
    return _store(result, state, keep)._replace(evaluations=evaluations)


def _store(result: Solution, state: _State, keep: Tensor | None) -> Solution:
    """Write the groups still in the state back to their places."""
    if keep is None:
        return result._replace(x=state.x, value=state.f, H=state.H)
    return result._replace(
        x=result.x.index_copy(0, keep, state.x),
        value=result.value.index_copy(0, keep, state.f),
        H=result.H.index_copy(0, keep, state.H),
    )


def _init(
    fun: Objective,
    x: Tensor,
    lower: Tensor,
    upper: Tensor,
    options: Options,
    H: Tensor | None,
    first: tuple[Tensor, Tensor] | None,
) -> _State:
    x = torch.clamp(x, lower, upper)
    f, g = fun(x, None) if first is None else first
    pg = _free_gradient(x, g, lower, upper)
    if H is None:
        length = torch.linalg.vector_norm(pg, dim=-1).clamp_min(1.0)[..., None, None]
        H = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device) * (options.first_step / length)
    step = _direction(H, pg, options)
    live = torch.isfinite(f) & (_promise(step, pg) > options.ftol)
    return _State(x, f, g, H, step, torch.ones_like(f), torch.zeros_like(f), live, lower, upper)


# From here on every line runs once a tick on a few hundred numbers, where the call is the cost, not the
# arithmetic: `unsqueeze` instead of indexing with None and products with sums instead of `@` and `vecdot`
# are several times cheaper each.


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(-1)


def _tick(fun: Objective, s: _State, keep: Tensor | None, options: Options, rescale: bool) -> _State:
    """One evaluation: accept the trial points that decrease enough and aim anew, shorten the other steps."""
    x_new = torch.clamp(s.x + s.t.unsqueeze(-1) * s.step, s.lower, s.upper)
    f_new, g_new = fun(x_new, keep)
    dx, dg = x_new - s.x, g_new - s.g
    slope = _dot(s.g, dx)
    gain = s.f - f_new
    accept = s.live & (gain >= -_ARMIJO * slope)  # False for nan
    H = _updated(s.H, dx, dg, accept, rescale)

    took = accept.unsqueeze(-1)
    x, g = torch.where(took, x_new, s.x), torch.where(took, g_new, s.g)
    pg = _free_gradient(x, g, s.lower, s.upper)
    step = torch.where(took, _direction(H, pg, options), s.step)
    idle = torch.where(accept & (gain >= options.ftol), 0.0, s.idle + 1.0 + accept)
    # Minimiser of the parabola through f, slope and f_new, safeguarded; a nan value asks for the shortest.
    shrink = (0.5 / (1.0 + gain / slope)).nan_to_num(0.1).clamp(0.1, 0.5)
    return _State(
        x=x, f=torch.where(accept, f_new, s.f), g=g, H=H, step=step, t=torch.where(accept, 1.0, s.t * shrink),
        idle=idle, live=s.live & (_promise(step, pg) > options.ftol) & (idle < _PATIENCE),
        lower=s.lower, upper=s.upper,
    )  # fmt: skip


def _free_gradient(x: Tensor, g: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """Gradient with the coordinates that press against a bound set to zero."""
    return g * (torch.clamp(x - g, lower, upper) != x)


def _direction(H: Tensor, pg: Tensor, options: Options) -> Tensor:
    """`-H pg` on the free coordinates, shortened to `max_step`."""
    step = _dot(H, pg.unsqueeze(-2)) * (pg != 0.0)
    return step * -(options.max_step / step.abs().amax(-1, keepdim=True)).clamp_max(1.0)


def _promise(step: Tensor, pg: Tensor) -> Tensor:
    """Decrease that the quadratic model expects of the full step: half the Newton decrement."""
    return -0.5 * _dot(step, pg)


def _updated(H: Tensor, dx: Tensor, dg: Tensor, accept: Tensor, rescale: bool) -> Tensor:
    """BFGS update where a step of positive curvature was accepted. Nocedal & Wright (2006), eq. (6.17).

    `H' = H + s w' + w s'`, `w = (1 + y'Hy / s'y) s / (2 s'y) - Hy / s'y`. The first update of a fresh start
    first rescales its guess, a multiple of I, to `(s'y / y'y) I`, eq. (6.20).
    """
    sy, yy = _dot(dx, dg), _dot(dg, dg)
    good = accept & (sy > _CURVATURE * yy)
    if rescale:
        factor = torch.where(good, sy / (yy * H[..., 0, 0]), 1.0)
        H = H * factor.unsqueeze(-1).unsqueeze(-1)
    rho = (1.0 / sy).unsqueeze(-1)
    Hy = _dot(H, dg.unsqueeze(-2))
    w = rho * ((0.5 + 0.5 * rho * _dot(dg, Hy).unsqueeze(-1)) * dx - Hy)
    outer = dx.unsqueeze(-1) * w.unsqueeze(-2)
    return torch.where(good.unsqueeze(-1).unsqueeze(-1), H + outer + outer.mT, H)


def minimize_alone(
    fun: Callable[[Array], tuple[float, Array]],
    x: Array,
    lower: Array,
    upper: Array,
    options: Options,
    first: tuple[float, Array],
) -> Array:
    """`minimize` from one `x (p,)` inside the box, the same steps on the host in a tenth of the time.

    For an objective of so few numbers that calls are what it costs; its values are finite.
    """
    f, g = first
    free = g * (np.minimum(np.maximum(x - g, lower), upper) != x)
    H = np.eye(len(x)) * (options.first_step / max(1.0, math.sqrt(free @ free)))
    t, idle = 1.0, 0
    step = _direction_alone(H, free, options)
    for evaluation in range(1, options.evaluations):
        if -0.5 * (step @ free) <= options.ftol or idle >= _PATIENCE:
            break
        x_new = np.minimum(np.maximum(x + t * step, lower), upper)
        f_new, g_new = fun(x_new)
        dx, dg, gain = x_new - x, g_new - g, f - f_new
        slope = float(g @ dx)
        if gain < -_ARMIJO * slope:
            t *= min(max(0.5 / (1.0 + gain / slope), 0.1), 0.5)
            idle += 1
            continue
        sy, yy = float(dx @ dg), float(dg @ dg)
        if sy > _CURVATURE * yy:
            H = H * (sy / (yy * H[0, 0])) if evaluation == 1 else H
            Hy = H @ dg
            half = np.outer(dx, ((0.5 + 0.5 * (dg @ Hy) / sy) * dx - Hy) / sy)
            H = H + half + half.T
        x, f, g, t, idle = x_new, f_new, g_new, 1.0, 0 if gain >= options.ftol else idle + 2
        free = g * (np.minimum(np.maximum(x - g, lower), upper) != x)
        step = _direction_alone(H, free, options)
    return x


def _direction_alone(H: Array, free: Array, options: Options) -> Array:
    step = -(H @ free) * (free != 0.0)
    return step * min(1.0, options.max_step / max(float(np.abs(step).max()), options.max_step))
