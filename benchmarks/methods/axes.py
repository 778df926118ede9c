"""A search space in plain values: what a method needs to know of it, also in another interpreter.

Methods of other libraries may live where neither torch nor `bayesopt` is installed. They get the space as
the dictionary of `Space.to_dict`, and read it as `Axis` objects.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

Config = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Axis:
    """One parameter.

    Attributes:
        kind: "float", "int" or "categorical".
        low, high, log, step: of a number.
        choices, ordered: of a categorical.
        when: conditions, all of which must hold: a value, a list of values, or `{"min": ..., "max": ...}`.
    """

    name: str
    kind: str
    low: float = 0.0
    high: float = 1.0
    log: bool = False
    step: float | None = None
    choices: Sequence[Any] = ()
    ordered: bool = False
    when: Mapping[str, Any] = field(default_factory=dict)

    @property
    def numeric(self) -> bool:
        """Whether its values have an order."""
        return self.kind != "categorical" or self.ordered

    @cached_property
    def levels(self) -> int | None:
        """Number of different values; None for a continuum."""
        if self.kind == "categorical":
            return len(self.choices)
        step = 1 if self.kind == "int" and self.step is None else self.step
        return None if step is None else round((self.high - self.low) / step) + 1

    @property
    def numbered(self) -> bool:
        """Whether its values are told by number: choices, steps, an only value; integers are themselves."""
        return self.kind == "categorical" or self.step is not None or self.levels == 1

    @property
    def even(self) -> bool:
        """Whether it has levels of equal shares: it is no continuum, nor integers on a log scale."""
        return self.levels is not None and not self.log

    def level(self, k: int) -> Any:
        """The k-th value."""
        if self.kind == "categorical":
            return self.choices[k]
        step = self.step or 1
        return int(self.low + k * step) if self.kind == "int" else min(self.low + k * step, self.high)

    def index(self, value: Any) -> int:
        """The number of a value; a choice has the type of `value`: True, 1 and 1.0 differ."""
        if self.kind == "categorical":
            return next(k for k, c in enumerate(self.choices) if type(c) is type(value) and c == value)
        return round((value - self.low) / (self.step or 1))

    def read(self, raw: Any, *, numbered: bool) -> Any:
        """The value that a library means: by its number if `numbered`, else as it is."""
        if numbered:
            return self.level(int(raw))
        return int(raw) if self.kind == "int" else float(raw)

    def value(self, u: float) -> Any:
        """The value at a place of [0, 1] on the declared scale; a level takes an equal share of it."""
        if self.levels is None:
            if self.log:
                low, high = math.log(self.low), math.log(self.high)
                return min(max(math.exp(low + u * (high - low)), self.low), self.high)
            return min(max(self.low + u * (self.high - self.low), self.low), self.high)
        if self.log:
            low, high = math.log(self.low - 0.5), math.log(self.high + 0.5)
            return int(min(max(round(math.exp(low + u * (high - low))), self.low), self.high))
        return self.level(min(max(int(u * self.levels), 0), self.levels - 1))

    def place(self, value: Any) -> float:
        """The inverse of `value`: of a level, the middle of its share."""
        if self.levels is None:
            low, high, at = (math.log(v) if self.log else v for v in (self.low, self.high, value))
            return (at - low) / (high - low) if high > low else 0.5
        if self.log:
            low, high = math.log(self.low - 0.5), math.log(self.high + 0.5)
            return (math.log(value) - low) / (high - low)
        return (self.index(value) + 0.5) / self.levels

    def active(self, config: Mapping[str, Any]) -> bool:
        """Whether the conditions hold, given the values of the parents that are active."""
        return all(name in config and _holds(c, config[name]) for name, c in self.when.items())


def _holds(condition: Any, value: Any) -> bool:
    if isinstance(condition, Mapping) and condition.keys() <= {"min", "max"}:
        return condition.get("min", -math.inf) <= value <= condition.get("max", math.inf)
    return any(type(v) is type(value) and v == value for v in accepted(condition))


def accepted(condition: Any) -> list[Any]:
    """The values that a condition other than a range accepts."""
    return list(condition) if isinstance(condition, list | tuple) else [condition]


def axes_of(space: Mapping[str, Mapping[str, Any]]) -> list[Axis]:
    """The axes of a space given as `Space.to_dict`, parents before their children."""
    waiting = [
        Axis(name, entry["type"], **{k: v for k, v in entry.items() if k not in ("type", "belief")})
        for name, entry in space.items()
    ]
    axes: list[Axis] = []
    while waiting:
        known = {axis.name for axis in axes}
        ready = [axis for axis in waiting if axis.when.keys() <= known]
        if not ready:
            raise ValueError(f"conditions of {[axis.name for axis in waiting]} form a cycle")
        axes += ready
        waiting = [axis for axis in waiting if axis not in ready]
    return axes


def pruned(axes: Sequence[Axis], config: Mapping[str, Any]) -> Config:
    """A configuration of all parameters without those that are inactive."""
    kept: Config = {}
    for axis in axes:
        if axis.active(kept):
            kept[axis.name] = config[axis.name]
    return kept


def at_unit(axes: Sequence[Axis], u: Sequence[float]) -> Config:
    """The configuration at a point of the unit box, only its active parameters."""
    return pruned(axes, {axis.name: axis.value(x) for axis, x in zip(axes, u, strict=True)})


def place_of(axes: Sequence[Axis], config: Mapping[str, Any]) -> list[float]:
    """The point of the unit box of a configuration; inactive parameters are in the middle."""
    return [axis.place(config[axis.name]) if axis.name in config else 0.5 for axis in axes]
