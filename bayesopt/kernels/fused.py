"""Covariances and their contractions in one pass over the pairs of points, by Triton kernels.

The torch version of a covariance writes and reads tensors of the size of K for the squared distances, their
root, the exponential and the slope. Here they live in registers: `covariance` writes K and nothing else;
`contraction` reads the weights of K and nothing else, and computes the slope again instead of keeping it.

Off until somebody turns it on, by `BAYESOPT_FUSED=1` or `switched(True)`: whether it is faster depends on
the card, and `python -m benchmarks gpu` tells. Where it is on, it serves float64 tensors on CUDA, up to
`LARGEST_DIM` dimensions, without autograd; everything else, and a machine on which the kernels do not
compile, gets the torch version. With `TRITON_INTERPRET=1` Triton interprets the kernels on the CPU, which is
slow, and is how they are tested without a GPU.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

from bayesopt.kernels.profiles import RBF, Matern12, Matern32, Matern52, Profile, RationalQuadratic

log = logging.getLogger("bayesopt")

#: Most columns that the accumulator of `contraction` has registers for.
LARGEST_DIM = 128

#: Shapes of the tiles, rows and columns: the largest that ptxas compiles for sm_90 without spilling registers
#: (but for contractions past 64 dimensions, which spill a few).
_COVARIANCE_TILE = {"BM": 32, "BN": 64}
_CONTRACTION_TILE = {"BM": 32, "BN": 32}

#: Programs that fill a card: rows of a contraction are split into parts up to about as many.
_PROGRAMS = 512

_NAMES = {
    Matern12: "matern12",
    Matern32: "matern32",
    Matern52: "matern52",
    RBF: "rbf",
    RationalQuadratic: "rational_quadratic",
}

_on = os.environ.get("BAYESOPT_FUSED") == "1"


@contextmanager
def switched(on: bool) -> Iterator[None]:
    """Within it, fused kernels are on or off, in every thread."""
    global _on  # an argument would pass through every signature between here and `ask`
    before, _on = _on, on
    try:
        yield
    finally:
        _on = before


def serves(Z: Tensor, profile: Profile) -> bool:
    """Whether these points `(*b, n, D)` are for the fused kernels."""
    return (
        _on
        and Z.dtype == torch.float64
        and 0 < Z.shape[-1] <= LARGEST_DIM
        and Z.shape[-2] > 0
        and type(profile) in _NAMES
        and not torch.is_grad_enabled()
        and (Z.is_cuda or os.environ.get("TRITON_INTERPRET") == "1")
        and _compiles(_NAMES[type(profile)], _padded(Z.shape[-1]), Z.device)
    )


@cache
def _compiles(profile: str, width: int, device: torch.device) -> bool:
    """Whether the kernels for a profile and up to `width` dimensions run here; says so once if not."""
    if find_spec("triton") is None:
        log.warning("fused kernels need triton (pip install triton); using the torch version")
        return False
    Z = torch.zeros(1, 1, width, dtype=torch.float64, device=device)
    one = torch.ones(1, dtype=torch.float64, device=device)
    try:
        _contraction(_covariance(Z, Z, one, profile), Z, Z, one, profile)
    except Exception as error:  # noqa: BLE001 - whatever a compiler, a driver or a linker may raise
        log.warning("fused kernels do not compile here (%s); using the torch version", error)
        return False
    return True


def covariance(Z1: Tensor, Z2: Tensor, s2: Tensor, profile: Profile) -> Tensor:
    """`s2 g(|z_i - z'_j|^2)`, shape `(*b, m, n)`.

    Args:
        Z1, Z2: scaled points `(*b, m, D)` and `(*b, n, D)`; s2: `(*b,)`. Batch dimensions broadcast.
        profile: g, one of `profiles.PROFILES`.
    """
    batch = _batch(Z1, Z2, s2)
    K = _covariance(*_flat(batch, Z1, Z2, s2), _NAMES[type(profile)])
    return K.reshape(*batch, *K.shape[1:])


def contraction(A: Tensor, Z1: Tensor, Z2: Tensor, s2: Tensor, profile: Profile) -> tuple[Tensor, Tensor]:
    """`P_i = sum_j A_ij s2 g'(r2_ij) (z_i - z'_j)`, shape `(*b, m, D)`, and `sum(A * K)`, shape `(*b,)`.

    From them come all gradients of `sum(A * K)`: `2 P_i` is the one in z_i with Z2 held fixed; `sum(A * K)`
    is the one in ln s2; where Z2 is Z1 and A symmetric, `-4 sum_i P_ic z_ic` is the one in the logarithm of
    the lengthscale of column c.

    Args:
        A: weights `(*b, m, n)`; the rest as in `covariance`.
    """
    batch = _batch(Z1, Z2, s2)
    m, n, D = Z1.shape[-2], Z2.shape[-2], Z1.shape[-1]
    flat = A.expand(*batch, m, n).reshape(-1, m, n).contiguous()
    out = _contraction(flat, *_flat(batch, Z1, Z2, s2), _NAMES[type(profile)])
    return out[..., :D].reshape(*batch, m, D), out[..., D].sum(-1).reshape(batch)


def _covariance(Z1: Tensor, Z2: Tensor, s2: Tensor, profile: str) -> Tensor:
    """One batch dimension, contiguous."""
    from bayesopt.kernels import fused_triton

    (b, m, D), n = Z1.shape, Z2.shape[1]
    K = Z1.new_empty(b, m, n)
    tiles = _tiles(m, _COVARIANCE_TILE["BM"]) * _tiles(n, _COVARIANCE_TILE["BN"])
    with torch.cuda.device_of(Z1):
        fused_triton.covariance[b * tiles,](Z1, Z2, s2, K, m, n, D, PROFILE=profile, **_COVARIANCE_TILE)
    return K


def _contraction(A: Tensor, Z1: Tensor, Z2: Tensor, s2: Tensor, profile: str) -> Tensor:
    """P and, in the last column, the sum over each row of `A * K`: `(b, m, D + 1)`."""
    from bayesopt.kernels import fused_triton

    (b, m, D), n = Z1.shape, Z2.shape[1]
    rows = b * _tiles(m, _CONTRACTION_TILE["BM"])
    parts = min(max(1, _PROGRAMS // rows), _tiles(n, _CONTRACTION_TILE["BN"]))
    out = Z1.new_empty(parts, b, m, D + 1)
    with torch.cuda.device_of(Z1):
        fused_triton.contraction[rows, parts](
            A, Z1, Z2, s2, out, m, n, D, PROFILE=profile, DP=_padded(D), **_CONTRACTION_TILE
        )
    return out[0] if parts == 1 else out.sum(0)


def _batch(Z1: Tensor, Z2: Tensor, s2: Tensor) -> torch.Size:
    return torch.broadcast_shapes(Z1.shape[:-2], Z2.shape[:-2], s2.shape)


def _flat(batch: torch.Size, Z1: Tensor, Z2: Tensor, s2: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """With one batch dimension, contiguous."""
    Z1, Z2 = (Z.expand(*batch, *Z.shape[-2:]).reshape(-1, *Z.shape[-2:]).contiguous() for Z in (Z1, Z2))
    return Z1, Z2, s2.expand(batch).reshape(-1).contiguous()


def _tiles(count: int, size: int) -> int:
    return -(-count // size)


def _padded(D: int) -> int:
    """The next power of two, at least 16: what a matrix product of tiles can be as wide as."""
    return max(16, 1 << (D - 1).bit_length())
