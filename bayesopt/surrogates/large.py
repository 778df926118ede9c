"""Exact Gaussian processes where there is room for few n x n matrices.

The same formulas as in `surrogates.gp`, in another order. The covariance is written some rows at a time, into
it goes its Cholesky factor, and into that its inverse; the gradient computes the rows anew. So at its peak
the likelihood with its gradient holds n^2 numbers, and a posterior 2 n^2, L and W, beside the rows computed
at once. All at once holds more than four matrices; it computes the profile once instead of twice.
"""

import torch
from torch import Tensor

from bayesopt import linalg
from bayesopt.device import entries, sure
from bayesopt.kernels import Kernel
from bayesopt.surrogates.priors import Priors

#: Most observations whose covariances are computed at once.
WHOLE = 2048

#: Numbers of a covariance that are computed at once, of more observations.
CHUNK_ENTRIES = 500_000


@torch.no_grad()
def negative_log_posterior(
    theta: Tensor, X: Tensor, y: Tensor, kernel: Kernel, priors: Priors, ridge: Tensor
) -> tuple[Tensor, Tensor]:
    """`gp.negative_log_posterior`, in bounded memory.

    Args: theta `(b, p)`, X `(b, n, D)`, y `(b, n)`; ridge: noise variances, `(b, n)` or `(b, 1)`.
    """
    K, pullback = kernel.gram_and_pullback(theta[..., :-1], X, _rows(X))
    K.diagonal(dim1=-2, dim2=-1).add_(ridge)
    L, ok = linalg.cholesky_(K)
    half_log_det = 0.5 * linalg.log_det(L)
    G = linalg.inverse_(L).mT  # symmetric, and its rows are contiguous
    alpha = (G @ y[..., None])[..., 0]
    penalty, d_penalty = priors.penalty(theta)
    value = 0.5 * torch.linalg.vecdot(y, alpha) + half_log_det + penalty
    G.baddbmm_(alpha[..., None], alpha[..., None, :], beta=0.5, alpha=-0.5)
    d_noise = theta[..., -1].exp() * G.diagonal(dim1=-2, dim2=-1).sum(-1)
    gradient = torch.cat([pullback(G), d_noise[..., None]], -1) + d_penalty
    return torch.where(ok, value, torch.inf), gradient


@torch.no_grad()
def factors(kernel: Kernel, theta: Tensor, X: Tensor, ridge: Tensor) -> tuple[Tensor, Tensor]:
    """Cholesky factor L of the covariance with the ridge on its diagonal, and its inverse W, `(*b, n, n)`.

    Args: theta: of the kernel `(*b, p)`; X `(*b, n, D)`; ridge: noise variances, `(*b, n)` or `(*b, 1)`.

    Raises:
        torch.linalg.LinAlgError: the covariance cannot be factorised (nan or inf in the input).
    """

    def covariance() -> Tensor:
        K = kernel.gram_and_pullback(theta, X, _rows(X))[0]
        K.diagonal(dim1=-2, dim2=-1).add_(ridge)
        return K

    L, ok = linalg.cholesky_(covariance())
    if not sure(ok):
        L = linalg.robust_cholesky(covariance())  # made again: to keep K for this costs a matrix each time
    return L, linalg.lower_inverse_(L.clone())


def _rows(X: Tensor) -> int:
    """How many rows of the covariance of X `(*b, n, D)` are computed at once."""
    return max(1, entries(CHUNK_ENTRIES, X) // X.shape[:-1].numel())
