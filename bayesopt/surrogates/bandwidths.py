"""How wide the kernels of a Parzen mixture are: rules for numeric columns, in encoded units.

All look at one column at a time and at the points that are active there; entries of inactive points are
arbitrary numbers. Arrays of the host: many small steps on few numbers.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


def neighbour_gap(centre: Array, active: Mask) -> Array:
    """The larger of the distances to the two neighbours, `(b, n, d)`: narrow in a crowd, wide alone.

    Outermost points look inwards only; a single point looks at the ends of the axis. Bergstra et al. (2011),
    "Algorithms for hyper-parameter optimization", section 4, as in Hyperopt.

    Args: centre, active: `(b, n, d)`.
    """
    b, n, d = centre.shape
    value = np.where(active, centre, 2.0)  # what is not active stands at the end
    study = np.arange(b)[:, None, None]
    order = (value.argsort(axis=1, kind="stable") + n * study) * d + np.arange(d)  # places in all of value
    value = value.take(order)
    step = np.zeros((b, n + 1, d))
    step[:, 1:n] = np.where(value[:, 1:] > 1.0, 0.0, value[:, 1:] - value[:, :-1])
    gap = np.empty_like(centre)
    gap.put(order, np.maximum(step[:, :-1], step[:, 1:]))
    alone = active.sum(1, keepdims=True) == 1
    return np.where(alone, np.maximum(centre, 1.0 - centre), gap)


def scott(centre: Array, active: Mask, weight: Array) -> Array:
    """`s n^(-1 / (d + 4))` for n active points, `(b, 1, d)`; Scott (1992), "Multivariate density estimation".

    s is the standard deviation of the points and of one more spread like the uniform distribution, so that
    it is never 0.

    Args: centre, active: `(b, n, d)`; weight: `(n,)` of the points.
    """
    share = weight[:, None] * active
    share /= np.maximum(share.sum(1, keepdims=True), np.finfo(centre.dtype).tiny)
    mean = (share * centre).sum(1, keepdims=True)
    variance = (share * (centre - mean) ** 2).sum(1, keepdims=True)
    n = active.sum(1, keepdims=True, dtype=centre.dtype)
    deviation = np.sqrt((n * variance + 1.0 / 12.0) / (n + 1.0))
    return np.asarray(deviation * np.maximum(n, 1.0) ** (-1.0 / (centre.shape[-1] + 4)))


def magic_clip(bandwidth: Array, active: Mask) -> Array:
    """Bandwidths within `1 / (2 + n)`, at least 1 / 100, and 1; n active points, as in Hyperopt."""
    n = active.sum(1, keepdims=True, dtype=bandwidth.dtype)
    return np.minimum(np.maximum(bandwidth, 1.0 / np.minimum(2.0 + n, 100.0)), 1.0)
