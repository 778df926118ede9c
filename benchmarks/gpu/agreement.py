"""`agreement` and `regret`: whether the GPU proposes what the CPU does, and whether that matters."""

import math
import statistics

import numpy as np
import torch
from scipy import stats

from bayesopt import Optimizer, Replicates
from benchmarks.gpu.book import Book, Setup, Values, at_least, verdict
from benchmarks.histories import History, random_history, unit_box
from benchmarks.problems.functions import hartmann6_problem
from benchmarks.report import Table, number, percent, progress
from benchmarks.statistics import paired_p

AGREEMENT, REGRET = "agreement", "regret"

SAME, SHARE_TARGET = 1e-6, 0.95
LEVEL = 0.05


def measure(book: Book, setup: Setup) -> None:
    """One proposal of each of many histories; whole runs of many seeds."""
    histories, studies, evaluations = (2, 2, 16) if setup.quick else (60, 100, 50)
    for key in setup.due([{"history": i} for i in range(histories)], book, AGREEMENT):
        progress(f"gpu: agreement, history {key['history'] + 1} of {histories}")
        book.put(AGREEMENT, key, differences(random_history(key["history"]), setup))
    for key in setup.due([{"studies": studies, "evaluations": evaluations}], book, REGRET):
        progress(f"gpu: regret, {studies} studies of {evaluations} evaluations, on both")
        book.put(REGRET, key, regrets(studies, evaluations, setup))


def differences(history: History, setup: Setup) -> Values:
    """Largest difference of a coordinate between the CPU's proposal and the GPU's: of one, of the next."""
    n, d = history.X.shape
    space = unit_box(d)
    configs = [dict(zip(space.names, row, strict=True)) for row in history.X.tolist()]
    proposed = []
    for device in ("cpu", str(setup.device)):
        study = Optimizer(space, seed=history.seed, method=setup.method, device=device)
        study.tell(configs, history.y.tolist())
        proposed.append([list(study.ask().values()) for _ in range(2)])
    gap = np.abs(np.array(proposed[0]) - np.array(proposed[1])).max(-1)
    return {"n": n, "d": d, "differences": gap.tolist()}


def regrets(studies: int, evaluations: int, setup: Setup) -> Values:
    """Simple regret of Hartmann6 in the end, of each seed."""
    problem = hartmann6_problem()
    found = {}
    for name, device in (("cpu", torch.device("cpu")), ("gpu", setup.device)):
        together = Replicates(problem.space(), range(studies), method=setup.method, device=device)
        best = [math.inf] * studies
        for _ in range(evaluations):
            configs = together.ask()
            values = [problem(config) for config in configs]
            together.tell(configs, values)
            best = list(map(min, best, values))
        found[name] = [b - problem.optimum for b in best]
    return found


def tables(book: Book) -> list[Table]:
    """Shares that agree, and two distributions."""
    return [*_agreement(book.rows(AGREEMENT)), *_regret(book.rows(REGRET))]


def _agreement(rows: list[Values]) -> list[Table]:
    if not rows:
        return []
    lines, shares = [], []
    for place, label in enumerate(("after the same history", "beside one that is pending")):
        gaps = [row["differences"][place] for row in rows]
        shares.append(statistics.mean(gap <= SAME for gap in gaps))
        lines.append(
            [label, len(gaps), percent(shares[-1]), float(np.median(gaps)), float(np.quantile(gaps, 0.95))]
        )
    header = ["proposal", "asks", f"within {SAME:g}", "median difference", "95 % quantile"]
    caption = (
        "Same seed, same history, CPU and GPU: largest difference of an encoded coordinate. Target: "
        f"{percent(SHARE_TARGET)} within {SAME:g}: {at_least(min(shares), SHARE_TARGET, '%', 100)}."
    )
    return [Table(header, lines, caption)]


def _regret(rows: list[Values]) -> list[Table]:
    if not rows:
        return []
    lines = []
    same = True
    for row in rows:
        cpu, gpu = (np.log10(np.maximum(row[name], 1e-12)) for name in ("cpu", "gpu"))
        p, paired = float(stats.ks_2samp(cpu, gpu).pvalue), paired_p(cpu, gpu)
        same &= min(p, paired) > LEVEL
        middles = [number(10 ** float(np.median(v))) for v in (cpu, gpu)]
        lines.append([row["studies"], row["evaluations"], *middles, p, paired])
    caption = (
        "Regret of Hartmann6 in the end. Target: distributions that cannot be told apart (p > "
        f"{LEVEL:g} of Kolmogorov-Smirnov's and of Wilcoxon's paired test): {verdict(same)}."
    )
    header = ["studies", "evaluations", "median, CPU", "median, GPU", "p, distributions", "p, paired"]
    return [Table(header, lines, caption)]
