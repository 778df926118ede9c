"""Where an evaluation tells nothing new: nearer to what is known or under way than the objective resolves.

An objective that rounds what it is given, or looks it up in a table, is flat around each point; a smooth
surrogate does not know that and asks for the same value again and again.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from bayesopt.acquisition.surface import Term
from bayesopt.rows import take

#: Ties of neighbours that make a plateau rather than a coincidence.
_TIES = 3

#: Ties among neighbours that are too many: what is proposed lies mostly where they end.
_TOO_MANY = 0.25

#: What being at such a point costs, in nats of log EI.
_PENALTY = 30.0


def resolution(F: Tensor, y: Tensor) -> Tensor:
    """Distance `(b,)` within which good outcomes often do not change at all; 0 where there is no such thing.

    The largest one such that, of the better half of the points, of those with a neighbour that near at least
    a quarter have exactly its outcome. That all bad ones are alike, such as losses cut off at a largest one,
    is no reason to keep away from the good ones.

    Args: F: features `(b, n, D)`; y: their outcomes `(b, n)`.
    """
    distance = torch.cdist(F, F).diagonal_scatter(torch.full_like(y, torch.inf), dim1=-2, dim2=-1)
    nearest = distance.min(-1)
    good = y.argsort(dim=-1, stable=True)[:, : (y.shape[-1] + 1) // 2]
    near, order = nearest.values.gather(1, good).sort(dim=-1)
    tie = (y == y.gather(1, nearest.indices)).gather(1, good.gather(1, order))
    ties, rank = tie.cumsum(-1), torch.arange(1, good.shape[-1] + 1, device=y.device)
    flat = (ties >= _TOO_MANY * rank) & (ties >= _TIES)
    return torch.where(flat, near, 0.0).amax(-1)


def has_ties(y: Tensor) -> bool:
    """Whether outcomes `(b, n)` of any study tie often enough for `resolution` to be more than 0."""
    return bool(((y.sort(-1).values.diff() == 0.0).sum(-1) >= _TIES - 1).any())


@dataclass(frozen=True, eq=False)
class Unresolved(Term):
    """`-30 (1 - distance / radius)^2` within the radius of a point that is observed or under way.

    Attributes:
        F: features of these points `(b, n, D)`; radius `(b, 1)`, 0 for no penalty.
    """

    F: Tensor
    radius: Tensor

    @property
    def width(self) -> int:
        return self.F.shape[0] * self.F.shape[1]

    def value(self, F: Tensor) -> Tensor:
        return self.value_and_gradient(F)[0]

    def value_and_gradient(self, F: Tensor) -> tuple[Tensor, Tensor]:
        distance, index = torch.cdist(F, self.F).min(-1)
        r = self.radius.clamp_min(1e-300)
        depth = (1.0 - distance / r).clamp_min(0.0) * (self.radius > 0.0)
        near = take(self.F, index)
        slope = (2.0 * _PENALTY * depth / r / distance.clamp_min(1e-12)).unsqueeze(-1) * (F - near)
        return -_PENALTY * depth.square(), slope

    def rows(self, keep: Tensor) -> "Unresolved":
        return Unresolved(self.F[keep], self.radius[keep])

    def beside(self, F: Tensor) -> "Unresolved":
        return Unresolved(torch.cat([self.F, F], 1), self.radius)
