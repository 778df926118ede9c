"""Radial profiles g(r2): the covariance as a function of the scaled squared distance, with g(0) = 1.

`g` is plain torch, differentiable by autograd, and serves as the oracle. `g_and_slope` also returns g'(r2),
which every closed-form gradient of the engine is made of, and works in place: it owns its buffers and runs
in the hot paths.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

#: Floor of r2. The profiles are not differentiable (Matern 1/2) or of the form 0/0 at r2 = 0.
TINY = 1e-18


class Profile(ABC):
    """A positive definite radial function in every dimension (a scale mixture of Gaussians)."""

    #: Degrees of freedom 2 nu of the Student-t spectral density; inf for a Gaussian one.
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

    spectral_dof = 1.0

    def g(self, r2: Tensor) -> Tensor:
        return torch.exp(-r2.clamp_min(TINY).sqrt())

    def g_and_slope(self, r2: Tensor) -> tuple[Tensor, Tensor]:
        r = r2.clamp_min_(TINY).sqrt_()
        g = r.neg().exp_()
        return g, (g / r).mul_(-0.5)


@dataclass(frozen=True)
class Matern32(Profile):
    """`g = (1 + s) exp(-s)`, `s = sqrt(3) r`: once differentiable. Rasmussen & Williams, eq. (4.17)."""

    spectral_dof = 3.0

    def g(self, r2: Tensor) -> Tensor:
        s = (3.0 * r2).clamp_min(TINY).sqrt()
        return (1 + s) * torch.exp(-s)

    def g_and_slope(self, r2: Tensor) -> tuple[Tensor, Tensor]:
        s = r2.mul_(3.0).clamp_min_(TINY).sqrt_()
        e = s.neg().exp_()
        return s.add_(1.0).mul_(e), e.mul_(-1.5)


@dataclass(frozen=True)
class Matern52(Profile):
    """`g = (1 + s + s^2 / 3) exp(-s)`, `s = sqrt(5) r`: twice differentiable. Ibid., eq. (4.17)."""

    spectral_dof = 5.0

    def g(self, r2: Tensor) -> Tensor:
        s2 = (5.0 * r2).clamp_min(TINY)
        s = s2.sqrt()
        return (1 + s + s2 / 3) * torch.exp(-s)

    def g_and_slope(self, r2: Tensor) -> tuple[Tensor, Tensor]:
        s = r2.mul_(5.0).clamp_min_(TINY).sqrt()
        e = s.neg().exp_()
        w = s.add_(1.0).mul_(e)  # (1 + s) exp(-s) = -6/5 g'
        return torch.addcmul(w, e, r2, value=1.0 / 3.0), w.mul_(-5.0 / 6.0)


@dataclass(frozen=True)
class RBF(Profile):
    """`g = exp(-r2 / 2)`: infinitely differentiable."""

    spectral_dof = math.inf

    def g(self, r2: Tensor) -> Tensor:
        return torch.exp(-0.5 * r2.clamp_min(0.0))

    def g_and_slope(self, r2: Tensor) -> tuple[Tensor, Tensor]:
        g = r2.clamp_min_(0.0).mul_(-0.5).exp_()
        return g, g.mul(-0.5)


PROFILES: dict[str, Profile] = {
    "matern12": Matern12(),
    "matern32": Matern32(),
    "matern52": Matern52(),
    "rbf": RBF(),
}
