"""`replicates`: many studies of Hartmann6 in lockstep, on the CPU and on the GPU."""

import math

import torch

from bayesopt import Replicates
from benchmarks.gpu.book import Book, Setup, Values, at_most
from benchmarks.problems.functions import hartmann6_problem
from benchmarks.replicates import Clock
from benchmarks.report import Table, number, progress

PART = "replicates"

EVALUATIONS = 100
STUDIES_TARGET, SECONDS_TARGET = 1000, 60.0


def measure(book: Book, setup: Setup) -> None:
    """One run of each size on each device."""
    studies, evaluations = ((1, 2), 14) if setup.quick else ((1, 10, 100, 1000), EVALUATIONS)
    keys = [{"studies": s, "evaluations": evaluations, "arm": arm} for s in studies for arm in ("gpu", "cpu")]
    for key in setup.due(keys, book, PART):
        progress(f"gpu: {key['studies']} replicates on the {key['arm']}")
        device = setup.device if key["arm"] == "gpu" else torch.device("cpu")
        book.put(PART, key, lockstep(key["studies"], evaluations, device, setup))


def lockstep(studies: int, evaluations: int, device: torch.device, setup: Setup) -> Values:
    """Seconds of ask and tell after each round; it ends early once they are past the limit."""
    problem = hartmann6_problem()
    together = Replicates(problem.space(), range(studies), method=setup.method, device=device)
    clock, rounds = Clock(), []
    while len(rounds) < evaluations and clock.seconds <= max(setup.limit, SECONDS_TARGET):
        configs = clock(together.ask)
        clock(together.tell, configs, [problem(config) for config in configs])
        rounds.append(clock.seconds)
    return {"rounds": rounds}


def tables(book: Book) -> list[Table]:
    """Seconds by number of studies."""
    rows = book.rows(PART)
    if not rows:
        return []
    told = {(row["studies"], row["evaluations"], row["arm"]): row["rounds"] for row in rows}
    lines = [
        [s, n, *(_seconds(told.get((s, n, arm), []), n) for arm in ("cpu", "gpu"))]
        for s, n in sorted({(s, n) for s, n, _ in told})
    ]
    rounds = told.get((STUDIES_TARGET, EVALUATIONS, "gpu"))
    reached = None if rounds is None else rounds[-1] if len(rounds) == EVALUATIONS else math.inf
    caption = (
        f"Seconds of ask and tell. Target: {STUDIES_TARGET:,} studies of {EVALUATIONS} evaluations on the "
        f"GPU in {SECONDS_TARGET:g} s: {at_most(reached, SECONDS_TARGET, 's')}."
    )
    return [Table(["studies", "evaluations", "cpu, s", "gpu, s"], lines, caption)]


def _seconds(rounds: list[float], evaluations: int) -> str:
    if not rounds:
        return ""
    ended = len(rounds) == evaluations
    return number(rounds[-1]) if ended else f"{number(rounds[-1])} for {len(rounds)} of {evaluations}"
