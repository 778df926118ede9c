"""A simulated clock: several workers evaluate at once, in no time."""

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from benchmarks.peers import Config, Peer
from benchmarks.problems.functions import Array

VARIATION = 0.5  # standard deviation of the times over their mean

Function = Callable[[Config], float]


def durations(seed: int, count: int) -> list[float]:
    """How long each evaluation takes, in the order in which they are started: log-normal, mean 1.

    If ln t is normal with variance s^2 = ln(1 + v^2) and mean -s^2 / 2, then t has mean 1 and standard
    deviation v. The list is the seed's alone, and a longer one begins with the shorter.
    """
    s2 = math.log(1.0 + VARIATION**2)
    normal = np.random.default_rng([seed, 3]).standard_normal(count)
    times: list[float] = np.exp(math.sqrt(s2) * normal - 0.5 * s2).tolist()
    return times


class Clock:
    """The running evaluations of one study; the next event is the end of the earliest.

    Args:
        times: durations of the evaluations in the order of their start.
    """

    def __init__(self, times: Sequence[float]) -> None:
        self.now = 0.0
        self.started = 0
        self._times = times
        self._running: list[tuple[float, int, Config]] = []

    def start(self, config: Config, factor: float = 1.0) -> None:
        """An evaluation begins now, which takes `factor` times its usual duration."""
        end = self.now + factor * self._times[self.started]
        heapq.heappush(self._running, (end, self.started, config))
        self.started += 1

    def finish(self) -> tuple[int, Config]:
        """Go to the end of the earliest running evaluation; its place in the order of starts, its config."""
        self.now, place, config = heapq.heappop(self._running)
        return place, config


class Studies(Protocol):
    """Studies in lockstep: one configuration, one outcome for each, as `bayesopt.Replicates`."""

    def ask(self) -> Sequence[Config]:
        """The next configuration of each."""

    def tell(self, configs: Sequence[Config], values: Sequence[float], /) -> None:
        """One outcome of each."""


@dataclass(frozen=True, eq=False)
class Alone:
    """One study of any method as `Studies`."""

    peer: Peer

    def ask(self) -> list[Config]:
        return [self.peer.ask()]

    def tell(self, configs: Sequence[Config], values: Sequence[float], /) -> None:
        self.peer.tell(configs[0], values[0])


def simulate(
    studies: Studies, functions: Sequence[Function], workers: int, times: Sequence[Sequence[float]]
) -> tuple[Array, Array]:
    """Run each of S studies on its function with its own workers.

    At time 0 each worker is given a configuration; whenever an evaluation ends it is told, and its worker
    is given the next configuration, until all N have been started. Asking takes no time.

    Args:
        times: durations `(S, N)` of the evaluations of each study, in the order of their start.

    Returns:
        When each evaluation ended, and its value, both `(S, N)` in the order in which they ended.
    """
    count = len(times[0])
    clocks = [Clock(row) for row in times]

    def start() -> None:
        for clock, config in zip(clocks, studies.ask(), strict=True):
            clock.start(config)

    for _ in range(min(workers, count)):
        start()
    ended, values = [], []
    for _ in range(count):
        configs = [clock.finish()[1] for clock in clocks]
        ended.append([clock.now for clock in clocks])
        values.append([function(config) for function, config in zip(functions, configs, strict=True)])
        studies.tell(configs, values[-1])
        if clocks[0].started < count:
            start()
    return np.array(ended).T, np.array(values).T
