"""What the trials of a file say: regret so far, and regret relative to what random search leaves.

Normalised log-regret is `log10(max(r_n / r_random, floor))`: r_n is the value of the best evaluation so far -
without noise, where there is noise - minus the optimum, or minus the smallest value in the data where the
optimum is unknown or was beaten; r_random is the median of that for random search after 100 evaluations
(after all of them, if there were fewer). The floor is 1e-8 on BBOB and 1e-3 elsewhere: 0 is no better than
random search, -1 leaves a tenth of it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from benchmarks.report import progress
from benchmarks.statistics import Array
from benchmarks.storage import About, Job, Runs, Trial

RANDOM = "random"
REFERENCE = 100  # evaluations of random search
WORST = 3.0  # normalised log-regret of runs without a success: nothing is worse


def incumbents(trials: Sequence[Trial]) -> Array:
    """Value, without noise, of the configuration that looked best so far `(N,)`; inf before a success."""
    values, best, true = [], math.inf, math.inf
    for trial in trials:
        if trial.value is not None and trial.value < best:
            best, true = trial.value, trial.value if trial.true is None else trial.true
        values.append(true)
    return np.array(values)


def variant(job: Job) -> str:
    """What a report calls the method of a run: with its batches or workers."""
    return job.method + f" q={job.q}" * (job.q > 1) + f" {job.workers} workers" * (job.workers > 1)


@dataclass(frozen=True, eq=False)
class Cell:
    """The complete runs of a variant on a problem.

    Attributes:
        seeds: in order; values: of the incumbents `(S, N)`; seconds: of each proposal `(S, N)`.
    """

    seeds: list[int]
    values: Array
    seconds: Array

    def of(self, seeds: Sequence[int]) -> Array:
        """Values of these seeds."""
        return self.values[[self.seeds.index(seed) for seed in seeds]]


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of all variants on all problems.

    Attributes:
        cells: of (problem, variant); about: the problems.
    """

    cells: Mapping[tuple[str, str], Cell]
    about: Mapping[str, About]

    @classmethod
    def of(cls, runs: Runs) -> "Scores":
        """From all complete runs: those of a variant on a problem that have as many trials as the longest."""
        groups: dict[tuple[str, str], dict[int, list[Trial]]] = {}
        for job, trials in runs.trials.items():
            groups.setdefault((job.problem, variant(job)), {})[job.seed] = trials
        cells = {key: _cell(key, by_seed) for key, by_seed in groups.items()}
        return cls(cells, {p: runs.about[p] for p in dict.fromkeys(p for p, _ in cells)})

    @cached_property
    def problems(self) -> list[str]:
        """In the order of the file."""
        return list(dict.fromkeys(p for p, _ in self.cells))

    @cached_property
    def variants(self) -> list[str]:
        """In the order of the file, random search last."""
        found = dict.fromkeys(v for _, v in self.cells)
        return sorted(found, key=lambda v: v.split()[0] == RANDOM)

    @cached_property
    def families(self) -> dict[str, list[str]]:
        """Problems of each family."""
        found: dict[str, list[str]] = {}
        for problem in self.problems:
            found.setdefault(self.about[problem].family, []).append(problem)
        return found

    @cached_property
    def evaluations(self) -> int:
        """Length of the shortest cell: what can be compared."""
        return min(cell.values.shape[1] for cell in self.cells.values())

    @cached_property
    def best(self) -> dict[str, float]:
        """The optimum of each problem, or the smallest value of any variant if that is smaller."""
        return {
            problem: min(
                [float(cell.values.min()) for (p, _), cell in self.cells.items() if p == problem]
                + ([] if math.isnan(optimum := self.about[problem].optimum) else [optimum])
            )
            for problem in self.problems
        }

    def regret(self, problem: str, variant: str, seeds: Sequence[int] | None = None) -> Array:
        """Best so far minus the optimum `(S, N)`."""
        cell = self.cells[problem, variant]
        values = cell.values if seeds is None else cell.of(seeds)
        return values - self.best[problem]

    @cached_property
    def left(self) -> dict[str, float]:
        """What random search leaves on each problem after `REFERENCE` evaluations; nan if it did not run."""
        found = {}
        for problem in self.problems:
            name = next((v for p, v in self.cells if p == problem and v.split()[0] == RANDOM), None)
            if name is None:
                found[problem] = math.nan
                continue
            regret = self.regret(problem, name)
            found[problem] = float(np.median(regret[:, min(REFERENCE, regret.shape[1]) - 1]))
        return found

    @cached_property
    def scored(self) -> list[str]:
        """Problems with a score: where random search ran, and left something."""
        return [p for p in self.problems if 0.0 < self.left[p] < math.inf]

    @cached_property
    def unscored(self) -> dict[str, str]:
        """The other problems, and why."""
        reasons = {}
        for problem in self.problems:
            left = self.left[problem]
            if math.isnan(left):
                reasons[problem] = "random search has not run on it; add it with: run --methods random"
            elif problem not in self.scored:
                reasons[problem] = "random search solves it" if left == 0 else "random search had no success"
        return reasons

    def log_regret(self, problem: str, variant: str, seeds: Sequence[int] | None = None) -> Array:
        """Normalised log-regret `(S, N)`, at most `WORST`."""
        ratio = self.regret(problem, variant, seeds) / self.left[problem]
        return np.minimum(np.log10(np.maximum(ratio, self.about[problem].floor)), WORST)

    def common_seeds(self, problem: str, *variants: str) -> list[int]:
        """Seeds that all of these have on a problem."""
        found = [set(self.cells[problem, v].seeds) for v in variants]
        return sorted(set.intersection(*found))

    def everywhere(self, problems: Sequence[str]) -> list[str]:
        """Variants that ran on all of these problems."""
        return [v for v in self.variants if all((p, v) in self.cells for p in problems)]


def _cell(key: tuple[str, str], by_seed: Mapping[int, list[Trial]]) -> Cell:
    length = max(map(len, by_seed.values()))
    seeds = sorted(seed for seed, trials in by_seed.items() if len(trials) == length)
    if len(seeds) < len(by_seed):
        progress(f"{' '.join(key)}: {len(by_seed) - len(seeds)} unfinished runs are left out")
    values = np.stack([incumbents(by_seed[seed]) for seed in seeds])
    seconds = np.array([[trial.seconds for trial in by_seed[seed]] for seed in seeds])
    return Cell(seeds, values, seconds)
