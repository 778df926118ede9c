"""Where the maximiser looks: the whole box, or a trust region around the incumbent."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Region:
    """A box within [0, 1]^d for each study, `lower` and `upper (b, d)`; discrete columns are free in any."""

    lower: Tensor
    upper: Tensor

    @classmethod
    def around(cls, centre: Tensor, half_width: Tensor, free: Tensor) -> "Region":
        """Within `half_width (b, d)` of the centre `(b, d)`, except for the columns `free (d,)`."""
        lower = torch.where(free, 0.0, (centre - half_width).clamp_min(0.0))
        upper = torch.where(free, 1.0, (centre + half_width).clamp_max(1.0))
        return cls(lower, upper)

    def place(self, U: Tensor) -> Tensor:
        """The points `(b, m, d)` of the region at relative places `U (b, m, d)` in [0, 1]."""
        lower, upper = self.lower.unsqueeze(-2), self.upper.unsqueeze(-2)
        return lower + (upper - lower) * U

    def clamp(self, X: Tensor) -> Tensor:
        """The nearest points of the region to `X (b, m, d)`."""
        return torch.clamp(X, self.lower.unsqueeze(-2), self.upper.unsqueeze(-2))

    def rows(self, keep: Tensor) -> "Region":
        """Those of some of the studies."""
        return Region(self.lower[keep], self.upper[keep])
