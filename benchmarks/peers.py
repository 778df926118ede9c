"""The methods one configuration at a time, as the commands that measure a single study use them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from bayesopt import Optimizer, Space
from benchmarks.methods import METHODS, Method, chosen
from benchmarks.report import progress

Config = Mapping[str, Any]


class Peer(Protocol):
    """What a benchmark needs of a method; smaller values are better."""

    def ask(self) -> Config:
        """The next configuration to try."""

    def tell(self, config: Config, value: float | None, /) -> None:
        """The outcome of a configuration, proposed or not; None if its evaluation failed."""


@dataclass(frozen=True, eq=False)
class Single:
    """A method that is asked for one configuration at a time."""

    method: Method

    def ask(self) -> Config:
        return self.method.ask(1)[0]

    def tell(self, config: Config, value: float | None, /) -> None:
        self.method.tell(config, value)


def build(name: str, space: Mapping[str, Any], seed: int, budget: int = 100) -> Peer:
    """One study of a method by its full name; ours is the `Optimizer`, a plain Gaussian process by itself."""
    method = chosen(name)
    if method.ours:
        return Optimizer(space, seed=seed, **{"method": "gp", **method.settings})
    return Single(method.build(Space(space).to_dict(), seed, budget))


def available(names: Sequence[str]) -> list[str]:
    """The named methods that are installed, in order; for the others, says how to install them."""
    for name in names:
        if not METHODS[name].installed:
            progress(f"{name} is skipped; install it with: {METHODS[name].command}")
    return [name for name in names if METHODS[name].installed]
