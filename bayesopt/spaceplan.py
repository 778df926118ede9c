"""A space prepared for tensors: the tables of its beliefs, and `Plan`, its constants on one device."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bayesopt.axes import Axis, Bins, Continuum, LogBins
from bayesopt.beliefs import (
    Array,
    Beta,
    Centre,
    Distribution,
    Table,
    Tables,
    Weights,
    smooth_table,
    step_table,
)
from bayesopt.conditions import Rule
from bayesopt.parameters import Categorical, Float, Int, Parameter, log_exact

#: Beliefs over more levels than this use a smooth table instead of one entry for each level.
_TABULATED = 4096


# --- beliefs ----------------------------------------------------------------------------------------------


def belief_tables(parameters: Mapping[str, Parameter], axes: Sequence[Axis]) -> dict[int, Table]:
    """The table of each column with a belief."""
    tables = {}
    for column, (name, parameter) in enumerate(parameters.items()):
        if parameter.belief is not None:
            try:
                tables[column] = _table(parameter, axes[column])
            except ValueError as error:
                raise ValueError(f"parameter {name!r}: belief {parameter.belief!r}: {error}") from None
    return tables


def _table(parameter: Parameter, axis: Axis) -> Table:
    if isinstance(parameter, Categorical):
        return _choice_table(parameter)
    levels = parameter.levels
    if levels is None or levels > _TABULATED:
        return smooth_table(_encoded_log_density(parameter, axis))
    edges = np.array([0.0, *(axis.threshold(k) for k in range(1, levels)), 1.0])
    numbers = np.arange(levels, dtype=np.float64)
    belief = parameter.belief
    if isinstance(belief, Centre):
        x = axis.encode(numbers)
        guess = float(axis.encode(np.array([float(parameter.index(belief.value))]))[0])  # type: ignore[arg-type]
        # A normal on the axis: wide bins weigh more.
        return step_table(edges, -0.5 * ((x - guess) / belief.std) ** 2 + np.log(np.diff(edges)))
    values = np.array([parameter.level(k) for k in range(levels)], dtype=np.float64)
    return step_table(edges, _log_density(belief, values, (numbers + 0.5) / levels))


def _choice_table(parameter: Categorical) -> Table:
    belief, levels = parameter.belief, parameter.levels
    if isinstance(belief, Weights):
        weights = np.array(belief.weights)
    else:
        assert isinstance(belief, Centre)
        weights = np.full(levels, (1.0 - belief.confidence) / levels)
        weights[parameter.index(belief.value)] += belief.confidence
    with np.errstate(divide="ignore"):
        return step_table(np.arange(levels + 1) / levels, np.log(weights))


def _log_density(belief: object, values: Array, rescaled: Array) -> Array:
    """Log density at values; a beta looks at the rescaled values instead."""
    assert isinstance(belief, Distribution)
    return np.asarray(
        belief.log_density(torch.from_numpy(rescaled if isinstance(belief, Beta) else values)).numpy()
    )


def _encoded_log_density(parameter: Float | Int, axis: Axis) -> Callable[[Array], Array]:
    """Log density on the encoded axis: that of the value, plus the logarithm of `dv / dx`."""
    belief = parameter.belief
    if isinstance(belief, Centre):
        value = belief.value if parameter.levels is None else parameter.index(belief.value)  # type: ignore[arg-type]
        guess = float(axis.encode(np.array([float(value)]))[0])  # type: ignore[arg-type]
        std = belief.std
        return lambda x: -0.5 * ((x - guess) / std) ** 2
    values, log = _curve(parameter, axis)

    def log_density(x: Array) -> Array:
        v = values(x)
        jacobian = np.log(v) if log else 0.0
        return np.asarray(_log_density(belief, v, _rescaled(parameter, v) if log else x) + jacobian)

    return log_density


def _curve(parameter: Float | Int, axis: Axis) -> tuple[Callable[[Array], Array], bool]:
    """Values of encoded values, through the centres of bins where there are many; and whether it is a log."""
    low, high, levels = float(parameter.low), float(parameter.high), parameter.levels
    if isinstance(axis, Continuum):
        return axis.values, axis.log
    if isinstance(axis, LogBins):
        start, width = axis.start, axis.width
        return lambda x: np.clip(np.exp(start + x * width), low, high), True
    assert levels is not None
    bins, half = levels, 0.5 * (high - low) / (levels - 1)
    return lambda x: np.clip(low - half + x * (2.0 * half * bins), low, high), False


def _rescaled(parameter: Float | Int, values: Array) -> Array:
    """`(v - low) / (high - low)`, kept off the ends, where a beta may be infinite."""
    rescaled = (values - parameter.low) / (parameter.high - parameter.low)
    return np.asarray(np.clip(rescaled, 1e-15, 1.0 - 1e-15))


# --- tensors for one device and dtype ---------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """What the tensor methods of a space need, on one device and in one dtype; None where nothing is to do.

    Shapes: `d` columns, `l` logarithmic whole numbers, `r` rules, `i` intervals of the longest rule.
    """

    #: `(d,)` number of bins; 1 where a column has none.
    levels: Tensor | None
    #: `(d,)` which columns have bins; None if all do.
    binned: Tensor | None
    #: `(l,)` columns, then `(4, l)`: low, high, start and width of their scales.
    log_columns: Tensor | None
    log_scales: Tensor
    #: `(r,)` parent columns; `(r, i)` ends of the intervals on the encoded axis, float64.
    parents: Tensor
    starts: Tensor
    stops: Tensor
    #: `(r, d)` 1 where a column needs a rule, directly or through its parents; None without rules.
    needs: Tensor | None
    #: `()` True.
    true: Tensor
    #: `(t,)` columns with a belief, their tables, and `(t,)` 1 where they are continuous.
    believed: Tensor
    tables: Tables | None
    sloped: Tensor

    @classmethod
    def of(
        cls, axes: Sequence[Axis], rules: Sequence[Rule], tables: Mapping[int, Table], like: Tensor
    ) -> Plan:
        """The plan for tensors like `like`."""
        device, dtype = like.device, like.dtype
        eps = torch.finfo(dtype).eps
        bins = [axis.levels if isinstance(axis, Bins) and axis.levels <= 0.5 / eps else 0 for axis in axes]
        logs = [
            column
            for column, axis in enumerate(axes)
            if isinstance(axis, LogBins) and log_exact(axis.low, axis.high, eps)
        ]
        scales = [
            [getattr(axes[column], part) for column in logs] for part in ("low", "high", "start", "width")
        ]
        starts, stops = _encoded_intervals(axes, rules)

        def tensor(values: object, dtype: torch.dtype) -> Tensor:
            return torch.tensor(values, dtype=dtype, device=device)

        return cls(
            levels=tensor([levels or 1 for levels in bins], dtype) if any(bins) else None,
            binned=None if all(bins) else tensor([levels > 0 for levels in bins], torch.bool),
            log_columns=tensor(logs, torch.int64) if logs else None,
            log_scales=tensor(scales, dtype),
            parents=tensor([rule.parent for rule in rules], torch.int64),
            starts=tensor(starts, torch.float64),
            stops=tensor(stops, torch.float64),
            needs=torch.from_numpy(_needs(len(axes), rules)).to(device, dtype) if rules else None,
            true=tensor(True, torch.bool),
            believed=tensor(list(tables), torch.int64),
            tables=Tables(list(tables.values()), device) if tables else None,
            sloped=tensor([not axes[column].discrete for column in tables], torch.float64),
        )

    def rounded(self, X: Tensor) -> Tensor:
        """`X (*b, d)` clamped, and discrete columns moved to the centre of their bin."""
        X = X.clamp(0.0, 1.0)
        if self.levels is not None:
            bin_ = torch.minimum((X * self.levels).floor(), self.levels - 1.0)
            centres = (bin_ + 0.5) / self.levels
            X = centres if self.binned is None else torch.where(self.binned, centres, X)
        if self.log_columns is not None:
            low, high, start, width = self.log_scales
            x = X.index_select(-1, self.log_columns)
            number = torch.minimum(torch.maximum(((x * width + start).exp() + 0.5).floor(), low), high)
            X = X.index_copy(-1, self.log_columns, (number.log() - start) / width)
        return X

    def activity(self, X: Tensor) -> Tensor:
        """`(*b, d)` whether all rules that a column needs hold at the rounded `X (*b, d)`."""
        if self.needs is None:
            return self.true.expand(X.shape)
        # float64 whatever X is: a threshold rounded to float32 would disagree with decode.
        x = X.index_select(-1, self.parents).to(torch.float64)[..., None]
        fails = ~((x >= self.starts) & (x < self.stops)).any(-1)
        return (fails.to(X.dtype) @ self.needs) == 0

    def quantile(self, U: Tensor) -> Tensor:
        """Encoded values `(*b, d)` at the probabilities `U (*b, d)`."""
        if self.tables is None:
            return U
        x = self.tables.quantile(U.index_select(-1, self.believed)).to(U.dtype)
        return U.index_copy(-1, self.believed, x)


def _encoded_intervals(
    axes: Sequence[Axis], rules: Sequence[Rule]
) -> tuple[list[list[float]], list[list[float]]]:
    """Half-open intervals of encoded parents, padded with empty ones to equal lengths: starts and stops."""
    longest = max((len(rule.intervals) for rule in rules), default=0)
    starts, stops = [], []
    for rule in rules:
        axis = axes[rule.parent]
        padding = [np.inf] * (longest - len(rule.intervals))
        starts.append([axis.threshold(low) for low, _ in rule.intervals] + padding)
        stops.append([axis.threshold(_after(axis, high)) for _, high in rule.intervals] + padding)
    return starts, stops


def _after(axis: Axis, coordinate: float) -> float:
    """The next coordinate."""
    return coordinate + 1 if axis.discrete else float(np.nextafter(coordinate, np.inf))


def _needs(dim: int, rules: Sequence[Rule]) -> NDArray[np.float64]:
    """`(r, d)`: 1 where column `d` is off when rule `r` fails, because it or an ancestor has that rule."""
    needs = np.zeros((len(rules), dim))
    for number, rule in enumerate(rules):
        needs[number, rule.child] = 1.0
    # Each pass hands the rules of every column down to its children, until nothing new arrives.
    while True:
        before = needs.copy()
        for rule in rules:
            needs[:, rule.child] = np.maximum(needs[:, rule.child], needs[:, rule.parent])
        if np.array_equal(before, needs):
            return needs
