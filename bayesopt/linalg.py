"""Factorisations of covariance matrices: the only place of the engine that factorises a matrix.

Everything is batch first: `K (*b, n, n)` symmetric positive definite, `L` its lower Cholesky factor,
`W = L^-1`. The explicit triangular inverse costs one product more than a solve, once a fit, and turns
every later posterior evaluation into plain matrix products, which batch well on every device; unlike
the explicit inverse of K it keeps the small variances near observations accurate.

Functions that end in an underscore write into the memory of what they are given, for matrices of which
there is room for few.
"""

import logging

import torch
from torch import Tensor

from bayesopt.device import stalls, sure

log = logging.getLogger("bayesopt")

LinAlgError = torch.linalg.LinAlgError  # type: ignore[attr-defined]

#: Relative jitter tried in turn by `robust_cholesky`; 0 first, so a healthy matrix stays as it is.
JITTER_LADDER = (0.0, 1e-10, 1e-8, 1e-6, 1e-4, 1e-2)

#: Order up to which a triangular block is inverted at once.
_BLOCK = 256


def cholesky(K: Tensor) -> tuple[Tensor, Tensor]:
    """Lower factor `L` and a mask `(*b,)` of the elements where it exists; elsewhere `L` is the identity."""
    L, info = torch.linalg.cholesky_ex(K)
    ok = info == 0
    if stalls(K) or not bool(ok.all()):
        eye = torch.eye(K.shape[-1], dtype=K.dtype, device=K.device)
        L = torch.where(ok[..., None, None], L, eye)
    return L, ok


def cholesky_(K: Tensor) -> tuple[Tensor, Tensor]:
    """`cholesky` in the memory of a contiguous K: no second matrix.

    LAPACK wants columns one after the other. The transpose has them, and is the same matrix.
    """
    L, info = K.mT, torch.empty(K.shape[:-2], dtype=torch.int32, device=K.device)
    torch.linalg.cholesky_ex(L, out=(L, info))
    ok = info == 0
    if stalls(K) or not bool(ok.all()):
        L.masked_fill_(~ok[..., None, None], 0.0).diagonal(dim1=-2, dim2=-1).masked_fill_(~ok[..., None], 1.0)
    return L, ok


def robust_cholesky(K: Tensor) -> Tensor:
    """Lower factor of `K + jitter * mean(diag K) * I` with the smallest jitter of the ladder that works.

    Each batch element climbs on its own, so one bad matrix does not blur its neighbours.

    Raises:
        torch.linalg.LinAlgError: no rung works (K holds nan or inf, or is far from positive definite).
    """
    L, ok = cholesky(K)
    if sure(ok):
        return L
    scale = K.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]
    eye = torch.eye(K.shape[-1], dtype=K.dtype, device=K.device)
    for jitter in JITTER_LADDER[1:]:
        L_new, ok_new = cholesky(K + jitter * scale * eye)
        L = torch.where(ok[..., None, None], L, L_new)
        ok = ok | ok_new
        if bool(ok.all()):
            log.info("covariance not positive definite; factorised with relative jitter %g", jitter)
            return L
    raise LinAlgError("covariance is not positive definite even with jitter; check it for nan or inf")


def lower_inverse(L: Tensor) -> Tensor:
    """`W = L^-1 (*b, n, n)` of a lower triangular `L`."""
    eye = torch.eye(L.shape[-1], dtype=L.dtype, device=L.device).expand_as(L)
    return torch.linalg.solve_triangular(L, eye, upper=False)


def inverse(L: Tensor) -> Tensor:
    """`K^-1 = (L L^T)^-1 (*b, n, n)`."""
    if L.is_cuda and L.shape[:-2].numel() > 1:
        return inverse_by_product(L)  # CUDA's own routine takes one matrix of a batch after the other
    return torch.cholesky_inverse(L).mT  # the same matrix, row after row


def inverse_by_product(L: Tensor) -> Tensor:
    """`K^-1 = W^T W (*b, n, n)`: half as many operations again, all matrices at once."""
    W = lower_inverse(L)
    return W.mT @ W


def inverse_(L: Tensor) -> Tensor:
    """`K^-1 = W^T W (*b, n, n)` in the memory of L: about 5 n^3 / 6 operations.

    As quick as LAPACK's routine; CUDA's own solves for all columns of I, in a second matrix.
    """
    return transposed_product_(lower_inverse_(L))


def lower_inverse_(L: Tensor) -> Tensor:
    """`W = L^-1` in the memory of L, by matrix products nearly all of it: about n^3 / 3 operations.

    `[[A, 0], [B, C]]^-1 = [[A^-1, 0], [-C^-1 B A^-1, C^-1]]`, block by block.
    """
    if L.shape[-1] <= _BLOCK:
        return L.copy_(lower_inverse(L))
    A, B, C = _blocks(L)
    _lower_times_(lower_inverse_(C), B.neg_())
    _transposed_times_(lower_inverse_(A), B.mT)
    return L


def transposed_product_(W: Tensor) -> Tensor:
    """`W^T W` in the memory of a lower triangular W, by matrix products: about n^3 / 2 operations.

    `[[A'A + B'B, B'C], [C'B, C'C]]` of `[[A, 0], [B, C]]`, block by block.
    """
    if W.shape[-1] <= _BLOCK:
        return W.copy_(W.mT @ W)
    A, B, C = _blocks(W)
    _add_product(transposed_product_(A), B.mT, B)
    W[..., : A.shape[-1], A.shape[-1] :] = _transposed_times_(C, B).mT
    transposed_product_(C)
    return W


def _lower_times_(T: Tensor, M: Tensor) -> Tensor:
    """`T M` in the memory of M, for a lower triangular T: `[A M_1; B M_1 + C M_2]`."""
    if T.shape[-1] <= _BLOCK:
        return M.copy_(T @ M)
    A, B, C = _blocks(T)
    M1, M2 = M.split([A.shape[-1], C.shape[-1]], -2)
    _add_product(_lower_times_(C, M2), B, M1)
    _lower_times_(A, M1)
    return M


def _transposed_times_(T: Tensor, M: Tensor) -> Tensor:
    """`T^T M` in the memory of M, for a lower triangular T: `[A' M_1 + B' M_2; C' M_2]`."""
    if T.shape[-1] <= _BLOCK:
        return M.copy_(T.mT @ M)
    A, B, C = _blocks(T)
    M1, M2 = M.split([A.shape[-1], C.shape[-1]], -2)
    _add_product(_transposed_times_(A, M1), B.mT, M2)
    _transposed_times_(C, M2)
    return M


def _add_product(M: Tensor, X: Tensor, Y: Tensor) -> None:
    """`M += X Y` of strided views, without another matrix."""
    _flat(M).baddbmm_(_flat(X), _flat(Y))


def _blocks(L: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A, B, C of `[[A, 0], [B, C]]`, views."""
    h = L.shape[-1] // 2
    return L[..., :h, :h], L[..., h:, :h], L[..., h:, h:]


def _flat(A: Tensor) -> Tensor:
    """With one batch dimension, a view."""
    return A.unsqueeze(0) if A.dim() == 2 else A.flatten(0, -3)


def log_det(L: Tensor) -> Tensor:
    """`log det K = 2 sum log diag L`, shape `(*b,)`."""
    return 2.0 * L.diagonal(dim1=-2, dim2=-1).log().sum(-1)


def append(L: Tensor, W: Tensor, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
    """Factors of `[[K, B], [B^T, C]]` from those of `K`, in O(k n^2) instead of O((n + k)^3).

    With `V = W B (n, k)` and `M M^T = C - V^T V`, `L' = [[L, 0], [V^T, M]]`; W' as in `append_inverse`.

    Args:
        L, W: factor and its inverse, `(*b, n, n)`.
        B: covariance of the old points with the new, `(*b, n, k)`.
        C: covariance of the new points, `(*b, k, k)`.
    """
    V, M, W = append_inverse(W, B, C)
    return torch.cat([torch.cat([L, torch.zeros_like(B)], -1), torch.cat([V.mT, M], -1)], -2), W


def append_inverse(W: Tensor, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """V, M and `W' = [[W, 0], [-M^-1 V^T W, M^-1]]`; see `append`."""
    V = W @ B
    M = robust_cholesky(C - V.mT @ V)
    M_inv = lower_inverse(M)
    below = torch.cat([-(M_inv @ V.mT) @ W, M_inv], -1)
    return V, M, torch.cat([torch.cat([W, torch.zeros_like(B)], -1), below], -2)
