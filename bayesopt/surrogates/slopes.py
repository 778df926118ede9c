"""A Gaussian process of values and slopes: all that evaluations side by side tell of a smooth function.

Squared exponential kernel with a lengthscale for each axis, a constant mean and the most likely output scale;
the slopes are normal together with the values, since differentiation is linear (Rasmussen & Williams, 2006,
section 9.4). Of one function near one point, on the host: its rows are some tens, and calls what it costs.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from bayesopt.bfgs import Options, minimize_alone

Array = NDArray[Any]

#: Of log lengthscales: the standard deviation a priori, around the unit, and the bounds.
_SPREAD, _LEAST, _MOST = 2.5, -7.0, 6.0

#: What keeps the Gram matrix positive definite, relative to its diagonal.
_JITTER = 1e-13

#: Where there is no likelihood: larger than any.
_NONE = 1e10

_FIT = Options(evaluations=40, ftol=1e-3, first_step=0.5)


class Observations(NamedTuple):
    """Outcomes `(m,)` at places `(m, d)`: slopes in directions `(m, d)`, values where these are zero.

    noise: their variances `(m,)`, in units of the output scale.
    """

    places: Array
    directions: Array
    outcomes: Array
    noise: Array


class _Gram(NamedTuple):
    """Scaled places A and directions B `(m, d)`; of pairs `(m, m)` k, Q and M, the covariance being `k M`.

    `Q_ij = b_i'(a_i - a_j)`, less 1 where i is a value; `M = Q Q' + B B'`, the first product by elements.
    """

    A: Array
    B: Array
    k: Array
    Q: Array
    M: Array


class SlopesGP:
    """Fitted to `observations` by the most likely lengthscales from any of the `starts (s, d)`.

    Raises:
        LinAlgError: outcomes or places are such that there is no likelihood.
    """

    def __init__(self, observations: Observations, starts: Array) -> None:
        self._told = observations
        self._value = (~observations.directions.any(1)).astype(float)
        lower, upper = np.full(starts.shape[1], _LEAST), np.full(starts.shape[1], _MOST)
        best = math.inf
        for start in starts:
            t = np.clip(np.log(start), lower, upper)
            t = minimize_alone(self.loss, t, lower, upper, _FIT, self.loss(t))
            loss = self.loss(t)[0]
            if loss < best:
                best, self._t = loss, t
        if not best < _NONE:
            raise np.linalg.LinAlgError("no likelihood")
        gram = self._gram(self._t)
        self._A, self._B = gram.A, gram.B
        self._inverse = np.linalg.inv(self._covariance(gram))
        self._level, self._weights = self._solved(self._inverse)

    @property
    def lengthscales(self) -> Array:
        """Of the axes, `(d,)`."""
        return np.exp(self._t)

    def loss(self, t: Array) -> tuple[float, Array]:
        """Negative log likelihood of log lengthscales `t (d,)`, less their log prior; its gradient `(d,)`.

        The level and the output scale are the most likely ones (R. & W., eq. 5.9 for the gradient).
        """
        gram = self._gram(t)
        A, B, k, Q, M = gram
        try:
            L = np.linalg.cholesky(self._covariance(gram))
        except np.linalg.LinAlgError:
            return _NONE, np.zeros_like(t)
        n, inverse = len(L), torch.cholesky_inverse(torch.from_numpy(L)).numpy()
        level, weights = self._solved(inverse)
        scale = float((self._told.outcomes - level * self._value) @ weights) / n
        if not 0.0 < scale < math.inf:
            return _NONE, np.zeros_like(t)
        loss = 0.5 * n * math.log(scale) + float(np.log(L.diagonal()).sum()) + 0.5 * float(t @ t) / _SPREAD**2
        W = 0.5 * (inverse - np.outer(weights, weights) / scale)
        W *= k
        by_k, by_Q = W * M, W * Q.T
        g = 2.0 * ((A * A * by_k.sum(1)[:, None]).sum(0) - (A * (by_k @ A)).sum(0))
        g -= 4.0 * ((B * A * by_Q.sum(1)[:, None]).sum(0) - (B * (by_Q @ A)).sum(0))
        g -= 2.0 * (B * (W @ B)).sum(0) + 2.0 * _JITTER * (W.diagonal()[:, None] * B * B).sum(0)
        return loss, g + t / _SPREAD**2

    def mean(self, x: Array) -> tuple[float, Array]:
        """Posterior mean at `x (d,)`, and its gradient."""
        scales = self.lengthscales
        a = x / scales
        away = a - self._A
        k = self._weights * np.exp(-0.5 * (away * away).sum(1))
        factor = self._value + (self._B * away).sum(1)
        return self._level + float(k @ factor), (k @ self._B - (k * factor) @ away) / scales

    def gradient_covariance(self, x: Array) -> Array:
        """That of the posterior gradient at `x (d,)`, `(d, d)`, in units of the output scale."""
        scales = self.lengthscales
        away = x / scales - self._A
        k = np.exp(-0.5 * (away * away).sum(1))[:, None]
        factor = (self._value + (self._B * away).sum(1))[:, None]
        C = k * (self._B - factor * away)
        return (np.eye(len(x)) - C.T @ self._inverse @ C) / np.outer(scales, scales)

    def _gram(self, t: Array) -> _Gram:
        scales = np.exp(t)
        A, B = self._told.places / scales, self._told.directions / scales
        size = (A * A).sum(1)
        k = np.exp(-0.5 * np.maximum(size[:, None] + size - 2.0 * A @ A.T, 0.0))
        Q = ((B * A).sum(1) - self._value)[:, None] - B @ A.T
        return _Gram(A, B, k, Q, Q * Q.T + B @ B.T)

    def _covariance(self, gram: _Gram) -> Array:
        K = gram.k * gram.M
        K[np.diag_indices_from(K)] += _JITTER * K.diagonal() + self._told.noise
        return K

    def _solved(self, inverse: Array) -> tuple[float, Array]:
        """The most likely level, and the inverse times what is left of the outcomes."""
        by_outcomes, by_level = inverse @ self._told.outcomes, inverse @ self._value
        level = float(self._value @ by_outcomes) / float(self._value @ by_level)
        return level, by_outcomes - level * by_level
