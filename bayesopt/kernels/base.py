"""What a covariance function is: a frozen value with closed-form gradients, closed under addition."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

#: Maps weights A on a covariance to the gradient of `sum(A * K)`.
Pullback = Callable[[Tensor], Tensor]

#: Maps `F1 (*b, m, D)` to `K (*b, m, n)` and `A (*b, m, n) -> d sum(A * K) / d F1 (*b, m, D)`; overwrites A.
CrossCovariance = Callable[[Tensor], tuple[Tensor, Pullback]]


#: Maps `F (*b, m, D)` to random features `(*b, m, c)`.
FeatureMap = Callable[[Tensor], Tensor]


class Kernel(ABC):
    """A covariance function over features F `(*b, n, D)` with log hyper-parameters theta `(*b, p)`.

    `cross`, `gram` and `variance` are differentiable by autograd. The hot paths use the other two: they
    return, beside the covariance, a pullback that contracts weights of the covariance's shape into a
    gradient by matrix products; they never form an n x n x D tensor, and need `torch.no_grad()`.
    """

    #: Number p of log hyper-parameters.
    num_hyper: int

    @abstractmethod
    def cross(self, theta: Tensor, F1: Tensor, F2: Tensor) -> Tensor:
        """Covariance `(*b, m, n)` of `F1 (*b, m, D)` with `F2 (*b, n, D)`."""

    @abstractmethod
    def variance(self, theta: Tensor) -> Tensor:
        """Prior variance `(*b,)`; every kernel here is stationary, so it is one number."""

    @abstractmethod
    def gram_and_pullback(self, theta: Tensor, F: Tensor, rows: int | None = None) -> tuple[Tensor, Pullback]:
        """`K (*b, n, n)` and `A (*b, n, n) -> d sum(A * K) / d theta (*b, p)`; overwrites symmetric A.

        Given a number of rows, so many are computed at once, and again in the pullback, which leaves A alone:
        K is the only tensor of its size (a sum has one a term, too), and the caller may overwrite it.
        """

    @abstractmethod
    def towards(self, theta: Tensor, F2: Tensor) -> CrossCovariance:
        """Covariance with fixed `F2 (*b, n, D)` as a function of F1, everything else computed once."""

    @abstractmethod
    def random_features(self, theta: Tensor, count: int, generator: torch.Generator) -> FeatureMap:
        """A map phi with `E[phi(F1) phi(F2)^T] = K`, drawn from the spectral density; 2 `count` features.

        Rahimi & Recht (2007). The same frequencies serve every batch element, scaled by its lengthscales.
        """

    def gram(self, theta: Tensor, F: Tensor) -> Tensor:
        """Covariance `(*b, n, n)` of F with itself."""
        return self.cross(theta, F, F)

    def __add__(self, other: "Kernel") -> "Sum":
        return Sum((*terms(self), *terms(other)))


def terms(kernel: Kernel) -> tuple[Kernel, ...]:
    """The summands of a sum, or the kernel itself."""
    return kernel.kernels if isinstance(kernel, Sum) else (kernel,)


@dataclass(frozen=True)
class Sum(Kernel):
    """Sum of kernels; theta is theirs, concatenated. Duvenaud, Nickisch & Rasmussen (2011)."""

    kernels: tuple[Kernel, ...]

    def __post_init__(self) -> None:
        if not self.kernels:
            raise ValueError("Sum needs at least one kernel, got none")

    @property
    def num_hyper(self) -> int:  # type: ignore[override]
        return sum(kernel.num_hyper for kernel in self.kernels)

    def _split(self, theta: Tensor) -> Sequence[Tensor]:
        return theta.split([kernel.num_hyper for kernel in self.kernels], -1)

    def cross(self, theta: Tensor, F1: Tensor, F2: Tensor) -> Tensor:
        parts = [kernel.cross(t, F1, F2) for kernel, t in zip(self.kernels, self._split(theta), strict=True)]
        return torch.stack(parts).sum(0)

    def variance(self, theta: Tensor) -> Tensor:
        parts = [kernel.variance(t) for kernel, t in zip(self.kernels, self._split(theta), strict=True)]
        return torch.stack(parts).sum(0)

    def gram_and_pullback(self, theta: Tensor, F: Tensor, rows: int | None = None) -> tuple[Tensor, Pullback]:
        parts = [
            kernel.gram_and_pullback(t, F, rows)
            for kernel, t in zip(self.kernels, self._split(theta), strict=True)
        ]
        K = torch.stack([part[0] for part in parts]).sum(0)
        return K, lambda A: torch.cat([pull(A.clone()) for _, pull in parts], -1)

    def random_features(self, theta: Tensor, count: int, generator: torch.Generator) -> FeatureMap:
        maps = [
            kernel.random_features(t, count, generator)
            for kernel, t in zip(self.kernels, self._split(theta), strict=True)
        ]
        return lambda F: torch.cat([phi(F) for phi in maps], -1)

    def towards(self, theta: Tensor, F2: Tensor) -> CrossCovariance:
        covariances = [
            kernel.towards(t, F2) for kernel, t in zip(self.kernels, self._split(theta), strict=True)
        ]

        def covariance(F1: Tensor) -> tuple[Tensor, Pullback]:
            parts = [part(F1) for part in covariances]
            K = torch.stack([part[0] for part in parts]).sum(0)
            return K, lambda A: torch.stack([pull(A.clone()) for _, pull in parts]).sum(0)

        return covariance
