"""Difficulties added to a problem by a suffix of its name, as in `hartmann6+noise=0.1+fail=0.33`.

- `noise=s`: what is observed is normal around the value, with standard deviation s times the interquartile
  range of the values of 256 random configurations. Scores are of the value without noise.
- `fail=p`: the share p of the space fails, a corner of it, as large networks run out of memory: where the
  encoded numeric parameters (all, where there are none) add up to more than their 1 - p quantile. The
  optimum of the rest is not known then.
- `time=v`: evaluations towards that corner take longer, from 1 / v to v times the middle one.
"""

import math
from collections.abc import Callable

import numpy as np
import torch

from benchmarks.problems.base import Config, Problem

SAMPLES = 256


def wrapped(problem: Problem, suffix: str) -> Problem:
    """The problem with one more difficulty.

    Raises:
        ValueError: the suffix is not one of these.
    """
    kind, _, number = suffix.partition("=")
    if kind not in _WRAPPERS:
        raise ValueError(f"+{suffix}: expected one of {', '.join(f'+{k}=NUMBER' for k in _WRAPPERS)}")
    name = f"{problem.name}+{suffix}"
    return _WRAPPERS[kind](problem, float(number)).changed(name=name, family=f"{problem.family}+{kind}")


def _noisy(problem: Problem, level: float) -> Problem:
    configs = _sample(problem)
    values = [v for v in map(problem.function, configs) if v is not None and math.isfinite(v)]
    scale = level * float(np.subtract(*np.quantile(values, [0.75, 0.25])))
    return problem.changed(observe=lambda value, rng: value + scale * float(rng.standard_normal()))


def _failing(problem: Problem, share: float) -> Problem:
    size = _size_of(problem)
    limit = float(np.quantile([size(config) for config in _sample(problem)], 1.0 - share))

    def function(config: Config) -> float | None:
        return None if size(config) > limit else problem.function(config)

    return problem.changed(function=function, optimum=math.nan)


def _slow(problem: Problem, factor: float) -> Problem:
    size = _size_of(problem)
    low, high = np.quantile([size(config) for config in _sample(problem)], [0.0, 1.0])
    span = max(float(high - low), 1e-12)
    return problem.changed(duration=lambda config: factor ** (2.0 * (size(config) - float(low)) / span - 1.0))


_WRAPPERS: dict[str, Callable[[Problem, float], Problem]] = {"noise": _noisy, "fail": _failing, "time": _slow}


def _size_of(problem: Problem) -> Callable[[Config], float]:
    """How large a configuration is: the sum of its encoded numeric parameters."""
    space = problem.space
    numeric = [j for j, unordered in enumerate(space.categorical) if not unordered] or list(range(space.dim))
    return lambda config: float(space.encode([config])[0][0, numeric].sum())


def _sample(problem: Problem) -> list[Config]:
    """Random configurations, always the same."""
    space = problem.space
    return list(space.decode(space.sample(SAMPLES, torch.Generator().manual_seed(0))))
