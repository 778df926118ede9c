"""Radial profiles g(r2): the covariance as a function of the scaled squared distance, with g(0) = 1.

`g` is plain torch, differentiable by autograd, and serves as the oracle. `g_and_slope` also returns g'(r2),
which every closed-form gradient of the engine is made of, and works in place: it owns its buffers and runs
in the hot paths. On a CPU `exp2` and `rsqrt` take half the time of `exp` and `sqrt` there, which go through
another library; so `g_and_slope` reckons in units in which exp is exp2, with `r = r2 rsqrt(r2)`.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

_LN2 = math.log(2.0)
_PER_LN2_2 = _LN2**-2

#: Floor of r2. The profiles are not differentiable (Matern 1/2) or of the form 0/0 at r2 = 0.
TINY = 1e-18


def _root_(r2: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """`t = sqrt(scale r2) / ln 2` and `2^-t`; r2 is overwritten by `t^2`."""
    t2 = r2.mul_(scale * _PER_LN2_2).clamp_min_(TINY * _PER_LN2_2)
    t = t2.rsqrt().mul_(t2)
    return t, t.neg().exp2_()


class Profile(ABC):
    """A positive definite radial function in every dimension (a scale mixture of Gaussians)."""

    #: What the field calls it.
    name: str

    #: Degrees of freedom 2 nu of the Student-t spectral density, inf for a Gaussian one; a profile of another
    #: density has `frequencies` of its own instead.
    spectral_dof: float

    def frequencies(self, count: int, d: int, generator: torch.Generator) -> Tensor:
        """Draws `(count, d)` from the spectral density: normal, or Student-t with 2 nu degrees of freedom.

        On the CPU, so that a generator gives the same ones for every device.
        """
        normal = torch.randn(count, d, generator=generator, dtype=torch.float64)
        if math.isinf(self.spectral_dof):
            return normal
        dof = int(self.spectral_dof)
        chi2 = (
            torch.randn(count, dof, generator=generator, dtype=torch.float64).square().sum(-1, keepdim=True)
        )
        return normal * (dof / chi2).sqrt()

    @abstractmethod
    def g(self, r2: Tensor) -> Tensor:
        """Value at squared distances r2, any shape; a negative one is the rounding error of 0."""

    @abstractmethod
    def g_and_slope(self, r2: Tensor) -> tuple[Tensor, Tensor]:
        """`(g(r2), g'(r2))`; `r2` is overwritten."""


@dataclass(frozen=True)
class Matern12(Profile):
    """`g = exp(-r)`: continuous, nowhere differentiable sample paths."""

    name = "Matern 1/2"
    spectral_dof = 1.0

    def g(self, r2: Tensor) -> Tensor:
        return torch.exp(-r2.clamp_min(TINY).sqrt())

    def g_and_slope(self, r2: Tensor) -> tuple[Tensor, Tensor]:
        t, g = _root_(r2, 1.0)
        return g, torch.div(g, t, out=t).mul_(-0.5 / _LN2)


@dataclass(frozen=True)
class Matern32(Profile):
    """`g = (1 + s) exp(-s)`, `s = sqrt(3) r`: once differentiable. Rasmussen & Williams, eq. (4.17)."""

    name = "Matern 3/2"
    spectral_dof = 3.0

    def g(self, r2: Tensor) -> Tensor:
        s = (3.0 * r2).clamp_min(TINY).sqrt()
        return (1 + s) * torch.exp(-s)

    def g_and_slope(self, r2: Tensor) -> tuple[Tensor, Tensor]:
        t, e = _root_(r2, 3.0)
        return torch.addcmul(e, t, e, value=_LN2, out=t), e.mul_(-1.5)


@dataclass(frozen=True)
class Matern52(Profile):
    """`g = (1 + s + s^2 / 3) exp(-s)`, `s = sqrt(5) r`: twice differentiable. Ibid., eq. (4.17)."""

    name = "Matern 5/2"
    spectral_dof = 5.0

    def g(self, r2: Tensor) -> Tensor:
        s2 = (5.0 * r2).clamp_min(TINY)
        s = s2.sqrt()
        return (1 + s + s2 / 3) * torch.exp(-s)

    def g_and_slope(self, r2: Tensor) -> tuple[Tensor, Tensor]:
        t, e = _root_(r2, 5.0)
        w = torch.addcmul(e, t, e, value=_LN2, out=t)  # (1 + s) exp(-s) = -6/5 g'
        return torch.addcmul(w, e, r2, value=_LN2**2 / 3.0, out=e), w.mul_(-5.0 / 6.0)


@dataclass(frozen=True)
class RBF(Profile):
    """`g = exp(-r2 / 2)`: infinitely differentiable."""

    name = "squared exponential"
    spectral_dof = math.inf

    def g(self, r2: Tensor) -> Tensor:
        return torch.exp(-0.5 * r2.clamp_min(0.0))

    def g_and_slope(self, r2: Tensor) -> tuple[Tensor, Tensor]:
        g = r2.clamp_min_(0.0).mul_(-0.5 / _LN2).exp2_()
        return g, g.mul(-0.5)


@dataclass(frozen=True)
class RationalQuadratic(Profile):
    """`g = (1 + 2 r2)^(-1/4)`: Gaussians of all lengthscales, many of them long. Ibid., (4.19), alpha 1/4.

    Infinitely differentiable, and so slow to fall off that far points still tell of the trend: it is 1/2 at
    r = 2.7, where Matern 5/2 is 0.05, and 1/4 at r = 11. Two roots are all it takes.
    """

    name = "rational quadratic"

    def frequencies(self, count: int, d: int, generator: torch.Generator) -> Tensor:
        """Normal draws over lengthscales whose inverse squares are Gamma(alpha, 1 / alpha)."""
        normal = torch.randn(count, d, generator=generator, dtype=torch.float64)
        alpha = torch.full((count, 1), 0.25, dtype=torch.float64)
        return normal * (torch._standard_gamma(alpha, generator=generator) / alpha).sqrt()

    def g(self, r2: Tensor) -> Tensor:
        return (1.0 + 2.0 * r2.clamp_min(0.0)) ** -0.25

    def g_and_slope(self, r2: Tensor) -> tuple[Tensor, Tensor]:
        u = r2.clamp_min_(0.0).mul_(2.0).add_(1.0)
        g = u.sqrt().rsqrt_()
        return g, torch.div(g, u, out=u).mul_(-0.5)


PROFILES: dict[str, Profile] = {
    "matern12": Matern12(),
    "matern32": Matern32(),
    "matern52": Matern52(),
    "rbf": RBF(),
    "rational_quadratic": RationalQuadratic(),
}
