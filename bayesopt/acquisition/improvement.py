"""Improvement-based acquisitions: expected improvement, probability of improvement, and their logarithms.

With `sigma = sqrt(var)`, `z = (best - mu) / sigma` and `h(z) = phi(z) + z Phi(z)`:

    EI = E[max(best - f, 0)] = sigma h(z)       Jones, Schonlau & Welch (1998), eq. (15)
    PI = P(f < best)         = Phi(z)           Kushner (1964)

The logarithms follow Ament et al. (2023), "Unexpected improvements to expected improvement": far from the
incumbent EI underflows and its gradient vanishes, while log EI stays finite and sloped.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bayesopt.acquisition.base import Acquisition, Partials

_LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)
_SQRT_HALF = math.sqrt(0.5)
_SQRT_HALF_PI = math.sqrt(0.5 * math.pi)
#: Where 1 + z Phi/phi starts to lose more digits to cancellation than its asymptotic series to truncation.
_ASYMPTOTIC = -1000.0


def _phi(z: Tensor) -> Tensor:
    return torch.exp(-0.5 * z * z - _LOG_SQRT_2PI)


def _mills(z: Tensor) -> Tensor:
    """`Phi(z) / phi(z)` for z <= 0, accurate to the smallest z."""
    return _SQRT_HALF_PI * torch.special.erfcx(-_SQRT_HALF * z)


def _log_h_and_slope(z: Tensor) -> tuple[Tensor, Tensor]:
    """`ln h(z)` and its derivative `Phi(z) / h(z)` for every z.

    Above -1 by the definition; below, `h = phi (1 + z m)` with the Mills ratio m; far below by the series
    `1 + z m = z^-2 (1 - 3 z^-2 + ...)`. The branches meet to ten digits. Each sees arguments clamped to its
    own range, so that autograd never meets the inf or nan of a branch not taken.
    """
    high, low = z.clamp_min(-1.0), z.clamp_max(-1.0)
    cdf = torch.special.ndtr(high)
    h = _phi(high) + high * cdf
    mills = _mills(low)
    inv2 = low.pow(-2)
    rest = torch.where(low < _ASYMPTOTIC, inv2 * (1 - 3 * inv2), 1 + low.clamp_min(_ASYMPTOTIC) * mills)
    near = z > -1.0
    log_h = torch.where(near, h.log(), rest.log() - (0.5 * z * z + _LOG_SQRT_2PI))
    return log_h, torch.where(near, cdf / h, mills / rest)


def log_h(z: Tensor) -> Tensor:
    """`ln(phi(z) + z Phi(z))`, accurate for every z.

    >>> log_h(torch.tensor([0.0, -40.0], dtype=torch.float64))
    tensor([  -0.9189, -808.2986], dtype=torch.float64)
    """
    return _log_h_and_slope(z)[0]


def expected_improvement(mu: Tensor, var: Tensor, best: Tensor) -> Tensor:
    """`EI = sigma h(z)`."""
    sigma = var.sqrt()
    z = (best - mu) / sigma
    return sigma * (_phi(z) + z * torch.special.ndtr(z))


def log_expected_improvement(mu: Tensor, var: Tensor, best: Tensor) -> Tensor:
    """`ln EI = ln h(z) + ln sigma`."""
    return log_h((best - mu) / var.sqrt()) + 0.5 * var.log()


def probability_of_improvement(mu: Tensor, var: Tensor, best: Tensor) -> Tensor:
    """`PI = Phi(z)`."""
    return torch.special.ndtr((best - mu) / var.sqrt())


def log_probability_of_improvement(mu: Tensor, var: Tensor, best: Tensor) -> Tensor:
    """`ln PI = ln Phi(z)`."""
    return torch.special.log_ndtr((best - mu) / var.sqrt())


@dataclass(frozen=True)
class ExpectedImprovement(Acquisition):
    """Expected improvement on the incumbent."""

    def __call__(self, mu: Tensor, var: Tensor, best: Tensor) -> Tensor:
        return expected_improvement(mu, var, best)

    def partials(self, mu: Tensor, var: Tensor, best: Tensor) -> Partials:
        sigma = var.sqrt()
        z = (best - mu) / sigma
        pdf, cdf = _phi(z), torch.special.ndtr(z)
        return Partials(sigma * (pdf + z * cdf), -cdf, 0.5 * pdf / sigma)

    def log_form(self) -> Acquisition:
        return LogExpectedImprovement()


@dataclass(frozen=True)
class LogExpectedImprovement(Acquisition):
    """Logarithm of the expected improvement: the same maximiser, sound far from it."""

    is_log = True

    def __call__(self, mu: Tensor, var: Tensor, best: Tensor) -> Tensor:
        return log_expected_improvement(mu, var, best)

    def partials(self, mu: Tensor, var: Tensor, best: Tensor) -> Partials:
        sigma = var.sqrt()
        z = (best - mu) / sigma
        value, slope = _log_h_and_slope(z)
        return Partials(value + sigma.log(), -slope / sigma, 0.5 * (1 - z * slope) / var)


@dataclass(frozen=True)
class LogNoisyExpectedImprovement(LogExpectedImprovement):
    """Log EI on an incumbent that is not known exactly, averaged over its draws; Letham et al. (2019)."""

    is_noisy = True


@dataclass(frozen=True)
class ProbabilityOfImprovement(Acquisition):
    """Probability that f beats the incumbent."""

    def __call__(self, mu: Tensor, var: Tensor, best: Tensor) -> Tensor:
        return probability_of_improvement(mu, var, best)

    def partials(self, mu: Tensor, var: Tensor, best: Tensor) -> Partials:
        sigma = var.sqrt()
        z = (best - mu) / sigma
        pdf = _phi(z)
        return Partials(torch.special.ndtr(z), -pdf / sigma, -0.5 * z * pdf / var)

    def log_form(self) -> Acquisition:
        return LogProbabilityOfImprovement()


@dataclass(frozen=True)
class LogProbabilityOfImprovement(Acquisition):
    """Logarithm of the probability of improvement."""

    is_log = True

    def __call__(self, mu: Tensor, var: Tensor, best: Tensor) -> Tensor:
        return log_probability_of_improvement(mu, var, best)

    def partials(self, mu: Tensor, var: Tensor, best: Tensor) -> Partials:
        sigma = var.sqrt()
        z = (best - mu) / sigma
        # phi / Phi: by the Mills ratio below 0, where both underflow
        slope = torch.where(
            z < 0, 1 / _mills(z.clamp_max(0.0)), _phi(z) / torch.special.ndtr(z.clamp_min(0.0))
        )
        return Partials(torch.special.log_ndtr(z), -slope / sigma, -0.5 * z * slope / var)
