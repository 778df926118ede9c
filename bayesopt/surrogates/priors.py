"""Prior densities of the hyper-parameters, and the box and the starts of the fit.

All of them are log-normal. For `v ~ LogNormal(m, s)` the negative log density as a function of t = ln v is
`(t - m)^2 / (2 s^2) + t`, which completes to `(t - (m - s^2))^2 / (2 s^2)` up to a constant: a parabola
around the mode. So a prior is two numbers, the mode of t and s.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bayesopt.kernels import Kernel, Stationary
from bayesopt.kernels.base import terms


@dataclass(frozen=True)
class Priors:
    """Log-normal priors over theta, in log units; every field has shape `(p,)` but `starts (r, p)`."""

    mode: Tensor
    std: Tensor
    lower: Tensor
    upper: Tensor
    starts: Tensor

    def penalty(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Negative log density `(*b,)` of theta `(*b, p)`, up to a constant, and its gradient `(*b, p)`."""
        z = (theta - self.mode) / self.std
        return 0.5 * (z * z).sum(-1), z / self.std

    def to(self, device: torch.device) -> "Priors":
        """The same priors on a device."""
        return Priors(*(t.to(device) for t in (self.mode, self.std, self.lower, self.upper, self.starts)))

    def without_noise(self) -> "Priors":
        """The same priors with the noise held at its floor, as little as lets K be factorised."""
        mode, upper, starts = self.mode.clone(), self.upper.clone(), self.starts.clone()
        mode[-1] = upper[-1] = starts[:, -1] = self.lower[-1]
        return Priors(mode, self.std, self.lower, upper, starts)


# Per quantity: mode of ln v, s of the log-normal, lower and upper bound of ln v.
_OUTPUT_SCALE = (0.0, 1.0, -6.0, 8.0)
#: LogNormal(-1, sqrt 8): weak, with its mode at e^-9; the floor 1e-8 is where float64 still factorises K.
_NOISE = (-9.0, math.sqrt(8.0), math.log(1e-8), 0.7)
_WARP = (0.0, math.sqrt(0.1), -2.0, 2.0)
_LENGTHSCALE_BOUNDS = (math.log(0.005), math.log(300.0))


def default_priors(kernel: Kernel, dim: int) -> Priors:
    """Priors of theta = (hyper-parameters of the kernel, ln noise) for standardised outcomes.

    Lengthscale: LogNormal(sqrt 2 + ln(d) / 2, sqrt 3), whose mode 0.205 sqrt(d) grows with the dimension
    like distances do (Hvarfner, Hellsten & Nardi 2024). Output scale: LogNormal(1, 1), mode 1.

    Args:
        kernel: a `Stationary` kernel or a `Sum` of them.
        dim: number of parameters d of the space.
    """
    lengthscale = (math.sqrt(2.0) + 0.5 * math.log(dim) - 3.0, math.sqrt(3.0), *_LENGTHSCALE_BOUNDS)
    rows: list[tuple[float, float, float, float]] = []
    lengthscales: list[int] = []
    for term in terms(kernel):
        if not isinstance(term, Stationary):
            raise TypeError(f"default priors exist for Stationary kernels and their sums, got {term!r}")
        lengthscales += range(len(rows), len(rows) + term.num_groups)
        share = (_OUTPUT_SCALE[0] - math.log(len(terms(kernel))), *_OUTPUT_SCALE[1:])
        rows += [lengthscale] * term.num_groups + [share] + [_WARP] * (2 * term.num_groups * term.warp)
    rows.append(_NOISE)
    mode, std, lower, upper = torch.tensor(rows, dtype=torch.float64).unbind(-1)
    return Priors(mode, std, lower, upper, _cold_starts(mode, lengthscales, dim))


def _cold_starts(mode: Tensor, lengthscales: list[int], dim: int) -> Tensor:
    """Three basins: long lengthscales with little noise, short ones with more, and the mode of the prior."""
    smooth, rough = mode.clone(), mode.clone()
    smooth[lengthscales] = math.log(0.5 * math.sqrt(dim))
    smooth[-1] = math.log(1e-4)
    rough[lengthscales] = math.log(0.2 * math.sqrt(dim))
    rough[-1] = math.log(1e-2)
    return torch.stack([smooth, rough, mode])
