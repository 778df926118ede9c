"""Distances between configurations, as squared Euclidean distances of features.

Each parameter contributes `delta_j / l_j^2` to r2:

- numeric: `delta = (u - u')^2` of the encoded values; one feature, the value itself;
- categorical: `delta = [c != c']` over its own lengthscale; one-hot features times sqrt(1/2);
- conditional: both active, as above; one active, the distance of the active value from the middle of its
  range plus a learned constant `1 / l_a^2`; none active, 0. Features: the value, imputed by 1/2 where
  inactive (a one-hot of zeros for a categorical), and an activity indicator with its own lengthscale.

The constant alone, without the distance from the middle, would not be a kernel: no point of a Euclidean
space is equally far from three points of a line, and the resulting Gram matrices have negative eigenvalues
(`tests/kernels/test_distances.py` exhibits one). With the indicator the sum stays conditionally negative
definite, so every radial profile of it is positive definite.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from bayesopt.device import constant
from bayesopt.space import Space

_ROOT_HALF = 0.5**0.5


@dataclass(frozen=True)
class Embedding:
    """Map from encoded X `(*b, n, d)` and its activity mask to features `(*b, n, D)`.

    Attributes:
        source: column of X behind each feature.
        kind: per feature, "value", "level" (one-hot) or "active" (indicator).
        level: encoded value of the level of a "level" feature, nan elsewhere.
        groups: lengthscale of each feature.
    """

    source: tuple[int, ...]
    kind: tuple[str, ...]
    level: tuple[float, ...]
    groups: tuple[int, ...]
    dim: int

    @classmethod
    def of(cls, space: Space) -> "Embedding":
        """The embedding of a space: values, one-hot levels and activity indicators, in column order."""
        rows: list[tuple[int, str, float, int]] = []
        for j in range(space.dim):
            levels = space.levels[j]
            if space.categorical[j] and levels is not None:
                rows += [(j, "level", (k + 0.5) / levels, j) for k in range(levels)]
            else:
                rows.append((j, "value", float("nan"), j))
        indicators = [j for j in range(space.dim) if space.conditional[j]]
        rows += [(j, "active", float("nan"), space.dim + i) for i, j in enumerate(indicators)]
        source, kind, level, groups = zip(*rows, strict=True)
        return cls(source, kind, level, groups, space.dim)

    @cached_property
    def identity(self) -> bool:
        """Whether the features are the encoded values themselves."""
        return self.kind == ("value",) * self.dim

    @cached_property
    def num_groups(self) -> int:
        """Number of lengthscales."""
        return max(self.groups) + 1

    def _masks(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        kind = tuple({"value": 0, "level": 1, "active": 2}[k] for k in self.kind)
        level = tuple(-1.0 if math.isnan(each) else each for each in self.level)
        source, kinds, values = (
            constant(each, torch.int64, device) for each in (self.source, kind, self._value_columns)
        )
        return source, kinds, constant(level, torch.float64, device), values

    @cached_property
    def _value_columns(self) -> tuple[int, ...]:
        return tuple(c for c, kind in enumerate(self.kind) if kind == "value")

    def __call__(self, X: Tensor, active: Tensor) -> Tensor:
        """Features of snapped X (inactive entries 1/2) with its activity mask."""
        if self.identity:
            return X
        source, kind, level, _ = self._masks(X.device)
        value, on = X[..., source], active[..., source]
        # Levels are bin centres at least 1/K apart: compare within a fraction of that, any float dtype.
        hit = ((value - level.to(X.dtype)).abs() < 1e-6) & on
        one_hot = hit.to(X.dtype) * _ROOT_HALF
        return torch.where(kind == 0, value, torch.where(kind == 1, one_hot, on.to(X.dtype)))

    def pullback(self, dF: Tensor) -> Tensor:
        """Gradient in X `(*b, n, d)` from one in the features `(*b, n, D)`; levels count as fixed."""
        if self.identity:
            return dF
        source, _, _, value = self._masks(dF.device)
        dX = dF.new_zeros(*dF.shape[:-1], self.dim)
        return dX.index_copy_(-1, source[value], dF[..., value])
