"""`graphs`: asks whose inner iterations are CUDA graphs beside asks that launch every operation."""

import copy
from collections.abc import Mapping

import numpy as np

from bayesopt import graphs
from benchmarks.gpu.asks import Ours, Results
from benchmarks.gpu.book import Book, Setup, Values, beside, verdict
from benchmarks.report import Table, progress

PART = "graphs"

VERSIONS = ("launched", "recorded")

#: More than `graphs.STEP`: every size of the records occurs, and what recording costs counts.
ASKS = 40


def measure(book: Book, setup: Setup) -> None:
    """Asks at sizes that graphs serve."""
    sizes, d = ((20,), 6) if setup.quick else ((50, 100, 200, 500, 900), 10)
    for key in setup.due([{"n": n, "d": d} for n in sizes], book, PART):
        progress(f"gpu: asks with CUDA graphs, n = {key['n']}")
        book.put(PART, key, asks(key, setup))


def asks(key: Mapping[str, int], setup: Setup) -> Values:
    """Seconds of asks of the same study as it grows, version by version."""
    base = Ours(Results(key["d"], setup.seed), str(setup.device), setup)
    base.prepare(key["n"])
    seconds: dict[str, list[float]] = {}
    for version in VERSIONS:
        arm = copy.deepcopy(base)
        with graphs.switched(version == "recorded"):
            arm.ask(1)
            seconds[version] = [arm.ask(1) for _ in range(1 if setup.quick else ASKS)]
    return {"seconds": seconds}


def tables(book: Book) -> list[Table]:
    """Times of both, and whether graphs earn their keep."""
    rows = book.rows(PART)
    if not rows:
        return []
    means = [[float(np.mean(row["seconds"][v])) for v in VERSIONS] for row in rows]
    caption = (
        f"Mean of {ASKS} asks, recording included. Target: graphs only if no ask is slower: "
        f"{verdict(all(launched >= recorded for launched, recorded in means))}."
    )
    return [Table(["n", "d", "launched, ms", "recorded, ms", "ratio"], beside(rows, means), caption)]
