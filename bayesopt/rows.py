"""Rows of batched tensors, chosen study by study."""

from torch import Tensor


def take(X: Tensor, index: Tensor) -> Tensor:
    """The points `(b, k, d)` at places `(b, k)` of `X (b, m, d)`; likewise numbers `(b, k)` of `(b, m)`."""
    if X.dim() == 2:
        return X.gather(1, index)
    return X.gather(1, index[..., None].expand(-1, -1, X.shape[-1]))
