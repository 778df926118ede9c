"""Parzen mixtures: densities over a mixed, conditional space from a batch of weighted points.

`p(x) = sum_i w_i k_i(x)`, each kernel centred on one point; see `parzen_kernels` for the kernels and for what
the density is relative to. A point that is inactive everywhere is a kernel equal to the belief, the prior.

`log_density` is the joint (multivariate) density. `log_marginals` are those of each column by itself, over
the kernels that are active there and the prior: what univariate TPE compares.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import torch
from torch import Tensor

from bayesopt.device import entries, put
from bayesopt.space import Space
from bayesopt.surrogates.bandwidths import Array
from bayesopt.surrogates.parzen_kernels import Columns

#: In a nat.
_BITS = 1.0 / math.log(2.0)

#: Bandwidth at which a normal on [0, 1] is uniform but for 1e-11.
_UNIFORM = 1e5

#: Log kernels evaluated at once: chunks that stay in the cache of a core, whatever else it does.
_CHUNK_ENTRIES = 120_000


@dataclass(frozen=True, eq=False)
class ParzenMixture:
    """Mixtures of n kernels for b independent studies.

    Attributes:
        columns: of the space.
        centre, active, scale: `(b, n, d)` of the kernels; scale is the bandwidth of a numeric column in
            encoded units, and of an unordered choice the share of probability that is spread by the belief.
        log_weight: `(b, n)`, the weights sum to one.
        coefficient, constant: of the log kernels, `(b, n, F)` and `(b, n, d)`; see `Columns`.
    """

    columns: Columns
    centre: Tensor
    active: Tensor
    scale: Tensor
    log_weight: Tensor
    coefficient: Tensor
    constant: Tensor

    @classmethod
    def of(
        cls, space: Space, centre: Tensor, active: Tensor, scale: Tensor, weight: Tensor
    ) -> "ParzenMixture":
        """The mixture of snapped centres `(b, n, d)` with weights `(b, n)` >= 0, normalised here.

        >>> from bayesopt import Float
        >>> space = Space({"x": Float(0.0, 1.0)})
        >>> one = torch.ones(1, 1, 1, dtype=torch.float64)
        >>> mixture = ParzenMixture.of(space, 0.5 * one, one > 0, 0.1 * one, one[0])
        >>> mixture.log_density(0.5 * one, one > 0).exp().round(decimals=3)  # 1 / (0.1 sqrt(2 pi))
        tensor([[3.9890]], dtype=torch.float64)
        """
        log_weight = (weight / weight.sum(-1, keepdim=True)).log()
        (mixture,) = cls.several(space, [weight.shape[1]], centre, active, scale, log_weight)
        return mixture

    @classmethod
    def several(
        cls, space: Space, sizes: list[int], centre: Tensor, active: Tensor, scale: Tensor, log_weight: Tensor
    ) -> Iterator["ParzenMixture"]:
        """Mixtures of so many of the kernels each, in hardly more time than one."""
        columns = Columns.of(space, centre.device)
        linear = columns.coefficients(centre, active, scale)
        tensors = (t.split_with_sizes(sizes, 1) for t in (centre, active, scale, log_weight, *linear))
        return (cls(columns, *parts) for parts in zip(*tensors, strict=True))

    def joined(self, other: "ParzenMixture", share: float) -> "ParzenMixture":
        """`(1 - share) self + share other`: how pending configurations enter."""
        weights = put(torch.tensor([1.0 - share, share], dtype=torch.float64).log(), self.centre.device)
        pairs = {
            field.name: torch.cat([getattr(self, field.name), getattr(other, field.name)], 1)
            for field in fields(self)
            if field.name not in ("columns", "log_weight")
        }
        log_weight = torch.cat([self.log_weight + weights[0], other.log_weight + weights[1]], 1)
        return ParzenMixture(columns=self.columns, log_weight=log_weight, **pairs)

    def rows(self, keep: Tensor | None) -> "ParzenMixture":
        """The mixtures of some of the studies, None for all."""
        if keep is None:
            return self
        columns, *tensors = (getattr(self, field.name) for field in fields(self))
        return ParzenMixture(columns, *(each[keep] for each in tensors))

    # --- densities ----------------------------------------------------------------------------------------

    def log_kernels(self, X: Tensor, active: Tensor) -> Tensor:
        """`log k_i(x)` at snapped `(b, m, d)`, shape `(b, m, n)`, without the weights."""
        return _linear(self._constants, self.columns.features(X, active), self.coefficient).mT

    def log_density(self, X: Tensor, active: Tensor) -> Tensor:
        """`log p(x)` at snapped points `(b, m, d)` with their activity, shape `(b, m)`."""
        return self.log_density_of(self.columns.features(X, active))

    def log_density_of(self, features: Tensor) -> Tensor:
        """`log p(x)` `(b, m)` at points with these features `(b, m, F)`."""
        chunk = max(1, entries(_CHUNK_ENTRIES, features) // self.log_weight.numel())
        parts = features.split(chunk, -2)
        return torch.cat([_log_sum(_linear(self._shift, F, self.coefficient, _BITS)) for F in parts], -1)

    def log_bound_of(self, features: Tensor, at: Tensor) -> Tensor:
        """A lower bound of `log p(x)` `(b, m)` at features `(b, m, F)`: its tangents at others `(b, k, F)`.

        The logarithms of kernels are linear in the features, and the logarithm of a sum of exponentials is
        convex.
        """
        value, slope = self.log_density_and_slope(at)
        return _linear(value - (slope * at).sum(-1), features, slope).amax(-2)

    def log_density_and_slope(self, features: Tensor, without: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """`log p(x)` `(b, m)` and its gradient in the features `(b, m, F)`: what `Columns.pullback` takes.

        Kernels where the mask `without (m, n)` holds are left out of the sum at that point.
        """
        logs = _linear(self._shift, features, self.coefficient)
        if without is not None:
            logs.masked_fill_(without.mT, -torch.inf)
        most = logs.amax(-2, keepdim=True)
        kernels = logs.sub_(most).exp_()
        total = kernels.sum(-2, keepdim=True)
        return (total.log() + most).squeeze(-2), torch.bmm((kernels / total).mT, self.coefficient)

    def log_marginals(self, X: Tensor, active: Tensor) -> Tensor:
        """Log density of each column by itself `(b, m, d)` at `(b, m, d)`; 0 where a column is inactive."""
        features, log_weight = self.columns.features(X, active), self._column_log_weight()
        logs = torch.zeros_like(X)
        for j, own in enumerate(self.columns.own):
            shift = log_weight[..., j] + self.constant[..., j]
            logs[..., j] = _log_sum(_linear(shift, features[..., own], self.coefficient[..., own], _BITS))
        return torch.where(active, logs, 0.0)

    def linear(self) -> tuple[Array, Array]:
        """Log kernels of one study on the CPU, weights included: constants `(n,)`, coefficients `(n, F)`."""
        return self._shift[0].numpy(), self.coefficient[0].numpy()

    @cached_property
    def _constants(self) -> Tensor:
        """What the log kernels are where all features vanish `(b, n)`, without the weights."""
        return (
            torch.zeros_like(self.log_weight) if self.columns.space.has_conditions else self.constant.sum(-1)
        )

    @cached_property
    def _shift(self) -> Tensor:
        return self._constants + self.log_weight

    def _column_log_weight(self) -> Tensor:
        """Weights of the kernels in each column `(b, n, d)`: of those active there, and of the prior."""
        keep = self.active | ~self.active.any(-1, keepdim=True)
        log_weight = self.log_weight.unsqueeze(-1).masked_fill(~keep, -torch.inf)
        return log_weight - log_weight.logsumexp(1, keepdim=True)

    # --- draws --------------------------------------------------------------------------------------------

    def sample(self, count: int, generators: Sequence[torch.Generator]) -> tuple[Tensor, Tensor]:
        """Draws from the joint density `(b, count, d)`, snapped, and their activity.

        Those of each study come from its own generator.
        """
        U = _uniforms(count, self.centre.shape[-1] + 1, generators, self.centre.device)
        ends = self.log_weight.exp().cumsum(-1)
        kernel = torch.searchsorted(ends, U[..., 0].contiguous(), right=True)
        kernel = kernel.clamp_max(ends.shape[-1] - 1).unsqueeze(-1)
        return self.columns.space.snap(self._draw(kernel, U[..., 1:]))

    def sample_marginals(self, count: int, generators: Sequence[torch.Generator]) -> Tensor:
        """Draws from the density of each column by itself `(b, count, d)`; every column as if active."""
        d = self.centre.shape[-1]
        U = _uniforms(count, 2 * d, generators, self.centre.device)
        mass = self._column_log_weight().exp().mT
        row = torch.arange(d, device=U.device).expand(U[..., d:].shape)
        kernel, _ = _inverse(mass, row.flatten(1), U[..., :d].flatten(1))
        return self.columns.space.rounded(self._draw(kernel.view(row.shape), U[..., d:]))

    def _draw(self, kernel: Tensor, U: Tensor) -> Tensor:
        """Draws `(b, m, d)` by the uniforms `(b, m, d)` from kernels of the same shape, a column each.

        Or `(b, m, 1)`, one for all columns.
        """
        columns = self.columns
        X = columns.space.quantile(U) if columns.space.has_belief else U
        if len(columns.numeric):
            own = kernel if kernel.shape[-1] == 1 else columns.numbers(kernel)
            drawn = self._numbers(own, columns.numbers(U))
            if columns.space.has_belief:
                drawn = torch.where(columns.numbers(_of(kernel, self.active)), drawn, columns.numbers(X))
            X = drawn if drawn.shape == X.shape else X.index_copy(-1, columns.numeric, drawn)
        if len(columns.choice):
            on = _of(kernel, self.active)
            mass = columns.log_choices(self.centre, self.scale).exp() / columns.levels
            for column, part in columns.choices:
                level, _ = _inverse(mass[..., part], kernel.expand(U.shape)[..., column], U[..., column])
                x = (level + 0.5) / (part.stop - part.start)
                X[..., column] = torch.where(on[..., column], x, X[..., column])
        return X

    def _numbers(self, kernel: Tensor, U: Tensor) -> Tensor:
        """Draws `(b, m, p)` by uniforms from the numeric columns of kernels, as in `_draw`.

        By `erf` and its inverse, in two thirds of the time of the normal distribution and its quantile.
        """
        columns, (b, m, p) = self.columns, U.shape
        centres, on = columns.numbers(self.centre), columns.numbers(self.active)
        scales = torch.where(on, columns.numbers(self.scale), _UNIFORM)
        widths = math.sqrt(2.0) * scales
        ends = (torch.erf((edge - centres) / widths) for edge in (columns.tail, 1.0))
        centre, width, low, high = _of(kernel, torch.cat([centres, widths, *ends], -1)).chunk(4, -1)
        last = columns.level.shape[-1]
        if not last:
            return torch.addcmul(centre, width, torch.erfinv(torch.lerp(low, high, U)))
        summed, rest = columns.masses(centres, scales)
        cells = torch.cat([summed, rest.unsqueeze(-1)], -1).flatten(1, 2)
        axis = torch.arange(p, device=U.device)
        cell, left = _inverse(cells, (kernel * p + axis).flatten(1), U.flatten(1))
        cell, left = cell.view(b, m, p), left.view(b, m, p)
        number = torch.addcmul(centre, width, torch.erfinv(torch.lerp(low, high, left)))
        return torch.where(cell == last, number, columns.level[axis, cell.clamp(max=last - 1)])


def _of(kernel: Tensor, values: Tensor) -> Tensor:
    """Values `(b, n, c p)` at drawn kernels `(b, m, p)`, a column each: `(b, m, c p)`.

    At kernels `(b, m, 1)`, one for all columns, whole rows, which is several times faster.
    """
    b, n, v = values.shape
    if kernel.shape[-1] > 1:
        return values.gather(1, kernel.repeat(1, 1, v // kernel.shape[-1]))
    row = kernel + n * torch.arange(b, device=values.device).view(b, 1, 1) if b > 1 else kernel
    return values.flatten(0, 1).index_select(0, row.flatten()).view(b, -1, v)


def _linear(constants: Tensor, features: Tensor, coefficient: Tensor, unit: float = 1.0) -> Tensor:
    """`unit (constants + coefficient features)` `(b, n, m)`, of `(b, n)`, `(b, m, F)` and `(b, n, F)`.

    Points come last: to reduce the kernels of all points side by side is several times faster.
    """
    return torch.baddbmm(constants.unsqueeze(-1), coefficient, features.mT, beta=unit, alpha=unit)


def _log_sum(bits: Tensor) -> Tensor:
    """`logsumexp(-2)` of logarithms to base 2, `(*b, n, m)` whose largest are finite; overwrites them.

    `exp2` takes half as long as `exp`, but five times as long below -1022, where its results are subnormal.
    Beside the largest, which is 1, none of these changes a bit of the sum, so they may as well be 2^-1000.
    """
    most = bits.amax(-2, keepdim=True)
    total = bits.sub_(most).clamp_min_(-1000.0).exp2_().sum(-2)
    return total.log2_().add_(most.squeeze(-2)).div_(_BITS)


def _uniforms(count: int, width: int, generators: Sequence[torch.Generator], device: torch.device) -> Tensor:
    """Uniforms `(b, count, width)`, drawn on the CPU: the same ones in a batch as alone, on any device."""
    U = torch.empty(len(generators), count, width, dtype=torch.float64)
    for row, g in zip(U, generators, strict=True):
        row.uniform_(generator=g)
    return put(U, device)


def _inverse(mass: Tensor, row: Tensor, U: Tensor) -> tuple[Tensor, Tensor]:
    """Cells drawn from rows of masses, and how far into its cell each uniform fell.

    One search for all: row r of the cumulated shares is moved to [r, r + 1), which makes the rows of a study
    one ascending sequence.

    Args: mass `(b, r, k)` >= 0; row `(b, m)` which of the r; U `(b, m)` uniforms.

    Returns cells `(b, m)` of 0 to k - 1 and fractions `(b, m)` within [0, 1].
    """
    _, r, k = mass.shape
    share = mass / mass.sum(-1, keepdim=True)
    ends = share.cumsum(-1)
    sequence = (ends + torch.arange(r, device=mass.device).unsqueeze(-1)).flatten(1)
    found = torch.searchsorted(sequence, row + U, right=True)
    cell = (found - row * k).clamp(0, k - 1)
    place = cell + row * k
    end, width = ends.flatten(1).gather(1, place), share.flatten(1).gather(1, place)
    return cell, ((U - end + width) / width).clamp(0.0, 1.0)
