"""What one thing to tune may be: `Float`, `Int`, `Categorical`.

All are frozen values, validated at construction. A parameter with finitely many values has numbered
levels: `levels` counts them, `level(k)` is the k-th value and `index(value)` its number. `check(value)`
returns the canonical form of a value, or says what is wrong with it; `Space` puts the name in front.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, fields
from fractions import Fraction
from functools import cached_property
from numbers import Integral, Real

from bayesopt.beliefs import Belief, Centre, Distribution, Gamma, Weights
from bayesopt.when import Choice, When, choice_key, finite_float, plain

#: More bins than this have centres that float64 cannot tell apart: `(k + 1/2) / levels` is off by up to
#: `k 2^-52`, which must stay below half a bin.
MAX_LEVELS = 2**51

#: Up to this many values a stepped Float keeps a list of them.
_LISTED = 4096


def _int(owner: str, field: str, value: object) -> int:
    value = plain(value)
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{owner}: {field} must be an int, got {value!r}; use Float for other numbers")
    return int(value)


def _flag(owner: str, field: str, value: object) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{owner}: {field} must be True or False, got {value!r}")


def _check_range(owner: str, low: float, high: float, log: bool, step: object) -> None:
    if low > high:
        raise ValueError(f"{owner}: low must not be above high, got low={low!r}, high={high!r}; swap them")
    if log and low <= 0:
        raise ValueError(f"{owner}: log=True needs low above 0, got low={low!r}; raise low or drop log=True")
    if log and step is not None:
        raise ValueError(f"{owner}: log=True and step={step!r} do not go together; drop one of them")


def _freeze_when(parameter: Float | Int | Categorical) -> None:
    if parameter.when is not None:
        when = parameter.when if isinstance(parameter.when, When) else When(parameter.when)
        object.__setattr__(parameter, "when", when)


def _repr(parameter: Float | Int | Categorical) -> str:
    """As one would write it: positional bounds, then only what differs from the default."""
    parts = []
    for field in fields(parameter):
        value = getattr(parameter, field.name)
        if not field.kw_only:
            parts.append(repr(list(value) if isinstance(value, tuple) else value))
        elif value != field.default:
            parts.append(f"{field.name}={value!r}")
    return f"{type(parameter).__name__}({', '.join(parts)})"


def _check_numeric_belief(parameter: Float | Int) -> None:
    """Refuse a belief that cannot speak about this range."""
    belief, owner = parameter.belief, type(parameter).__name__
    if belief is None:
        return
    if isinstance(belief, Centre):
        try:
            parameter.check(belief.value)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{owner}: belief: Centre.value: {error}") from None
        return
    if not isinstance(belief, Distribution):
        raise TypeError(
            f"{owner}: belief must be a distribution or a Centre, got {belief!r}; Weights are for choices"
        )
    needs = {"positive": parameter.low > 0, "zero": parameter.low >= 0, "any": True}[belief.support]
    if not needs:
        bound = "above 0" if belief.support == "positive" else "of 0 or more"
        raise ValueError(
            f"{owner}: belief {belief!r} needs low {bound}, got low={parameter.low!r}; "
            "raise low, or use Uniform, Normal or Centre"
        )
    if isinstance(belief, Gamma) and belief.shape < 1 and parameter.low == 0 and parameter.levels is not None:
        raise ValueError(
            f"{owner}: belief {belief!r} is infinite at 0, one of the values; "
            "use a shape of 1 or more, or raise low"
        )


@dataclass(frozen=True, repr=False)
class Float:
    """A real number from `low` to `high`, both included.

    Args:
        low, high: finite bounds; equal bounds make a constant.
        log: search by orders of magnitude; needs `low > 0`.
        step: only `low, low + step, ..., high`; must divide the range; not with `log`.
        when: conditions on other parameters, all of which must hold, e.g. `{"optimizer": "sgd"}`.
        belief: what you expect to be good, e.g. `Centre(3e-4)`.

    Raises:
        TypeError: a field of the wrong type.
        ValueError: bounds out of order or not finite, a step that does not divide the range, a belief or
            conditions that cannot hold.

    >>> Float(1e-5, 1e-1, log=True)
    Float(1e-05, 0.1, log=True)
    >>> Float(0, 1, step=0.3)
    Traceback (most recent call last):
    ValueError: Float: step=0.3 does not divide the range from 0.0 to 1.0; use high=0.9 or high=1.2
    """

    low: float
    high: float
    _: KW_ONLY
    log: bool = False
    step: float | None = None
    when: Mapping[str, object] | None = None
    belief: Belief | None = None

    def __post_init__(self) -> None:
        for name in ("low", "high"):
            bound = finite_float("Float", name, getattr(self, name))
            object.__setattr__(self, name, bound + 0.0)  # -0.0 to 0.0
        _flag("Float", "log", self.log)
        if self.step is not None:
            object.__setattr__(self, "step", finite_float("Float", "step", self.step))
        _check_range("Float", self.low, self.high, self.log, self.step)
        self._check_step()
        _freeze_when(self)
        _check_numeric_belief(self)

    def _check_step(self) -> None:
        if self.step is None:
            return
        if self.step <= 0:
            raise ValueError(
                f"Float: step must be above 0, got {self.step!r}; leave it out for a continuous range"
            )
        count = self._steps
        if abs(count - round(count)) > Fraction(1, 10**9) + count / 2**50:
            below = float(_exact(self.low) + math.floor(count) * _exact(self.step))
            above = float(_exact(self.low) + math.ceil(count) * _exact(self.step))
            raise ValueError(
                f"Float: step={self.step!r} does not divide the range from {self.low!r} to {self.high!r}; "
                f"use high={below!r} or high={above!r}"
            )
        if count >= MAX_LEVELS or self.step < 2 * math.ulp(max(abs(self.low), abs(self.high))):
            raise ValueError(
                f"Float: step={self.step!r} is too fine for double precision; use a larger step or none"
            )

    @property
    def _steps(self) -> Fraction:
        """Number of steps in the range, exact in the decimals that were written: 1 / 0.1 is 10."""
        assert self.step is not None
        return (_exact(self.high) - _exact(self.low)) / _exact(self.step)

    @cached_property
    def levels(self) -> int | None:
        """Number of different values; None for a continuum."""
        if self.low == self.high:
            return 1
        return None if self.step is None else round(self._steps) + 1

    def level(self, k: int) -> float:
        """The k-th value from below, exact in decimals: level 3 of steps of 0.1 is 0.3."""
        return self._listed[k] if self._listed else self._level(k)

    def _level(self, k: int) -> float:
        assert self.levels is not None
        if k in (0, self.levels - 1):
            return self.low if k == 0 else self.high
        low, high = _exact(self.low), _exact(self.high)
        return float(low + (high - low) * k / (self.levels - 1))

    @cached_property
    def _listed(self) -> list[float]:
        levels = self.levels or 0
        return [self._level(k) for k in range(levels)] if levels <= _LISTED else []

    @cached_property
    def _numbers(self) -> dict[float, int]:
        return {value: k for k, value in enumerate(self._listed)}

    def index(self, value: float) -> int:
        """The number of the level nearest to `value`."""
        k = self._numbers.get(value)
        if k is not None:
            return k
        if self.low == self.high:
            return 0
        assert self.levels is not None
        span = _exact(self.high) - _exact(self.low)
        return round((_exact(value) - _exact(self.low)) / span * (self.levels - 1))

    def check(self, value: object) -> float:
        """`value` as a float of the range, moved to its level where there is a step.

        Raises:
            TypeError: not a number.
            ValueError: nan, outside the range, or off the step by more than 1e-9 of a step.
        """
        if type(value) is not float or not self.low <= value <= self.high:
            value = self._convert(value)
        return value if self.step is None else self._snap(value)

    def _convert(self, value: object) -> float:
        number_like = plain(value)
        if isinstance(number_like, bool) or not isinstance(number_like, Real):
            raise TypeError(
                f"expected a number from {self.low!r} to {self.high!r}, got {value!r}; give a float"
            )
        try:
            number = float(number_like)
        except OverflowError:
            number = math.inf  # outside the range on either side
        if not self.low <= number <= self.high:
            raise ValueError(
                f"expected a number from {self.low!r} to {self.high!r}, got {value!r}; "
                "choose a value inside, or widen the range"
            )
        return number

    def _snap(self, value: float) -> float:
        k = self.index(value)
        level = self.level(k)
        assert self.step is not None
        # A value computed as low + k * step carries rounding errors of its own size.
        if abs(value - level) > max(1e-9 * self.step, 4 * math.ulp(max(abs(value), abs(self.low)))):
            other = self.level(k + 1 if value > level else k - 1)
            near = sorted((level, other))
            raise ValueError(
                f"expected {self.low!r} plus a multiple of step={self.step!r}, got {value!r}; "
                f"the nearest are {near[0]!r} and {near[1]!r}"
            )
        return level

    __repr__ = _repr


def _exact(value: float) -> Fraction:
    """The decimal number that was written, not its binary neighbour."""
    return Fraction(repr(value))


@dataclass(frozen=True, repr=False)
class Int:
    """A whole number from `low` to `high`, both included.

    Args:
        low, high: bounds; equal bounds make a constant.
        log: search by orders of magnitude; needs `low > 0`.
        step: only `low, low + step, ..., high`; must divide the range; not with `log`.
        when: conditions on other parameters, all of which must hold, e.g. `{"optimizer": "sgd"}`.
        belief: what you expect to be good, e.g. `Centre(3)`.

    Raises:
        TypeError: a field of the wrong type.
        ValueError: bounds out of order or too far apart, a step that does not divide the range, a belief
            or conditions that cannot hold.

    >>> Int(16, 256, step=16).levels
    16
    """

    low: int
    high: int
    _: KW_ONLY
    log: bool = False
    step: int = 1
    when: Mapping[str, object] | None = None
    belief: Belief | None = None

    def __post_init__(self) -> None:
        for name in ("low", "high", "step"):
            object.__setattr__(self, name, _int("Int", name, getattr(self, name)))
        _flag("Int", "log", self.log)
        _check_range("Int", self.low, self.high, self.log, None if self.step == 1 else self.step)
        self._check_step()
        self._check_resolution()
        _freeze_when(self)
        _check_numeric_belief(self)

    def _check_step(self) -> None:
        if self.step <= 0:
            raise ValueError(
                f"Int: step must be 1 or more, got {self.step!r}; leave it out for every whole number"
            )
        rest = (self.high - self.low) % self.step
        if rest:
            below = self.high - rest
            raise ValueError(
                f"Int: step={self.step!r} does not divide the range from {self.low!r} to {self.high!r}; "
                f"use high={below!r} or high={below + self.step!r}"
            )

    def _check_resolution(self) -> None:
        """Every level must decode to itself in float64."""
        if self.levels > MAX_LEVELS:
            raise ValueError(
                f"Int: at most 2**51 levels fit into double precision, got {self.levels}; use a step"
            )
        if self.log and not log_exact(self.low, self.high, 2.0**-52):
            raise ValueError(
                f"Int: log=True from {self.low!r} to {self.high!r} is too fine for double precision; "
                "lower high (2**42 is safe), drop log=True, or use Float and round"
            )

    @property
    def levels(self) -> int:
        """Number of different values."""
        return (self.high - self.low) // self.step + 1

    def level(self, k: int) -> int:
        """The k-th value from below."""
        return self.low + k * self.step

    def index(self, value: int) -> int:
        """The number of the level `value`."""
        return (value - self.low) // self.step

    def check(self, value: object) -> int:
        """`value` as an int of the range.

        Raises:
            TypeError: not a whole number (3.0 is one, True is not).
            ValueError: outside the range, or off the step.
        """
        if type(value) is not int:
            value = self._convert(value)
        if not self.low <= value <= self.high:
            raise ValueError(
                f"expected a whole number from {self.low!r} to {self.high!r}, got {value!r}; "
                "choose a value inside, or widen the range"
            )
        rest = (value - self.low) % self.step
        if rest:
            raise ValueError(
                f"expected {self.low!r} plus a multiple of step={self.step!r}, got {value!r}; "
                f"the nearest are {value - rest!r} and {value - rest + self.step!r}"
            )
        return value

    def _convert(self, value: object) -> int:
        number_like = plain(value)
        expected = f"expected a whole number from {self.low!r} to {self.high!r}, got {value!r}"
        if isinstance(number_like, bool) or not isinstance(number_like, Real):
            raise TypeError(f"{expected}; give an int")
        if isinstance(number_like, Integral):
            return int(number_like)
        number = float(number_like)
        if not math.isfinite(number):
            raise ValueError(f"{expected}; choose a value inside the range")
        if not number.is_integer():
            raise TypeError(f"{expected}; round it first")
        return int(number)

    __repr__ = _repr


def log_exact(low: int, high: int, eps: float) -> bool:
    """Whether `exp(a + x w)` still finds the right whole number when `x` is rounded to precision `eps`.

    The exponent is off by a few `eps` of the size of the logarithms; times `high`, that must stay well
    below the half bin of 1/2.
    """
    size = abs(math.log(low - 0.5)) + 2.0 * math.log(high + 0.5) + 1.0
    return high * size * 2.0 * eps < 0.25


@dataclass(frozen=True, eq=False, repr=False)
class Categorical:
    """One of several choices: strings, ints, floats, bools or None, all different (True, 1 and 1.0 are).

    Args:
        choices: at least one; a list or tuple.
        ordered: the order of the choices means something, neighbours are alike, e.g. `[16, 32, 64]`.
        when: conditions on other parameters, all of which must hold.
        belief: a `Centre`, or a mapping from every choice to a weight.

    Raises:
        TypeError: a choice or a field of the wrong type.
        ValueError: no choices, a choice twice, nan, or a belief that does not fit.

    >>> Categorical(["adam", "sgd"], belief={"adam": 3, "sgd": 1})
    Categorical(['adam', 'sgd'], belief=Weights(weights=(3.0, 1.0)))
    """

    choices: Sequence[Choice]
    _: KW_ONLY
    ordered: bool = False
    when: Mapping[str, object] | None = None
    belief: Belief | Mapping[Choice, float] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.choices, (str, bytes)) or not isinstance(self.choices, Sequence):
            raise TypeError(
                f"Categorical: choices must be a list or a tuple, got {self.choices!r}; put them in [...]"
            )
        object.__setattr__(self, "choices", tuple(map(plain, self.choices)))
        self._check_choices()
        _flag("Categorical", "ordered", self.ordered)
        _freeze_when(self)
        self._check_belief()

    def _check_choices(self) -> None:
        if not self.choices:
            raise ValueError("Categorical: choices must not be empty; list at least one")
        seen = set()
        for choice in self.choices:
            if not isinstance(choice, (str, int, float, type(None))):
                raise TypeError(
                    f"Categorical: choices are str, int, float, bool or None, got {choice!r}; "
                    "use a name for it and look the object up in the objective"
                )
            if isinstance(choice, float) and math.isnan(choice):
                raise ValueError(
                    "Categorical: nan cannot be a choice, it never equals itself; use None or a string"
                )
            if choice_key(choice) in seen:
                raise ValueError(f"Categorical: choices must differ, got {choice!r} twice; remove one")
            seen.add(choice_key(choice))

    def _check_belief(self) -> None:
        belief = self.belief
        if isinstance(belief, Mapping):
            belief = self._weights(belief)
            object.__setattr__(self, "belief", belief)
        if isinstance(belief, Centre):
            if choice_key(belief.value) not in self._numbers:
                raise ValueError(f"Categorical: belief: Centre.value {self._not_a_choice(belief.value)}")
        elif isinstance(belief, Weights):
            if len(belief.weights) != self.levels:
                raise ValueError(
                    f"Categorical: belief has {len(belief.weights)} weights for {self.levels} choices; "
                    "give one to each"
                )
        elif belief is not None:
            raise TypeError(
                f"Categorical: belief must be a Centre or a mapping of choices to weights, got {belief!r}"
            )

    def _weights(self, belief: Mapping[Choice, float]) -> Weights:
        given = {choice_key(plain(choice)): weight for choice, weight in belief.items()}
        for choice in belief:
            if choice_key(plain(choice)) not in self._numbers:
                raise ValueError(f"Categorical: belief: {self._not_a_choice(choice)}")
        missing = [choice for choice in self.choices if choice_key(choice) not in given]
        if missing:
            raise ValueError(
                f"Categorical: belief gives no weight to {missing!r}; give one to every choice, 0 is fine"
            )
        return Weights(tuple(given[choice_key(choice)] for choice in self.choices))

    @cached_property
    def _numbers(self) -> dict[tuple[str, object], int]:
        return {choice_key(choice): k for k, choice in enumerate(self.choices)}

    @property
    def levels(self) -> int:
        """Number of choices."""
        return len(self.choices)

    def level(self, k: int) -> Choice:
        """The k-th choice."""
        return self.choices[k]

    def index(self, value: Choice) -> int:
        """The number of the choice `value`."""
        return self._numbers[choice_key(value)]

    def check(self, value: object) -> Choice:
        """The choice that equals `value` in type and value.

        Raises:
            ValueError: there is none.
        """
        try:
            return self.choices[self._numbers[choice_key(plain(value))]]
        except (KeyError, TypeError):  # TypeError: not hashable
            raise ValueError(self._not_a_choice(value)) from None

    def _not_a_choice(self, value: object) -> str:
        note = f" ({type(value).__name__})" if any(value == choice for choice in self.choices) else ""
        return (
            f"expected one of {list(self.choices)!r}, got {value!r}{note}; use one of these, types included"
        )

    @property
    def numeric(self) -> bool:
        """Whether every choice is an int or a float, so that a range of them makes sense."""
        return all(
            isinstance(choice, (int, float)) and not isinstance(choice, bool) for choice in self.choices
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Categorical) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[object, ...]:
        # 1, 1.0 and True are different choices, but equal for Python.
        return tuple(map(choice_key, self.choices)), self.ordered, self.when, self.belief

    __repr__ = _repr


Parameter = Float | Int | Categorical
