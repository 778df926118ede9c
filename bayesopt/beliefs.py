"""What somebody believes about one parameter beforehand: distributions, and their tables on [0, 1].

A belief is a frozen value, always truncated to the range of the parameter that carries it. The
distributions speak about the parameter's *values* (a learning rate, a number of layers), whatever the
scale it is searched on; `Centre` alone speaks about the declared scale. `Table` and `Tables` turn
beliefs into fast lookups on the encoded axis, for `Space.belief` and `Space.from_uniform`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from numbers import Real
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]

#: Log densities relative to uniform are never below this: a belief is advice, nothing is impossible.
FLOOR = -30.0


def _real(belief: object, field: str, value: object, *, positive: bool = False) -> float:
    """`value` as a finite float; positive if asked."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(
            f"{type(belief).__name__}: {field} must be a number, got {value!r}; give an int or a float"
        )
    number = float(value)
    if not math.isfinite(number) or (positive and number <= 0):
        expected = "a finite number above 0" if positive else "a finite number"
        raise ValueError(
            f"{type(belief).__name__}: {field} must be {expected}, got {value!r}; change {field}"
        )
    return number


@dataclass(frozen=True)
class Belief(ABC):
    """What all beliefs share: numbers as fields, and a plain dictionary as their stored form."""

    #: Name of the type in stored spaces.
    kind: ClassVar[str]
    #: Fields that must be above 0.
    positive: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        for field in fields(self):
            number = _real(self, field.name, getattr(self, field.name), positive=field.name in self.positive)
            object.__setattr__(self, field.name, number)

    def to_dict(self) -> dict[str, object]:
        """The belief as a plain dictionary.

        >>> Normal(3, 0.5).to_dict()
        {'type': 'normal', 'mean': 3.0, 'std': 0.5}
        """
        return {"type": self.kind} | {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True)
class Distribution(Belief, ABC):
    """A distribution over the values of a numeric parameter."""

    #: Smallest value that the range may hold: "any", "zero" (0 or more) or "positive" (above 0).
    support: ClassVar[str] = "any"

    @abstractmethod
    def log_density(self, values: Tensor) -> Tensor:
        """Log density at `values`, any shape, up to a constant; `-inf` outside the support."""


@dataclass(frozen=True)
class Uniform(Distribution):
    """Every value equally likely, also on a log-scaled parameter: `p(v) = const`.

    >>> Uniform().log_density(torch.tensor([1.0, 2.0]))
    tensor([0., 0.])
    """

    kind: ClassVar[str] = "uniform"

    def log_density(self, values: Tensor) -> Tensor:
        """`0`."""
        return torch.zeros_like(values)


@dataclass(frozen=True)
class LogUniform(Distribution):
    """Every order of magnitude equally likely: `p(v) ~ 1 / v`; the range must lie above 0."""

    kind: ClassVar[str] = "loguniform"
    support: ClassVar[str] = "positive"

    def log_density(self, values: Tensor) -> Tensor:
        """`-ln v`."""
        return torch.where(values > 0, -values.log(), -math.inf)


@dataclass(frozen=True)
class Normal(Distribution):
    """A normal with `mean` and `std` in the units of the parameter.

    >>> Normal(mean=0.0, std=1.0).log_density(torch.tensor([0.0, 2.0]))
    tensor([-0., -2.])
    """

    mean: float
    std: float
    kind: ClassVar[str] = "normal"
    positive: ClassVar[tuple[str, ...]] = ("std",)

    def log_density(self, values: Tensor) -> Tensor:
        """`-(v - mean)^2 / (2 std^2)`."""
        return -0.5 * ((values - self.mean) / self.std).square()


@dataclass(frozen=True)
class LogNormal(Distribution):
    """`ln v` is normal with `mean` and `std`; the range must not hold negative values."""

    mean: float
    std: float
    kind: ClassVar[str] = "lognormal"
    positive: ClassVar[tuple[str, ...]] = ("std",)
    support: ClassVar[str] = "zero"

    def log_density(self, values: Tensor) -> Tensor:
        """`-ln v - (ln v - mean)^2 / (2 std^2)`."""
        log = values.log()
        return torch.where(values > 0, -log - 0.5 * ((log - self.mean) / self.std).square(), -math.inf)


@dataclass(frozen=True)
class Exponential(Distribution):
    """`p(v) ~ exp(-v / scale)`; the range must not hold negative values."""

    scale: float
    kind: ClassVar[str] = "exponential"
    positive: ClassVar[tuple[str, ...]] = ("scale",)
    support: ClassVar[str] = "zero"

    def log_density(self, values: Tensor) -> Tensor:
        """`-v / scale`."""
        return torch.where(values >= 0, -values / self.scale, -math.inf)


@dataclass(frozen=True)
class Gamma(Distribution):
    """`p(v) ~ v^(shape - 1) exp(-v / scale)`; the range must not hold negative values."""

    shape: float
    scale: float
    kind: ClassVar[str] = "gamma"
    positive: ClassVar[tuple[str, ...]] = ("shape", "scale")
    support: ClassVar[str] = "zero"

    def log_density(self, values: Tensor) -> Tensor:
        """`(shape - 1) ln v - v / scale`, infinite at 0 for a shape below 1."""
        power = torch.xlogy(torch.full_like(values, self.shape - 1.0), values)
        return torch.where(values >= 0, power - values / self.scale, -math.inf)


@dataclass(frozen=True)
class Beta(Distribution):
    """A beta over the range rescaled to [0, 1], `t = (v - low) / (high - low)`: `p ~ t^(a-1) (1-t)^(b-1)`."""

    a: float
    b: float
    kind: ClassVar[str] = "beta"
    positive: ClassVar[tuple[str, ...]] = ("a", "b")

    def log_density(self, values: Tensor) -> Tensor:
        """`(a - 1) ln t + (b - 1) ln(1 - t)`; unlike its siblings it takes the *rescaled* values `t`."""
        left = torch.xlogy(torch.full_like(values, self.a - 1.0), values)
        right = torch.xlogy(torch.full_like(values, self.b - 1.0), 1.0 - values)
        return torch.where((values >= 0) & (values <= 1), left + right, -math.inf)


@dataclass(frozen=True)
class Centre(Belief):
    """A best guess `value`, and how sure you are of it: `confidence` strictly between 0 and 1.

    Numbers: a normal around the encoded value, on the scale that the parameter declares, with
    `std = max(0.5 * (1 - confidence), 0.01)` of the whole range. Choices: `confidence` goes to the
    choice, the rest is spread evenly over all choices.

    Raises:
        ValueError: `confidence` is not strictly between 0 and 1.

    >>> Centre(0.001, confidence=0.8).std
    0.1
    """

    value: str | int | float | bool | None
    confidence: float = 0.5
    kind: ClassVar[str] = "centre"

    def __post_init__(self) -> None:
        confidence = _real(self, "confidence", self.confidence)
        if not 0 < confidence < 1:
            raise ValueError(
                f"Centre: confidence must lie strictly between 0 and 1, got {self.confidence!r}; "
                "0.5 is a fair guess, 0.9 a strong one"
            )
        object.__setattr__(self, "confidence", confidence)

    @property
    def std(self) -> float:
        """Standard deviation on the encoded axis of a numeric parameter."""
        return max(round(0.5 * (1.0 - self.confidence), 12), 0.01)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Centre) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[str, object, float]:
        # 1, 1.0 and True are different choices, but equal for Python.
        return type(self.value).__name__, self.value, self.confidence


@dataclass(frozen=True)
class Weights(Belief):
    """One weight for each choice of a categorical, in the order of the choices; the sum does not matter.

    `Categorical(["a", "b"], belief={"a": 3, "b": 1})` makes one from the mapping.

    Raises:
        ValueError: a weight is negative or not finite, or all are 0.
    """

    weights: tuple[float, ...]
    kind: ClassVar[str] = "weights"

    def __post_init__(self) -> None:
        given: object = self.weights
        if isinstance(given, (str, bytes)) or not isinstance(given, Sequence):
            raise TypeError(
                f"Weights: expected a sequence of numbers, got {self.weights!r}; give one for each choice"
            )
        weights = tuple(_real(self, "each weight", weight) for weight in self.weights)
        if not weights or min(weights) < 0 or not 0 < sum(weights) < math.inf:
            raise ValueError(
                f"Weights: expected weights of 0 or more with a finite sum above 0, got {self.weights!r}; "
                "give every choice its share"
            )
        object.__setattr__(self, "weights", weights)

    def to_dict(self) -> dict[str, object]:
        """The belief as a plain dictionary."""
        return {"type": self.kind, "weights": list(self.weights)}


KINDS: dict[str, type[Belief]] = {
    belief.kind: belief
    for belief in (Uniform, LogUniform, Normal, LogNormal, Exponential, Gamma, Beta, Centre, Weights)
}


def suggestion(word: object, known: Sequence[str]) -> str:
    """`; did you mean 'x'?` when one of the `known` names is close, else nothing."""
    close = get_close_matches(str(word), known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def belief_from_dict(data: Mapping[str, object]) -> Belief:
    """The belief that `to_dict` wrote.

    Raises:
        TypeError: not a mapping, or a field of the wrong type.
        ValueError: unknown type or field, or a field is missing.

    >>> belief_from_dict({"type": "gamma", "shape": 2, "scale": 0.5})
    Gamma(shape=2.0, scale=0.5)
    """
    if not isinstance(data, Mapping):
        raise TypeError(f'a belief must be a table such as {{"type": "normal", ...}}, got {data!r}')
    kind = data.get("type")
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(
            f"unknown type of belief {kind!r}{suggestion(kind, list(KINDS))}; types: {', '.join(KINDS)}"
        )
    known = [field.name for field in fields(KINDS[kind])]
    for name in data:
        if name not in known and name != "type":
            raise ValueError(
                f"a {kind} belief has no field {name!r}{suggestion(name, known)}; "
                f"its fields: {', '.join(known) or 'none'}"
            )
    needed = [name for name in known if name not in data and name != "confidence"]
    if needed:
        raise ValueError(f"a {kind} belief needs {', '.join(needed)}; add the missing fields")
    return KINDS[kind](**{name: value for name, value in data.items() if name != "type"})


# --- tables on the encoded axis ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Table:
    """A density on [0, 1] relative to uniform, in cells: log-linear inside each.

    Cell `i` starts at `edges[i]`, where the log density is `logp[i]` and the cumulative probability
    `cdf[i]`; inside, the log density has `slope[i]`. All arrays have shape `(cells,)`. Log-linear cells
    have an exact integral and an exact inverse, so samples and densities agree to rounding.
    """

    edges: Array
    logp: Array
    slope: Array
    cdf: Array


def _table(edges: Array, left: Array, right: Array) -> Table:
    """Table of the cells between `edges (cells + 1,)`, from unnormalised log densities at both their ends."""
    width = np.diff(edges)
    top = max(left.max(), right.max())
    if not math.isfinite(top):
        raise ValueError(
            "the belief gives no weight to any value of the range; widen it or move it into the range"
        )
    left, right = np.maximum(left - top, -1e4), np.maximum(right - top, -1e4)
    for _ in range(2):  # once to know the level of uniform, once more because the floor adds mass
        log_mass = math.log(_masses(width, left, right).sum())
        left, right = np.maximum(left - log_mass, FLOOR), np.maximum(right - log_mass, FLOOR)
    mass = _masses(width, left, right)
    cdf = np.concatenate([[0.0], np.cumsum(mass / mass.sum())[:-1]])
    return Table(edges[:-1], left, (right - left) / width, cdf)


def _masses(width: Array, left: Array, right: Array) -> Array:
    """Integral of `exp` of a line from `left` to `right`: `width * exp(left) * (exp(D) - 1) / D`."""
    rise = np.minimum(right - left, 700.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.where(np.abs(rise) < 1e-8, 1.0 + 0.5 * rise, np.expm1(rise) / rise)
    return np.asarray(width * np.exp(left) * ratio)


def step_table(edges: Array, log_mass: Array) -> Table:
    """Table of a discrete belief: level `k` covers `edges[k]` to `edges[k + 1]`, mass `exp(log_mass[k])`."""
    with np.errstate(divide="ignore"):
        log_density = log_mass - np.log(np.diff(edges))
    return _table(edges, log_density, log_density)


def smooth_table(log_density: Callable[[Array], Array]) -> Table:
    """Table of a continuous belief, from its unnormalised log density on the encoded axis.

    >>> table = smooth_table(lambda x: np.log(2.0 * x + 1e-300))
    >>> round(float(np.interp(0.5, table.edges, table.cdf)), 3)
    0.25
    """

    # A density may be infinite at an end (beta or gamma with a shape below 1); its integral is not.
    def inside(x: Array) -> Array:
        return log_density(np.clip(x, 1e-15, 1.0 - 1e-15))

    edges = _nodes(inside)
    values = inside(edges)
    return _table(edges, values[:-1], values[1:])


def _nodes(log_density: Callable[[Array], Array]) -> Array:
    """Nodes for a table: an even grid, both ends in steps of 10%, and a fine grid where the mass is.

    The fine window is found by zooming: even when a narrow peak lies between two nodes, the nodes
    beside it are the best ones, for the log densities fall off steadily on both sides.
    """
    low, high = 0.0, 1.0
    for _ in range(24):
        x = np.linspace(low, high, 513)
        values = log_density(x)
        near = np.flatnonzero(values >= values.max() - 40.0)
        if not near.size:  # all nan: the caller reports it
            break
        start, stop = x[max(near[0] - 1, 0)], x[min(near[-1] + 1, 512)]
        if stop - start > 0.25 * (high - low) or stop - start < 1e-13:
            break
        low, high = start, stop
    ends = np.geomspace(1e-14, 0.05, 256)
    return np.unique(np.concatenate([np.linspace(0, 1, 257), ends, 1.0 - ends, np.linspace(low, high, 2049)]))


class Tables:
    """The tables of several columns as padded tensors `(columns, cells)` on one device, float64."""

    def __init__(self, tables: Sequence[Table], device: torch.device | None = None) -> None:
        self._edges, self._cdf = (
            _stack([getattr(table, name) for table in tables], math.inf, device) for name in ("edges", "cdf")
        )
        self._logp, self._slope = (
            _stack([getattr(table, name) for table in tables], 0.0, device) for name in ("logp", "slope")
        )
        ends = [np.append(table.edges[1:], 1.0) for table in tables]
        self._ends = _stack(ends, math.inf, device)

    def log_density(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """Log densities and their slopes at encoded `X (*b, columns)`, both `(*b, columns)` float64."""
        x = _columns(X)
        cell = _cell(self._edges, x)
        slope = self._slope.gather(-1, cell)
        logp = self._logp.gather(-1, cell) + slope * (x - self._edges.gather(-1, cell))
        return _rows(logp, X), _rows(slope, X)

    def quantile(self, U: Tensor) -> Tensor:
        """Encoded values `(*b, columns)` below which lies the probability `U (*b, columns)`; float64.

        Inside a cell, `u - F = e^c (e^(s t) - 1) / s`, hence `t = log1p(s (u - F) / e^c) / s`.
        """
        u = _columns(U)
        cell = _cell(self._cdf, u)
        slope = self._slope.gather(-1, cell)
        ratio = (u - self._cdf.gather(-1, cell)) * (-self._logp.gather(-1, cell)).exp()
        bend = slope * ratio
        flat = bend.abs() < 1e-7
        curved = (bend.clamp(min=-1.0 + 1e-15)).log1p() / torch.where(flat, torch.ones_like(slope), slope)
        start, end = self._edges.gather(-1, cell), self._ends.gather(-1, cell)
        step = torch.where(flat, ratio * (1.0 - 0.5 * bend), curved)
        return _rows(torch.minimum(start + step.clamp(min=0.0), end), U)


def _stack(rows: Sequence[Array], fill: float, device: torch.device | None) -> Tensor:
    """Rows of different lengths as one tensor, padded on the right."""
    tensors = [torch.from_numpy(np.ascontiguousarray(row)) for row in rows]
    return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=fill).to(device)


def _columns(X: Tensor) -> Tensor:
    """`(*b, columns)` to contiguous float64 `(columns, b)`, the layout that `searchsorted` wants."""
    return X.reshape(-1, X.shape[-1]).T.to(torch.float64).contiguous()


def _rows(values: Tensor, like: Tensor) -> Tensor:
    """Back from `_columns`, to the shape of `like`."""
    return values.T.reshape(like.shape)


def _cell(starts: Tensor, values: Tensor) -> Tensor:
    """Index of the last cell that starts at or below each value; both `(columns, ...)`."""
    return (torch.searchsorted(starts, values, right=True) - 1).clamp(0, starts.shape[-1] - 1)
