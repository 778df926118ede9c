"""Kernels of Parzen mixtures on the columns of a space, in a form that makes a mixture one matrix product.

Every density is relative to the uniform one on the encoded cube [0, 1]^d, in which a discrete level owns a
bin and an inactive column counts for nothing. A kernel is a product over columns:

- numeric: a normal around the centre, truncated to [0, 1]; on a discrete column restricted to the levels;
- unordered choices: the centre's choice with probability `1 - e + e p`, any other with `e p`, p the belief;
- a column that is inactive in the centre: the belief (uniform without one), so that the kernel is a
  distribution over the whole conditional space and a kernel without active columns is the belief itself;
- a column that is inactive in the point contributes the factor 1: its value does not exist.

The logarithm of each factor is linear in a few features of the point: `u` and `u^2` (u = x - 1/2), one-hot
levels, activity, log belief. All log kernels at m points are then one product of `(m, F)` features with
`(F, n)` coefficients: no tensor of m x n x d numbers.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from bayesopt.axes import LogBins
from bayesopt.space import Space

#: Levels whose kernels are summed one by one; the rest of a longer column, finely spaced, is an integral,
#: wrong by less than 0.2 % where bandwidths are 0.03 or more. At most.
_SUMMED = 128

_LOG_SQRT_2PI = 0.5 * math.log(2.0 * math.pi)
_NONE = torch.zeros(0, dtype=torch.float64)


@dataclass(frozen=True, eq=False)
class Columns:
    """What the kernels need to know of a space, on one device.

    Shapes: p numeric columns, K levels of the longest one that is summed, s levels of all unordered choices.

    Attributes:
        numeric: `(p,)` places of the numeric columns.
        level, width: `(p, K)` encoded levels that are summed and widths of their bins, 0 for padding.
        tail: `(p,)` where the part of the axis begins that is integrated: 0 on a continuum, 1 for none.
        choice: `(s,)` place of the column, code `(s,)` number and belief `(s,)` probability of each level;
        levels: `(s,)` how many its column has; choices: each such column and its part of the s.
        believed: columns with a belief.
        own: the features of each column alone, d tensors of their places.
    """

    space: Space
    numeric: Tensor
    level: Tensor
    width: Tensor
    tail: Tensor
    choice: Tensor
    code: Tensor
    belief: Tensor
    levels: Tensor
    choices: tuple[tuple[int, slice], ...]
    believed: Tensor
    own: tuple[Tensor, ...]

    @classmethod
    def of(cls, space: Space, device: torch.device) -> "Columns":
        """The columns of a space; remembered."""
        return _columns(space, device)

    def numbers(self, values: Tensor) -> Tensor:
        """The numeric columns `(*b, p)` of `(*b, d)`; without indexing, which is slow, where that is all."""
        return values if len(self.numeric) == self.space.dim else values[..., self.numeric]

    def features(self, X: Tensor, active: Tensor) -> Tensor:
        """Features `(*b, m, F)` of snapped points `(*b, m, d)`."""
        u = self.numbers(X) - 0.5  # an inactive entry is 0.5, which makes both features vanish
        parts = [u, u.square()]
        if len(self.choice):
            own = (X[..., self.choice] * self.levels).floor() == self.code
            parts.append((own & active[..., self.choice]).to(X.dtype))
        if self.space.has_conditions:
            parts.append(active.to(X.dtype))
        if len(self.believed):
            logp = self.space.belief_columns(X)[0] * active
            parts.append(logp[..., self.believed])
        return torch.cat(parts, -1)

    def pullback(self, X: Tensor, active: Tensor, dF: Tensor) -> Tensor:
        """Gradient `(*b, m, d)` at snapped points from the gradient in the features `(*b, m, F)`.

        Zero in unordered choices and inactive entries. On the levels of a discrete number it is that of the
        continuation between them.
        """
        p = len(self.numeric)
        gradient = dF[..., :p] + (2.0 * self.numbers(X) - 1.0) * dF[..., p : 2 * p]
        if p < self.space.dim:
            gradient = torch.zeros_like(X).index_copy(-1, self.numeric, gradient)
        if len(self.believed):
            slope = self.space.belief_columns(X)[1][..., self.believed]
            gradient[..., self.believed] += slope * dF[..., -len(self.believed) :]
        return gradient * active

    def coefficients(self, centre: Tensor, active: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Coefficients `(*b, n, F)` of the log kernels, and their constants, a column each, `(*b, n, d)`.

        Where activity is a feature, the constants are among the coefficients as well.

        Args:
            centre, active: `(*b, n, d)`.
            scale: `(*b, n, d)` bandwidths of numeric columns, `e` of choices.
        """
        on = active.to(centre.dtype)
        c, h, on_number = self.numbers(centre), self.numbers(scale), self.numbers(on)
        u, precision = c - 0.5, on_number / h.square()
        constant = -0.5 * u.square() * precision - on_number * self._log_normaliser(c, h)
        if len(self.numeric) < self.space.dim:
            constant = torch.zeros_like(centre).index_copy(-1, self.numeric, constant)
        parts = [u * precision, -0.5 * precision]
        if len(self.choice):
            parts.append(self.log_choices(centre, scale) * on[..., self.choice])
        if self.space.has_conditions:
            parts.append(constant)
        if len(self.believed):
            parts.append(1.0 - on[..., self.believed])
        return torch.cat(parts, -1), constant

    def log_choices(self, centre: Tensor, scale: Tensor) -> Tensor:
        """Log density `(*b, n, s)` of the kernels at every level of the unordered choices."""
        e = scale[..., self.choice]
        own = (centre[..., self.choice] * self.levels).floor() == self.code
        return ((e * self.belief + (1.0 - e) * own) * self.levels).log()

    def masses(self, centre: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Mass of untruncated kernels in each summed level `(*b, n, p, K)` and in the rest `(*b, n, p)`."""
        width = math.sqrt(2.0) * h
        rest = 0.5 * (torch.erf((1.0 - centre) / width) - torch.erf((self.tail - centre) / width))
        if not self.level.shape[-1]:
            return self.level.expand(*centre.shape, 0), rest
        z = (self.level - centre.unsqueeze(-1)) / h.unsqueeze(-1)
        density = (-0.5 * z.square() - _LOG_SQRT_2PI).exp() / h.unsqueeze(-1)
        return density * self.width, rest

    def _log_normaliser(self, centre: Tensor, h: Tensor) -> Tensor:
        """Logarithm `(*b, n, p)` of the integral of `exp(-(x - c)^2 / 2 h^2)` over the column."""
        summed, rest = self.masses(centre, h)
        mass = summed.sum(-1) + rest if self.level.shape[-1] else rest
        return (mass * h).log() + _LOG_SQRT_2PI


@lru_cache(maxsize=64)
def _columns(space: Space, device: torch.device) -> Columns:
    numeric = [j for j, unordered in enumerate(space.categorical) if not unordered]
    heads = [_summed_levels(space, j) for j in numeric]
    longest = max((len(level) for level, _, _ in heads), default=0)
    level = torch.full((len(heads), longest), 0.5, dtype=torch.float64)
    width = torch.zeros_like(level)
    for row, (levels, widths, _) in enumerate(heads):
        level[row, : len(levels)], width[row, : len(levels)] = levels, widths
    pairs = [(j, k) for j, c in enumerate(space.categorical) if c for k in range(space.levels[j] or 0)]
    choice = torch.tensor([j for j, _ in pairs], dtype=torch.int64)
    code = torch.tensor([k for _, k in pairs], dtype=torch.float64)
    levels = torch.tensor([space.levels[j] or 0 for j, _ in pairs], dtype=torch.float64)
    believed = [j for j, parameter in enumerate(space.values()) if parameter.belief is not None]
    return Columns(
        space=space,
        numeric=torch.tensor(numeric, dtype=torch.int64, device=device),
        level=level.to(device),
        width=width.to(device),
        tail=torch.tensor([tail for _, _, tail in heads], dtype=torch.float64, device=device),
        choice=choice.to(device),
        code=code.to(device),
        belief=_choice_beliefs(space, choice, code, levels).to(device),
        levels=levels.to(device),
        choices=_parts([j for j, _ in pairs]),
        believed=torch.tensor(believed, dtype=torch.int64, device=device),
        own=tuple(
            torch.tensor(places, device=device) for places in _own_features(space, numeric, pairs, believed)
        ),
    )


def _own_features(
    space: Space, numeric: list[int], pairs: list[tuple[int, int]], believed: list[int]
) -> list[list[int]]:
    """Places in `Columns.features` of those that belong to each column, activity apart."""
    owners = [*numeric, *numeric, *(j for j, _ in pairs)]
    owners += [-1] * space.dim if space.has_conditions else []
    owners += believed
    return [[place for place, owner in enumerate(owners) if owner == j] for j in range(space.dim)]


def _parts(owners: list[int]) -> tuple[tuple[int, slice], ...]:
    """Each owner with the slice of the list where it stands."""
    return tuple(
        (j, slice(owners.index(j), owners.index(j) + owners.count(j))) for j in dict.fromkeys(owners)
    )


def _summed_levels(space: Space, column: int) -> tuple[Tensor, Tensor, float]:
    """Encoded levels of a numeric column that are summed, widths of their bins, and where they end."""
    axis, count = space.axes[column], space.levels[column]
    if count is None or (count > _SUMMED and not isinstance(axis, LogBins)):
        return _NONE, _NONE, 0.0
    summed = min(count, _SUMMED)
    numbers = torch.arange(summed, dtype=torch.float64)
    edges = [0.0, *(axis.threshold(k) for k in range(1, summed))]
    edges.append(1.0 if summed == count else axis.threshold(summed))
    return (
        torch.from_numpy(axis.encode(numbers.numpy())),
        torch.tensor(edges, dtype=torch.float64).diff(),
        edges[-1],
    )


def _choice_beliefs(space: Space, choice: Tensor, code: Tensor, levels: Tensor) -> Tensor:
    """Probability `(s,)` of each level of the unordered choices under the beliefs."""
    if not len(choice):
        return _NONE
    X = torch.full((len(choice), space.dim), 0.5, dtype=torch.float64)
    rows = torch.arange(len(choice))
    X[rows, choice] = (code + 0.5) / levels
    return space.belief_columns(X)[0][rows, choice].exp() / levels
