"""Joint acquisitions of q points by reparameterised Monte Carlo, with closed-form gradients.

With base samples e `(q, s)`, outcomes `f = mu + M e`, `M M' = Sigma`, are smooth functions of the points
(Wilson, Hutter & Deisenroth 2018, eq. (3)). An acquisition turns outcomes into a value and its weights
`A = d value / d f`; then `d value / d mu = sum_s A`, `d value / d M = tril(A e')`, and the adjoint of the
Cholesky factorisation (Murray 2016, eq. (10)) leads to Sigma and on to the points.

`best` is the incumbent: `(*b, 1)`, or `(*b, s)`, one in each draw. The latter makes the noisy versions: with
the minimum over outcomes drawn jointly at the observed points, qLogEI is qLogNEI (Letham et al. 2019).
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from bayesopt import linalg
from bayesopt.acquisition.fantasies import NUGGET, Fantasies


class JointAcquisition(ABC):
    """How much q evaluations together are worth, from s draws of their outcomes; larger is better."""

    @abstractmethod
    def __call__(self, f: Tensor, mu: Tensor, best: Tensor) -> Tensor:
        """Value `(*b)` of outcomes f `(*b, q, s)` with means mu `(*b, q, 1 or s)`; autograd passes."""

    @abstractmethod
    def partials(self, f: Tensor, mu: Tensor, best: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Value, and its derivatives with respect to f and to mu, taken as separate arguments."""


@dataclass(frozen=True)
class QExpectedImprovement(JointAcquisition):
    """`mean_s max(best - min_j f_js, 0)`; Ginsbourger et al. (2010), by Monte Carlo."""

    def __call__(self, f: Tensor, mu: Tensor, best: Tensor) -> Tensor:
        return (best - f.amin(-2)).clamp_min(0.0).mean(-1)

    def partials(self, f: Tensor, mu: Tensor, best: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        lowest, which = f.min(-2, keepdim=True)
        gain = best.unsqueeze(-2) - lowest
        df = torch.zeros_like(f).scatter_(-2, which, -(gain > 0).to(f.dtype) / f.shape[-1])
        return gain.clamp_min(0.0).mean((-2, -1)), df, torch.zeros_like(mu)


@dataclass(frozen=True)
class QLogExpectedImprovement(JointAcquisition):
    """Logarithm of a smooth qEI whose gradient vanishes nowhere; Ament et al. (2023), section 4.2.

    `log mean_s r(m_j(best - f_js))` with smooth versions of the maximum over the batch, of temperature
    `tau_max`, and of the positive part, of temperature `tau_relu`, both with polynomial ("fat") tails.
    """

    tau_max: float = 1e-2
    tau_relu: float = 1e-6

    def __post_init__(self) -> None:
        if not (self.tau_max > 0 and self.tau_relu > 0):
            raise ValueError(f"temperatures must be > 0, got {self.tau_max} and {self.tau_relu}")

    def __call__(self, f: Tensor, mu: Tensor, best: Tensor) -> Tensor:
        gain = best.unsqueeze(-2) - f
        top = gain.amax(-2, keepdim=True)
        weights = 1 / (1 + ((gain - top) / self.tau_max).square())
        smooth = top.squeeze(-2) + self.tau_max * weights.sum(-2).log()
        return _fat_relu(smooth, self.tau_relu)[0].mean(-1).log()

    def partials(self, f: Tensor, mu: Tensor, best: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        gain = best.unsqueeze(-2) - f
        top, which = gain.max(-2, keepdim=True)
        behind = (gain - top) / self.tau_max
        weights = 1 / (1 + behind.square())
        total = weights.sum(-2, keepdim=True)
        d_gain = (-2.0 * behind * weights.square() / total).scatter_(-2, which, 0.0)
        d_gain.scatter_(-2, which, 1.0 - d_gain.sum(-2, keepdim=True))
        value, slope = _fat_relu(top + self.tau_max * total.log(), self.tau_relu)
        mean = value.mean(-1, keepdim=True)
        df = -d_gain * (slope / (mean * f.shape[-1]))
        return mean.log()[..., 0, 0], df, torch.zeros_like(mu)


def _fat_relu(x: Tensor, tau: float) -> tuple[Tensor, Tensor]:
    """`tau (softplus(x / tau) + 0.1 / (1 + (x / tau)^2))` and its derivative; Ament et al., eq. (12)."""
    t = x / tau
    square = 1 + t * t
    value = tau * (torch.nn.functional.softplus(t) + 0.1 / square)
    return value, torch.sigmoid(t) - 0.2 * t / square.square()


@dataclass(frozen=True)
class QProbabilityOfImprovement(JointAcquisition):
    """`mean_s sigmoid((best - min_j f_js) / tau)`: the probability that any of the q points improves."""

    tau: float = 1e-3

    def __post_init__(self) -> None:
        if not self.tau > 0:
            raise ValueError(f"tau must be > 0, got {self.tau}")

    def __call__(self, f: Tensor, mu: Tensor, best: Tensor) -> Tensor:
        return torch.sigmoid((best - f.amin(-2)) / self.tau).mean(-1)

    def partials(self, f: Tensor, mu: Tensor, best: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        lowest, which = f.min(-2, keepdim=True)
        p = torch.sigmoid((best.unsqueeze(-2) - lowest) / self.tau)
        df = torch.zeros_like(f).scatter_(-2, which, -p * (1 - p) / (self.tau * f.shape[-1]))
        return p.mean((-2, -1)), df, torch.zeros_like(mu)


@dataclass(frozen=True)
class QUpperConfidenceBound(JointAcquisition):
    """`mean_s max_j (sqrt(pi / 2) beta |f_js - mu_j| - mu_j)`; Wilson et al. (2018), table 1.

    For q = 1 it is `beta sigma - mu`. `best` is not used.
    """

    beta: float = 1.8

    def __post_init__(self) -> None:
        if not self.beta >= 0:
            raise ValueError(f"beta must be >= 0, got {self.beta}")

    def __call__(self, f: Tensor, mu: Tensor, best: Tensor) -> Tensor:
        return (math.sqrt(0.5 * math.pi) * self.beta * (f - mu).abs() - mu).amax(-2).mean(-1)

    def partials(self, f: Tensor, mu: Tensor, best: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        scale = math.sqrt(0.5 * math.pi) * self.beta
        highest, which = (scale * (f - mu).abs() - mu).max(-2, keepdim=True)
        share = torch.zeros_like(f).scatter_(-2, which, 1.0 / f.shape[-1])
        df = scale * (f - mu).sign() * share
        dmu = -df - share
        return highest.mean((-2, -1)), df, dmu.sum(-1, keepdim=True) if mu.shape[-1] == 1 else dmu


@dataclass(frozen=True, eq=False)
class JointPosterior:
    """Outcomes at q points beside unfinished evaluations, as differentiable functions of the points.

    Attributes:
        fantasies: the surrogates with what is under way, one batch dimension b, s draws or 1.
        base: standard normals e `(b, q, s)`.
    """

    fantasies: Fantasies
    base: Tensor

    def value_and_gradient(self, acquisition: JointAcquisition, F: Tensor) -> tuple[Tensor, Tensor]:
        """Value `(b,)` at features F `(b, q, D)` and its gradient `(b, q, D)`."""
        known = self.fantasies
        k, pull = known.covariance(F)
        v = k @ known.W.mT
        gram, pull_gram = known.gp.kernel.towards(known.kernel_theta, F)(F)
        Sigma = gram - v @ v.mT
        Sigma.diagonal(dim1=-2, dim2=-1).add_(NUGGET * known.gp.prior_variance.unsqueeze(-1))
        M = linalg.robust_cholesky(Sigma)
        mu = v @ known.whitened
        value, df, dmu = acquisition.partials(mu + M @ self.base, mu, known.best)
        dmu = dmu + (df if mu.shape[-1] == df.shape[-1] else df.sum(-1, keepdim=True))
        dSigma = _cholesky_adjoint(M, df @ self.base.mT)
        dv = (dmu @ known.whitened.mT).sub_(dSigma @ v, alpha=2.0)
        return value, pull(dv @ known.W) + 2.0 * pull_gram(dSigma)

    def value(self, acquisition: JointAcquisition, F: Tensor) -> Tensor:
        """Value `(b,)` at features F `(b, q, D)`."""
        return self.value_and_gradient(acquisition, F)[0]


def _cholesky_adjoint(M: Tensor, dM: Tensor) -> Tensor:
    """Symmetric `d / d Sigma` from `d / d M`, `Sigma = M M'`; Murray (2016), eq. (10)."""
    inner = (M.mT @ dM.tril()).tril()
    inner.diagonal(dim1=-2, dim2=-1).mul_(0.5)
    W = linalg.lower_inverse(M)
    d = W.mT @ inner @ W
    return 0.5 * (d + d.mT)
