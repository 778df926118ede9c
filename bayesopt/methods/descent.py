"""Descent by finite differences: what finds the bottom of a smooth valley, be it bent or ill-conditioned.

Where outcomes are exact, an evaluation right beside a point tells the slope there in one direction. A model
of second order is fitted to the outcomes and slopes at the best point and before it, and its minimiser is the
next point: a quasi-Newton method (Nocedal & Wright, 2006, chapters 6 and 8) that does not wait for whole
gradients. Of a new best point the slope is evaluated in one direction, that of which the model knows least,
and in one more after each step that failed: an inexact gradient does as long as the step it leads to succeeds
(Carter, 1991, "On the global convergence of trust region algorithms using inexact gradient information").

It is stateless. A base is a point that is not a difference, and the best one is to be improved; which of its
differences are there, and how far along its step has been searched, is read off the history.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from bayesopt.acquisition.distinct import SAME

Array = NDArray[Any]

#: Largest change of a coordinate in a difference. Outcomes in double: hardly more than makes a configuration
#: another one, since what is not linear is the larger error on ill-conditioned functions. Single: the root of
#: their precision.
WIDTHS = (2.0**-29, 2.0**-12)

#: Multiples of these, for differences in much the same direction: closer points than SAME are one.
_TIMES = tuple(range(1, 17))

#: How much the width of a difference may be off by rounding; and a point off a line, relatively.
_ROUNDED, _ON_LINE = 1e-3 * WIDTHS[0], 1e-6

#: Slope, in ranges of the outcomes across the space, that no smooth function has: outcomes are rough.
_STEEPEST = 1e4

#: Best points that the curvature is followed along, and passes over the equations at each.
_BASES, _PASSES = 4, 2

#: Slopes that count, the nearest ones, over the unknowns.
_NEAREST = 1.5

#: Weight of the curvature known before, and of no slope at all, over that of the equations.
_INERTIA, _RIDGE = 1e-3, 1e-12

#: Length of the first step of all.
_FIRST_STEP = 0.3

#: Least and largest share of a failed step that is tried next, and the least of the whole.
_SHORTER, _LONGER, _SHORTEST = 0.1, 0.5, 1e-3

#: Least curvature in a direction over the largest.
_LEAST_CURVATURE = 1e-8


@dataclass(frozen=True, eq=False)
class Differences:
    """Which of the points `X (n, d)` are another one but for a small change.

    Attributes:
        of: the earlier point `(n,)`, -1 for a base.
    """

    of: Array

    @classmethod
    def among(cls, X: Array) -> "Differences":
        """Of points in the order of asking."""
        of, widths = np.full(len(X), -1), np.outer(WIDTHS, _TIMES)
        points = torch.from_numpy(np.ascontiguousarray(X))
        near = torch.cdist(points, points, p=torch.inf) <= widths.max() + _ROUNDED
        later, earlier = near.tril(-1).nonzero().numpy().T
        change = np.abs(X[later] - X[earlier]).max(-1, initial=0.0)
        is_one = (np.abs(change[:, None, None] - widths) <= _ROUNDED).any((1, 2))
        for i, j in zip(later[is_one], earlier[is_one], strict=True):
            if of[i] < 0 and of[j] < 0:
                of[i] = j
        return cls(of)

    def by_base(self, y: Array) -> dict[int, Array]:
        """The places of those that succeeded, by base."""
        places = np.flatnonzero((self.of >= 0) & np.isfinite(y))
        return {int(base): places[self.of[places] == base] for base in np.unique(self.of[places])}


class _Slopes(NamedTuple):
    """Differences of a base at an `offset (d,)`: `changes (m, d)` of place and `(m,)` of the `outcome`."""

    offset: Array
    changes: Array
    outcome: Array


class _Model(NamedTuple):
    """`g'v + v'Hv / 2`, and the direction `(d,)` whose slope it knows least of."""

    g: Array
    H: Array
    unknown: Array


@np.errstate(all="ignore")  # the largest floats are an infinity apart
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
    if not np.isfinite(y[mine]).all():
        return None
    width, told = _width(y), differences.by_base(y)
    if not told:
        return _beside(X[base], 0.5 - X[base], width, X)
    later = np.flatnonzero(differences.of < 0)
    later = later[later > mine.max(initial=base)]
    try:
        model = _model(X, y, np.flatnonzero(differences.of < 0), told, base)
        step = _newton_step(model.g, model.H, X[base])
        slope = float(model.g @ step)
        tried = _shares(step, X[later] - X[base])
    except np.linalg.LinAlgError:
        return None  # the differences vanish, or overflow
    if not len(mine) or (len(mine) < X.shape[1] and (slope >= 0.0 or tried.any())):
        return _beside(X[base], model.unknown, width, X)
    if not slope < 0.0:
        return None
    share = _share(tried, slope, y[later] - y[base])
    return None if share < _SHORTEST else np.clip(X[base] + share * step, 0.0, 1.0)


def _is_rough(changes: Array, differences: Array, spread: float) -> bool:
    """Whether differences `(k,)` at changes of place `(k, d)` are chance, where outcomes are so far apart."""
    return bool((np.abs(differences) > _STEEPEST * spread * np.abs(changes).max(-1, initial=0.0)).any())


def _width(y: Array) -> float:
    """That of the precision of the outcomes."""
    finite = y[np.isfinite(y)]
    return WIDTHS[1] if np.array_equal(finite, finite.astype(np.float32)) else WIDTHS[0]


def _beside(x: Array, direction: Array, width: float, told: Array) -> Array | None:
    """A point a little way along the direction, or against it, that is another one than those told `(n, d)`.

    What leaves the space is turned around.
    """
    change = direction / np.abs(direction).max() if direction.any() else np.ones_like(x)
    for size in (sign * times * width for times in _TIMES for sign in (1.0, -1.0)):
        v = size * change
        v = np.where((x + v < 0.0) | (x + v > 1.0), -v, v)
        if np.abs(told - (x + v)).max(1).min() > SAME:
            return np.asarray(x + v)
    return None


def _model(X: Array, y: Array, bases: Array, told: dict[int, Array], base: int) -> _Model:
    """At the base: from the differences told of each, and of how the curvature was seen at those before it.

    At each of these from what was known when its last difference was told, so that a line once begun stays.
    """
    before = sorted((k for k in told if k != base), key=lambda k: -y[k])[-_BASES:]
    first = before[0] if before else base
    gradient = np.linalg.lstsq(X[told[first]] - X[first], y[told[first]] - y[first], rcond=None)[0]
    H = np.eye(X.shape[1]) * (np.linalg.norm(gradient) / _FIRST_STEP)
    bases = bases[np.isfinite(y[bases])]
    model: _Model
    for k in [*before, base]:
        until = told[k].max() if k in told else len(y)
        places = {b: i[i <= until] for b, i in told.items()}
        slopes = {b: _Slopes(X[b] - X[k], X[i] - X[b], y[i] - y[b]) for b, i in places.items() if len(i)}
        own, others = slopes.pop(k, None), bases[bases < until]
        for _ in range(_PASSES):
            model = _fitted(H, own, list(slopes.values()), X[others] - X[k], y[others] - y[k])
            H = model.H
    return model


def _fitted(H: Array, own: _Slopes | None, others: list[_Slopes], V: Array, excess: Array) -> _Model:
    """The model with `own` slopes, exactly, that best explains the others' and the values around.

    By least squares for g and the entries of the Hessian, in the metric of the one known before, to which it
    is pulled; each equation relative to what that does to it, since the curvature itself changes on the way.

    Args: V: changes of place `(r, d)`; excess: of value `(r,)`.
    """
    d = len(H)
    i, j = _entries(d)
    values, vectors = np.linalg.eigh(H)
    metric = vectors * np.sqrt(values)
    A, t = _equations(others, V, excess, metric)
    Q, slope, bend = np.zeros((d, 0)), np.zeros(d), np.zeros((d, len(i)))
    if own is not None:
        exact, number = _orthonormal([own], metric)
        Q = exact[0, :, :d].T
        slope, bend = Q @ number[0], -Q @ exact[0, :, d:]
    free = np.linalg.svd(Q)[0][:, Q.shape[1] :]  # g is `slope + free w + bend h` for some w, for entries h
    B, k = np.concatenate([A[:, :d] @ free, A[:, d:] + A[:, :d] @ bend], 1), free.shape[1]
    gram = B.T @ B
    pull = np.full(len(gram), _INERTIA * gram[k:, k:].trace() / len(i))
    pull[:k] = _RIDGE * gram[:k, :k].trace()
    known_before = pull * np.concatenate([np.zeros(k), i == j])
    right = np.column_stack([B.T @ (t - A[:, :d] @ slope) + known_before, np.eye(len(gram), k)])
    solution = np.linalg.solve(gram + np.diag(pull), right)
    w, h, covariance = solution[:k, 0], solution[k:, 0], solution[:k, 1:]
    fitted = np.empty_like(H)
    fitted[i, j] = fitted[j, i] = h
    unknown = free @ np.linalg.eigh(covariance)[1][:, -1] if k else np.zeros(d)
    return _Model(
        metric @ (slope + free @ w + bend @ h),
        _positive(metric @ fitted @ metric.T),
        np.linalg.inv(metric).T @ unknown,
    )


def _equations(slopes: list[_Slopes], V: Array, excess: Array, metric: Array) -> tuple[Array, Array]:
    """`A (r, d + d(d + 1) / 2)` and `t (r,)`, such that g and the entries of the Hessian solve `A x = t`.

    Those of values, at as many of the nearest points as the Hessian has entries; and of the nearest slopes,
    half as many again as there are unknowns: on a bent valley those further back tell of another curvature.
    """
    rows, numbers, d, p = [], [], len(metric), len(_entries(len(metric))[0])
    far = np.linalg.norm(np.array([each.offset for each in slopes]).reshape(-1, d) @ metric, axis=1)
    count = np.array([len(each.outcome) for each in slopes], dtype=int)
    order = far.argsort(kind="stable")
    near = order[count[order].cumsum() - count[order] < _NEAREST * (d + p)]
    for m in dict.fromkeys(count[near].tolist()):
        same = near[count[near] == m]
        row, number = _orthonormal([slopes[k] for k in same], metric)
        size = far[same, None]
        rows.append((row / size[..., None]).reshape(-1, d + p))
        numbers.append((number / size).reshape(-1))
    Z = V @ metric
    size = np.linalg.norm(Z, axis=1)
    nearest = size.argsort(kind="stable")
    nearest = nearest[size[nearest] > 0.0][:p]
    Z, size = Z[nearest], size[nearest] ** 2
    rows.append(np.concatenate([Z, 0.5 * _products(Z, Z)], 1) / size[:, None])
    numbers.append(excess[nearest] / size)
    return np.concatenate(rows), np.concatenate(numbers)


def _orthonormal(slopes: list[_Slopes], metric: Array) -> tuple[Array, Array]:
    """The equations of b bases with m differences each, of the slopes in orthonormal directions.

    A difference u at an offset of s tells `u'(g + Hs) + u'Hu / 2`. Rows `(b, m, d + d(d + 1) / 2)` and
    numbers `(b, m)`.
    """
    U = np.stack([each.changes for each in slopes]) @ metric
    s = np.stack([each.offset for each in slopes])[:, None] @ metric
    Q, R = np.linalg.qr(U.swapaxes(1, 2))
    T = np.linalg.inv(R.swapaxes(1, 2))
    Q = Q.swapaxes(1, 2)
    number = T @ np.stack([each.outcome for each in slopes])[..., None]
    return np.concatenate([Q, _products(Q, s) + T @ (0.5 * _products(U, U))], 2), number[..., 0]


def _products(a: Array, b: Array) -> Array:
    """What `a'Hb` is made of, entry by entry of the upper half of H."""
    i, j = _entries(a.shape[-1])
    return np.asarray(a[..., i] * b[..., j] + np.where(i == j, 0.0, a[..., j] * b[..., i]))


@lru_cache(maxsize=64)
def _entries(d: int) -> tuple[Array, Array]:
    """Rows and columns of the upper half of H."""
    i, j = np.triu_indices(d)
    return i, j


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


def _share(tried: Array, slope: float, excess: Array) -> float:
    """How far to go along the step, after points so far along it were `excess (m,)` above the base.

    To the minimiser of the parabola through the last one, as Nocedal & Wright, eq. (3.57), within limits; as
    short as allowed after one that failed, which has no excess.
    """
    share = 1.0
    for at, above in zip(tried, excess, strict=True):
        if at > 0.0:
            shorter = -0.5 * at * slope / (above - at * slope)
            share = min(
                share, at * min(max(shorter, _SHORTER), _LONGER) if shorter == shorter else at * _SHORTER
            )
    return share
