"""Gaussian-process regression with maximum-a-posteriori hyper-parameters.

    y = f(x) + noise,   f ~ GP(0, k),   K = k(X, X) + s_n^2 I + diag(known),   alpha = K^-1 y
    -log p(theta | y) = y' alpha / 2 + log det K / 2 + penalty(theta)          Rasmussen & Williams, eq. (5.8)
    d(.) / dtheta     = sum(G * dK / dtheta),  G = (K^-1 - alpha alpha') / 2   ibid., eq. (5.9)

with s_n^2 fitted and `known`, the noise variance that came with an observation, 0 where none did.

Everything is batch first: theta `(*b, p)` with the log noise variance last, X `(*b, n, D)`, y and known
`(*b, n)`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from bayesopt import bfgs, graphs, linalg
from bayesopt.device import put
from bayesopt.kernels import Kernel
from bayesopt.kernels.base import CrossCovariance, FeatureMap
from bayesopt.surrogates import large, padded
from bayesopt.surrogates.priors import Priors

#: Variances are floored at this multiple of the prior variance: below it they are rounding errors.
VARIANCE_FLOOR = 1e-14


#: A fit from the prior, and the first part of one from several starts, of which only the best goes on.
COLD = bfgs.Options(evaluations=60, ftol=1e-3, first_step=0.5)
HEAT = bfgs.Options(evaluations=12, ftol=1e-3, first_step=0.5)


def warm_options(n: int) -> bfgs.Options:
    """A fit from the optimum of similar data: to 2e-3 nats up to n = 100, 0.06 at 1,000; briefer past 512.

    More data make the posterior of theta narrower than its effect on any proposal, and an evaluation dearer;
    what a brief fit leaves undone, the one at the next prefix goes on with.
    """
    lag = None if n <= large.WHOLE else 0
    return bfgs.Options(evaluations=15 if n <= 512 else 6, ftol=2e-3 * max(1.0, n / 100) ** 1.5, lag=lag)


@torch.no_grad()
def negative_log_posterior(
    theta: Tensor, X: Tensor, y: Tensor, kernel: Kernel, priors: Priors, known: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """`-log p(y, theta)` up to constants `(b,)` and its gradient `(b, p)`; inf where K is singular.

    Args: theta `(b, p)`, X `(b, n, D)`, y and known `(b, n)`: one batch dimension.
    """
    noise = theta[..., -1].exp()
    ridge = _ridge(noise, known)
    if X.shape[-2] > large.WHOLE:
        return large.negative_log_posterior(theta, X, y, kernel, priors, ridge)
    K, pullback = kernel.gram_and_pullback(theta[..., :-1], X)
    diagonal = K.diagonal(dim1=-2, dim2=-1)
    diagonal.add_(ridge)
    L, ok = linalg.cholesky(K)
    diagonal.sub_(ridge)  # the pullback wants the kernel's own K; a second matrix costs memory
    penalty, d_penalty = priors.penalty(theta)
    half_log_det = 0.5 * linalg.log_det(L)
    G = linalg.inverse(L)
    del L
    alpha = y[..., None, :] @ G  # a row: several times faster than a column
    value = 0.5 * torch.linalg.vecdot(y, alpha[..., 0, :]) + half_log_det + penalty
    G.addcmul_(alpha.mT, alpha, value=-1.0)
    d_noise = noise * G.diagonal(dim1=-2, dim2=-1).sum(-1)
    gradient = 0.5 * torch.cat([pullback(G), d_noise[..., None]], -1) + d_penalty
    return torch.where(ok, value, torch.inf), gradient


def _ridge(noise: Tensor, known: Tensor | None) -> Tensor:
    """Noise variance of each observation: the fitted one `(*b,)` and what is known of its own `(*b, n)`."""
    return noise[..., None] if known is None else noise[..., None] + known


@dataclass(frozen=True, eq=False)
class GaussianProcess:
    """A GP conditioned on data, hyper-parameters fixed; build it with `fit` or `GaussianProcess.of`.

    Attributes:
        kernel: covariance function.
        theta: `(*b, p)` log hyper-parameters, log noise variance last.
        X: features of the observations `(*b, n, D)`; y: their outcomes `(*b, n)`, zero prior mean.
        L, W: Cholesky factor of K and its inverse, `(*b, n, n)`; alpha `(*b, n)`.
        known: noise variances that came with the observations `(*b, n)`, beside the fitted one; None for 0.
    """

    kernel: Kernel
    theta: Tensor
    X: Tensor
    y: Tensor
    L: Tensor
    W: Tensor
    alpha: Tensor
    known: Tensor | None = None

    @classmethod
    @torch.no_grad()
    def of(
        cls, kernel: Kernel, theta: Tensor, X: Tensor, y: Tensor, known: Tensor | None = None
    ) -> "GaussianProcess":
        """Condition on data at given hyper-parameters.

        Raises:
            torch.linalg.LinAlgError: the covariance cannot be factorised (nan or inf in the input).
        """
        ridge = _ridge(theta[..., -1].exp(), known)
        if X.shape[-2] > large.WHOLE:
            L, W = large.factors(kernel, theta[..., :-1], X, ridge)
            return cls(kernel, theta, X, y, L, W, _solve(W, y), known)
        K = kernel.gram_and_pullback(theta[..., :-1], X)[0]  # in place: fewer n x n buffers than `gram`
        K.diagonal(dim1=-2, dim2=-1).add_(ridge)
        L = linalg.robust_cholesky(K)
        W = linalg.lower_inverse(L)
        return cls(kernel, theta, X, y, L, W, _solve(W, y), known)

    def select(self, index: int | Tensor) -> "GaussianProcess":
        """Some of a batch of GPs, or one of them, along the first batch dimension."""
        theta, X, y, L, W, alpha = (
            t[index] for t in (self.theta, self.X, self.y, self.L, self.W, self.alpha)
        )
        known = None if self.known is None else self.known[index]
        return GaussianProcess(self.kernel, theta, X, y, L, W, alpha, known)

    @property
    def noise(self) -> Tensor:
        """Fitted noise variance `(*b,)`."""
        return self.theta[..., -1].exp()

    @cached_property
    def prior_variance(self) -> Tensor:
        """Variance of f before any data, `(*b,)`."""
        return self.kernel.variance(self.theta[..., :-1])

    @cached_property
    def _covariance(self) -> CrossCovariance:
        """Covariance of any points with the observations."""
        return self.kernel.towards(self.theta[..., :-1], self.X)

    def posterior(self, Z: Tensor) -> tuple[Tensor, Tensor]:
        """Mean `(*b, m)` and covariance `(*b, m, m)` of f at Z `(*b, m, D)`; autograd passes."""
        kernel_theta = self.theta[..., :-1]
        k = self.kernel.cross(kernel_theta, Z, self.X)
        v = k @ self.W.mT
        return (k @ self.alpha[..., None])[..., 0], self.kernel.gram(kernel_theta, Z) - v @ v.mT

    @torch.no_grad()
    def marginals(self, Z: Tensor) -> tuple[Tensor, Tensor]:
        """Posterior mean and variance of f at each point of Z `(*b, m, D)`, both `(*b, m)`."""
        k, _ = self._covariance(Z)
        return self._moments(k, k @ self.W.mT)

    @torch.no_grad()
    def marginals_and_pullback(self, Z: Tensor) -> tuple[Tensor, Tensor, Callable[[Tensor, Tensor], Tensor]]:
        """`marginals`, and the map `(dmu, dvar) -> dZ (*b, m, D)` of weights on them to the gradient in Z.

        `d mu = dk alpha` and `d var = -2 dk K^-1 k'`, so both share one contraction with the kernel.
        """
        k, pull = self._covariance(Z)
        v = k @ self.W.mT
        mu, var = self._moments(k, v)

        def pullback(dmu: Tensor, dvar: Tensor) -> Tensor:
            K_inv_k = v @ self.W
            weights = dmu.unsqueeze(-1) * self.alpha.unsqueeze(-2)
            return pull(weights.sub_(K_inv_k.mul_(dvar.unsqueeze(-1)), alpha=2.0))

        return mu, var, pullback

    def _moments(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        prior = self.prior_variance.unsqueeze(-1)
        mu = (self.alpha.unsqueeze(-2) @ k.mT).squeeze(-2)
        return mu, torch.maximum(prior - torch.linalg.vecdot(v, v), VARIANCE_FLOOR * prior)

    def fitted(self) -> Tensor:
        """Posterior mean of f at the observations `(*b, n)`: `y - (s_n^2 + known) alpha`."""
        return self.y - _ridge(self.noise, self.known) * self.alpha

    def leave_one_out(self) -> tuple[Tensor, Tensor]:
        """Mean and variance of each y given the others, `(*b, n)`. Rasmussen & Williams, eq. (5.12)."""
        precision = self.W.square().sum(-2)  # diag K^-1
        return self.y - self.alpha / precision, 1.0 / precision

    def log_likelihood(self) -> Tensor:
        """`log p(y | X, theta)`, shape `(*b,)`. Rasmussen & Williams, eq. (2.30)."""
        n = self.y.shape[-1]
        fit = torch.linalg.vecdot(self.y, self.alpha)
        return -0.5 * (fit + linalg.log_det(self.L) + n * math.log(2 * math.pi))

    def condition_on(self, Z: Tensor, y: Tensor) -> "GaussianProcess":
        """The GP after k more observations Z `(*b, k, D)`, y `(*b, k)`, by a rank-k append to the factors.

        Of their noise nothing is known.
        """
        B = self.kernel.cross(self.theta[..., :-1], self.X, Z)
        C = self.kernel.gram(self.theta[..., :-1], Z)
        C.diagonal(dim1=-2, dim2=-1).add_(self.theta[..., -1:].exp())
        L, W = linalg.append(self.L, self.W, B, C)
        known = None if self.known is None else torch.cat([self.known, torch.zeros_like(y)], -1)
        X, y = torch.cat([self.X, Z], -2), torch.cat([self.y, y], -1)
        return GaussianProcess(self.kernel, self.theta, X, y, L, W, _solve(W, y), known)

    def sample_paths(self, count: int, generator: torch.Generator, features: int = 1024) -> "Paths":
        """Functions drawn from the posterior, differentiable and cheap to evaluate anywhere.

        `f(z) = phi(z) w + k(z, X) K^-1 (y - phi(X) w - e)` with prior weights w and noise e: Matheron's rule
        on random features, Wilson et al. (2020), eq. (13).

        Args:
            count: number s of functions.
            generator: on the CPU.
            features: frequencies of the prior's approximation; its error falls with their square root.
        """
        phi = self.kernel.random_features(self.theta[..., :-1], features, generator)
        at_data = phi(self.X)  # (*b, n, c)

        def normal(size: int) -> Tensor:
            draw = torch.randn(*self.theta.shape[:-1], size, count, generator=generator, dtype=torch.float64)
            return put(draw, self.X.device)

        w = normal(at_data.shape[-1])  # (*b, c, s)
        e = _ridge(self.noise, self.known).sqrt()[..., None] * normal(self.y.shape[-1])  # (*b, n, s)
        update = self.W.mT @ (self.W @ (self.y[..., None] - at_data @ w - e))
        return Paths(self, phi, w, update)


@dataclass(frozen=True, eq=False)
class Paths:
    """Functions drawn from a posterior: `f_s(z) = phi(z) w_s + k(z, X) u_s`; the same ones at every call.

    Attributes:
        gp: the posterior; phi: random features of its prior.
        w: weights of the features `(*b, c, s)`; u: weights of the covariances with the data `(*b, n, s)`.
    """

    gp: GaussianProcess
    phi: FeatureMap
    w: Tensor
    u: Tensor

    def __call__(self, Z: Tensor) -> Tensor:
        """All functions at the same points: `(*b, m, D) -> (*b, s, m)`."""
        return (self.phi(Z) @ self.w + self._covariance(Z) @ self.u).mT

    def each(self, Z: Tensor) -> Tensor:
        """Every function at points of its own, for a single GP: `(s, r, D) -> (s, r)`."""
        prior = (self.phi(Z) * self.w.mT.unsqueeze(-2)).sum(-1)
        return prior + (self._covariance(Z) * self.u.mT.unsqueeze(-2)).sum(-1)

    def select(self, index: Tensor) -> "Paths":
        """Some of the functions."""
        return Paths(self.gp, self.phi, self.w[..., index], self.u[..., index])

    def _covariance(self, Z: Tensor) -> Tensor:
        return self.gp.kernel.cross(self.gp.theta[..., :-1], Z, self.gp.X)


def _solve(W: Tensor, y: Tensor) -> Tensor:
    """`alpha = W' W y`."""
    return (W.mT @ (W @ y[..., None]))[..., 0]


class Optimum(NamedTuple):
    """Where a fit ended: hyper-parameters theta `(*b, p)`, inverse Hessian `(*b, p, p)`, value `(*b,)`."""

    theta: Tensor
    H: Tensor
    value: Tensor


@torch.no_grad()
def fit_hyperparameters(
    X: Tensor,
    y: Tensor,
    kernel: Kernel,
    priors: Priors,
    starts: Tensor | None = None,
    warm: Optimum | None = None,
    options: bfgs.Options | None = None,
    known: Tensor | None = None,
) -> Optimum:
    """Maximum-a-posteriori hyper-parameters by bounded BFGS, the best over the starts.

    Args:
        X: features `(*b, n, D)`; y: standardised outcomes `(*b, n)`.
        kernel, priors: the model; theta has the kernel's hyper-parameters and the log noise variance.
        starts: `(*b, r, p)`; the prior's own cold starts if None.
        warm: the optimum of similar data; the only start then, and its inverse Hessian is reused.
        options: of the optimiser; `COLD` if None, or `warm_options` with `warm`.
        known: noise variances that come with the outcomes `(*b, n)`.
    """
    batch, (n, D) = X.shape[:-2], X.shape[-2:]
    X, y = X.reshape(-1, n, D), y.reshape(-1, n)
    known = None if known is None else known.reshape(-1, n)
    b, p = X.shape[0], len(priors.mode)
    H = None
    if warm is not None:
        starts, H = warm.theta, warm.H.reshape(b, 1, p, p)
    elif starts is None:
        starts = priors.starts.expand(b, *priors.starts.shape)
    starts = starts.reshape(b, -1, p)
    r = starts.shape[1]
    study = torch.arange(b, device=X.device).repeat_interleave(r)
    replayed = padded.objective(X, y, kernel, priors, known) if r == 1 and graphs.serves(X, n) else None

    def objective(theta: Tensor, keep: Tensor | None) -> tuple[Tensor, Tensor]:
        if keep is None and replayed is not None:
            value, gradient = replayed(theta[:, 0])
        elif keep is None and r == 1:
            value, gradient = negative_log_posterior(theta[:, 0], X, y, kernel, priors, known)
        else:
            rows = study if keep is None else study[keep]
            told = None if known is None else known[rows]
            value, gradient = negative_log_posterior(theta[:, 0], X[rows], y[rows], kernel, priors, told)
        return value[:, None], gradient[:, None]

    options = options or (COLD if warm is None else warm_options(n))
    solution = bfgs.minimize(objective, starts.reshape(b * r, 1, p), priors.lower, priors.upper, options, H)
    value = solution.value.reshape(b, r).nan_to_num(nan=torch.inf)
    index = value.argmin(-1) + r * torch.arange(b, device=X.device)
    return Optimum(
        solution.x[index, 0].reshape(*batch, p),
        solution.H[index, 0].reshape(*batch, p, p),
        value.amin(-1).reshape(batch),
    )


def fit(X: Tensor, y: Tensor, kernel: Kernel, priors: Priors, warm: Optimum | None = None) -> GaussianProcess:
    """The GP with maximum-a-posteriori hyper-parameters; see `fit_hyperparameters`.

    >>> from bayesopt.kernels import Stationary
    >>> from bayesopt.surrogates.priors import default_priors
    >>> kernel = Stationary(groups=(0,))
    >>> X = torch.linspace(0, 1, 8, dtype=torch.float64)[:, None]
    >>> gp = fit(X, torch.sin(6 * X[:, 0]), kernel, default_priors(kernel, 1))
    >>> mu, var = gp.marginals(torch.tensor([[0.4]], dtype=torch.float64))
    >>> abs(mu.item() - math.sin(2.4)) < 0.02
    True
    """
    return GaussianProcess.of(kernel, fit_hyperparameters(X, y, kernel, priors, None, warm).theta, X, y)
