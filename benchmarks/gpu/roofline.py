"""`roofline`: an ask against the time that its operations and bytes cannot be done in less.

Operations and bytes are counted in the same ask on the CPU, where every one of them passes the dispatcher;
on the GPU replayed graphs and fused kernels would hide some. The floor adds up, operation by operation, the
larger of arithmetic at the measured rate and of bytes at the measured bandwidth (Williams, Waterman &
Patterson 2009). A second floor is what launching costs: kernels, or graphs of them.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from benchmarks.gpu import ceilings
from benchmarks.gpu.asks import Ours, Results
from benchmarks.gpu.book import Book, Setup, Values
from benchmarks.report import Table, number, progress

PART = "roofline"

CELLS = ((100, 10, 1), (1000, 20, 1), (5000, 20, 1), (20_000, 20, 1), (2000, 20, 1000))

_LAUNCHES = (
    "cudaLaunchKernel",
    "cuLaunchKernel",
    "cudaLaunchKernelExC",
    "cuLaunchKernelEx",
    "cudaGraphLaunch",
)


def _cube(A: Tensor) -> float:
    """`b n^3` of matrices `(*b, n, n)`."""
    return A.numel() * A.shape[-1]


#: Floating-point operations of what factorises, by the arguments (Golub & Van Loan).
FACTORISATIONS: dict[str, Callable[..., float]] = {
    "aten::linalg_cholesky_ex": lambda A, *_, **__: _cube(A) / 3,
    "aten::cholesky_inverse": lambda L, *_, **__: 2 * _cube(L) / 3,
    "aten::linalg_solve_triangular": lambda L, B, **__: B.numel() * L.shape[-1],
    "aten::linalg_inv_ex": lambda A, *_, **__: 2 * _cube(A),
    "aten::_linalg_eigh": lambda A, *_, **__: 9 * _cube(A),
}

#: What makes the host wait for the device.
_WAITS = ("aten::_local_scalar_dense", "aten::nonzero")


class Count(TorchDispatchMode):
    """Adds up what passes the dispatcher, and the floor of each operation.

    Attributes:
        operations: how many; arithmetic: their floating-point operations by kind; moved: bytes, each tensor
            of an operation once; waits: operations whose result the host reads.
        floor: seconds.
    """

    def __init__(self, rates: Mapping[str, float]) -> None:
        super().__init__()
        self._rates = rates
        self.operations, self.moved, self.waits, self.floor = 0, 0, 0, 0.0
        self.arithmetic: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        self.waits += func._schema.name in _WAITS
        if not _is_view(func):
            self._add(func, args, kwargs, out)
        return out

    def _add(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: Any) -> None:
        kind, count = _arithmetic(func, args, kwargs, out)
        moved = sum(map(_bytes, tree_leaves((args, kwargs)))) + sum(map(_bytes, tree_leaves(out)))
        self.operations += 1
        self.arithmetic[kind] += count
        self.moved += moved
        rate = self._rates["cholesky" if kind == "factorisations" else "matmul"]
        self.floor += max(count / rate, moved / self._rates["bandwidth"])


def _is_view(func: Any) -> bool:
    """Whether it only looks at its argument in another way."""
    return any(r.alias_info is not None and not r.alias_info.is_write for r in func._schema.returns)


def _arithmetic(func: Any, args: Any, kwargs: Mapping[str, Any], out: Any) -> tuple[str, float]:
    """Its kind and its floating-point operations; elementwise, one for each number that comes out."""
    if func._schema.name in FACTORISATIONS:
        return "factorisations", FACTORISATIONS[func._schema.name](*args, **kwargs)
    if func._overloadpacket in flop_registry:
        return "products", float(flop_registry[func._overloadpacket](*args, **kwargs, out_val=out))
    return "elementwise", float(sum(t.numel() for t in tree_leaves(out) if isinstance(t, Tensor)))


def _bytes(x: object) -> int:
    """Of a tensor; an expanded one is as large as what it stands on."""
    return min(x.nbytes, x.untyped_storage().nbytes()) if isinstance(x, Tensor) else 0


# -------------------------------------------------------------------------------------------- measuring


@dataclass(eq=False)
class Launches:
    """Of an ask on the GPU: kernels run, calls that launched them, seconds in which it was busy."""

    kernels: int = 0
    calls: int = 0
    busy: float = 0.0
    names: Counter[str] = field(default_factory=Counter)


def launches_of(call: Callable[[], object]) -> Launches:
    """By PyTorch's profiler."""
    found = Launches()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA], acc_events=True) as profiled:
        call()
        torch.cuda.synchronize()
    for event in profiled.events() or ():
        if event.device_type == torch.autograd.DeviceType.CUDA:
            found.kernels += 1
            found.busy += event.time_range.elapsed_us() * 1e-6
            found.names[event.name] += 1
        found.calls += event.name in _LAUNCHES
    return found


def measure(book: Book, setup: Setup) -> None:
    """Count, profile and time the asks of each cell."""
    rates = ceilings.rates(book, setup)
    if rates is None:
        return
    cells = [(20, 6, 1)] if setup.quick else [c for c in CELLS if c[0] <= max(setup.sizes)]
    for key in setup.due([dict(zip("ndq", cell, strict=True)) for cell in cells], book, PART):
        progress(f"gpu: roofline of ask({key['q']}) at n = {key['n']}, d = {key['d']}")
        book.put(PART, key, account(key, rates, setup))


def account(key: Mapping[str, int], rates: Mapping[str, float], setup: Setup) -> Values:
    """What an ask does, how long it takes, and in how much time it could be done."""
    results = Results(key["d"], setup.seed)
    counted, measured = (Ours(results, device, setup) for device in ("cpu", str(setup.device)))
    counted.prepare(key["n"])
    with Count(rates) as count:
        counted.ask(key["q"])
    measured.prepare(key["n"])
    seconds = [measured.ask(key["q"]) for _ in range(2 if setup.quick else 6)][1:]
    found: Values = {
        "seconds": float(np.median(seconds)),
        "operations": count.operations,
        "waits": count.waits,
        "arithmetic": dict(count.arithmetic),
        "moved": count.moved,
        "floor": count.floor,
    }
    if setup.is_cuda:
        launches = launches_of(lambda: measured.ask(key["q"]))
        names = dict(launches.names.most_common(20))
        found |= {"kernels": launches.kernels, "calls": launches.calls, "busy": launches.busy, "names": names}
    return found


def tables(book: Book) -> list[Table]:
    """Work and floors of each cell."""
    rates, rows = book.find(ceilings.PART, {}), book.rows(PART)
    if rates is None or not rows:
        return []
    caption = (
        "Work: floating-point operations, bytes and operations of one ask, as counted on the CPU. Floors: "
        "that work at the measured ceilings; launching what was launched (on the CPU: every operation) at "
        "the measured cost. Busy: time that kernels ran. Ratio: time of the ask to the larger floor."
    )
    header = [
        *("n", "d", "q", "GFLOP", "of them factorising", "GB", "operations", "waits", "kernels", "launches"),
        *("time, ms", "floor of work, ms", "floor of launches, ms", "busy, ms", "ratio"),
    ]
    return [Table(header, [_row(row, rates) for row in rows], caption)]


def _row(row: Values, rates: Mapping[str, float]) -> list[object]:
    launch = row.get("calls", row["operations"]) * rates["launch"]
    arithmetic = row["arithmetic"]
    return [
        *(row["n"], row["d"], row["q"]),
        sum(arithmetic.values()) / 1e9,
        arithmetic.get("factorisations", 0.0) / 1e9,
        row["moved"] / 1e9,
        row["operations"],
        row["waits"],
        row.get("kernels", ""),
        row.get("calls", ""),
        *(1e3 * row["seconds"], 1e3 * row["floor"], 1e3 * launch),
        1e3 * row["busy"] if "busy" in row else "",
        f"{number(row['seconds'] / max(row['floor'], launch))}x",
    ]
