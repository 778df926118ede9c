"""Uniform sampling on the declared scales: what any method has to beat."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.methods.axes import Config, at_unit, axes_of
from benchmarks.methods.protocol import Space


class Random:
    """Uniform sampling."""

    def __init__(self, space: Space, seed: int, budget: int) -> None:
        self._axes = axes_of(space)
        self._rng = np.random.default_rng(seed)

    def ask(self, q: int) -> list[Config]:
        return [at_unit(self._axes, self._rng.random(len(self._axes)).tolist()) for _ in range(q)]

    def tell(self, config: Mapping[str, Any], value: float | None, /) -> None:
        """Nothing to learn."""
