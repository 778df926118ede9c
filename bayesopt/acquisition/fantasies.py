"""Unfinished evaluations: the surrogate conditioned on outcomes that it draws itself.

Let `v(x) = W k(x)` be the whitened covariance of x with the n observations and k unfinished points, in the
order in which they were proposed. An outcome of an unfinished point is its conditional mean plus its
conditional deviation times a standard normal innovation, so in whitened coordinates draw number s of all
outcomes *is* its innovations e_s, and

    mu_s(x) = v(x) . [W y; e_s],        var(x) = k(x, x) - |v(x)|^2.

One more unfinished point is one more row of W and of e: the rank-one append. Nothing is refitted, nothing
is factorised again. With e = 0 the outcomes are the posterior means: the kriging believer of Ginsbourger,
Le Riche & Carraro (2010).

The expected improvement of x on top of a batch, `E max(min(best, f_1 .. f_k) - f(x), 0)`, is then the mean
over s of the analytic EI at (mu_s, var) against `best_s`: the part of qEI that x adds (Wilson, Hutter &
Deisenroth 2018, eq. (9), with the inner expectation in closed form). So 32 draws are
enough: see `python -m benchmarks batch`.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.quasirandom import SobolEngine

from bayesopt import linalg
from bayesopt.acquisition.base import Acquisition, Partials
from bayesopt.acquisition.surface import Term
from bayesopt.kernels.base import CrossCovariance
from bayesopt.surrogates.gp import VARIANCE_FLOOR, GaussianProcess

#: Added to the variance of an unfinished point, as a multiple of the prior's: f itself has no noise, and
#: two unfinished points in one place must not make W singular.
NUGGET = 1e-10

#: Draws by which the many candidates of a batch are compared; those that are climbed are compared by all.
SCREENING_DRAWS = 8


def innovations(draws: int, count: int, seed: int) -> Tensor:
    """Scrambled Sobol standard normals, `draws` of `count` innovations each: `(count, draws)`."""
    return _normals(draws, 1 << max(4, (count - 1).bit_length()), seed)[:count]


@lru_cache(maxsize=256)
def _normals(draws: int, count: int, seed: int) -> Tensor:
    uniform = SobolEngine(count, scramble=True, seed=seed % 2**31).draw(draws, dtype=torch.float64)
    return torch.special.ndtri(uniform.clamp(1e-9, 1 - 1e-9)).mT.contiguous()


class Moments(NamedTuple):
    """Posterior at m points: the mean of each draw `(b, m, s)`, and the variance `(b, m, 1)`."""

    mu: Tensor
    var: Tensor


class BatchAcquisition(ABC):
    """What one more evaluation is worth beside unfinished ones; larger is better.

    `best (b, 1, s)` is the incumbent's value in each draw.
    """

    @abstractmethod
    def partials(self, at: Moments, best: Tensor) -> Partials:
        """Value `(b, m)` and closed-form derivatives, of the shapes of `Moments`."""

    @abstractmethod
    def __call__(self, at: Moments, best: Tensor) -> Tensor:
        """Value `(b, m)`."""


@dataclass(frozen=True)
class Averaged(BatchAcquisition):
    """`log mean_s exp a(mu_s, var, best_s)` of an acquisition that is a logarithm.

    With one draw it is the acquisition itself, logarithm or not.
    """

    acquisition: Acquisition

    def __call__(self, at: Moments, best: Tensor) -> Tensor:
        value = self.acquisition(at.mu, at.var, best)
        return value.logsumexp(-1) - math.log(value.shape[-1])

    def partials(self, at: Moments, best: Tensor) -> Partials:
        each, dmu, dvar = self.acquisition.partials(at.mu, at.var, best)
        total = each.logsumexp(-1, keepdim=True)
        share = (each - total).exp()
        value = total.squeeze(-1) - math.log(each.shape[-1])
        return Partials(value, share * dmu, (share * dvar).sum(-1, keepdim=True))


@dataclass(frozen=True, eq=False)
class Fantasies:
    """GPs that have also seen k unfinished evaluations, in s draws of their outcomes.

    Attributes:
        gp: of the n observations, one batch dimension b.
        F: features of observations and unfinished points `(b, n + k, D)`; W `(b, n + k, n + k)`.
        whitened: `[W y; e] (b, n + k, s)`; best: smallest of incumbent and drawn outcomes `(b, s)`.
    """

    gp: GaussianProcess
    F: Tensor
    W: Tensor
    whitened: Tensor
    best: Tensor

    @classmethod
    def of(cls, gp: GaussianProcess, best: Tensor, draws: int) -> "Fantasies":
        """No unfinished evaluation yet; `best (b, 1)`."""
        whitened = (gp.W @ gp.y.unsqueeze(-1)).expand(-1, -1, draws)
        return cls(gp, gp.X, gp.W, whitened, best.expand(-1, draws))

    @property
    def kernel_theta(self) -> Tensor:
        """Hyper-parameters without the noise."""
        return self.gp.theta[..., :-1]

    @cached_property
    def covariance(self) -> CrossCovariance:
        """Covariance `(b, m, n + k)` of any features with observations and unfinished points."""
        return self.gp.kernel.towards(self.kernel_theta, self.F)

    def extend(self, F: Tensor, e: Tensor) -> "Fantasies":
        """With k more unfinished points F `(b, k, D)` and their innovations e `(b, k, s)`."""
        kernel = self.gp.kernel
        B, C = kernel.cross(self.kernel_theta, self.F, F), kernel.gram(self.kernel_theta, F)
        C.diagonal(dim1=-2, dim2=-1).add_(NUGGET * self.gp.prior_variance.unsqueeze(-1))
        V, M, W = linalg.append_inverse(self.W, B, C)
        outcomes = V.mT @ self.whitened + M @ e
        best = torch.minimum(self.best, outcomes.amin(-2))
        return Fantasies(
            self.gp,
            torch.cat([self.F, F], -2),
            W,
            torch.cat([self.whitened, e.expand_as(outcomes)], -2),
            best,
        )

    def moments(self, v: Tensor) -> Moments:
        """Posterior where the whitened covariance is v `(b, m, n + k)`."""
        prior = self.gp.prior_variance.view(-1, 1, 1)
        var = prior - (v * v).sum(-1, keepdim=True)
        return Moments(v @ self.whitened, torch.maximum(var, VARIANCE_FLOOR * prior))

    def rows(self, keep: Tensor) -> "Fantasies":
        """Those of some of the studies."""
        parts = (t[keep] for t in (self.F, self.W, self.whitened, self.best))
        return Fantasies(self.gp.select(keep), *parts)


@dataclass(frozen=True, eq=False)
class Fantasised(Term):
    """A batch acquisition of one more point beside the unfinished ones."""

    fantasies: Fantasies
    acquisition: BatchAcquisition

    @property
    def width(self) -> int:
        return self.fantasies.F.shape[0] * self.fantasies.F.shape[1]

    def value(self, F: Tensor) -> Tensor:
        k, _ = self.fantasies.covariance(F)
        at = self.fantasies.moments(k @ self.fantasies.W.mT)
        return self.acquisition(at, self.fantasies.best.unsqueeze(-2))

    def value_and_gradient(self, F: Tensor) -> tuple[Tensor, Tensor]:
        known = self.fantasies
        k, pull = known.covariance(F)
        v = k @ known.W.mT
        value, dmu, dvar = self.acquisition.partials(known.moments(v), known.best.unsqueeze(-2))
        dv = (dmu @ known.whitened.mT).sub_(v * dvar, alpha=2.0)
        return value, pull(dv @ known.W)

    def rows(self, keep: Tensor) -> "Fantasised":
        return Fantasised(self.fantasies.rows(keep), self.acquisition)


@dataclass(frozen=True, eq=False)
class Screen:
    """Candidates of a batch and their posterior, kept up to date while unfinished points are appended.

    Attributes:
        X, active: the candidates `(b, m, d)`; F: their features `(b, m, D)`.
        k: their covariance with observations and unfinished points `(b, m, n + k)`; at: their posterior.
        common: value of what does not change along the batch `(b, m)`.
    """

    X: Tensor
    active: Tensor
    F: Tensor
    k: Tensor
    at: Moments
    common: Tensor

    @classmethod
    def of(cls, X: Tensor, active: Tensor, F: Tensor, common: Tensor, fantasies: Fantasies) -> "Screen":
        """Candidates looked at for the first time: O(m (n + k)^2)."""
        k = fantasies.covariance(F)[0]
        return cls(X, active, F, k, fantasies.moments(k @ fantasies.W.mT), common)

    def joined(self, other: "Screen") -> "Screen":
        """These candidates and others."""
        pairs = zip(self._tensors(), other._tensors(), strict=True)
        X, active, F, k, mu, var, common = (torch.cat([a, b], 1) for a, b in pairs)
        return Screen(X, active, F, k, Moments(mu, var), common)

    def _tensors(self) -> tuple[Tensor, ...]:
        return (self.X, self.active, self.F, self.k, *self.at, self.common)

    def extended(self, fantasies: Fantasies) -> "Screen":
        """After one more unfinished point, the last of these fantasies: O(m (n + k))."""
        new = fantasies.gp.kernel.cross(fantasies.kernel_theta, self.F, fantasies.F[:, -1:])
        k = torch.cat([self.k, new], -1)
        v = k @ fantasies.W[:, -1:].mT  # its whitened covariance, one column
        floor = VARIANCE_FLOOR * fantasies.gp.prior_variance.view(-1, 1, 1)
        mu = self.at.mu + v @ fantasies.whitened[:, -1:]
        at = Moments(mu, torch.maximum(self.at.var - v * v, floor))
        return Screen(self.X, self.active, self.F, k, at, self.common)

    def value(self, acquisition: BatchAcquisition, best: Tensor) -> Tensor:
        """Values `(b, m)` by the first draws, enough to choose where to climb; -inf instead of nan."""
        at = self.at._replace(mu=self.at.mu[..., :SCREENING_DRAWS])
        value = acquisition(at, best[:, None, :SCREENING_DRAWS]) + self.common
        return value.nan_to_num(nan=-torch.inf, posinf=-torch.inf)
