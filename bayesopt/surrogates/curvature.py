"""The quadratic at a point that best explains slopes and values around it, and its minimiser.

The slopes are of finite differences in any directions, and rarely all of one point: gradient and curvature
come from one regression, and as a quasi-Newton method does (Nocedal & Wright, 2006, chapter 6) it believes of
the curvature what was believed before, as far as nothing tells otherwise.
"""

from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

#: Best points that the curvature is followed along, and passes over the equations at each.
_BASES, _PASSES = 4, 2

#: Slopes that count, the nearest ones, over the unknowns.
_NEAREST = 1.5

#: Weight of the curvature known before, and of no slope at all, over that of the equations.
_INERTIA, _RIDGE = 1e-3, 1e-12

#: Length of the first step of all.
_FIRST_STEP = 0.3

#: Least curvature in a direction over the largest.
_LEAST_CURVATURE = 1e-8


class Slopes(NamedTuple):
    """Differences of a base at an `offset (d,)`: `changes (m, d)` of place and `(m,)` of the `outcome`."""

    offset: Array
    changes: Array
    outcome: Array


class Curvature(NamedTuple):
    """`g'v + v'Hv / 2`, and directions `(d,)` whose slopes it does not know, that known least first."""

    g: Array
    H: Array
    unknown: list[Array]


def follow(X: Array, y: Array, bases: Array, told: dict[int, Array], base: int) -> Curvature:
    """The quadratic at the best `base` of points `X (n, d)` of outcomes `y (n,)`.

    From the differences told of each of the `bases`, which succeeded, and of how the curvature was seen at
    those before it: at each of these from what was known when its last difference was told, so that a line
    once begun stays.
    """
    before = sorted((k for k in told if k != base), key=lambda k: -y[k])[-_BASES:]
    known = _Told(X, y, bases, told)
    H = _followed(_Line.of(known, before)) if before else known.isotropic(base)
    until = max(int(places.max()) for places in told.values()) if base in told else len(y)
    return known.seen_from(base, H, until)


@dataclass(frozen=True, eq=False)
class _Told:
    """Points and outcomes, the bases among them, and the differences told of each; see `follow`."""

    X: Array
    y: Array
    bases: Array
    told: dict[int, Array]

    def isotropic(self, base: int) -> Array:
        """The Hessian whose first step from there is not too long."""
        changes, outcomes = (t[self.told[base]] - t[base] for t in (self.X, self.y))
        gradient = np.linalg.lstsq(changes, outcomes, rcond=None)[0]
        return np.eye(self.X.shape[1]) * (np.linalg.norm(gradient) / _FIRST_STEP)

    def seen_from(self, base: int, H: Array, until: int) -> Curvature:
        """The quadratic at a base when the result `until` was the last one, after H was known."""
        X, y = self.X, self.y
        places = {b: i[i <= until] for b, i in self.told.items()}
        slopes = {b: Slopes(X[b] - X[base], X[i] - X[b], y[i] - y[b]) for b, i in places.items() if len(i)}
        own, others = slopes.pop(base, None), self.bases[self.bases < until]
        model: Curvature
        for _ in range(_PASSES):
            model = fitted(H, own, list(slopes.values()), X[others] - X[base], y[others] - y[base])
            H = model.H
        return model


@dataclass(frozen=True)
class _Line:
    """Bases with differences, one after the other, that the curvature is followed along.

    While differences of the next base are told, nothing of it changes. Equal if the same was told until then.
    """

    bases: tuple[int, ...]
    digest: bytes
    known: _Told = field(compare=False)

    @classmethod
    def of(cls, known: _Told, bases: list[int]) -> "_Line":
        """A line among what is known."""
        until = 1 + max(int(known.told[k].max()) for k in bases)
        of = np.full(len(known.y), -1)
        of[known.bases] = -2
        for base, places in known.told.items():
            of[places] = base
        parts = (np.ascontiguousarray(t[:until]).tobytes() for t in (known.X, known.y, of))
        return cls(tuple(bases), blake2b(b"".join(parts)).digest(), known)


@lru_cache(maxsize=64)
def _followed(line: _Line) -> Array:
    """The Hessian as it is known at the end of the line."""
    H = line.known.isotropic(line.bases[0])
    for base in line.bases:
        H = line.known.seen_from(base, H, int(line.known.told[base].max())).H
    return H


def fitted(H: Array, own: Slopes | None, others: list[Slopes], V: Array, excess: Array) -> Curvature:
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
    inner = np.empty_like(H)
    inner[i, j] = inner[j, i] = h
    directions = np.linalg.eigh(covariance)[1].T[::-1] if k else ()
    back = np.linalg.inv(metric).T
    return Curvature(
        metric @ (slope + free @ w + bend @ h),
        _positive(metric @ inner @ metric.T),
        [back @ (free @ v) for v in directions],
    )


def _equations(slopes: list[Slopes], V: Array, excess: Array, metric: Array) -> tuple[Array, Array]:
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


def _orthonormal(slopes: list[Slopes], metric: Array) -> tuple[Array, Array]:
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


def newton_step(g: Array, H: Array, x: Array) -> Array:
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
