"""How wide the kernels of a Parzen mixture are: rules for numeric columns, in encoded units.

All look at one column at a time and at the points that are active there; entries of inactive points are
arbitrary numbers.
"""

import torch
from torch import Tensor


def neighbour_gap(centre: Tensor, active: Tensor) -> Tensor:
    """The larger of the distances to the two neighbours, `(b, n, d)`: narrow in a crowd, wide alone.

    Outermost points look inwards only; a single point looks at the ends of the axis. Bergstra et al. (2011),
    "Algorithms for hyper-parameter optimization", section 4, as in Hyperopt.

    Args: centre, active: `(b, n, d)`.
    """
    value, order = torch.where(active, centre, 2.0).sort(dim=1, stable=True)
    step = value.diff(dim=1).masked_fill(value[:, 1:] > 1.0, 0.0)  # what is not active stands at the end
    edge = torch.zeros_like(value[:, :1])
    gap = torch.maximum(torch.cat([edge, step], 1), torch.cat([step, edge], 1))
    gap = torch.empty_like(gap).scatter(1, order, gap)
    alone = active.sum(1, keepdim=True) == 1
    return torch.where(alone, torch.maximum(centre, 1.0 - centre), gap)


def scott(centre: Tensor, active: Tensor, weight: Tensor) -> Tensor:
    """`s n^(-1 / (d + 4))` for n active points, `(b, 1, d)`; Scott (1992), "Multivariate density estimation".

    s is the standard deviation of the points and of one more spread like the uniform distribution, so that
    it is never 0.

    Args: centre, active: `(b, n, d)`; weight: `(b, n)` of the points.
    """
    share = weight.unsqueeze(-1) * active
    share = share / share.sum(1, keepdim=True).clamp_min(torch.finfo(centre.dtype).tiny)
    mean = (share * centre).sum(1, keepdim=True)
    variance = (share * (centre - mean).square()).sum(1, keepdim=True)
    n = active.sum(1, keepdim=True, dtype=centre.dtype)
    deviation = ((n * variance + 1.0 / 12.0) / (n + 1.0)).sqrt()
    return deviation * n.clamp_min(1.0) ** (-1.0 / (centre.shape[-1] + 4))


def magic_clip(bandwidth: Tensor, active: Tensor) -> Tensor:
    """Bandwidths within `1 / (2 + n)`, at least 1 / 100, and 1; n active points, as in Hyperopt."""
    n = active.sum(1, keepdim=True, dtype=bandwidth.dtype)
    return torch.maximum(bandwidth, (2.0 + n).clamp_max(100.0).reciprocal()).clamp_max(1.0)
