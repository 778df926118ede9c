"""What a benchmark needs of a problem."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bayesopt import Space
from bayesopt.space import Parameter

Config = Mapping[str, Any]
Observe = Callable[[float, np.random.Generator], float]

FLOOR = 1e-3  # of normalised regret: what nobody who tunes would care to improve
SMOOTH_FLOOR = 1e-8  # where the last digits are the point


class MissingError(ImportError):
    """A problem needs a package that is not installed; the message has the command that installs it."""


@dataclass(frozen=True, eq=False)
class Problem:
    """Something to minimise over a space.

    Attributes:
        name: by which `get` finds it; family: what it is reported with.
        parameters: the space.
        function: of a configuration; None, nan or an infinity if the evaluation fails.
        optimum: smallest value of `function`, nan where nobody knows it.
        floor: normalised regret below which no difference counts.
        observe: what a noisy evaluation shows of a value; None where there is no noise.
        curve: values after each epoch or step, the last one being that of `function`; None if it has none.
        duration: how long an evaluation takes in units of the mean; None if all take equally long.
    """

    name: str
    family: str
    parameters: Mapping[str, Parameter]
    function: Callable[[Config], float | None]
    optimum: float = math.nan
    floor: float = FLOOR
    observe: Observe | None = None
    curve: Callable[[Config], Sequence[float]] | None = None
    duration: Callable[[Config], float] | None = None

    @property
    def space(self) -> Space:
        """The search space."""
        return Space(self.parameters)

    @property
    def dim(self) -> int:
        """Number of parameters."""
        return len(self.parameters)

    def evaluate(self, config: Config, rng: np.random.Generator) -> tuple[float | None, float | None]:
        """What is observed, and the value without noise; both None if the evaluation fails."""
        value = self.function(config)
        if value is None or not math.isfinite(value):
            return None, None
        return (value if self.observe is None else self.observe(float(value), rng)), float(value)

    def changed(self, **fields: Any) -> "Problem":
        """A problem that differs in some fields."""
        return replace(self, **fields)
