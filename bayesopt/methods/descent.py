"""Descent by finite differences: what goes on where a smooth function has been narrowed down to a valley.

Where outcomes are exact, d evaluations right beside a point tell its gradient, and the gradients at a few
points the curvature; a quasi-Newton method then follows a bent or ill-conditioned valley, which no quadratic
through scattered points does (Nocedal & Wright, 2006, chapters 6 and 8).

It is stateless. A base is a point that is not a difference, and the best one is to be improved; which of its
differences are there, and how far along its step has been searched, is read off the history.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

Array = NDArray[Any]

#: Differences of a coordinate. Outcomes in double: hardly more than makes a configuration another one, since
#: what is not linear is the larger error on ill-conditioned functions. Single: the root of their precision.
WIDTHS = (2.0**-29, 2.0**-12)

#: How much a difference may be off by rounding, and a point off a line, relatively.
_ROUNDED, _ON_LINE = 1e-3, 1e-6

#: Slope, in ranges of the outcomes across the space, that no smooth function has: outcomes are rough.
_STEEPEST = 1e4

#: Gradients that tell the curvature, besides d of them; bases that it is followed along, passes over the
#: equations at each.
_SECANTS, _BASES, _PASSES = 2, 6, 2

#: Weight of the curvature known before, over that of the equations.
_INERTIA = 1e-3

#: Length of the first step of all.
_FIRST_STEP = 0.3

#: Least and largest share of a failed step that is tried next, and the least of the whole.
_SHORTER, _LONGER, _SHORTEST = 0.1, 0.5, 1e-3

#: Least curvature in a direction over the largest.
_LEAST_CURVATURE = 1e-8


class Slopes(NamedTuple):
    """What the differences of a base tell: slopes `(d,)` over changes of its coordinates, `widths (d,)`.

    last: the place of the last one in the history.
    """

    slopes: Array
    widths: Array
    last: int

    def gradient(self, H: Array) -> Array:
        """To second order: for a stiff direction that error is all that there is of the others' slopes."""
        return self.slopes - 0.5 * self.widths * np.diagonal(H)


@dataclass(frozen=True, eq=False)
class Differences:
    """Which of the points `X (n, d)` are another one but for a small change of a coordinate.

    Attributes:
        of: the earlier point `(n,)`, -1 for a base; axis: the coordinate `(n,)`.
    """

    of: Array
    axis: Array

    @classmethod
    def among(cls, X: Array) -> "Differences":
        """Of points in the order of asking."""
        of, axis = np.full(len(X), -1), np.zeros(len(X), dtype=int)
        points = torch.from_numpy(np.ascontiguousarray(X))
        near = torch.cdist(points, points, p=torch.inf) <= (1.0 + _ROUNDED) * max(WIDTHS)
        later, earlier = near.tril(-1).nonzero().numpy().T
        change = np.abs(X[later] - X[earlier])
        largest = change.max(-1, initial=0.0)
        is_one = (np.abs(largest[:, None] - WIDTHS) <= _ROUNDED * np.array(WIDTHS)).any(-1)
        is_one &= (change > _ROUNDED * largest[:, None]).sum(-1) == 1
        for i, j, k in zip(later[is_one], earlier[is_one], change[is_one].argmax(-1), strict=True):
            if of[i] < 0 and of[j] < 0:
                of[i], axis[i] = j, k
        return cls(of, axis)

    def slopes(self, X: Array, y: Array) -> dict[int, Slopes]:
        """Of the bases whose d differences succeeded, in that order."""
        found: dict[int, dict[int, int]] = {}
        complete: dict[int, Slopes] = {}
        for i in np.flatnonzero((self.of >= 0) & np.isfinite(y)).tolist():
            base = int(self.of[i])
            along = found.setdefault(base, {})
            along[int(self.axis[i])] = i
            if len(along) == X.shape[1] and base not in complete:
                at = [along[k] for k in range(X.shape[1])]
                widths = np.diagonal(X[at]) - X[base]
                complete[base] = Slopes((y[at] - y[base]) / widths, widths, i)
        return complete


def descend(X: Array, y: Array, differences: Differences) -> Array | None:
    """The next difference, or the next point along the step from the best base; None for nothing to do.

    Args:
        X: encoded `(n, d)` in the order of asking; y: outcomes `(n,)`, nan for a failure.
        differences: `Differences.among(X)`.
    """
    bases = np.flatnonzero((differences.of < 0) & np.isfinite(y))
    base = int(bases[y[bases].argmin()])
    mine = np.flatnonzero(differences.of == base)
    if _is_rough(X[mine] - X[base], y[mine] - y[base], float(np.ptp(y[np.isfinite(y)]))):
        return None
    missing = set(range(X.shape[1])) - set(differences.axis[mine].tolist())
    if missing:
        return _difference(X[base], min(missing), _width(y))
    slopes = differences.slopes(X, y)
    if base not in slopes:
        return None  # one of them failed
    last = slopes[base].last
    try:
        with np.errstate(all="ignore"):
            gradient, H = _derivatives(X, y, bases, slopes, base)
            step = _newton_step(gradient, H, X[base])
    except np.linalg.LinAlgError:
        return None  # the differences vanish, or overflow
    if not gradient @ step < 0.0:
        return None
    later = np.flatnonzero(differences.of < 0)
    later = later[later > last]
    share = _share(step, float(gradient @ step), X[later] - X[base], y[later] - y[base])
    return None if share < _SHORTEST else np.clip(X[base] + share * step, 0.0, 1.0)


def _is_rough(changes: Array, differences: Array, spread: float) -> bool:
    """Whether differences `(k,)` at changes of place `(k, d)` are chance, where outcomes are so far apart."""
    return bool((np.abs(differences) > _STEEPEST * spread * np.abs(changes).max(-1, initial=0.0)).any())


def _width(y: Array) -> float:
    """That of the precision of the outcomes."""
    finite = y[np.isfinite(y)]
    with np.errstate(over="ignore"):
        return WIDTHS[1] if np.array_equal(finite, finite.astype(np.float32)) else WIDTHS[0]


def _difference(x: Array, axis: int, width: float) -> Array:
    x = x.copy()
    x[axis] += width if x[axis] + width <= 1.0 else -width
    return x


def _derivatives(
    X: Array, y: Array, bases: Array, slopes: dict[int, Slopes], base: int
) -> tuple[Array, Array]:
    """The gradient `(d,)` and the Hessian, made positive, at the base: of those before it, one by one."""
    order = list(slopes)
    order = order[: order.index(base) + 1]
    first = max(0, len(order) - _BASES)
    H: Array = np.eye(X.shape[1]) * np.linalg.norm(slopes[order[first]].slopes) / _FIRST_STEP
    for place in range(first, len(order)):
        k = order[place]
        earlier = order[max(0, place - X.shape[1] - _SECANTS) : place]
        S = X[earlier] - X[k]
        Y = np.array([slopes[j].slopes for j in earlier]).reshape(S.shape) - slopes[k].slopes
        others = bases[(bases < slopes[k].last) & (bases != k)]
        V = X[others] - X[k]
        for _ in range(_PASSES):
            excess = y[others] - y[k] - V @ slopes[k].gradient(H)
            H = _positive(_fitted(H, S, Y, V, excess))
    return slopes[base].gradient(H), H


def _fitted(H: Array, S: Array, Y: Array, V: Array, excess: Array) -> Array:
    """The symmetric matrix that best solves `H s = y` for the secants and `v'Hv / 2 = excess` for values.

    In the metric of the H known before, to which it is pulled; each equation relative to its size, since the
    curvature itself changes on the way, and of the values those of as many nearest points as H has entries.

    Args: S, Y: changes of place and of gradient `(m, d)`; V: changes of place `(r, d)`; excess: of value over
        the linear one `(r,)`.
    """
    i, j = np.triu_indices(len(H))
    values, vectors = np.linalg.eigh(H)
    root = np.sqrt(values)
    S, Y, V = S @ vectors * root, Y @ vectors / root, V @ vectors * root
    nearest = np.linalg.norm(V, axis=1).argsort(kind="stable")[: len(i)]
    (S, Y), (V, excess) = _relative(S, Y, 1), _relative(V[nearest], excess[nearest, None], 2)
    secants = np.zeros((*S.shape, len(i)))
    entry = np.arange(len(i))
    secants[:, i, entry] += S[:, j]
    secants[:, j, entry] += np.where(i == j, 0.0, S[:, i])
    products = np.where(i == j, 0.5, 1.0) * V[:, i] * V[:, j]
    A = np.concatenate([secants.reshape(-1, len(i)), products])
    t = np.concatenate([Y.reshape(-1), excess[:, 0]])
    gram = A.T @ A
    pull = _INERTIA * gram.trace() / len(i)
    h = np.linalg.solve(gram + pull * np.eye(len(i)), A.T @ t + pull * (i == j))
    fitted = np.empty_like(H)
    fitted[i, j] = fitted[j, i] = h
    return (vectors * root) @ fitted @ (vectors * root).T


def _relative(S: Array, Y: Array, order: int) -> tuple[Array, Array]:
    """Of the equations at `S (m, d)` with right-hand sides `Y (m, k)` that grow with `|S|^order`."""
    size = np.linalg.norm(S, axis=1, keepdims=True)
    apart = size[:, 0] > 0.0
    return S[apart] / size[apart], Y[apart] / size[apart] ** order


def _positive(H: Array) -> Array:
    """The absolute value of H (Dauphin et al., 2014, "saddle-free"), not too ill-conditioned."""
    values, vectors = np.linalg.eigh(0.5 * (H + H.T))
    size = np.abs(values)
    return (vectors * np.maximum(size, _LEAST_CURVATURE * size.max())) @ vectors.T


def _newton_step(g: Array, H: Array, x: Array) -> Array:
    """The step from x that minimises `g's + s'Hs / 2` in [0, 1]^d, by active sets."""
    step, free = np.zeros_like(x), np.ones(len(x), dtype=bool)
    for _ in range(3 * len(x)):
        step[free] = -np.linalg.solve(H[np.ix_(free, free)], g[free] + H[np.ix_(free, ~free)] @ step[~free])
        clipped = np.clip(step, -x, 1.0 - x)
        out, step = clipped != step, clipped
        if out.any():
            free &= ~out
            continue
        slope = g + H @ step
        inwards = np.where(step > -x, slope, -slope) * ~free
        if inwards.max() <= 0.0:
            break
        free[inwards.argmax()] = True  # its bound is in nobody's way
    return step


def _shares(step: Array, V: Array) -> Array:
    """How far along the step the points at offsets `V (m, d)` are, `(m,)`; 0 for those beside it."""
    share = V @ step / (step @ step)
    beside = np.linalg.norm(V - share[:, None] * step, axis=1) > _ON_LINE * np.linalg.norm(V, axis=1)
    return np.where(beside | (share < 0.0) | (share > 1.0 + _ON_LINE), 0.0, share)


def _share(step: Array, slope: float, V: Array, excess: Array) -> float:
    """How far to go along the step, after points at offsets `V (m, d)` were `excess (m,)` above the base.

    To the minimiser of the parabola through the last one, as Nocedal & Wright, eq. (3.57), within limits; as
    short as allowed after one that failed, which has no excess.
    """
    share = 1.0
    for at, above in zip(_shares(step, V), excess, strict=True):
        if at > 0.0:
            shorter = -0.5 * at * slope / (above - at * slope)
            share = min(
                share, at * min(max(shorter, _SHORTER), _LONGER) if shorter == shorter else at * _SHORTER
            )
    return share
