"""Kumaraswamy input warping: a monotone map of [0, 1] learned with the kernel.

`w(x) = 1 - (1 - x^a)^b`, the cdf of Kumaraswamy's distribution; a = b = 1 is the identity. Snoek, Swersky,
Zemel & Adams (2014) with the closed-form cdf in place of the Beta's.
"""

from typing import NamedTuple

import torch
from torch import Tensor

_EDGE = 1e-9  # keeps the logarithms, and the slopes of w at 0 and 1, finite


class Warped(NamedTuple):
    """`w` and its partial derivatives with respect to x, ln a and ln b, all of the shape of x."""

    w: Tensor
    dx: Tensor
    dlog_a: Tensor
    dlog_b: Tensor


def kumaraswamy(x: Tensor, log_a: Tensor, log_b: Tensor) -> Tensor:
    """`w(x)`; log_a and log_b broadcast to x. Differentiable by autograd."""
    x = x.clamp(_EDGE, 1 - _EDGE)
    return 1 - torch.exp(log_b.exp() * torch.log1p(-torch.exp(log_a.exp() * x.log())))


def kumaraswamy_and_partials(x: Tensor, log_a: Tensor, log_b: Tensor) -> Warped:
    """`w(x)` with its partial derivatives in closed form."""
    a, b = log_a.exp(), log_b.exp()
    inside = (x >= _EDGE) & (x <= 1 - _EDGE)
    x = x.clamp(_EDGE, 1 - _EDGE)
    log_x = x.log()
    x_a = torch.exp(a * log_x)
    log_rest = torch.log1p(-x_a)
    rest_b = torch.exp(b * log_rest)
    slope = a * b * torch.exp((b - 1) * log_rest) * x_a  # a b x^a (1 - x^a)^(b - 1)
    return Warped(
        w=1 - rest_b,
        dx=torch.where(inside, slope / x, 0.0),
        dlog_a=slope * log_x,
        dlog_b=-b * rest_b * log_rest,
    )
