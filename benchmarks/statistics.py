"""What can be said of repeated runs: intervals, paired tests, ranks, and the share of targets reached.

S seeds, P problems, M methods, N evaluations, T targets.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]

RESAMPLES = 1000
LEVEL = 0.95


def bootstrap_band(
    values: Array, statistic: Callable[[Array], Array], resamples: int = RESAMPLES, seed: int = 0
) -> tuple[Array, Array]:
    """The middle 95 % of a statistic over resamples of the seeds (percentile bootstrap; Efron 1979).

    Args:
        values: `(S, *b)`; statistic: of `(S, *b)` along its first axis, giving `(*b)`.

    >>> low, high = bootstrap_band(np.full((5, 2), 3.0), lambda v: np.median(v, axis=0))
    >>> low.tolist(), high.tolist()
    ([3.0, 3.0], [3.0, 3.0])
    """
    rng = np.random.default_rng(seed)
    size = len(values)
    found = np.stack([statistic(values[rng.integers(size, size=size)]) for _ in range(resamples)])
    tail = 0.5 * (1.0 - LEVEL)
    low, high = np.quantile(found, [tail, 1.0 - tail], axis=0)
    return low, high


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:+.2f} ({self.low:+.2f} to {self.high:+.2f})"

    @property
    def sure(self) -> bool:
        """Whether 0 is outside the interval."""
        return not self.low <= 0.0 <= self.high


def nested_mean(groups: Sequence[Array], resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """Mean over problems of the mean over seeds; the interval resamples problems, and seeds within them.

    It speaks about problems like these, not about these alone. Of a single problem, only seeds are resampled.

    Args:
        groups: one array `(S,)` for each problem.
    """
    rng = np.random.default_rng(seed)
    # Means of resampled seeds, problem by problem: (P, resamples).
    means = np.stack([g[rng.integers(len(g), size=(resamples, len(g)))].mean(-1) for g in groups])
    chosen = rng.integers(len(groups), size=(len(groups), resamples))
    found = np.take_along_axis(means, chosen, axis=0).mean(0)
    tail = 0.5 * (1.0 - LEVEL)
    low, high = np.quantile(found, [tail, 1.0 - tail])
    return Estimate(float(np.mean([g.mean() for g in groups])), float(low), float(high))


def paired_p(a: Array, b: Array) -> float:
    """Two-sided Wilcoxon signed-rank test of paired `(S,)` values; 1 if they are all equal."""
    difference = np.asarray(a) - np.asarray(b)
    return 1.0 if not difference.any() else float(stats.wilcoxon(difference).pvalue)


def holm(p: Sequence[float]) -> list[float]:
    """Holm's (1979) adjustment of several tests: each may be compared with the level as if it were alone.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p)
    adjusted = np.empty(len(p))
    highest = 0.0
    for place, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p) - place) * p[index]))
        adjusted[index] = highest
    return [float(f"{v:.12g}") for v in adjusted]


@dataclass(frozen=True)
class Ranks:
    """Mean ranks of methods over problems, 1 is best.

    Attributes:
        mean: of each method; p: of Friedman's test that all are alike.
        distance: difference of mean ranks that is significant at 5 % (Nemenyi).
    """

    mean: list[float]
    p: float
    distance: float


def friedman(scores: Array) -> Ranks:
    """Friedman's test and Nemenyi's critical difference (Demsar 2006, eqs. 1 to 3).

    `CD = q sqrt(M (M + 1) / (6 P))`, q being the studentised range over sqrt(2).

    Args:
        scores: `(P, M)`, smaller is better.
    """
    problems, methods = scores.shape
    ranks = stats.rankdata(scores, axis=1)
    q = float(stats.studentized_range.ppf(LEVEL, methods, math.inf)) / math.sqrt(2.0)
    distance = q * math.sqrt(methods * (methods + 1) / (6.0 * problems))
    p = float(stats.friedmanchisquare(*scores.T).pvalue) if methods > 2 and np.ptp(ranks) > 0 else 1.0
    return Ranks(ranks.mean(0).tolist(), p, distance)


def cliques(ranks: Ranks) -> list[tuple[float, float]]:
    """Stretches of mean ranks, lowest and highest, that are too close to tell apart; none inside another."""
    ordered = sorted(ranks.mean)
    found: list[tuple[float, float]] = []
    for i, low in enumerate(ordered):
        high = max(r for r in ordered[i:] if r - low <= ranks.distance)
        if high > low and not any(a <= low and high <= b for a, b in found):
            found.append((low, high))
    return found


# ------------------------------------------------------------------------------------------------ targets

#: COCO's: the precisions 10^2, 10^1.8, ..., 10^-8 (Hansen et al. 2021).
COCO_TARGETS: Array = 10.0 ** np.linspace(2.0, -8.0, 51)


def runtimes(regret: Array, targets: Array) -> Array:
    """Evaluations until the regret so far is at most each target, `(*b, T)`; inf if it never is.

    Args:
        regret: best so far minus the optimum, `(*b, N)`.
    """
    reached = regret[..., None, :] <= targets[:, None]
    return np.where(reached.any(-1), reached.argmax(-1) + 1.0, math.inf)


def ecdf(times: Array, budgets: Array) -> Array:
    """Share of all (run, target) pairs that were reached within each budget, `(B,)`.

    Within the length of the runs this is COCO's empirical run-time distribution: its simulated restarts add
    only times beyond the length of a run that failed.

    Args:
        times: run times of any shape; budgets: `(B,)`, in the same unit.
    """
    return np.searchsorted(np.sort(times.ravel()), budgets, side="right") / times.size
