"""One method against others on a suite, paired by problem and seed; runs that are missing are done first.

Scores are those of `scores`: normalised log10 regret at the end, smaller is better. Problems are grouped by
their kind:

- conditional: a parameter exists only for some values of another;
- tables: finite spaces;
- smooth, rugged: functions of real numbers with few or many local minima, BBOB's f3, f4 and from f15 on
  among the latter;
- mixed: such functions of real and whole numbers;
- tuning: everything else, surrogates of training runs or the training itself.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.problems import Problem, suites
from benchmarks.report import Table, number
from benchmarks.run import available, complete, possible, tell_trouble
from benchmarks.scores import RANDOM, Scores
from benchmarks.statistics import Array, Estimate, nested_mean, paired_p
from benchmarks.storage import Job, Runs, load

#: The first is held against the others.
METHODS = ("bayesopt:method=tpe", "optuna-tpe", "hyperopt", RANDOM)

ALL = "all"

_FUNCTIONS = ("bbob", "bbob-mixint", "bbob-noisy", "botorch", "classic", "shifted")
_RUGGED = re.compile(r"ackley|rastrigin|griewank|levy|schwefel|/f(3|4|1[5-9]|2[0-4])/", re.IGNORECASE)


def kind(problem: Problem) -> str:
    """What a problem is like, see above.

    >>> from benchmarks.problems import get
    >>> [kind(get(name)) for name in ("branin", "shifted/ackley/d5", "cond/layers")]
    ['smooth', 'rugged', 'conditional']
    """
    space = problem.space
    if space.has_conditions:
        return "conditional"
    if math.isfinite(space.size):
        return "tables"
    if problem.family.partition("+")[0] not in _FUNCTIONS:
        return "tuning"
    if any(levels is not None for levels in space.levels):
        return "mixed"
    return "rugged" if _RUGGED.search(problem.name) else "smooth"


@dataclass(frozen=True)
class Versus:
    """The first method minus another: scores paired by problem and seed, below 0 the first is better.

    Attributes:
        difference: mean with its 95 % interval over problems and seeds; p: of Wilcoxon's signed-rank test.
        won, lost: pairs in which the first was better, worse.
    """

    difference: Estimate
    p: float
    won: int
    lost: int

    @classmethod
    def of(cls, differences: Sequence[Array]) -> "Versus":
        """Of differences `(S,)`, an array for each problem."""
        every = np.concatenate(list(differences))
        p = paired_p(every, np.zeros_like(every))
        return cls(nested_mean(differences), p, int((every < 0).sum()), int((every > 0).sum()))


@dataclass(frozen=True)
class Group:
    """Problems of a kind.

    Attributes:
        problems, pairs: how many, and how many pairs of a problem and a seed.
        rank: mean rank of each method over the pairs, 1 is best; score: mean score with its interval.
        versus: the first method against each of the others.
    """

    problems: int
    pairs: int
    rank: Mapping[str, float]
    score: Mapping[str, Estimate]
    versus: Mapping[str, Versus]

    @classmethod
    def of(cls, scores: Scores, problems: Sequence[str], methods: Sequence[str]) -> "Group":
        """Over the seeds that all methods have."""
        found = [_final(scores, problem, methods) for problem in problems]  # (S, M) each
        ranks = np.concatenate([stats.rankdata(f, axis=1) for f in found])
        return cls(
            problems=len(problems),
            pairs=len(ranks),
            rank=dict(zip(methods, ranks.mean(0).tolist(), strict=True)),
            score={m: nested_mean([f[:, i] for f in found]) for i, m in enumerate(methods)},
            versus={m: Versus.of([f[:, 0] - f[:, i] for f in found]) for i, m in enumerate(methods) if i > 0},
        )


def _final(scores: Scores, problem: str, methods: Sequence[str]) -> Array:
    """Scores at the end `(S, M)`."""
    seeds = scores.common_seeds(problem, *methods)
    end = scores.evaluations - 1
    return np.stack([scores.log_regret(problem, m, seeds)[:, end] for m in methods], -1)


@dataclass(frozen=True)
class Comparison:
    """Groups by name, and what they come from.

    Attributes:
        suite: what the problems are called; left_out: those without a score.
    """

    methods: Sequence[str]
    suite: str
    seeds: int
    evaluations: int
    groups: Mapping[str, Group]
    left_out: Sequence[str]

    def record(self) -> dict[str, Any]:
        """As plain values."""
        groups = {
            name: {
                **vars(group),
                "score": {m: vars(e) for m, e in group.score.items()},
                "versus": {m: {**vars(v), "difference": vars(v.difference)} for m, v in group.versus.items()},
            }
            for name, group in self.groups.items()
        }
        return {**vars(self), "groups": groups}


def merged(paths: Sequence[Path], methods: Sequence[str]) -> Runs:
    """The runs of these methods, of each the longest that a file holds."""
    runs = Runs()
    for found in map(load, paths):
        runs.machines += found.machines
        runs.about.update(found.about)
        for job, trials in found.trials.items():
            if job.method in methods and len(trials) > len(runs.trials.get(job, ())):
                runs.trials[job] = trials
    return runs


def compared(
    paths: Sequence[Path], names: Sequence[str], problems_path: Path | None, labels: Sequence[str],
    seeds: int, evaluations: int, processes: int, called: str | None = None,
) -> Comparison:  # fmt: skip
    """The comparison of the installed methods; what no file holds is run first, into the first file."""
    methods = available(labels, {})
    problems = possible(suites(names), problems_path)
    jobs = [Job(*job) for job in product(problems, methods, range(seeds))]
    kept = merged(paths, list(methods)).trials
    missing = [job for job in jobs if len(kept.get(job, ())) < evaluations]
    if missing:
        tell_trouble(complete(paths[0], missing, evaluations, methods, problems, problems_path, processes))
    runs = merged(paths, list(methods))
    wanted = set(jobs)
    runs.trials = {job: trials[:evaluations] for job, trials in runs.trials.items() if job in wanted}
    scores = Scores.of(runs)
    scored = [p for p in scores.scored if all((p, m) in scores.cells for m in methods)]
    kinds: dict[str, list[str]] = {}
    for name in scored:
        kinds.setdefault(kind(problems[name]), []).append(name)
    groups = {ALL: scored, **kinds}
    return Comparison(
        methods=list(methods),
        suite=called or ", ".join(Path(name).stem if Path(name).is_file() else name for name in names),
        seeds=seeds,
        evaluations=scores.evaluations,
        groups={name: Group.of(scores, members, list(methods)) for name, members in groups.items()},
        left_out=[p for p in problems if p not in scored],
    )


def tables(comparison: Comparison) -> list[Table]:
    """Ranks and scores, and the first method against the others."""
    return [_score_table(comparison), _versus_table(comparison)]


def _title(name: str, group: Group) -> str:
    return f"{name} ({group.problems})"


def _score_table(c: Comparison) -> Table:
    rows = [
        [_title(name, group)]
        + [number(group.rank[m]) for m in c.methods]
        + [f"{e.value:+.2f} ({e.low:+.2f} to {e.high:+.2f})" for e in map(group.score.__getitem__, c.methods)]
        for name, group in c.groups.items()
    ]
    header = ["problems", *(f"rank of {m}" for m in c.methods), *(f"score of {m}" for m in c.methods)]
    without = f" Without a score, left out: {', '.join(c.left_out)}." if c.left_out else ""
    caption = (
        f"Problems: {c.suite}; {c.evaluations} evaluations, {c.seeds} seeds. Mean rank over problems and "
        "seeds, 1 is best; mean normalised log10 regret (95 %): 0 is what random search leaves, -1 a tenth "
        "of it." + without
    )
    return Table(header, rows, caption)


def _versus_table(c: Comparison) -> Table:
    rows = [
        [
            *(_title(name, group), other, str(v.difference), number(v.p, 2)),
            *(v.won, v.lost, group.pairs - v.won - v.lost),
        ]
        for name, group in c.groups.items()
        for other, v in group.versus.items()
    ]
    caption = (
        f"{c.methods[0]} minus another method, paired by problem and seed, below 0 ours is better: mean with "
        "its interval over problems and seeds, p of Wilcoxon's signed-rank test over all pairs, and how many "
        "pairs were won and lost."
    )
    return Table(["problems", "against", "difference (95 %)", "p", "won", "lost", "level"], rows, caption)
