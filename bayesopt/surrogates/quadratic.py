"""A local quadratic model: what finds the last digits of a smooth function, where a GP runs out of them."""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from bayesopt import bfgs, linalg
from bayesopt.device import put
from bayesopt.rows import take

#: Points a model with p coefficients needs, over p, and how many nearby ones it is fitted to.
_ENOUGH_DIAGONAL, _ENOUGH_FULL, _NEIGHBOURS = 1.3, 1.15, 1.5

_RIDGE = 1e-9

#: Least variance of the points in a direction, and least curvature in one, over the largest.
_LEAST_VARIANCE, _LEAST_CURVATURE = 1e-14, 1e-6

#: Most medians that a value counts above the best; its weight makes one of what is more.
_MOST = 1e100

_OPTIONS = bfgs.Options(evaluations=40, ftol=1e-12, first_step=0.1)

_BISECTIONS = 60


def coefficients(d: int, full: bool) -> int:
    """Number of coefficients of a quadratic in d variables, with or without the mixed terms."""
    return (d + 1) * (d + 2) // 2 if full else 2 * d + 1


def is_determined(n: int, d: int) -> bool:
    """Whether n points are enough for a model."""
    return n >= _ENOUGH_DIAGONAL * coefficients(d, full=False)


@dataclass(frozen=True, eq=False)
class Quadratic:
    """`g'z + z'Hz / 2` at the offset `A z = x - centre` from the best point, for b studies.

    In z the points the model was fitted to have unit variance about the centre. On an ill-conditioned
    function they come to lie along its level sets, and z makes those round.

    Attributes:
        centre: `(b, d)`; A `(b, d, d)` and its inverse B; g `(b, d)`; H `(b, d, d)`.
        W: `(b, p, p)`, such that `|W phi(z)|^2` is the variance of the model at the monomials phi of z, over
            that of the residuals.
        score: leave-one-out R^2 over the better half of the points, `(b,)`.
    """

    centre: Tensor
    A: Tensor
    B: Tensor
    g: Tensor
    H: Tensor
    W: Tensor
    score: Tensor

    @classmethod
    def fit(cls, X: Tensor, y: Tensor, rounds: int = 1) -> "Quadratic":
        """Weighted least squares through the points that are good and near the best one.

        With enough points the full quadratic, with fewer a diagonal one. The neighbours are those with the
        least sum of ranks, by distance and by value; in later rounds the distance is measured by the
        curvature of the model before. The weight `1 / (1 + y / median)` of values above the best makes the
        fit good where the values are.

        Args: X: encoded `(b, n, d)`; y: outcomes `(b, n)`, all finite; `is_determined(n, d)` holds.
        """
        n, d = X.shape[1:]
        full = n >= _ENOUGH_FULL * coefficients(d, full=True)
        count = min(n, math.ceil(_NEIGHBOURS * coefficients(d, full)))
        best = y.argmin(-1, keepdim=True)
        centre = take(X, best)
        half = 0.5 * y  # the largest floats are an infinity apart
        offsets, above, by_value = X - centre, half - take(half, best), _ranks(y)

        def nearest(scaled: Tensor) -> "Quadratic":
            distance = _ranks(scaled.square().sum(-1))
            near = (distance + by_value).argsort(dim=-1, stable=True)[:, :count]
            V = take(offsets, near)
            return cls._through(centre[:, 0], V, take(above, near), full)

        model = nearest(offsets)
        for _ in range(rounds - 1):
            model = nearest(offsets @ model._metric())
        return model

    @classmethod
    def _through(cls, centre: Tensor, V: Tensor, t: Tensor, full: bool) -> "Quadratic":
        """At offsets `V (b, m, d)` from the centre, values `t (b, m)` above that of the centre."""
        A, B = _axes(V, full)
        median, most = t.median(-1, keepdim=True).values, t.amax(-1, keepdim=True)
        t = (t / torch.where(median > 0.0, median, most).clamp_min(1e-300)).clamp_max(_MOST)
        weight = 1.0 / (1.0 + t)
        coefficient, left_out, W = _least_squares(
            _monomials(V @ B.mT, full) * weight.unsqueeze(-1), t * weight
        )
        g, H = _unpacked(coefficient, V.shape[-1], full)
        return cls(centre, A, B, g, H, W, _score(left_out, t, weight))

    @property
    def is_full(self) -> bool:
        """Whether the model has mixed terms."""
        return self.W.shape[-1] == coefficients(self.g.shape[-1], full=True)

    def variance(self, Z: Tensor) -> Tensor:
        """Of the model at `Z (b, r, d)`, over that of the residuals: `(b, r)`."""
        return (_monomials(Z, self.is_full) @ self.W.mT).square().sum(-1)

    def lowest_in_box(self, half_width: Tensor) -> Tensor:
        """The lowest point `(b, d)` found within `half_width (b,)` of the centre and within [0, 1]^d.

        From the centre and from the end of a saddle-free Newton step.
        """
        values, vectors = torch.linalg.eigh(self.H)
        inverse = (vectors / values.abs().clamp_min(1e-9).unsqueeze(-2)) @ vectors.mT
        newton = -(self.A @ inverse @ self.g.unsqueeze(-1))[..., 0]
        starts = torch.stack([torch.zeros_like(newton), newton], 1)
        half = half_width.unsqueeze(-1)
        lower, upper = torch.maximum(-half, -self.centre), torch.minimum(half, 1.0 - self.centre)
        return self._lowest(self.H, inverse, starts, lower, upper)

    def lowest_in_ball(self, reach: Tensor) -> Tensor:
        """The lowest point `(b, d)` with `|z|` up to `reach (b,)`, within [0, 1]^d.

        It minimises `g'z + z'(H + lambda I)z / 2` for the least lambda that makes this convex and its
        minimiser no longer than the reach (More and Sorensen, 1983, eq. 2.4); within the box, too, if that
        is in the way.
        """
        values, vectors = torch.linalg.eigh(self.H)
        slope = (vectors.mT @ self.g.unsqueeze(-1))[..., 0]
        curvature = values + _shift(values, slope, reach).unsqueeze(-1)
        inverse = (vectors / curvature.unsqueeze(-2)) @ vectors.mT
        step = -(self.A @ inverse @ self.g.unsqueeze(-1))[..., 0]
        convex = (vectors * curvature.unsqueeze(-2)) @ vectors.mT
        return self._lowest(convex, inverse, step.unsqueeze(1), -self.centre, 1.0 - self.centre)

    def least_known(self, reach: Tensor) -> Tensor:
        """Of a design of points with `|z| = reach (b,)` that in [0, 1]^d `(b, d)` of the largest variance.

        The design for a quadratic: both ways along the axes of z and, if there are mixed terms, halfway
        between any two of them.
        """
        Z = _design(self.g.shape[-1], self.is_full, self.g.device) * reach[:, None, None]
        X = self.centre.unsqueeze(1) + Z @ self.A.mT
        inside = ((X >= 0.0) & (X <= 1.0)).all(-1)
        X = X.clamp(0.0, 1.0)
        variance = self.variance((X - self.centre.unsqueeze(1)) @ self.B.mT)
        variance = torch.where(inside | ~inside.any(-1, keepdim=True), variance, -torch.inf)
        return X[torch.arange(len(X), device=X.device), variance.argmax(-1)]

    def _metric(self) -> Tensor:
        """`M (b, d, d)` such that `|v M|^2` is what an offset v costs to second order, taken positive."""
        values, vectors = torch.linalg.eigh(self.H)
        curvature = values.abs()
        curvature = torch.maximum(curvature, _LEAST_CURVATURE * curvature.amax(-1, keepdim=True))
        return self.B.mT @ (vectors * curvature.sqrt().unsqueeze(-2))

    def _lowest(self, H: Tensor, inverse: Tensor, starts: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        """The best end `(b, d)` of descents on `g'z + z'Hz / 2` from offsets `(b, r, d)` between bounds.

        In units of the spread of each coordinate, so that bounds stay bounds.
        """
        scale = self.A.square().sum(-1).sqrt()
        C, D = self.B * scale.unsqueeze(-2), self.A / scale.unsqueeze(-1)
        P, q = C.mT @ H @ C, (C.mT @ self.g.unsqueeze(-1))[..., 0]
        low, high = (lower / scale).unsqueeze(1), (upper / scale).unsqueeze(1)

        def objective(U: Tensor, keep: Tensor | None) -> tuple[Tensor, Tensor]:
            return _value_and_gradient(U, *((q, P) if keep is None else (q[keep], P[keep])))

        first = (D @ inverse @ D.mT).unsqueeze(1).expand(-1, starts.shape[1], -1, -1)
        U = torch.clamp(starts / scale.unsqueeze(1), low, high)
        solution = bfgs.minimize(objective, U, low, high, _OPTIONS, first)
        lowest = solution.value.argmin(-1)
        u = solution.x[torch.arange(len(lowest), device=lowest.device), lowest]
        return (self.centre + torch.clamp(u * scale, lower, upper)).clamp(0.0, 1.0)


def _value_and_gradient(Z: Tensor, g: Tensor, H: Tensor) -> tuple[Tensor, Tensor]:
    """Of `g'z + z'Hz / 2` at `Z (b, r, d)`: values `(b, r)` and gradients."""
    HZ = Z @ H
    return (Z * (g.unsqueeze(1) + 0.5 * HZ)).sum(-1), g.unsqueeze(1) + HZ


def _shift(values: Tensor, slope: Tensor, reach: Tensor) -> Tensor:
    """The least lambda `(b,)` with `values + lambda > 0` and `|slope / (values + lambda)| <= reach`.

    By bisection of its logarithm: eigenvalues `(b, d)`, and the gradient in their axes.
    """
    largest = values.abs().amax(-1).clamp_min(1e-100)
    least = (-values.amin(-1)).clamp_min(0.0) + 1e-12 * largest

    def is_short(shift: Tensor) -> Tensor:
        return torch.linalg.vector_norm(slope / (values + shift.unsqueeze(-1)), dim=-1) <= reach

    most = least + torch.linalg.vector_norm(slope, dim=-1) / reach
    low, high = least.log(), most.clamp_min(1e-300).log()
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        short = is_short(middle.exp())
        low, high = torch.where(short, low, middle), torch.where(short, middle, high)
    return torch.where(is_short(least), least, high.exp())


def _axes(V: Tensor, full: bool) -> tuple[Tensor, Tensor]:
    """`A (b, d, d)` that gives z of unit variance that of `V (b, m, d)` about zero, and its inverse.

    Its columns are the principal axes; those of the coordinates for a model without mixed terms, which can
    tell them apart.
    """
    second = V.mT @ V / V.shape[1]
    if full:
        variance, vectors = torch.linalg.eigh(second)
    else:
        variance = second.diagonal(dim1=-2, dim2=-1)
        vectors = torch.eye(V.shape[-1], dtype=V.dtype, device=V.device)
    least = (_LEAST_VARIANCE * variance.amax(-1, keepdim=True)).clamp_min(1e-200)
    root = torch.maximum(variance, least).sqrt().unsqueeze(-2)
    return vectors * root, (vectors / root).mT


@lru_cache(maxsize=64)
def _design(d: int, full: bool, device: torch.device) -> Tensor:
    """Directions of unit length `(r, d)`."""
    axes = torch.eye(d, dtype=torch.float64)
    design = [axes, -axes]
    if full:
        i, j = torch.triu_indices(d, d, 1)
        design += [s * (axes[i] + t * axes[j]) / math.sqrt(2.0) for s in (1.0, -1.0) for t in (1.0, -1.0)]
    return put(torch.cat(design), device)


def _ranks(values: Tensor) -> Tensor:
    return values.argsort(dim=-1, stable=True).argsort(dim=-1)


def _monomials(V: Tensor, full: bool) -> Tensor:
    """`1, v_i, v_i^2` and, if full, `v_i v_j` for i < j: `(b, m, d) -> (b, m, p)`."""
    parts = [torch.ones_like(V[..., :1]), V, V * V]
    if full:
        i, j = torch.triu_indices(V.shape[-1], V.shape[-1], 1, device=V.device)
        parts.append(V[..., i] * V[..., j])
    return torch.cat(parts, -1)


def _least_squares(A: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Ridge solution `(b, p)` of `A c = t`, leave-one-out residuals `(b, m)`, W with `W'W = (A'A)^-1`."""
    gram = A.mT @ A
    gram.diagonal(dim1=-2, dim2=-1).add_(_RIDGE)
    W = linalg.lower_inverse(linalg.robust_cholesky(gram))
    Q = A @ W.mT  # A (A'A)^-1 A' = Q Q'
    c = W.mT @ (Q.mT @ t.unsqueeze(-1))
    leverage = Q.square().sum(-1)
    residual = t - (A @ c)[..., 0]
    return c[..., 0], residual / (1.0 - leverage).clamp_min(1e-3), W


def _unpacked(c: Tensor, d: int, full: bool) -> tuple[Tensor, Tensor]:
    """Gradient `(b, d)` and Hessian `(b, d, d)` from the coefficients of the monomials."""
    g, H = c[:, 1 : d + 1], torch.diag_embed(2.0 * c[:, d + 1 : 2 * d + 1])
    if full:
        i, j = torch.triu_indices(d, d, 1, device=c.device)
        H[:, i, j] = H[:, j, i] = c[:, 2 * d + 1 :]
    return g, H


def _score(left_out: Tensor, t: Tensor, weight: Tensor) -> Tensor:
    """R^2 of the weighted leave-one-out residuals over the better half, `(b,)`."""
    better = t.argsort(dim=-1, stable=True)[:, : max(3, t.shape[-1] // 2)]
    w2 = weight * weight
    mean = (w2 * t).sum(-1, keepdim=True) / w2.sum(-1, keepdim=True)
    spread = ((t - mean) * weight).gather(1, better).square().sum(-1)
    return 1.0 - left_out.gather(1, better).square().sum(-1) / spread.clamp_min(1e-300)
