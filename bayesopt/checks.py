"""What users pass, checked: the value in its one form, or an error that says what is expected."""

import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch


def several(what: str, configs: object) -> Sequence[Mapping[str, Any]]:
    """A configuration, or several, as a sequence."""
    if not isinstance(configs, Mapping | Sequence) or isinstance(configs, str):
        raise TypeError(
            f"{what} expects a configuration (a dict) or a list of them, got {type(configs).__name__}"
        )
    return [configs] if isinstance(configs, Mapping) else configs


def checked_value(value: object) -> float | None:
    """A finite float, or None for a failed evaluation; TypeError if it is no number."""
    if value is None:
        return None
    if isinstance(value, torch.Tensor | np.ndarray | np.generic):
        if math.prod(value.shape) != 1:
            raise TypeError(f"a value must be one number, got an array of shape {tuple(value.shape)}")
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"a value must be a number, or None for a failed evaluation, got {value!r}")
    try:
        number = float(value)
    except OverflowError:  # an int beyond the largest float is as infinite as inf
        return None
    return number if math.isfinite(number) else None


def several_stds(std: object, count: int) -> list[object]:
    """One for each of so many values, from one for all or a list."""
    is_one = std is None or isinstance(std, numbers.Number | str) or getattr(std, "shape", None) == ()
    if is_one or not isinstance(std, Iterable):
        return [std] * count
    stds = list(std)
    if len(stds) != count:
        raise ValueError(
            f"tell got {len(stds)} std for {count} values; pass one for each, or one number for all"
        )
    return stds


def checked_std(std: object) -> float | None:
    """A positive finite float, or None where it is not known; ValueError or TypeError if it is neither."""
    if std is None:
        return None
    if isinstance(std, torch.Tensor | np.ndarray | np.generic) and math.prod(std.shape) == 1:
        std = std.item()
    if isinstance(std, bool) or not isinstance(std, numbers.Real):
        raise TypeError(f"std must be a positive number, or None where it is not known, got {std!r}")
    try:
        number = float(std)
    except OverflowError:  # an int beyond the largest float
        number = math.inf
    if not 0.0 < number < math.inf:
        raise ValueError(
            f"std must be positive and finite, got {std!r}; None where it is not known, and "
            "Optimizer(deterministic=True) where outcomes have no noise"
        )
    return number


def checked_deterministic(deterministic: object) -> bool | None:
    """True, False or None; TypeError if it is none of them."""
    if deterministic is not None and not isinstance(deterministic, bool):
        raise TypeError(f"deterministic must be True, False or None (find out), got {deterministic!r}")
    return deterministic


def checked_seed(seed: object) -> int:
    """An integer >= 0; ValueError if it is none."""
    return _integer(seed, 0, "seed must be an integer >= 0")


def checked_count(q: object) -> int:
    """A number of configurations to ask for; ValueError if it is none."""
    return _integer(q, 1, "ask expects a number of configurations >= 1")


def checked_tolerance(tolerance: object) -> float:
    """A finite number >= 0; ValueError if it is none."""
    good = isinstance(tolerance, numbers.Real) and not isinstance(tolerance, bool)
    if not good or not 0.0 <= float(tolerance) < math.inf:  # type: ignore[arg-type]  # it is a real number
        raise ValueError(f"tolerance must be a number >= 0 in the units of the outcomes, got {tolerance!r}")
    return float(tolerance)  # type: ignore[arg-type]


def checked_age(age: object) -> int:
    """An integer >= 1; ValueError if it is none."""
    return _integer(age, 1, "max_pending_age must be an integer >= 1, or None")


def _integer(value: object, least: int, expected: str) -> int:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or int(value) < least:
        raise ValueError(f"{expected}, got {value!r}")
    return int(value)


def one_of(name: str, value: object, allowed: tuple[str, ...]) -> str:
    """The value; ValueError if it is not among those allowed."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r}")
    return str(value)


def resolved_device(device: str | torch.device) -> torch.device | None:
    """A device that works, None for "auto"; ValueError if it does not."""
    if device == "auto":
        return None
    try:
        return torch.zeros(1, device=device).device  # with its number
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ValueError(f"device {device!r} cannot be used here ({error}); try 'cpu' or 'auto'") from error
