"""`scaling`: time, memory and import time of the engine alone.

- the median time of an ask at growing n, and the exponent p of the least-squares fit `time = c n^p`;
- the peak memory of an ask over what the process held before it, in a process of its own;
- the time of `import bayesopt` beside that of `import torch, gpytorch`, in processes of their own.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from bayesopt import Float, Optimizer
from benchmarks.problems.functions import hartmann_bowl
from benchmarks.report import Report, Table, number, progress, spread
from benchmarks.speed import Cell, time_asks

DESCRIPTION = "time and memory of an ask against the number of observations; import time"

EXPONENT_TARGET = 2.3
MEMORY_TARGET = 400.0  # MB
IMPORT_TARGET = 1.1

_ROOT = Path(__file__).parents[1]
_STATUS = Path("/proc/self/status")
_REFERENCES = Path("/proc/self/clear_refs")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    sizes = [250, 500, 1000, 2000]
    parser.add_argument(
        "--sizes", nargs="+", type=int, default=sizes, help="values of n (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the history (default: %(default)s)")


# ------------------------------------------------------------------------------------------------ time


def ask_times(sizes: list[int], d: int, asks: int, seed: int) -> list[list[float]]:
    """Seconds of repeated asks at each number of observations."""
    times = []
    for n in sizes:
        progress(f"scaling: n = {n}, d = {d}")
        times.append(time_asks(Cell(n, d, asks), ["bayesopt"], seed)["bayesopt"][1:])
    return times


def exponent(sizes: list[int], times: list[float]) -> float:
    """Slope of log time in log n.

    >>> round(exponent([1, 2, 4], [3.0, 12.0, 48.0]), 6)
    2.0
    """
    return float(np.polyfit(np.log(sizes), np.log(times), 1)[0])


# ---------------------------------------------------------------------------------------------- memory


def memory_in_use(peak: bool) -> float:
    """Resident memory of this process in MB, now or at its highest.

    Linux carries `ru_maxrss` over from the parent process when it starts a program, so the kernel's own
    count is read where there is one; elsewhere only the peak is known.
    """
    if _STATUS.exists():
        key = "VmHWM:" if peak else "VmRSS:"
        line = next(line for line in _STATUS.read_text(encoding="ascii").splitlines() if line.startswith(key))
        return int(line.split()[1]) * 1024 / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def forget_peak() -> None:
    """Let the peak of this process be what it holds now, where the kernel can (Linux)."""
    if _REFERENCES.exists():
        _REFERENCES.write_text("5", encoding="ascii")


def memory_probe(n: int, d: int, seed: int) -> None:
    """In a process of its own: print the MB held before an ask and the peak after it, as JSON."""
    warm_up = Optimizer({"x": Float(0.0, 1.0)}, seed=seed, method="gp")
    for x in np.linspace(0.0, 1.0, 10).tolist():
        warm_up.tell({"x": x}, x * x)
    warm_up.ask()
    problem = hartmann_bowl(d)
    study = Optimizer(problem.space(), seed=seed, method="gp")
    configs = [problem.config(u) for u in np.random.default_rng(seed).random((n, d))]
    study.tell(configs, [problem(config) for config in configs])
    before = memory_in_use(peak=False)
    start = time.perf_counter()
    study.ask()
    seconds = time.perf_counter() - start
    found = {"before_mb": before, "peak_mb": memory_in_use(peak=True), "seconds": seconds}
    print(json.dumps({"n": n, "d": d, **found}))


def memory_of_ask(n: int, d: int, seed: int, threads: int | None) -> dict[str, float]:
    """What `memory_probe` prints."""
    progress(f"scaling: memory at n = {n}, d = {d}")
    code = f"from benchmarks.scaling import memory_probe; memory_probe({n}, {d}, {seed})"
    found: dict[str, float] = json.loads(run_python(code, threads))
    return found


def run_python(code: str, threads: int | None = None) -> str:
    """Output of a program in a fresh interpreter at the root of the repository.

    Raises:
        RuntimeError: the program failed; with what it said.
    """
    environment = dict(os.environ)
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=_ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"a measuring process failed:\n{done.stderr}")
    return done.stdout


# ---------------------------------------------------------------------------------------------- import

_IMPORT = "import time; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"


def import_times(repeats: int) -> dict[str, list[float]]:
    """Seconds of the imports, interleaved, the first round not counted: it fills the disk cache."""
    programs = ("torch, gpytorch", "bayesopt")
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    progress("scaling: import time")
    for round_ in range(repeats + 1):
        for name in programs:
            elapsed = float(run_python(_IMPORT.format(name)))
            if round_ > 0:
                seconds[name].append(elapsed)
    return seconds


# ---------------------------------------------------------------------------------------------- report


def run(args: argparse.Namespace) -> Report:
    sizes, asks, repeats, memory_cell = args.sizes, 3, 5, (2000, 50)
    if args.quick:
        sizes, asks, repeats, memory_cell = [20, 40], 1, 1, (50, 6)
    times = ask_times(sizes, 10, asks, args.seed)
    slope = exponent(sizes, [statistics.median(t) for t in times])
    memory = memory_of_ask(*memory_cell, args.seed, args.threads)
    imports = import_times(repeats)
    results = {
        "asks": [{"n": n, "d": 10, "seconds": t} for n, t in zip(sizes, times, strict=True)],
        "exponent": slope,
        "memory": memory,
        "import": imports,
    }
    tables = [_time_table(sizes, times, slope), _memory_table(memory), _import_table(imports)]
    return Report("Time, memory and import of the engine", tables, results, {"seed": args.seed, "asks": asks})


def _time_table(sizes: list[int], times: list[list[float]], slope: float) -> Table:
    rows = [[n, spread(t, 1e3)] for n, t in zip(sizes, times, strict=True)]
    caption = f"Ask, d = 10: time grows like n^{number(slope)} (target: at most n^{EXPONENT_TARGET})."
    return Table(["n", "median (min-max), ms"], rows, caption)


def _memory_table(memory: dict[str, float]) -> Table:
    over = memory["peak_mb"] - memory["before_mb"]
    target = f"over it, MB (target under {number(MEMORY_TARGET)})"
    header = ["n", "d", "held before, MB", "peak, MB", target, "first ask, s"]
    row = [memory["n"], memory["d"], memory["before_mb"], memory["peak_mb"], over, memory["seconds"]]
    return Table(header, [row], "Memory of the first ask, empty cache.")


def _import_table(imports: dict[str, list[float]]) -> Table:
    base = statistics.median(imports["torch, gpytorch"])
    rows = [[f"import {name}", spread(t, 1e3), statistics.median(t) / base] for name, t in imports.items()]
    return Table(
        ["", "median (min-max), ms", f"ratio (target at most {IMPORT_TARGET})"], rows, "Import time."
    )
