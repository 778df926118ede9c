"""CMA-ES through the `cmaes` package, its state rebuilt from the history at every ask.

A generation is as many consecutive results, in canonical order, as the population has members. The rest of
this file makes the Gaussian of Hansen (2016), arXiv:1604.00772, serve every space:

- Results that the method did not propose give the first Gaussian (Nomura et al. 2021, arXiv:2012.06932).
- A discrete column is the bin in which a Gaussian value lies. What a told value says about it is an interval:
  the value itself, its bin, or all of [0, 1] where the column was inactive. The algorithm learns from a draw
  of its own Gaussian within the interval, so that steps have the size that it expects.
- Where the Gaussian is narrow against the bin of its mean, proposals are stretched until they leave the bin
  with a minimal probability, the margin of Hamano et al. (2022), arXiv:2205.13482.
- Unordered choices have probabilities of their own. They move towards those of the better half of a
  generation, by the natural gradient with the weights of CMA-ES (Hamano et al. 2024, arXiv:2405.09962).
- Where a run has converged another one begins, with twice the population (Auger & Hansen 2005).
"""

import math
from collections.abc import Sequence
from copy import copy, deepcopy
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from bayesopt.acquisition.distinct import SAME, is_taken, untried
from bayesopt.axes import Axis
from bayesopt.beliefs import Array
from bayesopt.methods.history import History, generator
from bayesopt.space import Space

if TYPE_CHECKING:
    from cmaes import CMA

#: First standard deviation, in encoded units: 0.2 to 0.5 of the range (Hansen 2016, appendix B).
SIGMA = 0.3

#: Of results brought along: the share that is promising, and the standard deviation around each of them.
PROMISING, BLUR = 0.1, 0.1

#: Draws from the beliefs that give choices their first probabilities.
BELIEVED = 1024

#: Step of the probabilities of choices towards what the better half chose.
CHOICE_RATE = 0.3

#: Draws of a proposal until it is a new one; after them any new configuration will do.
ATTEMPTS = 32

#: Longest step of a value that is drawn from an interval, in its standard deviations.
LONGEST = 3.0

#: A step longer than the expected length by this much, in standard deviations, is none of the Gaussian's own.
FOREIGN_STEP = 5.0

#: The outcome of a failure, in the units of `Run`.
_WORST = 1e100


def check_cmaes() -> None:
    """Check that the `cmaes` package is installed.

    Raises:
        ImportError: it is not; the message says how to install it.
    """
    try:
        import cmaes  # noqa: F401
    except ImportError as error:
        raise ImportError("method='cmaes' needs the cmaes package; pip install cmaes") from error


def propose_cmaes(space: Space, history: History, q: int) -> Tensor:
    """q proposals for each study, `(b, q, d)` snapped: draws from the distribution that the history gives.

    Pending evaluations do not change the distribution; they count once they are told.

    Raises:
        ImportError: the `cmaes` package is not installed.
    """
    check_cmaes()
    known = history.known().cpu()
    proposals = []
    for i, seed in enumerate(history.seeds):
        X, active, y = (told[i].cpu() for told in (history.X, history.active, history.y))
        run = replay(space, X, active, y, seed, history.foreign)
        sources = [generator(seed, history.asked, slot) for slot in range(q)]
        proposals.append(_propose(run, known[i], sources))
    return torch.stack(proposals).to(history.X.device)


def _propose(run: "Run", taken: Tensor, sources: Sequence[torch.Generator]) -> Tensor:
    """A new point from each source, `(q, d)`."""
    start = len(taken)
    for source in sources:
        for _ in range(ATTEMPTS):
            x = run.sample(source)
            if not bool(is_taken(x[None, None], taken[None])):
                break
        else:
            x = untried(run.space, taken, source, x)
        taken = torch.cat([taken, x[None]])
    return taken[start:]


def replay(space: Space, X: Tensor, active: Tensor, y: Tensor, seed: int, foreign: int = 0) -> "Run":
    """The run that a study is in, from what was told: `X`, `active` `(n, d)`, `y (n,)`, nan for a failure.

    Its random numbers come from the streams (results so far, 0, 1) of the seed. The generations of the last
    call are not learnt again if this history begins with the same results.
    """
    latest = _latest(space, seed, foreign)
    told, digest, run = latest[0]
    if run is None or digest != _digest(X[:told], y[:told]):
        promising = _promising(X[:foreign], active[:foreign], y[:foreign])
        told, run = foreign, Run.first(space, *promising, generator(seed, 0, 0, 1))
    run = run.copy()
    while told + run.size <= len(y):
        now = slice(told, told + run.size)
        told += run.size
        source = generator(seed, told, 0, 1)
        with np.errstate(all="ignore"):  # a run that breaks down has converged
            run.learn(*_intervals(space, X[now].numpy(), active[now].numpy()), y[now].numpy(), source)
            if run.has_converged():
                run = Run.of(space, 2 * run.size, space.sample(1, source)[0])
    latest[0] = told, _digest(X[:told], y[:told]), run
    return run.copy()


@lru_cache(maxsize=256)
def _latest(space: Space, seed: int, foreign: int) -> "list[tuple[int, bytes, Run | None]]":
    """Where the last replay of a study ended: results learnt from, their digest, the run."""
    return [(0, b"", None)]


def _digest(X: Tensor, y: Tensor) -> bytes:
    return blake2b(X.numpy().tobytes() + y.numpy().tobytes(), digest_size=16).digest()


def _promising(X: Tensor, active: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The best share of the successes among `X`, `active` `(n, d)`: one at least, if there is a success."""
    succeeded = int(torch.isfinite(y).sum())
    count = min(succeeded, max(1, math.floor(PROMISING * succeeded)))
    best = y.nan_to_num(math.inf).argsort(stable=True)[:count]
    return X[best], active[best]


def _intervals(space: Space, X: Array, active: Array) -> tuple[Array, Array]:
    """Where the Gaussian values behind `X (n, d)` may lie: two arrays `(n, d)`, in [0, 1]."""
    lower, upper = X.copy(), X.copy()
    for j, axis in enumerate(space.axes):
        if axis.discrete:
            lower[:, j], upper[:, j] = _bins(axis, X[:, j])
    return np.where(active, lower, 0.0).clip(0.0, 1.0), np.where(active, upper, 1.0).clip(0.0, 1.0)


def _bins(axis: Axis, x: Array) -> tuple[Array, Array]:
    """Edges of the bins of encoded values `(n,)` on a discrete axis, infinite at the ends of the axis."""
    levels, place = np.unique(axis.decode(x), return_inverse=True)
    edges = np.array([[axis.threshold(k), axis.threshold(k + 1)] for k in levels]).reshape(-1, 2)
    return edges[place, 0], edges[place, 1]


@dataclass(eq=False)
class Run:
    """A run of the algorithm: a Gaussian over numeric columns, probabilities of choices; `learn` changes it.

    Attributes:
        size: of the population.
        numeric, choices: the columns of both kinds, those with more than one level.
        cma: the Gaussian, None without numeric columns.
        chances: probabilities of the levels of each column of choices.
        unit: an outcome and a difference of outcomes, which count as 0 and 1; None before the first success.
    """

    space: Space
    size: int
    numeric: list[int]
    choices: list[int]
    cma: "CMA | None"
    chances: list[Array]
    unit: tuple[float, float] | None = None

    @classmethod
    def of(cls, space: Space, size: int | None = None, mean: Tensor | None = None) -> "Run":
        """A run around `mean (d,)`, or around the centre of the space, that has learnt nothing."""
        mean = space.centre() if mean is None else mean
        return cls._of(space, size, mean.numpy()[_numeric(space)], SIGMA)

    @classmethod
    def first(cls, space: Space, X: Tensor, active: Tensor, source: torch.Generator) -> "Run":
        """A run that begins at promising points `X`, `active` `(n, d)`; by the beliefs, if there are none."""
        from cmaes import get_warm_start_mgd

        if not len(X):
            believed = space.snap(space.sample(BELIEVED if space.has_belief else 0, source))
            return cls.of(space)._chosen(*(t.numpy() for t in believed))
        # An inactive value says nothing, so it may be any. In units of BLUR no determinant underflows.
        points = torch.where(active, X, space.sample(len(X), source)).numpy()[:, _numeric(space)] / BLUR
        if not points.shape[1]:
            return cls.of(space)._chosen(X.numpy(), active.numpy())
        mean, sigma, cov = get_warm_start_mgd([(x, 0.0) for x in points], gamma=1.0, alpha=1.0)
        run = cls._of(space, None, (mean * BLUR).clip(0.0, 1.0), sigma * BLUR, cov)
        return run._chosen(X.numpy(), active.numpy())

    @classmethod
    def _of(
        cls, space: Space, size: int | None, mean: Array, sigma: float, cov: Array | None = None
    ) -> "Run":
        from cmaes import CMA

        choices = [j for j, levels in enumerate(space.levels) if levels != 1 and space.categorical[j]]
        size = size or 4 + math.floor(3 * math.log(max(1, len(mean) + len(choices))))  # Hansen 2016, eq. 48
        bounds = np.tile([0.0, 1.0], (len(mean), 1))
        cma = CMA(mean, sigma, bounds, population_size=size, cov=cov) if len(mean) else None
        chances = [np.full(space.levels[j] or 0, 1.0 / (space.levels[j] or 1)) for j in choices]
        return cls(space, size, _numeric(space), choices, cma, chances)

    def _chosen(self, X: Array, active: Array) -> "Run":
        """The same run, with each level of a choice as likely as in `X (n, d)`, after one more of each."""
        for c, j in enumerate(self.choices):
            seen = self.space.axes[j].decode(X[active[:, j], j]).astype(np.int64)
            counts = 1.0 + np.bincount(seen, minlength=len(self.chances[c]))
            self.chances[c] = counts / counts.sum()
        return self

    def copy(self) -> "Run":
        """One that may change alone."""
        other = copy(self)
        other.chances = list(self.chances)
        if self.cma is not None:
            other.cma = object.__new__(type(self.cma))
            other.cma.__dict__.update(deepcopy(self.cma.__dict__))  # its own __getstate__ rounds
        return other

    def sample(self, source: torch.Generator) -> Tensor:
        """A configuration `(d,)`, encoded and snapped."""
        x = np.full(self.space.dim, 0.5)
        if self.cma is not None:
            self.cma.reseed_rng(int(torch.randint(2**32, (), generator=source)))
            mean = self.cma.mean
            x[self.numeric] = mean + self._stretch() * (self.cma.ask() - mean)
        uniform = torch.rand(len(self.choices), generator=source, dtype=torch.float64).numpy()
        for j, chances, u in zip(self.choices, self.chances, uniform, strict=True):
            level = min(int(np.searchsorted(chances.cumsum(), u, side="right")), len(chances) - 1)
            x[j] = (level + 0.5) / len(chances)
        return self.space.snap(torch.from_numpy(x))[0]

    def learn(self, lower: Array, upper: Array, y: Array, source: torch.Generator) -> None:
        """Learn a generation: intervals `(size, d)` and outcomes `(size,)`, nan for a failure."""
        order = np.argsort(np.where(np.isfinite(y), y, np.inf), kind="stable")
        lower, upper, values = lower[order], upper[order], self._values(y[order])
        if self.cma is not None:
            uniform = torch.rand(self.size, len(self.numeric), generator=source, dtype=torch.float64)
            points = self._drawn(lower[:, self.numeric], upper[:, self.numeric], uniform)
            self.cma.tell(list(zip(self._shortened(points), values, strict=True)))
        for c, j in enumerate(self.choices):
            self._choose(c, lower[:, j], upper[:, j])

    def has_converged(self) -> bool:
        """Whether proposals cannot be told apart any more, or the Gaussian says so itself."""
        if self.cma is None:
            return False
        return not self._std().max() > 10 * SAME or bool(self.cma.should_stop())

    def _values(self, y: Array) -> Array:
        """Outcomes as differences from the first ones, in units of their spread; a failure is the worst.

        CMA-ES looks at ranks, but for the range below which it stops, which is absolute.
        """
        good = y[np.isfinite(y)]
        if self.unit is None and len(good):
            spread = float(np.median(good) / 2 - good[0] / 2)
            self.unit = float(good[0]), spread or 0.5
        origin, spread = self.unit or (0.0, 1.0)
        values = (y / 2 - origin / 2) / spread
        return np.where(np.isfinite(y), values.clip(-_WORST / 2, _WORST / 2), _WORST)

    def _std(self) -> Array:
        assert self.cma is not None
        return np.asarray(self.cma._sigma * np.sqrt(np.diag(self.cma._C)).clip(1e-150))

    def _stretch(self) -> Array:
        """Factors `(numeric,)`, 1 or more, by which steps reach the next bin often enough."""
        assert self.cma is not None
        reach = float(torch.special.ndtri(torch.tensor(1.0 - 1.0 / (len(self.numeric) * self.size))))
        std, stretch = self._std(), np.ones(len(self.numeric))
        for k, j in enumerate(self.numeric):
            axis, mean = self.space.axes[j], self.cma.mean[k : k + 1]
            if axis.discrete:
                lower, upper = _bins(axis, mean.clip(0.0, 1.0))
                distance = min(mean - lower, upper - mean)
                stretch[k] = max(1.0, distance.item() / (reach * std[k]))
        return stretch

    def _drawn(self, lower: Array, upper: Array, uniform: Tensor) -> Array:
        """Points `(size, numeric)` of the Gaussian within intervals, each column alone, not stretched."""
        assert self.cma is not None
        mean, std, stretch = self.cma.mean, self._std(), self._stretch()
        low, high = (torch.from_numpy((edge - mean) / (std * stretch)) for edge in (lower, upper))
        below, above = torch.special.ndtr(low), torch.special.ndtr(high)
        step = torch.special.ndtri(below + uniform * (above - below)).clamp(-LONGEST, LONGEST)
        return np.where(lower == upper, lower, mean + std * step.numpy())

    def _shortened(self, points: Array) -> Array:
        """Points `(size, numeric)`, steps that are no steps of this Gaussian made shorter.

        Hansen (2011), arXiv:1110.4181, "Injecting external solutions into CMA-ES"; with a limit that its own
        steps do not reach.
        """
        assert self.cma is not None
        B, D = self.cma._eigen_decomposition()
        steps = points - self.cma.mean
        length = np.linalg.norm(steps @ B / D, axis=-1, keepdims=True) / self.cma._sigma
        limit = math.sqrt(len(self.numeric)) + FOREIGN_STEP
        return np.where(length > limit, self.cma.mean + steps * (limit / length), points)

    def _choose(self, c: int, lower: Array, upper: Array) -> None:
        """Move the probabilities of choices c towards those of the better half, where they were active."""
        chances, better = self.chances[c], self.size // 2
        weights = math.log((self.size + 1) / 2) - np.log(np.arange(1, better + 1))  # Hansen 2016, eq. 49
        weights = np.where(upper - lower < 1.0, 1.0, 0.0)[:better] * weights / weights.sum()
        levels = (lower[:better] * len(chances) + 0.5).astype(np.int64) % len(chances)
        chosen = np.bincount(levels, weights, len(chances))
        chances = chances + CHOICE_RATE * (chosen - weights.sum() * chances)
        least = (1.0 - 0.73 ** (1.0 / len(self.choices))) / (len(chances) - 1)
        raised = np.maximum(chances, least)
        self.chances[c] = raised - (raised.sum() - 1.0) * (raised - least) / (raised - least).sum()


def _numeric(space: Space) -> list[int]:
    """The columns with an order and more than one level."""
    return [j for j, levels in enumerate(space.levels) if levels != 1 and not space.categorical[j]]
