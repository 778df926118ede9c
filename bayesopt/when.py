"""Values and conditions as a user writes them: choices, `Between`, and the mapping given as `when=`."""

import math
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np

Choice = str | int | float | bool | None

_KINDS: tuple[type, ...] = (bool, int, float, str)


def choice_key(value: object) -> tuple[str, object]:
    """What makes two choices the same: type and value, so True, 1 and 1.0 stay apart.

    >>> choice_key(True) == choice_key(1)
    False
    """
    kind = type(value)
    if kind not in _KINDS:  # of a subclass the first that it is
        kind = next((known for known in _KINDS if isinstance(value, known)), kind)
    return kind.__name__, value


def plain(value: object) -> object:
    """NumPy scalars as Python values; everything else as it is."""
    return value.item() if isinstance(value, np.generic) else value


def finite_float(owner: str, field: str, value: object) -> float:
    """A finite float."""
    value = plain(value)
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{owner}: {field} must be a number, got {value!r}; give an int or a float")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(
            f"{owner}: {field} must be finite, got {value!r}; give the largest range that makes sense"
        )
    return number


@dataclass(frozen=True)
class Between:
    """An inclusive range of a numeric parent, for `when=`; None leaves that side open.

    Raises:
        TypeError: a bound is not a number.
        ValueError: a bound is nan or infinite, both are None, or low is above high.

    >>> from bayesopt.parameters import Float
    >>> Float(0.0, 1.0, when={"layers": Between(3, None)})
    Float(0.0, 1.0, when={'layers': Between(low=3)})
    """

    low: int | float | None = None
    high: int | float | None = None

    def __post_init__(self) -> None:
        for name in ("low", "high"):
            bound = plain(getattr(self, name))
            if bound is not None:
                number = finite_float("Between", name, bound)
                object.__setattr__(self, name, int(bound) if isinstance(bound, Integral) else number)
        if self.low is None and self.high is None:
            raise ValueError(
                "Between: give low, high or both; without a condition, leave the key out of when="
            )
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(
                f"Between: low must not be above high, got {self!r}; no value can match, swap them"
            )

    def __contains__(self, value: int | float) -> bool:
        return (self.low is None or self.low <= value) and (self.high is None or value <= self.high)

    def __repr__(self) -> str:
        bounds = ((name, getattr(self, name)) for name in ("low", "high"))
        return f"Between({', '.join(f'{name}={value!r}' for name, value in bounds if value is not None)})"


class When(Mapping[str, object]):
    """The conditions of one parameter, frozen: parent name to a value, a tuple of values or a `Between`.

    All must hold. Made by the parameters from the mapping given as `when=`.

    Raises:
        TypeError: not a mapping, or a name that is not a string.
        ValueError: the mapping, a name, or a collection of values is empty.

    >>> When({"optimizer": ["sgd", "sgd"], "layers": Between(3)})
    {'optimizer': 'sgd', 'layers': Between(low=3)}
    """

    def __init__(self, conditions: Mapping[str, object]) -> None:
        if not isinstance(conditions, Mapping):
            raise TypeError(f'when must be a mapping such as {{"optimizer": "sgd"}}, got {conditions!r}')
        if not conditions:
            raise ValueError(
                "when must hold a condition, got an empty mapping; leave when out for a free parameter"
            )
        for name in conditions:
            if not isinstance(name, str):
                raise TypeError(f"when: names of parameters are strings, got {name!r}")
        self._items = {name: _expected(name, condition) for name, condition in conditions.items()}

    def __getitem__(self, name: str) -> object:
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, When) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        return repr(self._items)

    def _key(self) -> frozenset[tuple[str, object]]:
        return frozenset(
            (
                name,
                expected if isinstance(expected, Between) else frozenset(map(choice_key, accepted(expected))),
            )
            for name, expected in self._items.items()
        )


def accepted(expected: object) -> tuple[object, ...]:
    """The values that a condition other than `Between` accepts."""
    return expected if isinstance(expected, tuple) else (expected,)


def _expected(name: str, condition: object) -> object:
    """Canonical form of one condition: a value, a tuple of different values, or a `Between`."""
    if not isinstance(condition, (list, tuple, AbstractSet)):
        condition = plain(condition)
        if not isinstance(condition, (str, int, float, Between, type(None))):
            raise TypeError(
                f"when: {name!r} must be a value, a list of values or Between(low, high), got {condition!r}"
            )
        return condition
    # Sets have no order: sort, so that equal spaces print and store alike.
    values = sorted(condition, key=repr) if isinstance(condition, AbstractSet) else condition
    unique = tuple({choice_key(value): value for value in map(plain, values)}.values())
    if not unique:
        raise ValueError(
            f"when: {name!r} accepts no value, got {condition!r}; list the values that switch it on"
        )
    for value in unique:
        if not isinstance(value, (str, int, float, type(None))):
            raise TypeError(f"when: {name!r} lists {value!r}; a list holds str, int, float, bool or None")
    return unique if len(unique) > 1 else unique[0]
