"""`asks`: seconds of one ask, the fit included: CPU, GPU, "auto" and BoTorch on the same GPU, in turns.

Before each ask of ours one more result is told, so the model is fitted anew. Fits to shorter histories are
there, as in a running study: the first ask at a size makes them, and is told apart. The next one warms up.
"""

import copy
import time
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch

from bayesopt import Optimizer
from bayesopt.reach import MATRICES
from benchmarks.gpu.book import Book, Setup, Values, at_least, at_most
from benchmarks.methods.botorch import propose
from benchmarks.problems.functions import hartmann_bowl
from benchmarks.report import Table, number, progress

PART = "asks"
ARMS = ("cpu", "gpu", "auto", "botorch")

ROUNDS = 5  # after the first
PATIENCE = 10.0  # seconds; an arm that has taken as long in a cell sits out the other rounds

#: Most seconds of an ask on the GPU: n, d, q.
TARGETS = {(100, 10, 1): 0.010, (5000, 20, 1): 0.5, (20_000, 20, 1): 15.0, (2000, 20, 1000): 1.0}
BOTORCH_CELL, BOTORCH_TARGET = (100, 10, 1), 30.0
AUTO_TARGET = 1.1


class Arm(Protocol):
    """Something that is asked for q points after n results, and again after n + 1."""

    def prepare(self, n: int) -> float:
        """For asks from n results on; seconds of what a running study would have done before."""

    def ask(self, q: int) -> float:
        """Seconds of the next ask."""


class Results:
    """The results that every arm is told, as many as somebody needs: uniform points, Hartmann6 in a bowl."""

    def __init__(self, d: int, seed: int) -> None:
        self.problem = hartmann_bowl(d)
        self._rng = np.random.default_rng([seed, d])
        self.configs: list[dict[str, float]] = []
        self.values: list[float] = []

    def first(self, n: int) -> tuple[list[dict[str, float]], list[float]]:
        """The first n."""
        while len(self.configs) < n:
            self.configs.append(self.problem.config(self._rng.random(self.problem.dim)))
            self.values.append(self.problem(self.configs[-1]))
        return self.configs[:n], self.values[:n]


class Ours:
    """A study that grows; each cell goes on with a copy of it, so that all cells begin at their n."""

    def __init__(self, results: Results, device: str, setup: Setup) -> None:
        self._results = results
        self._base = Optimizer(results.problem.space(), seed=setup.seed, method=setup.method, device=device)
        self._study = self._base
        self._first: dict[int, float] = {}

    def prepare(self, n: int) -> float:
        if n not in self._first:
            self._tell(self._base, n - 1)
            self._first[n] = self._timed(self._base, 1)
        self._study = copy.deepcopy(self._base)
        return self._first[n]

    def ask(self, q: int) -> float:
        self._tell(self._study, len(self._study.trials) + 1)
        return self._timed(self._study, q)

    def _timed(self, study: Optimizer, q: int) -> float:
        start = time.perf_counter()
        configs = study.ask(q)
        seconds = time.perf_counter() - start
        study.forget(configs)
        return seconds

    def _tell(self, study: Optimizer, n: int) -> None:
        """Up to n results, each as one that was asked for.

        Results that come from elsewhere have no place in time: another one may change what the history was,
        and with it all fits to shorter ones.
        """
        told = len(study.trials)
        configs, values = self._results.first(n)
        if told < n:
            study.enqueue(configs[told:])
            study.tell(study.ask(n - told), values[told:])


class Peer:
    """BoTorch's loop on a device: a fresh `SingleTaskGP`, fitted, and log EI optimised."""

    def __init__(self, results: Results, device: torch.device, setup: Setup) -> None:
        self._results, self._device, self._seed = results, device, setup.seed
        self._n = 0

    def prepare(self, n: int) -> float:
        self._n = n - 1
        return 0.0

    def ask(self, q: int) -> float:
        self._n += 1
        configs, values = self._results.first(self._n)
        X = torch.tensor([list(c.values()) for c in configs], dtype=torch.float64, device=self._device)
        Y = -torch.tensor(values, dtype=torch.float64, device=self._device)[:, None]
        start = time.perf_counter()
        propose(X, Y, q, X[:0], self._seed).cpu()
        return time.perf_counter() - start


def arms_of(d: int, setup: Setup) -> dict[str, Arm]:
    """All of them, at the same results."""
    results = Results(d, setup.seed)
    ours = {"cpu": "cpu", "gpu": str(setup.device), "auto": "auto"}
    arms: dict[str, Arm] = {name: Ours(results, device, setup) for name, device in ours.items()}
    return {**arms, "botorch": Peer(results, setup.device, setup)}


def measure(book: Book, setup: Setup) -> None:
    """Every cell that is due."""
    for d in setup.dims:
        cells = [{"n": n, "d": d, "q": q} for n in sorted(setup.sizes) for q in sorted(setup.batches)]
        arms: dict[str, Arm] = {}
        for cell in setup.due(cells, book, PART):
            arms = arms or arms_of(d, setup)
            progress(f"gpu: ask({cell['q']}) at n = {cell['n']}, d = {d}")
            left_out = _too_slow(book, cell, setup.limit)
            chosen = {name: arm for name, arm in arms.items() if name not in left_out}
            book.put(PART, cell, _race(chosen, cell, setup))


def _too_slow(book: Book, cell: Mapping[str, int], limit: float) -> set[str]:
    """Arms that took longer than the limit, or failed, at a cell nowhere larger than this one."""
    smaller = [row for row in book.rows(PART) if all(row[k] <= cell[k] for k in cell)]
    return {arm for row in smaller for arm in ARMS if arm in row["trouble"] or _slowest(row, arm) > limit}


def _slowest(row: Mapping[str, Any], arm: str) -> float:
    return max([row["first"].get(arm, 0.0), *row["seconds"].get(arm, [])])


def _race(arms: Mapping[str, Arm], cell: Mapping[str, int], setup: Setup) -> Values:
    """Seconds of the asks of each arm, warm-up first; what went wrong; peak memory of the GPU's asks."""
    found: dict[str, dict[str, Any]] = {"first": {}, "seconds": {name: [] for name in arms}, "trouble": {}}
    peak = 0
    for name, arm in [item for _ in range(2 if setup.quick else ROUNDS + 1) for item in arms.items()]:
        seconds = found["seconds"][name]
        if name in found["trouble"] or sum(seconds) > PATIENCE or found["first"].get(name, 0.0) > setup.limit:
            continue
        if setup.is_cuda:
            torch.cuda.reset_peak_memory_stats(setup.device)
        try:
            if name not in found["first"]:
                found["first"][name] = arm.prepare(cell["n"])
            seconds.append(arm.ask(cell["q"]))
        except Exception as error:  # noqa: BLE001 - out of memory, most likely; the others go on
            found["trouble"][name] = f"{type(error).__name__}: {error}".partition("\n")[0][:200]
            progress(f"gpu: {name} failed: {found['trouble'][name]}")
        if setup.is_cuda and name == "gpu":
            peak = max(peak, torch.cuda.max_memory_allocated(setup.device))
    return {**found, "peak_bytes": peak}


# ---------------------------------------------------------------------------------------------- tables


def median(row: Mapping[str, Any], arm: str) -> float | None:
    """Of the seconds of an arm, the warm-up left out if there is more; None if it has none."""
    seconds = row["seconds"].get(arm)
    return float(np.median(seconds[1:] or seconds)) if seconds else None


def tables(book: Book) -> list[Table]:
    """Every cell, and the targets."""
    rows = book.rows(PART)
    if not rows:
        return []
    caption = (
        "Median of repeated asks, ms, each after one more result, in turns; in brackets the first at this "
        "size, which fits shorter histories too. Left out where a smaller cell took too long or failed."
    )
    header = ["d", "n", "q", *ARMS, "cpu / gpu", "botorch / gpu", "auto / better", "peak on the GPU, GB",
              "in n x n"]  # fmt: skip
    return [Table(header, [_row(row) for row in rows], caption), _targets(rows)]


def _row(row: Values) -> list[object]:
    cpu, gpu, botorch = (median(row, arm) for arm in ("cpu", "gpu", "botorch"))
    ratios = [_ratio(cpu, gpu), _ratio(botorch, gpu), auto_ratio(row)]
    told = ["" if r is None else f"{number(r, 2)}x" for r in ratios]
    return [
        row["d"],
        row["n"],
        row["q"],
        *(_cell(row, arm) for arm in ARMS),
        *told,
        row["peak_bytes"] / 1e9,
        _matrices(row),
    ]


def _matrices(row: Values) -> float:
    """Peak memory in matrices of the size of K."""
    return float(row["peak_bytes"]) / (8 * row["n"] ** 2)


def _cell(row: Values, arm: str) -> str:
    if arm in row["trouble"]:
        return row["trouble"][arm].partition(":")[0]
    middle = median(row, arm)
    first = f" [{number(1e3 * row['first'][arm])}]" if row["first"].get(arm) else ""
    return "" if middle is None else number(1e3 * middle) + first


def _ratio(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a / b


def auto_ratio(row: Values) -> float | None:
    """Of "auto" to the better of CPU and GPU."""
    known = [t for t in (median(row, "cpu"), median(row, "gpu")) if t is not None]
    return _ratio(median(row, "auto"), min(known)) if known else None


def _targets(rows: list[Values]) -> Table:
    at = {(row["n"], row["d"], row["q"]): row for row in rows}

    def seconds(cell: tuple[int, int, int], arm: str) -> float | None:
        return median(at[cell], arm) if cell in at else None

    lines = [
        [f"ask({q}) at n = {n:,}, d = {d}: at most {number(1e3 * s)} ms", at_most(found, s, "ms", 1e3)]
        for (n, d, q), s in TARGETS.items()
        for found in [seconds((n, d, q), "gpu")]
    ]
    faster = _ratio(seconds(BOTORCH_CELL, "botorch"), seconds(BOTORCH_CELL, "gpu"))
    autos = [ratio for row in rows if (ratio := auto_ratio(row)) is not None]
    worst = max(autos, default=None)
    held = max((_matrices(row) for row in rows if row["n"] >= 5000 and row["peak_bytes"]), default=None)
    lines += [
        [f"n = 5,000 and more: at most {MATRICES} n x n matrices on the GPU", at_most(held, MATRICES)],
        [f"n = 100, d = 10: at least {BOTORCH_TARGET:g}x faster than BoTorch on the GPU",
         at_least(faster, BOTORCH_TARGET, "x")],
        [f"auto at most {AUTO_TARGET}x the better of CPU and GPU, in all {len(autos)} cells",
         at_most(worst, AUTO_TARGET, "x")],
    ]  # fmt: skip
    return Table(["target", "reached"], lines, "Targets of the asks.")
