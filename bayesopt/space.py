"""What can be tuned: named parameters, their conditions, and the way between configurations and tensors.

A configuration is a plain dict holding only active parameters. Encoded, it is a row of `X`, one column
for each parameter in declaration order, values in [0, 1]; inactive entries are 0.5.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import NoReturn

import numpy as np
import torch
from torch import Tensor

from bayesopt.axes import Axis, axis_of, together
from bayesopt.beliefs import Array, Table, suggestion
from bayesopt.conditions import Rule, count, cuts_of, parents_first, rules_of
from bayesopt.parameters import Categorical, Float, Int, Parameter
from bayesopt.spacefile import from_plain, to_plain, toml_text
from bayesopt.spaceplan import Plan, belief_tables
from bayesopt.when import Between, Choice, choice_key

__all__ = ["Between", "Categorical", "Choice", "Float", "Int", "Parameter", "Space"]

Config = dict[str, Choice]


class Space(Mapping[str, Parameter]):
    """An immutable search space: a mapping from names to parameters, equal and hashed by content and order.

    Methods that take `X` accept any leading batch dimensions and stay on its device and in its dtype.

    Args:
        parameters: a mapping from names to `Float`, `Int` or `Categorical`; a `Space` gives an equal one.

    Raises:
        TypeError: not a mapping, a name that is not a string, something that is not a parameter.
        ValueError: no parameters, an empty name, conditions that form a cycle or can never hold, a
            belief that gives no weight to any value.

    >>> space = Space({
    ...     "optimizer": Categorical(["adam", "sgd"]),
    ...     "momentum": Float(0.0, 0.9, when={"optimizer": "sgd"}),
    ... })
    >>> X, active = space.encode([{"optimizer": "adam"}, {"optimizer": "sgd", "momentum": 0.9}])
    >>> X
    tensor([[0.2500, 0.5000],
            [0.7500, 1.0000]], dtype=torch.float64)
    >>> space.decode(X)
    [{'optimizer': 'adam'}, {'optimizer': 'sgd', 'momentum': 0.9}]
    """

    _parameters: dict[str, Parameter]
    _rules: tuple[Rule, ...]
    _order: tuple[int, ...]
    _axes: tuple[Axis, ...]
    _tables: dict[int, Table]
    _plans: dict[tuple[torch.device, torch.dtype], Plan]

    def __init__(self, parameters: Mapping[str, Parameter]) -> None:
        checked = _checked(parameters)
        rules = rules_of(checked)
        order = parents_first(list(checked), rules)
        cuts = [cuts_of(rule for rule in rules if rule.parent == column) for column in range(len(checked))]
        axes = tuple(map(axis_of, checked.values(), cuts))
        vars(self).update(
            _parameters=checked,
            _rules=rules,
            _order=tuple(order),
            _axes=axes,
            _tables=belief_tables(checked, axes),
            _plans={},
        )

    # --- a mapping, and a value ---------------------------------------------------------------------------

    def __getitem__(self, name: str) -> Parameter:
        return self._parameters[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parameters)

    def __len__(self) -> int:
        return len(self._parameters)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Space) and list(self.items()) == list(other.items())

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"Space({{{', '.join(f'{name!r}: {parameter!r}' for name, parameter in self.items())}}})"

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a Space is immutable, cannot set {name!r}; build a new one from dict(space)")

    def __reduce__(self) -> tuple[type[Space], tuple[dict[str, Parameter]]]:
        return Space, (self._parameters,)  # without the cached tensors, which may live on a device

    @cached_property
    def _hash(self) -> int:
        return hash(tuple(self._parameters.items()))

    @property
    def parameters(self) -> Mapping[str, Parameter]:
        """The parameters by name, read-only."""
        return MappingProxyType(self._parameters)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names in the order of the columns."""
        return tuple(self._parameters)

    @property
    def dim(self) -> int:
        """Number of parameters `d`, the number of columns of `X`."""
        return len(self._parameters)

    @cached_property
    def levels(self) -> tuple[int | None, ...]:
        """Number of different values of each column; None for a continuum."""
        return tuple(parameter.levels for parameter in self.values())

    @cached_property
    def categorical(self) -> tuple[bool, ...]:
        """Which columns hold choices without an order."""
        return tuple(
            isinstance(parameter, Categorical) and not parameter.ordered for parameter in self.values()
        )

    @cached_property
    def conditional(self) -> tuple[bool, ...]:
        """Which columns have a `when`."""
        return tuple(parameter.when is not None for parameter in self.values())

    @property
    def axes(self) -> tuple[Axis, ...]:
        """How each column lies on [0, 1]."""
        return self._axes

    @property
    def has_conditions(self) -> bool:
        """Whether any column is conditional."""
        return bool(self._rules)

    @property
    def has_belief(self) -> bool:
        """Whether any parameter carries a belief."""
        return bool(self._tables)

    @cached_property
    def size(self) -> int | float:
        """Exact number of different configurations; `math.inf` if a continuous parameter can be active.

        >>> Space({"a": Categorical([1, 2]), "b": Int(1, 10, when={"a": 2})}).size
        11
        """
        return count(self.levels, self._rules)

    # --- configurations -----------------------------------------------------------------------------------

    @cached_property
    def _columns(self) -> tuple[tuple[str, Parameter], ...]:
        """Name and parameter of each column."""
        return tuple(self.items())

    @cached_property
    def _blocks(self) -> tuple[tuple[list[int], Axis], ...]:
        """Columns that are encoded and decoded together, all of them active at the same time; their axis."""
        always = [column for column, conditional in enumerate(self.conditional) if not conditional]
        joint = together([self._axes[column] for column in always])
        alone = tuple(
            ([column], self._axes[column])
            for column, conditional in enumerate(self.conditional)
            if conditional
        )
        return tuple(([always[place] for place in places], axis) for places, axis in joint) + alone

    @cached_property
    def _needs(self) -> tuple[tuple[str, Parameter, tuple[tuple[str, Parameter, Rule], ...]], ...]:
        """Parents first: name, parameter, and for each rule the parent's name, the parent, the rule."""
        names, parameters = self.names, list(self.values())
        rules: list[list[tuple[str, Parameter, Rule]]] = [[] for _ in names]
        for rule in self._rules:
            rules[rule.child].append((names[rule.parent], parameters[rule.parent], rule))
        return tuple((names[column], parameters[column], tuple(rules[column])) for column in self._order)

    @cached_property
    def _declared(self) -> bool:
        """Whether parents are declared before their children."""
        return list(self._order) == sorted(self._order)

    def validate(self, config: Mapping[str, object]) -> Config:
        """The configuration in declaration order, its values canonical: 1 becomes 1.0 for a Float, and so on.

        Raises:
            TypeError: not a mapping, or a value of the wrong type.
            ValueError: an active parameter is missing, an inactive or unknown one is given, a value is
                outside its range, off its step or no choice. The message names the parameter and the fix.

        >>> Space({"lr": Float(0, 1), "layers": Int(1, 4)}).validate({"layers": 2.0, "lr": 1})
        {'lr': 1.0, 'layers': 2}
        """
        if not isinstance(config, Mapping):
            raise TypeError(
                f"a configuration must be a mapping from names to values, got {config!r}; pass a dict"
            )
        for name in config:
            if name not in self._parameters:
                known = f"{suggestion(name, self.names)}; the space has {', '.join(self.names)}"
                raise ValueError(f"unknown parameter {name!r}{known}; remove it or fix the name")
        valid: Config = {}
        for name, parameter, needs in self._needs:
            unmet = _unmet(needs, valid) if needs else ""
            if unmet:
                if name in config:
                    raise ValueError(
                        f"parameter {name!r} is inactive: {unmet}; remove {name!r} or change its condition"
                    )
            elif name not in config:
                raise ValueError(
                    f"parameter {name!r} is active but missing; give it a value like {parameter!r}"
                )
            else:
                valid[name] = _check(name, parameter, config[name])
        return valid if self._declared else {name: valid[name] for name in self.names if name in valid}

    def key(self, config: Mapping[str, object]) -> tuple[object, ...]:
        """A hashable that two configurations share exactly if they are the same; True, 1 and 1.0 stay apart.

        Raises:
            TypeError, ValueError: as in `validate`.
        """
        valid = self.validate(config)
        return tuple(choice_key(valid[name]) if name in valid else None for name in self.names)

    def encode(self, configs: Sequence[Mapping[str, object]]) -> tuple[Tensor, Tensor]:
        """Encoded values `(n, d)` float64 and the activity mask `(n, d)` of `n` configurations, on the CPU.

        Continuous values go to their relative place on the declared scale, levels to the centres of
        their bins, inactive entries to 0.5.

        Raises:
            TypeError, ValueError: as in `validate`; the message gives the position too.
        """
        if isinstance(configs, Mapping):
            raise TypeError(
                f"encode takes a sequence of configurations, got one mapping {configs!r}; put it in a list"
            )
        valid = []
        for position, config in enumerate(configs):
            try:
                valid.append(self.validate(config))
            except (TypeError, ValueError) as error:
                raise type(error)(f"configuration {position}: {error}") from None
        X = np.full((len(valid), self.dim), 0.5)
        active = np.ones(X.shape, dtype=np.bool_)
        for columns, axis in self._blocks:
            found = []
            for column in columns:
                name, parameter = self._columns[column]
                if self.conditional[column]:
                    active[:, column] = [name in config for config in valid]
                found.append(_coordinates(parameter, [config[name] for config in valid if name in config]))
            for column, x in zip(columns, axis.encode(np.array(found).T).T, strict=True):
                X[active[:, column], column] = x
        return torch.from_numpy(X), torch.from_numpy(active)

    def decode(self, X: Tensor) -> list[Config]:
        """The configurations `(n,)` at encoded values `X (n, d)`, snapped, as plain Python values.

        Discrete values decode exactly. Floats come back within rounding errors of the range (why not
        bitwise: see `Continuum`), always inside it, exact at both ends; encoding a decoded configuration
        and decoding it again changes nothing.

        Raises:
            TypeError: not a floating-point tensor.
            ValueError: not of shape `(n, d)`, or it holds nan.
        """
        self._check_encoded(X)
        if X.ndim != 2:
            raise ValueError(
                f"decode takes X of shape (n, {self.dim}), got {tuple(X.shape)}; "
                f"use X.reshape(-1, {self.dim})"
            )
        if bool(X.isnan().any()):
            raise ValueError("decode needs values in [0, 1], X holds nan; find where it came from")
        snapped, active = self.snap(X.detach().cpu().to(torch.float64))
        values: list[Sequence[Choice]] = [()] * self.dim
        for columns, axis in self._blocks:
            for column, coordinates in zip(columns, axis.decode(snapped.numpy()[:, columns]).T, strict=True):
                values[column] = _values(self._columns[column][1], coordinates)
        rows = zip(*values, strict=True)
        if not self._rules:
            return [dict(zip(self.names, row, strict=True)) for row in rows]
        return [
            {name: value for name, value, on in zip(self.names, row, mask, strict=True) if on}
            for row, mask in zip(rows, active.tolist(), strict=True)
        ]

    def grid(self) -> Iterator[Config]:
        """Every configuration of a finite space once, lazily; the first parameter changes slowest.

        Parents that are declared after their children count as if declared just before them.

        Raises:
            ValueError: the space is infinite.

        >>> list(Space({"a": Int(1, 2), "b": Categorical(["x"], when={"a": 2})}).grid())
        [{'a': 1}, {'a': 2, 'b': 'x'}]
        """
        for name, levels in zip(self.names, self.levels, strict=True):
            if levels is None:
                raise ValueError(
                    f"parameter {name!r} is continuous, so the grid is infinite; give it a step="
                )
        return self._walk()

    def _walk(self) -> Iterator[Config]:
        """The odometer behind `grid`: one open iterator of values for each parameter assigned so far."""
        names = [name for name, _, _ in self._needs]
        assigned: Config = {}
        wheels = [self._wheel(0, assigned)]
        while wheels:
            name = names[len(wheels) - 1]
            step = next(wheels[-1], None)
            if step is None:
                wheels.pop()
                assigned.pop(name, None)
                continue
            if step:
                assigned[name] = step[0]
            if len(wheels) < len(names):
                wheels.append(self._wheel(len(wheels), assigned))
            else:
                yield {name: assigned[name] for name in self.names if name in assigned}

    def _wheel(self, depth: int, assigned: Config) -> Iterator[tuple[Choice, ...]]:
        """The values of a parameter, each in a tuple; one empty tuple if it is inactive."""
        _, parameter, needs = self._needs[depth]
        if needs and _unmet(needs, assigned):
            return iter([()])
        assert parameter.levels is not None
        return ((parameter.level(k),) for k in range(parameter.levels))

    # --- tensors ------------------------------------------------------------------------------------------

    def snap(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """The nearest encoded configuration `(*b, d)` and its activity mask `(*b, d)`, in the dtype of `X`.

        Clamps to [0, 1], moves discrete columns to the centre of their bin and sets inactive entries to
        0.5. A column with more levels than the dtype can tell apart is only clamped; `decode` rounds it.
        The mask of a space without conditions is one expanded True: copy it before writing.

        Raises:
            TypeError: not a floating-point tensor.
            ValueError: the last dimension is not `d`.

        >>> space = Space({"a": Int(1, 4), "b": Float(0, 1)})
        >>> space.snap(torch.tensor([0.3, 1.2]))[0]
        tensor([0.3750, 1.0000])
        """
        self._check_encoded(X)
        plan = self._plan(X)
        snapped = plan.rounded(X)
        active = plan.activity(snapped)
        return (torch.where(active, snapped, 0.5) if self._rules else snapped), active

    def rounded(self, X: Tensor) -> Tensor:
        """As `snap`, but every column as if it were active.

        Raises:
            TypeError, ValueError: as in `snap`.
        """
        self._check_encoded(X)
        return self._plan(X).rounded(X)

    def activity(self, X: Tensor) -> Tensor:
        """Which parameters are active at encoded `X (*b, d)`: bool `(*b, d)`, from the snapped parents."""
        self._check_encoded(X)
        plan = self._plan(X)
        return plan.activity(plan.rounded(X) if self._rules else X)

    def from_uniform(self, U: Tensor) -> Tensor:
        """Encoded values `(*b, d)`, snapped, that follow the beliefs if `U (*b, d)` is uniform on [0, 1].

        Each column is a nondecreasing function of its uniform; without a belief, the identity.

        Raises:
            TypeError, ValueError: as in `snap`.
        """
        return self.snap(self.quantile(U))[0]

    def quantile(self, U: Tensor) -> Tensor:
        """As `from_uniform`, but not snapped: every column as if it were continuous and active.

        Raises:
            TypeError, ValueError: as in `snap`.
        """
        self._check_encoded(U)
        return self._plan(U).quantile(U.clamp(0.0, 1.0))

    def belief(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """Log prior density at `X (*b, n, d)`, shape `(*b, n)`, and its gradient `(*b, n, d)`.

        The sum over active parameters of the log density of the belief on the encoded axis, relative
        to uniform: 0 everywhere without beliefs, nowhere below -30 a parameter. The gradient is 0 in
        discrete, inactive and indifferent columns.

        Raises:
            TypeError, ValueError: as in `snap`.
        """
        logp, slope = self.belief_columns(X)
        if self._rules:
            active = self.activity(X)
            logp, slope = torch.where(active, logp, 0.0), torch.where(active, slope, 0.0)
        return logp.sum(-1), slope

    def belief_columns(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """The terms `(*b, n, d)` of which `belief` is the sum, and their slopes, as if all were active.

        Raises:
            TypeError, ValueError: as in `snap`.
        """
        self._check_encoded(X)
        plan = self._plan(X)
        logp, slope = torch.zeros_like(X), torch.zeros_like(X)
        if plan.tables is not None:
            logps, slopes = plan.tables.log_density(X[..., plan.believed].clamp(0.0, 1.0))
            logp[..., plan.believed] = logps.to(X.dtype)
            slope[..., plan.believed] = (slopes * plan.sloped).to(X.dtype)
        return logp, slope

    def centre(self) -> Tensor:
        """One encoded point `(d,)`, float64: the median of each belief, elsewhere 0.5; not snapped."""
        half = torch.full((self.dim,), 0.5, dtype=torch.float64)
        return self._plan(half).quantile(half)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """`n` random encoded configurations `(n, d)`, float64, on the generator's device; beliefs apply.

        Raises:
            TypeError: `n` is not an int, or no generator is given.
            ValueError: `n` is negative.
        """
        if isinstance(n, bool) or not isinstance(n, int):
            raise TypeError(f"sample: n must be an int, got {n!r}; give the number of configurations")
        if n < 0:
            raise ValueError(f"sample: n must be 0 or more, got {n!r}; give the number of configurations")
        if not isinstance(generator, torch.Generator):
            raise TypeError(
                f"sample: generator must be a torch.Generator, got {generator!r}; it makes runs repeatable"
            )
        return self.from_uniform(
            torch.rand(n, self.dim, generator=generator, device=generator.device, dtype=torch.float64)
        )

    def _check_encoded(self, X: Tensor) -> None:
        given: object = X
        if not isinstance(given, Tensor) or not given.is_floating_point():
            got = f"dtype {given.dtype}" if isinstance(given, Tensor) else repr(given)
            raise TypeError(
                f"encoded values must be a floating-point tensor, got {got}; encode configurations first"
            )
        if X.ndim < 1 or X.shape[-1] != self.dim:
            raise ValueError(
                f"encoded values must have shape (..., {self.dim}), one column for each parameter, "
                f"got {tuple(X.shape)}"
            )

    def _plan(self, X: Tensor) -> Plan:
        key = (X.device, X.dtype)
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plans[key] = Plan.of(self._axes, self._rules, self._tables, X)
        return plan

    # --- stored forms -------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, dict[str, object]]:
        """Plain dictionaries, lists, strings and numbers that `from_dict` turns into an equal space.

        >>> Space({"layers": Int(1, 6)}).to_dict()
        {'layers': {'type': 'int', 'low': 1, 'high': 6}}
        """
        return {name: to_plain(parameter) for name, parameter in self.items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> Space:
        """The space that `to_dict` described; see `to_toml` for the fields.

        Raises:
            TypeError, ValueError: unknown types or fields, missing fields, or what `Space` refuses.
        """
        if not isinstance(data, Mapping):
            raise TypeError(f"a stored space must be a mapping from names to tables, got {data!r}")
        return cls({name: from_plain(name, entry) for name, entry in data.items()})

    def to_json(self) -> str:
        """`to_dict` as JSON text."""
        return json.dumps(self.to_dict(), ensure_ascii=False, indent=2)

    @classmethod
    def from_json(cls, text: str) -> Space:
        """The space in JSON text.

        Raises:
            ValueError: not JSON, or as in `from_dict`.
        """
        try:
            data = json.loads(text)
        except ValueError as error:
            raise ValueError(f"the space is not valid JSON: {error}; fix the text") from None
        return cls.from_dict(data)

    def to_toml(self) -> str:
        """TOML text, one table for each parameter, meant to be written by hand too.

        `when` maps parents to a value, a list of values, or a range `{min = 3, max = 5}` of which one side
        may be left out. TOML has no null: the choice None is `{none = true}`.

        >>> lr = Float(1e-5, 0.1, log=True, when={"opt": "sgd"})
        >>> print(Space({"opt": Categorical(["sgd", None]), "lr": lr}).to_toml())
        [opt]
        type = "categorical"
        choices = ["sgd", {none = true}]
        <BLANKLINE>
        [lr]
        type = "float"
        low = 1e-05
        high = 0.1
        log = true
        when = {opt = "sgd"}
        <BLANKLINE>
        """
        return toml_text(self.to_dict())

    @classmethod
    def from_toml(cls, text: str) -> Space:
        """The space in TOML text.

        Raises:
            ValueError: not TOML, or as in `from_dict`.
        """
        try:
            data = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ValueError(f"the space is not valid TOML: {error}; fix the text") from None
        return cls.from_dict(data)


# --- construction -----------------------------------------------------------------------------------------


def _checked(parameters: Mapping[str, Parameter]) -> dict[str, Parameter]:
    """A copy of the mapping, after checking names and types."""
    if not isinstance(parameters, Mapping):
        raise TypeError(
            f"a space must be a mapping from names to parameters, got {parameters!r}; pass a dict"
        )
    if not parameters:
        raise ValueError(
            "a space must have at least one parameter, got none; add a Float, Int or Categorical"
        )
    for name, parameter in parameters.items():
        if not isinstance(name, str):
            raise TypeError(f"names of parameters are strings, got {name!r}; use {str(name)!r}")
        if not name:
            raise ValueError(f"a parameter has an empty name; give {parameter!r} a name")
        if not isinstance(parameter, (Float, Int, Categorical)):
            raise TypeError(
                f"parameter {name!r} must be a Float, Int or Categorical, got {parameter!r}; wrap it in one"
            )
    return dict(parameters)


def _check(name: str, parameter: Parameter, value: object) -> Choice:
    try:
        return parameter.check(value)
    except (TypeError, ValueError) as error:
        raise type(error)(f"parameter {name!r}: {error}") from None


def _unmet(needs: Sequence[tuple[str, Parameter, Rule]], valid: Config) -> str:
    """Why a parameter is inactive, given the checked values of its parents; empty if it is active."""
    for parent, parameter, rule in needs:
        if parent not in valid:
            return f"it needs {rule.text}, but {parent} is itself inactive"
        if not rule.holds(_coordinate(parameter, valid[parent])):
            return f"it needs {rule.text}, but {parent} is {valid[parent]!r}"
    return ""


def _coordinate(parameter: Parameter, value: Choice) -> float:
    """Level number of a discrete value, a continuous one as it is."""
    return parameter.index(value) if parameter.levels is not None else value  # type: ignore[arg-type, return-value]


def _coordinates(parameter: Parameter, values: Sequence[Choice]) -> Array:
    if parameter.levels is not None:
        values = list(map(parameter.index, values))  # type: ignore[arg-type]
    return np.array(values, dtype=np.float64)


def _values(parameter: Parameter, coordinates: Array) -> Sequence[Choice]:
    """The opposite of `_coordinates`."""
    if parameter.levels is None:
        return coordinates.tolist()
    return list(map(parameter.level, coordinates.astype(np.int64).tolist()))
