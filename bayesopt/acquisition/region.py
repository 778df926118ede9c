"""Where the maximiser looks: the whole box, or a neighbourhood of the incumbent."""

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

    def where(self, bounded: Tensor) -> "Region":
        """The whole box for all studies but those `(b,)`."""
        bounded = bounded.unsqueeze(-1)
        return Region(torch.where(bounded, self.lower, 0.0), torch.where(bounded, self.upper, 1.0))

    def place(self, U: Tensor) -> Tensor:
        """The points `(b, m, d)` of the region at relative places `U (b, m, d)` in [0, 1]."""
        lower, upper = self.lower.unsqueeze(-2), self.upper.unsqueeze(-2)
        return lower + (upper - lower) * U

    def clamp(self, X: Tensor) -> Tensor:
        """The nearest points of the region to `X (b, m, d)`."""
        return torch.clamp(X, self.lower.unsqueeze(-2), self.upper.unsqueeze(-2))

    def holds(self, X: Tensor) -> Tensor:
        """Which of the points `(b, m, d)` are inside, `(b, m)`."""
        return ((self.lower.unsqueeze(-2) <= X) & (self.upper.unsqueeze(-2) >= X)).all(-1)

    def rows(self, keep: Tensor) -> "Region":
        """Those of some of the studies."""
        return Region(self.lower[keep], self.upper[keep])


@dataclass(frozen=True, eq=False)
class Nearby:
    """A local proposal of b studies: points that go first, and a region where to look otherwise.

    Attributes:
        region: of the second choice.
        first: the points `(b, k, d)`, maybe none, and their `preference (b, k)`: larger than any acquisition,
            or -inf where it is not to be proposed.
    """

    region: Region
    first: Tensor
    preference: Tensor

    def before(self, points: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """The first choice, then the points `(b, m, d)` with their values `(b, m)`."""
        return torch.cat([self.first, points], 1), torch.cat([self.preference, value], 1)
