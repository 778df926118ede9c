"""A Student-t process over learning curves: a Gaussian process whose curves each have a scale of their own.

    z_i(tau) = s_i g_i(tau),   g_i ~ GP(0, k),   s_i^-2 ~ Gamma(nu / 2, rate nu / 2),   curves independent

(Shah, Wilson & Ghahramani 2014). So a curve that has hardly moved is expected to stay, and one that has
moved much may still go anywhere; a plain Gaussian process takes both for alike, and stops what falls late.

    tau   steps, mapped to [0, 1]                                  (T,)
    Z     curves, scaled; 0 where they are not known               (*b, n, T)
    known 1 on the first steps of each curve, 0 on the others      (*b, n, T)
    theta log hyper-parameters                                     (*b, p), p = 7
    K     covariance of one curve at all steps; L, W = L^-1        (*b, T, T)
    E     innovations `W z`, standard normal times s_i             (*b, n, T)

All curves share K, and `W` is lower triangular: the first entries of `W z` are those of the first entries of
z alone. One factorisation therefore serves curves that have come to different steps, T^3 + n T^2 for all.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.quasirandom import SobolEngine

from bayesopt.linalg import lower_inverse, robust_cholesky

#: Degrees of freedom of the scales: few, as curves differ much in how far they move.
NU = 3

#: Median and standard deviation of the logarithms: beta, alpha, the variances of level, decay, bend and
#: noise, and tau0.
_PRIOR = torch.tensor(
    [
        [math.log(0.2), 1.2],
        [0.0, 0.6],
        [math.log(0.5), 1.5],
        [math.log(0.5), 1.5],
        [math.log(0.5), 1.5],
        [math.log(0.01), 2.0],
        [math.log(0.1), 1.2],
    ],
    dtype=torch.float64,
)
_ROUNDS, _CANDIDATES, _NARROWER = 3, 64, 0.35


def decay(t: Tensor, s: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """`(beta / (t + s + beta))^alpha`: curves that are mixtures of exponential decays.

    The covariance of `exp(-lambda t)` summed over rates `lambda ~ Gamma(alpha, rate beta)`: Swersky, Snoek &
    Adams (2014), eq. (6).
    """
    return (beta / (t + s + beta)) ** alpha


def bend(t: Tensor, s: Tensor) -> Tensor:
    """Covariance of integrated Brownian motion: curves with a slope that wanders. Wahba (1978)."""
    low, high = torch.minimum(t, s), torch.maximum(t, s)
    return low**2 * (high / 2 - low / 6)


def covariance(theta: Tensor, tau: Tensor) -> Tensor:
    """`K (*b, T, T)`: a level, a decay, a bend in `log(1 + tau / tau0)`, and noise."""
    beta, alpha, level, decays, bends, noise, tau0 = theta.exp()[..., None, None].unbind(-3)
    time = torch.log1p(tau / tau0) / torch.log1p(1.0 / tau0)
    K = level + decays * decay(tau[:, None], tau, alpha, beta) + bends * bend(time.mT, time)
    return K + noise * torch.eye(len(tau), dtype=tau.dtype, device=tau.device)


def log_evidence(theta: Tensor, tau: Tensor, Z: Tensor, known: Tensor) -> Tensor:
    """Log density of the known entries under theta `(*b, r, p)`, shape `(*b, r)`.

    A curve of l known steps is multivariate t with nu degrees of freedom and scale matrix K, whose density
    needs only `|W z|^2` and the diagonal of W.
    """
    W = lower_inverse(robust_cholesky(covariance(theta, tau)))
    E = (Z.unsqueeze(-3) @ W.mT) * known.unsqueeze(-3)
    half = 0.5 * (NU + known.sum(-1)).unsqueeze(-2)
    shape = torch.lgamma(half) - math.lgamma(NU / 2) - (half - NU / 2) * math.log(NU * math.pi)
    log_scale = (W.diagonal(dim1=-2, dim2=-1).log().unsqueeze(-2) * known.unsqueeze(-3)).sum(-1)
    return (shape + log_scale - half * torch.log1p((E * E).sum(-1) / NU)).sum(-1)


def fit(tau: Tensor, Z: Tensor, known: Tensor) -> Tensor:
    """The best theta `(*b, p)` by its posterior density, of three rounds of candidates, each one narrower.

    Deterministic, and without gradients: where theta is uncertain its neighbours predict alike.
    """
    normal = _standard_normal(_CANDIDATES, len(_PRIOR)).to(tau)
    middle, std = _PRIOR.to(tau).unbind(-1)
    lower, upper = middle - 3 * std, middle + 3 * std
    best = middle.expand(*Z.shape[:-2], -1)
    for round_ in range(_ROUNDS):
        spread = _NARROWER**round_ * std * normal
        theta = torch.cat([best.unsqueeze(-2), best.unsqueeze(-2) + spread], -2).clamp(lower, upper)
        penalty = 0.5 * (((theta - middle) / std) ** 2).sum(-1)
        winner = (log_evidence(theta, tau, Z, known) - penalty).argmax(-1)
        best = theta.take_along_dim(winner[..., None, None], -2).squeeze(-2)
    return best


def _standard_normal(count: int, d: int) -> Tensor:
    """The same quasi-random normal draws `(count, d)` every time."""
    uniform = SobolEngine(d, scramble=True, seed=0).draw(count, dtype=torch.float64)
    return torch.special.ndtri(uniform.clamp(1e-3, 1 - 1e-3))


@dataclass(frozen=True)
class Final:
    """The last entry of m curves: Student-t, `loc + scale t_dof`; each `(*b, m)`."""

    loc: Tensor
    scale: Tensor
    dof: Tensor

    def below(self, z: Tensor) -> Tensor:
        """Probability of an entry below z, broadcastable to `(*b, m)`."""
        return student_cdf((z - self.loc) / self.scale, self.dof)

    @property
    def std(self) -> Tensor:
        """Standard deviation `(*b, m)`; there is one, as nu > 2."""
        return self.scale * (self.dof / (self.dof - 2)).sqrt()


def final(theta: Tensor, tau: Tensor, Z: Tensor, known: Tensor) -> Final:
    """What the known entries say about the last one.

    In `z_T = sum_t L_Tt e_t` the first l innovations are known. The others have mean 0 and scale s, of which
    the known ones tell `(nu + |e|^2) / (nu + l)`, the squared scale of a Student-t with nu + l degrees.
    """
    L = robust_cholesky(covariance(theta, tau))
    E = (Z @ lower_inverse(L).mT) * known
    last = L[..., -1:, :]
    dof = NU + known.sum(-1)
    variance = (last**2 * (1.0 - known)).sum(-1)
    return Final((last * E).sum(-1), (variance * (NU + (E * E).sum(-1)) / dof).sqrt(), dof)


def student_cdf(x: Tensor, dof: Tensor) -> Tensor:
    """Distribution function of Student's t at x, for whole degrees of freedom of the same shape.

    Finite trigonometric sums in `theta = atan(x / sqrt dof)`: Abramowitz & Stegun (1964), 26.7.3 and 26.7.4.

    >>> [round(p, 4) for p in student_cdf(torch.tensor([-3.182, 2.776]), torch.tensor([3, 4])).tolist()]
    [0.025, 0.975]
    """
    dof = dof.to(x)
    angle = torch.atan(x / dof.sqrt())
    sine, cosine = angle.sin(), angle.cos()
    odd = dof % 2
    term, total = cosine**odd, torch.zeros_like(x)
    for k in range(1, int(dof.max()) // 2 + 1):
        total = total + term * (2 * k <= dof)
        term = term * cosine**2 * (2 * k - 1 + odd) / (2 * k + odd)
    inside = torch.where(odd == 1, (angle + sine * total) * (2 / math.pi), sine * total)
    return 0.5 + 0.5 * inside
