"""Stored forms of parameters: plain dictionaries, and TOML text, which the standard library only reads."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields

from bayesopt.beliefs import Belief, belief_from_dict, suggestion
from bayesopt.parameters import Categorical, Float, Int, Parameter
from bayesopt.when import Between

TYPES: dict[str, type[Float] | type[Int] | type[Categorical]] = {
    "float": Float,
    "int": Int,
    "categorical": Categorical,
}


def to_plain(parameter: Parameter) -> dict[str, object]:
    """A parameter as a plain dictionary, fields at their defaults left out."""
    plain: dict[str, object] = {"type": type(parameter).__name__.lower()}
    for field in fields(parameter):
        value = getattr(parameter, field.name)
        if field.default is MISSING or value != field.default:
            plain[field.name] = _plain(value)
    return plain


def _plain(value: object) -> object:
    if isinstance(value, Belief):
        return value.to_dict()
    if isinstance(value, Between):
        bounds = (("min", value.low), ("max", value.high))
        return {name: bound for name, bound in bounds if bound is not None}
    if isinstance(value, Mapping):
        return {name: _plain(condition) for name, condition in value.items()}
    return list(value) if isinstance(value, tuple) else value


def from_plain(name: str, entry: object) -> Parameter:
    """The parameter that `to_plain` described.

    Raises:
        TypeError, ValueError: unknown or missing type or fields, or values that the parameter refuses; the
            message names the parameter.
    """
    try:
        return _parameter(entry)
    except (TypeError, ValueError) as error:
        raise type(error)(f"parameter {name!r}: {error}") from None


def _parameter(entry: object) -> Parameter:
    if not isinstance(entry, Mapping):
        raise TypeError(f'expected a table such as {{"type": "float", "low": 0, "high": 1}}, got {entry!r}')
    kind = entry.get("type")
    if not isinstance(kind, str) or kind not in TYPES:
        raise ValueError(f"unknown type {kind!r}{suggestion(kind, list(TYPES))}; types: {', '.join(TYPES)}")
    known = [field.name for field in fields(TYPES[kind])]
    for field in entry:
        if field not in known and field != "type":
            raise ValueError(
                f"type {kind!r} has no field {field!r}{suggestion(field, known)}; fields: {', '.join(known)}"
            )
    needed = [
        field.name for field in fields(TYPES[kind]) if field.default is MISSING and field.name not in entry
    ]
    if needed:
        raise ValueError(f"type {kind!r} needs {', '.join(needed)}; add the missing fields")
    values = {field: _READ.get(field, _value)(value) for field, value in entry.items() if field != "type"}
    return TYPES[kind](**values)  # type: ignore[arg-type]


def _value(value: object) -> object:
    """A stored value: TOML has no null, so `{none = true}` stands for None."""
    if isinstance(value, Mapping) and dict(value) == {"none": True}:
        return None
    return [_value(item) for item in value] if isinstance(value, list) else value


def _when(conditions: object) -> object:
    if not isinstance(conditions, Mapping):
        return conditions  # None, or the parameter says what is wrong
    return {parent: _condition(parent, condition) for parent, condition in conditions.items()}


def _condition(parent: str, condition: object) -> object:
    value = _value(condition)
    if not isinstance(value, Mapping):
        return value
    unknown = [name for name in value if name not in ("min", "max")]
    if unknown or not value:
        raise ValueError(
            f"when: {parent!r} must be a value, a list or a range {{min = ..., max = ...}}, got {value!r}"
        )
    return Between(value.get("min"), value.get("max"))


def _belief(belief: object) -> object:
    """A table with a type is a belief; the parameter judges everything else, such as choices and weights."""
    if isinstance(belief, Mapping) and isinstance(belief.get("type"), str):
        return belief_from_dict({name: _value(value) for name, value in belief.items()})
    return belief


_READ = {"when": _when, "belief": _belief}


# --- TOML -------------------------------------------------------------------------------------------------


def toml_text(tables: Mapping[str, Mapping[str, object]]) -> str:
    """Tables of plain values as TOML; inner tables inline.

    >>> print(toml_text({"a b": {"low": 1, "when": {"c": [True, None]}}}))
    ["a b"]
    low = 1
    when = {c = [true, {none = true}]}
    <BLANKLINE>
    """
    return "\n".join(
        f"[{_key(name)}]\n" + "".join(f"{_key(field)} = {_toml(value)}\n" for field, value in table.items())
        for name, table in tables.items()
    )


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _string(name)


def _string(text: str) -> str:
    """JSON escapes are TOML escapes; TOML wants DEL escaped too."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _toml(value: object) -> str:
    if value is None:
        return "{none = true}"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(name)} = {_toml(item)}" for name, item in value.items()) + "}"
    if isinstance(value, Sequence):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return repr(value)
