"""`fused`: the Triton kernels beside the torch version, alone and in an ask."""

import copy
import math
from collections.abc import Mapping

import numpy as np
import torch

from bayesopt.kernels import Stationary, fused
from benchmarks.gpu.asks import Ours, Results
from benchmarks.gpu.book import Book, Setup, Values, beside, randn, seconds_of, verdict
from benchmarks.report import Table, number, progress

PART, ASK = "fused", "fused ask"

VERSIONS = ("torch", "fused")
OPERATIONS = ("gram", "gram and contraction", "towards and contraction")

NEAR = 8 * 21  # test points of a climb: 8 starts and the differences of their gradients at d = 20


def measure(book: Book, setup: Setup) -> None:
    """Each operation, then whole asks."""
    ns = (32,) if setup.quick else (100, 500, 1000, 2000, 5000, 10_000, 20_000)
    ds = (6,) if setup.quick else (6, 20)
    for key in setup.due([{"n": n, "d": d} for n in ns for d in ds], book, PART):
        progress(f"gpu: fused kernels, n = {key['n']}, d = {key['d']}")
        book.put(PART, key, side_by_side(key["n"], key["d"], setup.device))
    ns = (20,) if setup.quick else (100, 500, 2000)
    for key in setup.due([{"n": n, "d": ds[-1]} for n in ns], book, ASK):
        progress(f"gpu: asks with fused kernels, n = {key['n']}")
        book.put(ASK, key, asks(key, setup))


@torch.no_grad()
def side_by_side(n: int, d: int, device: torch.device) -> Values:
    """Seconds of each operation in each version, and how much their results differ."""
    kernel = Stationary(groups=tuple(range(d)))
    theta = torch.full((1, d + 1), math.log(0.2 * math.sqrt(d)), dtype=torch.float64, device=device)
    X, Z = (randn(1, rows, d, device=device).sigmoid() for rows in (n, NEAR))
    A, B = randn(1, n, n, device=device), randn(1, NEAR, n, device=device)
    A = A.add_(A.mT.clone()).div_(n)
    near = kernel.towards(theta, X)

    calls = {
        "gram": lambda: kernel.gram_and_pullback(theta, X)[0],
        "gram and contraction": lambda: kernel.gram_and_pullback(theta, X)[1](A.clone()),
        "towards and contraction": lambda: near(Z)[1](B.clone()),
    }
    seconds: dict[str, dict[str, float]] = {}
    results: dict[str, list[torch.Tensor]] = {}
    for version in VERSIONS:
        with fused.switched(version == "fused"):
            if version == "fused" and not fused.serves(X, kernel.profile):
                continue
            results[version] = [call() for call in calls.values()]
            seconds[version] = {name: seconds_of(call, device) for name, call in calls.items()}
    pairs = zip(*results.values(), strict=True) if len(results) == 2 else ()
    gap = max((float((a - b).abs().max() / a.abs().max()) for a, b in pairs), default=None)
    return {"seconds": seconds, "difference": gap}


def asks(key: Mapping[str, int], setup: Setup) -> Values:
    """Seconds of asks of the same study, version by version in turns."""
    base = Ours(Results(key["d"], setup.seed), str(setup.device), setup)
    base.prepare(key["n"])
    arms = {version: copy.deepcopy(base) for version in VERSIONS}
    seconds: dict[str, list[float]] = {version: [] for version in VERSIONS}
    for _ in range(2 if setup.quick else 8):
        for version, arm in arms.items():
            with fused.switched(version == "fused"):
                seconds[version].append(arm.ask(1))
    return {"seconds": {version: s[1:] for version, s in seconds.items()}}


def tables(book: Book) -> list[Table]:
    """Times, ratios, and whether the kernels earn their keep."""
    rows = book.rows(PART)
    if not rows:
        return []
    ratios: list[float] = []
    lines = []
    for row in rows:
        times = [(row["seconds"]["torch"][o], row["seconds"].get("fused", {}).get(o)) for o in OPERATIONS]
        ratios += [a / b for a, b in times if b is not None]
        cells = [_pair(a, b) for a, b in times]
        gap = "" if row["difference"] is None else f"{row['difference']:.1e}"
        lines.append([row["n"], row["d"], *cells, gap])
    mean = math.exp(float(np.mean(np.log(ratios)))) if ratios else None
    caption = (
        "ms of the torch version / of the fused kernels, and the largest relative difference of results. "
        f"In the geometric mean over all cells the fused ones are faster: {_won(mean)}."
    )
    return [Table(["n", "d", *OPERATIONS, "difference"], lines, caption), *_ask_table(book.rows(ASK), mean)]


def _ask_table(rows: list[Values], alone: float | None) -> list[Table]:
    if not rows:
        return []
    medians = [[float(np.median(row["seconds"][v])) for v in VERSIONS] for row in rows]
    wins = None if alone is None else all(torch_ >= fused_ for torch_, fused_ in medians)
    caption = (
        f"An ask with either version. Target: keep the kernels only if no ask is slower: {verdict(wins)}."
    )
    return [Table(["n", "d", "torch, ms", "fused, ms", "ratio"], beside(rows, medians), caption)]


def _pair(a: float, b: float | None) -> str:
    return f"{number(1e3 * a)} / {'-' if b is None else number(1e3 * b)}"


def _won(ratio: float | None) -> str:
    return verdict(None if ratio is None else ratio > 1.0, "" if ratio is None else f"{number(ratio)}x")
