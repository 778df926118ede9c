"""A local quadratic model: what finds the last digits of a smooth function, where a GP runs out of them."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bayesopt import bfgs, linalg

#: Points a model with p coefficients needs, over p, and how many nearby ones it is fitted to.
_ENOUGH_DIAGONAL, _ENOUGH_FULL, _NEIGHBOURS = 1.3, 1.15, 1.5

_RIDGE = 1e-9

#: Most medians that a value counts above the best; its weight makes one of what is more.
_MOST = 1e100

_OPTIONS = bfgs.Options(evaluations=40, ftol=1e-12, first_step=0.1)


def coefficients(d: int, full: bool) -> int:
    """Number of coefficients of a quadratic in d variables, with or without the mixed terms."""
    return (d + 1) * (d + 2) // 2 if full else 2 * d + 1


def is_determined(n: int, d: int) -> bool:
    """Whether n points are enough for a model."""
    return n >= _ENOUGH_DIAGONAL * coefficients(d, full=False)


@dataclass(frozen=True, eq=False)
class Quadratic:
    """`g'v + v'Hv / 2` at the offset `v = (x - centre) / radius` from the best point, for b studies.

    Attributes:
        centre: `(b, d)`; radius `(b, 1)`; g `(b, d)`; H `(b, d, d)`.
        score: leave-one-out R^2 over the better half of the points, `(b,)`.
    """

    centre: Tensor
    radius: Tensor
    g: Tensor
    H: Tensor
    score: Tensor

    @classmethod
    def fit(cls, X: Tensor, y: Tensor) -> "Quadratic":
        """Weighted least squares through the points that are good and near the best one.

        With enough points the full quadratic, with fewer a diagonal one. The neighbours are those with the
        least sum of ranks, by distance and by value; the weight `1 / (1 + y / median)` of values above the
        best makes the fit good where the values are.

        Args: X: encoded `(b, n, d)`; y: outcomes `(b, n)`, all finite; `is_determined(n, d)` holds.
        """
        n, d = X.shape[1:]
        full = n >= _ENOUGH_FULL * coefficients(d, full=True)
        count = min(n, math.ceil(_NEIGHBOURS * coefficients(d, full)))
        best = y.argmin(-1, keepdim=True)
        centre = X.gather(1, best[..., None].expand(-1, -1, d))
        distance = (X - centre).square().sum(-1)
        near = (_ranks(distance) + _ranks(y)).argsort(dim=-1, stable=True)[:, :count]
        radius = distance.gather(1, near).amax(-1, keepdim=True).sqrt().clamp_min(1e-12)
        V = (X - centre).gather(1, near[..., None].expand(-1, -1, d)) / radius.unsqueeze(-1)
        half = 0.5 * y  # the largest floats are an infinity apart
        t = half.gather(1, near) - half.gather(1, best)
        median, most = t.median(-1, keepdim=True).values, t.amax(-1, keepdim=True)
        t = (t / torch.where(median > 0.0, median, most).clamp_min(1e-300)).clamp_max(_MOST)
        weight = 1.0 / (1.0 + t)
        A = _monomials(V, full) * weight.unsqueeze(-1)
        coefficient, left_out = _least_squares(A, t * weight)
        g, H = _unpacked(coefficient, d, full)
        return cls(centre[:, 0], radius, g, H, _score(left_out, t, weight))

    def value_and_gradient(self, V: Tensor) -> tuple[Tensor, Tensor]:
        """At offsets `V (b, r, d)`: values `(b, r)` and gradients."""
        HV = V @ self.H
        return (V * (self.g.unsqueeze(1) + 0.5 * HV)).sum(-1), self.g.unsqueeze(1) + HV

    def minimiser(self, half_width: Tensor) -> Tensor:
        """The lowest point `(b, d)` found within `half_width (b,)` of the centre and within [0, 1]^d.

        From the centre and from the end of a saddle-free Newton step.
        """
        half = half_width.unsqueeze(-1)
        lower = torch.maximum(-half, -self.centre) / self.radius
        upper = torch.minimum(half, 1.0 - self.centre) / self.radius
        values, vectors = torch.linalg.eigh(self.H)
        curvature = values.abs().clamp_min(1e-9)
        inverse = (vectors / curvature.unsqueeze(-2)) @ vectors.mT
        newton = -(inverse @ self.g.unsqueeze(-1))[..., 0]
        starts = torch.clamp(
            torch.stack([torch.zeros_like(newton), newton], 1), lower.unsqueeze(1), upper.unsqueeze(1)
        )

        def objective(V: Tensor, keep: Tensor | None) -> tuple[Tensor, Tensor]:
            return (self if keep is None else self._rows(keep)).value_and_gradient(V)

        H = inverse.unsqueeze(1).expand(-1, 2, -1, -1)
        solution = bfgs.minimize(objective, starts, lower.unsqueeze(1), upper.unsqueeze(1), _OPTIONS, H)
        lowest = solution.value.argmin(-1)
        V = solution.x[torch.arange(len(lowest), device=lowest.device), lowest]
        return (self.centre + V * self.radius).clamp(0.0, 1.0)

    def _rows(self, keep: Tensor) -> "Quadratic":
        return Quadratic(self.centre[keep], self.radius[keep], self.g[keep], self.H[keep], self.score[keep])


def _ranks(values: Tensor) -> Tensor:
    return values.argsort(dim=-1, stable=True).argsort(dim=-1)


def _monomials(V: Tensor, full: bool) -> Tensor:
    """`1, v_i, v_i^2` and, if full, `v_i v_j` for i < j: `(b, m, d) -> (b, m, p)`."""
    parts = [torch.ones_like(V[..., :1]), V, V * V]
    if full:
        i, j = torch.triu_indices(V.shape[-1], V.shape[-1], 1, device=V.device)
        parts.append(V[..., i] * V[..., j])
    return torch.cat(parts, -1)


def _least_squares(A: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Ridge solution `(b, p)` of `A c = t` and the leave-one-out residuals `(b, m)`."""
    gram = A.mT @ A
    gram.diagonal(dim1=-2, dim2=-1).add_(_RIDGE)
    W = linalg.lower_inverse(linalg.robust_cholesky(gram))
    Q = A @ W.mT  # A (A'A)^-1 A' = Q Q'
    c = W.mT @ (Q.mT @ t.unsqueeze(-1))
    leverage = Q.square().sum(-1)
    residual = t - (A @ c)[..., 0]
    return c[..., 0], residual / (1.0 - leverage).clamp_min(1e-3)


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
