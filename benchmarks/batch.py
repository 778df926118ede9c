"""`batch`: many proposals at once.

- time and quality of `ask(8)` at n = 100, d = 6, over random histories, against BoTorch's fit of a
  SingleTaskGP and `optimize_acqf(qLogEI, q=8, sequential=True, num_restarts=10, raw_samples=512)`. Time: ours
  in a running study, 8 results after the ask before, with all fits that these make due; and once more with
  the same history. Quality: qEI of both batches on one and the same posterior, that of our fit, by BoTorch
  with 8192 draws.
- time, memory and spread of `ask(q)` up to q = 1000, beside as many random points.

Regret against the number of workers is measured by `python -m benchmarks workers`.
"""

import argparse
import json
import math
import statistics
import time
import warnings
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bayesopt import Optimizer
from bayesopt.surrogates.gp import GaussianProcess
from bayesopt.surrogates.model import Model
from bayesopt.surrogates.prefixes import fit_surrogate
from benchmarks.histories import History, history_of, unit_box
from benchmarks.quality import DictCache
from benchmarks.report import Report, Table, number, progress, spread
from benchmarks.scaling import memory_in_use, run_python

DESCRIPTION = "time, quality, memory and spread of batches beside BoTorch's sequential qLogEI"

TIME_TARGET, QUALITY_TARGET = 50.0, 0.98

_Q, _N, _D = 8, 100, 6


@dataclass(frozen=True)
class Comparison:
    """One history: seconds of our ask, twice, of BoTorch's fit and maximisation; qEI of both batches."""

    seed: int
    problem: str
    layout: str
    our_seconds: float
    our_seconds_again: float
    fit_seconds: float
    maximise_seconds: float
    our_qei: float
    their_qei: float

    @property
    def ratio(self) -> float:
        """Our qEI over BoTorch's."""
        return self.our_qei / self.their_qei


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--histories", type=int, default=30, help="how many (default: %(default)s)")
    parser.add_argument("--rules", nargs="+", default=["auto"], help="our rules for batches (default: auto)")
    parser.add_argument("--no-botorch", action="store_true", help="only the second part")


# ------------------------------------------------------------------------------------- beside BoTorch


def running_study(history: History, q: int, rule: str) -> Optimizer:
    """A study that has asked for the whole history, in order, and waits for the last q results."""
    d = history.X.shape[1]
    study = Optimizer(unit_box(d), seed=history.seed, method="gp", batch=rule)
    configs = [{f"x{j}": float(v) for j, v in enumerate(x)} for x in history.X]
    done = len(configs) - q
    entries = [{"config": config, "asked_at": i} for i, config in enumerate(configs)]
    told = [
        {**entry, "value": float(y), "seconds": None, "error": None}
        for entry, y in zip(entries, history.y, strict=True)
    ]
    state = {"trials": told[:done], "pending": entries[done:], "asked": len(configs)}
    study.load_state_dict({**study.state_dict(), **state})
    return study


def our_batch(history: History, q: int, rule: str) -> tuple[Tensor, float, float]:
    """Encoded proposals `(q, d)`; seconds with q results since the ask before, and of it again."""
    study = running_study(history, q, rule)
    study.forget(study.ask())  # fills the caches, as the asks of a running study do
    study.tell(study.pending, history.y[-q:].tolist())
    start = time.perf_counter()
    proposals = study.ask(q)
    asked = time.perf_counter()
    study.forget(proposals)
    again = time.perf_counter()
    study.ask(q)
    return study.space.encode(proposals)[0], asked - start, time.perf_counter() - again


def our_posterior(history: History) -> GaussianProcess:
    """The fit behind `our_batch`, without a batch dimension."""
    model = Model.of(unit_box(history.X.shape[1]), torch.device("cpu"))
    X, y = torch.from_numpy(history.X)[None], torch.from_numpy(history.y)[None]
    with torch.no_grad():
        return fit_surrogate(model, X, y, DictCache()).select(0)


def botorch_seconds(history: History, q: int) -> tuple[float, float]:
    """Seconds of BoTorch's fit and of its maximisation, on its own default model."""
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import SingleTaskGP
    from botorch.utils.sampling import manual_seed
    from gpytorch.mlls import ExactMarginalLogLikelihood

    X, Y = torch.from_numpy(history.X), -torch.from_numpy(history.y)[:, None]
    with warnings.catch_warnings(), manual_seed(history.seed):
        warnings.simplefilter("ignore")
        start = time.perf_counter()
        model = SingleTaskGP(X, Y)
        fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
        fitted = time.perf_counter()
        _optimize_acqf(model, Y.max(), X.shape[1], q, history.seed)
        return fitted - start, time.perf_counter() - fitted


def botorch_batch(gp: GaussianProcess, q: int, seed: int) -> Tensor:
    """BoTorch's batch `(q, d)` on our posterior."""
    from botorch.utils.sampling import manual_seed

    from bayesopt.interop.botorch import BoTorchModel

    with warnings.catch_warnings(), manual_seed(seed):
        warnings.simplefilter("ignore")
        return _optimize_acqf(BoTorchModel(gp), -gp.fitted().amin(), gp.X.shape[-1], q, seed)


def _optimize_acqf(model: Any, best: Tensor, d: int, q: int, seed: int) -> Tensor:
    from botorch.acquisition.logei import qLogExpectedImprovement
    from botorch.optim import optimize_acqf
    from botorch.sampling import SobolQMCNormalSampler

    sampler = SobolQMCNormalSampler(torch.Size([512]), seed=seed)
    acquisition = qLogExpectedImprovement(model, best_f=best, sampler=sampler)
    unit = torch.tensor([[0.0] * d, [1.0] * d], dtype=torch.float64)
    return optimize_acqf(acquisition, unit, q=q, num_restarts=10, raw_samples=512, sequential=True)[0]


def qei(gp: GaussianProcess, X: Tensor) -> float:
    """qEI of a batch `(q, d)` by BoTorch's qLogEI with 8192 draws, the same ones for every batch."""
    from botorch.acquisition.logei import qLogExpectedImprovement
    from botorch.sampling import SobolQMCNormalSampler

    from bayesopt.interop.botorch import BoTorchModel

    sampler = SobolQMCNormalSampler(torch.Size([8192]), seed=12345)
    with torch.no_grad():
        best = -gp.fitted().amin()
        return float(qLogExpectedImprovement(BoTorchModel(gp), best_f=best, sampler=sampler)(X).exp())


def compare(seed: int, n: int, d: int, q: int, rule: str) -> Comparison:
    """Both on one history."""
    history = history_of(seed, n, d)
    ours, our_seconds, our_seconds_again = our_batch(history, q, rule)
    fit, maximise = botorch_seconds(history, q)
    gp = our_posterior(history)
    theirs = botorch_batch(gp, q, seed)
    return Comparison(
        seed,
        history.problem,
        history.layout,
        our_seconds,
        our_seconds_again,
        fit,
        maximise,
        qei(gp, ours),
        qei(gp, theirs),
    )


# ----------------------------------------------------------------------------------------------- size


@dataclass(frozen=True)
class Size:
    """A batch of q at n observations of d parameters."""

    n: int
    d: int
    q: int


SIZES = (
    Size(100, 6, 1),
    Size(100, 6, 8),
    Size(100, 6, 64),
    Size(500, 20, 8),
    Size(500, 20, 64),
    Size(500, 20, 1000),
)
QUICK_SIZES = (Size(20, 3, 2), Size(20, 3, 150))


def size_probe(n: int, d: int, q: int, rule: str, repeats: int) -> None:
    """In a process of its own: print time, memory and spread of `ask(q)` as JSON."""
    from scipy.spatial.distance import pdist

    our_batch(history_of(0, 20, 2), 4, "auto")  # what is loaded once is not the batch's
    history, model = history_of(1, n, d), unit_box(d)
    study = running_study(history, 1, rule)
    study.tell(study.pending, history.y[-1:].tolist())
    before = memory_in_use(peak=False)
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        batch = study.ask(q)
        seconds.append(time.perf_counter() - start)
        study.forget(batch)
    peak = memory_in_use(peak=True)
    X = model.encode(batch)[0]
    gp = our_posterior(history)
    distinct = len({model.key(config) for config in batch})
    found = {
        "distinct": distinct,
        "incumbent": float(gp.fitted().min()),
        "before_mb": before,
        "peak_mb": peak,
    }
    uniform = torch.from_numpy(np.random.default_rng(2).random((q, d)))
    for name, points in (("ours", X), ("random", uniform)):
        predicted = gp.marginals(points)[0]
        pairs = pdist(points.numpy()) if q > 1 else np.array([math.nan])
        found[name] = {
            "best": float(predicted.min()),
            "mean": float(predicted.mean()),
            "distance": float(pairs.mean()),
            "nearest": _nearest(points),
        }
    print(json.dumps({"n": n, "d": d, "q": q, "rule": rule, "seconds": seconds, **found}))


def _nearest(X: Tensor) -> float:
    """Mean distance of a point to its nearest neighbour in the batch."""
    if len(X) < 2:
        return math.nan
    distance = torch.cdist(X, X)
    return float(distance.fill_diagonal_(torch.inf).amin(-1).mean())


def measure_size(size: Size, rule: str, threads: int | None, repeats: int) -> dict[str, Any]:
    """What `size_probe` prints."""
    progress(f"batch: n = {size.n}, d = {size.d}, q = {size.q}, {rule}")
    call = f"size_probe({size.n}, {size.d}, {size.q}, {rule!r}, {repeats})"
    found: dict[str, Any] = json.loads(
        run_python(f"from benchmarks.batch import size_probe; {call}", threads)
    )
    return found


# --------------------------------------------------------------------------------------------- report


def run(args: argparse.Namespace) -> Report:
    histories, n, d, q, sizes, repeats = args.histories, _N, _D, _Q, SIZES, 5
    if args.quick:
        histories, n, d, q, sizes, repeats = 1, 14, 2, 2, QUICK_SIZES, 1
    rows = []
    if not args.no_botorch:
        for seed in range(histories):
            progress(f"batch: history {seed + 1} of {histories}")
            rows.append(compare(seed, n, d, q, args.rules[0]))
    found = [measure_size(size, rule, args.threads, repeats) for rule in args.rules for size in sizes]
    tables = [_beside(rows, n, d, q)] if rows else []
    tables += [_time_table(found), _spread_table(found)]
    results = {"botorch": [{**asdict(row), "ratio": row.ratio} for row in rows], "sizes": found}
    settings = {"histories": histories, "rules": " ".join(args.rules), "threads": args.threads or "default"}
    return Report("Many proposals at once", tables, results, settings)


def _beside(rows: list[Comparison], n: int, d: int, q: int) -> Table:
    ours = [row.our_seconds for row in rows]
    theirs = [row.fit_seconds + row.maximise_seconds for row in rows]
    ratios = [row.ratio for row in rows]
    again = [row.our_seconds_again for row in rows]
    faster, faster_again = (
        f"{number(statistics.median(theirs) / statistics.median(t))}x" for t in (ours, again)
    )
    body = [
        [f"ask(q), {q} results after the last ask, ms", spread(ours, 1e3)],
        ["ask(q) again, fit included, ms", spread(again, 1e3)],
        ["BoTorch, fit and sequential qLogEI, ms", spread(theirs, 1e3)],
        [f"ratios of medians (target {number(TIME_TARGET)}x)", f"{faster}, {faster_again}"],
        [f"qEI, ours / BoTorch's: mean (target {QUALITY_TARGET})", statistics.mean(ratios)],
        ["qEI, ours / BoTorch's: median (min-max)", spread(ratios)],
    ]
    caption = "Median (min-max). Both batches scored by BoTorch with 8192 draws on the posterior of our fit."
    return Table([f"n = {n}, d = {d}, q = {q}", f"over {len(rows)} histories"], body, caption)


def _time_table(found: list[dict[str, Any]]) -> Table:
    rows = [
        [f["n"], f["d"], f["q"], f["rule"], spread(f["seconds"][1:], 1e3), 1e3 * f["seconds"][0],
         f["peak_mb"] - f["before_mb"], f["distinct"]]
        for f in found
    ]  # fmt: skip
    header = ["n", "d", "q", "batch", "ask(q), ms", "first ask, ms", "memory over the data, MB", "distinct"]
    return Table(
        header, rows, "Time of ask(q), median (min-max) of repeated ones; the first one with empty caches."
    )


def _spread_table(found: list[dict[str, Any]]) -> Table:
    rows = []
    for f in found:
        if f["q"] > 1:
            pair = [
                f"{number(f['ours'][k])} / {number(f['random'][k])}"
                for k in ("best", "mean", "distance", "nearest")
            ]
            rows.append([f["n"], f["d"], f["q"], f["rule"], f["incumbent"], *pair])
    header = [
        "n",
        "d",
        "q",
        "batch",
        "incumbent",
        "best predicted",
        "mean predicted",
        "mean distance",
        "nearest",
    ]
    caption = (
        "Ours / uniform random points: predicted standardised outcomes (smaller is better), mean distance "
        "of two points of the batch in the unit box, and the mean distance to the nearest other one."
    )
    return Table(header, rows, caption)
