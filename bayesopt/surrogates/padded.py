"""The likelihood of a history that is padded to a shape that stays, so that it can be recorded once.

With m_i = 1 for the n observations and 0 for the rest, `K_ij m_i m_j + (1 - m_i) [i = j]` has the determinant
and, on the observations, the inverse of the covariance; so have the sums, once the weights of the rest are 0.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import pad

from bayesopt import linalg
from bayesopt.graphs import padding, replayed
from bayesopt.kernels import Kernel
from bayesopt.surrogates.priors import Priors

#: `theta (b, p) -> -log p(y, theta) (b,)` up to constants, and its gradient `(b, p)`.
Objective = Callable[[Tensor], tuple[Tensor, Tensor]]


def objective(X: Tensor, y: Tensor, kernel: Kernel, priors: Priors, known: Tensor | None) -> Objective:
    """`gp.negative_log_posterior` of these data `(b, n, D)` and `(b, n)` as a function of theta, replayed."""
    k = padding(y.shape[-1])
    told = torch.zeros_like(y) if known is None else known
    data = pad(X, (0, 0, 0, k), value=0.5), *(pad(t, (0, k)) for t in (y, told, torch.ones_like(y)))

    def evaluate(theta: Tensor) -> tuple[Tensor, Tensor]:
        value, gradient = replayed(("likelihood", kernel), partial(_likelihood, kernel), theta, *data)
        penalty, d_penalty = priors.penalty(theta)
        return value + penalty, gradient + d_penalty

    return evaluate


@torch.no_grad()
def _likelihood(
    kernel: Kernel, theta: Tensor, X: Tensor, y: Tensor, known: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor]:
    """`-log p(y | theta)` up to a constant, inf where K is singular, and its gradient; y 0 off the mask."""
    noise = theta[..., -1].exp()
    both = mask.unsqueeze(-1) * mask.unsqueeze(-2)
    K, pullback = kernel.gram_and_pullback(theta[..., :-1], X)
    ridge = (noise.unsqueeze(-1) + known) * mask + (1.0 - mask)
    L, ok = linalg.cholesky(K * both + torch.diag_embed(ridge))
    G = linalg.inverse_by_product(L)  # nothing in it looks at a value, or could
    alpha = (G @ y.unsqueeze(-1)).squeeze(-1)
    value = 0.5 * (torch.linalg.vecdot(y, alpha) + linalg.log_det(L))
    G = 0.5 * both * (G - alpha.unsqueeze(-1) * alpha.unsqueeze(-2))
    d_noise = noise * G.diagonal(dim1=-2, dim2=-1).sum(-1)
    gradient = torch.cat([pullback(G), d_noise.unsqueeze(-1)], -1)
    return torch.where(ok, value, torch.inf), gradient
