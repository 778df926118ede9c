"""What the parts of the GPU benchmark share: their settings, a file of measurements, a stopwatch."""

import json
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.report import number

Key = Mapping[str, Any]
Values = dict[str, Any]


@dataclass(frozen=True)
class Setup:
    """What is measured, and how long.

    Attributes:
        device: what is held against the CPU; `cpu` for a rehearsal.
        method: of `Optimizer`; seed: of histories and studies.
        sizes, dims, batches: n, d and q of the asks.
        limit: seconds of an ask, or of a run, past which its like at larger sizes are left out.
        deadline: moment of `time.monotonic` after which nothing new is begun.
        quick: tiny sizes everywhere.
    """

    device: torch.device
    method: str = "gp"
    seed: int = 0
    sizes: Sequence[int] = ()
    dims: Sequence[int] = ()
    batches: Sequence[int] = ()
    limit: float = 60.0
    deadline: float = float("inf")
    quick: bool = False

    @property
    def is_cuda(self) -> bool:
        """Whether the device is a GPU."""
        return self.device.type == "cuda"

    def due(self, keys: Iterable[dict[str, Any]], book: "Book", part: str) -> Iterator[dict[str, Any]]:
        """Those that nobody has measured yet, until the deadline."""
        for key in keys:
            if book.find(part, key) is None and time.monotonic() < self.deadline:
                yield key


@dataclass(eq=False)
class Book:
    """Measurements on one card: a line of a JSON file each, so that a stopped run goes on where it was.

    Attributes:
        path: of the file; card: what was measured on, lines about others are left alone.
    """

    path: Path
    card: str
    _found: dict[tuple[str, str], Values] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
        for line in lines:
            try:
                record = json.loads(line)
            except json.JSONDecodeError:
                continue  # a write was interrupted
            if record.pop("card") == self.card:
                part, key = record.pop("part"), record.pop("key")
                self._found[part, _name(key)] = {**key, **record}

    def find(self, part: str, key: Key) -> Values | None:
        """A measurement with its key; None if there is none."""
        return self._found.get((part, _name(key)))

    def rows(self, part: str) -> list[Values]:
        """All measurements of a part, in the order of their keys."""
        return [self._found[at] for at in sorted(self._found) if at[0] == part]

    def lines(self) -> dict[str, list[Values]]:
        """All measurements by part."""
        return {part: self.rows(part) for part in sorted({part for part, _ in self._found})}

    def put(self, part: str, key: Key, values: Key) -> None:
        """Keep a measurement."""
        self._found[part, _name(key)] = {**key, **values}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        record = {"card": self.card, "part": part, "key": key, **values}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")


def _name(key: Key) -> str:
    """One string for equal keys; numbers sort by their size.

    >>> _name({"q": 8, "n": 20}) < _name({"n": 100, "q": 8})
    True
    """
    return " ".join(f"{k}={v:09d}" if isinstance(v, int) else f"{k}={v}" for k, v in sorted(key.items()))


def wait(device: torch.device) -> None:
    """Until the device has done everything."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def stopwatch(call: Callable[[], object], device: torch.device) -> float:
    """Seconds of a call, until the device has done it."""
    wait(device)
    start = time.perf_counter()
    call()
    wait(device)
    return time.perf_counter() - start


def seconds_of(call: Callable[[], object], device: torch.device, repeats: int = 5) -> float:
    """Median of a call's seconds, after one that does not count."""
    call()
    return statistics.median(stopwatch(call, device) for _ in range(repeats))


def peak_bytes(call: Callable[[], object], device: torch.device) -> float:
    """Most bytes of CUDA's memory that a call holds at once, over those held before; nan on the CPU."""
    if device.type != "cuda":
        return float("nan")
    wait(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    call()
    wait(device)
    return float(torch.cuda.max_memory_allocated(device) - before)


def beside(rows: list[Values], seconds: list[list[float]]) -> list[list[object]]:
    """Lines of a table of asks: n, d, the milliseconds of two versions, and the ratio."""
    return [
        [row["n"], row["d"], *(1e3 * s for s in pair), f"{number(pair[0] / pair[1])}x"]
        for row, pair in zip(rows, seconds, strict=True)
    ]


def randn(*shape: int, device: torch.device) -> torch.Tensor:
    """Standard normal float64, always the same."""
    generator = torch.Generator(device=device).manual_seed(0)
    return torch.randn(*shape, generator=generator, dtype=torch.float64, device=device)


def verdict(met: bool | None, detail: str = "") -> str:
    """Of a target: yes, no, or that nobody knows.

    >>> verdict(True, "7 ms"), verdict(None)
    ('yes (7 ms)', 'not measured')
    """
    if met is None:
        return "not measured"
    return ("yes" if met else "no") + (f" ({detail})" if detail else "")


def at_most(value: float | None, bound: float, unit: str = "", scale: float = 1.0) -> str:
    """The verdict on a value that should be at most a bound; scale makes it the unit's for the reader.

    >>> at_most(0.007, 0.010, "ms", 1e3), at_most(None, 1.0)
    ('yes (7 ms)', 'not measured')
    """
    return verdict(None if value is None else value <= bound, _told(value, unit, scale))


def at_least(value: float | None, bound: float, unit: str = "", scale: float = 1.0) -> str:
    """Likewise of one that should be at least a bound."""
    return verdict(None if value is None else value >= bound, _told(value, unit, scale))


def _told(value: float | None, unit: str, scale: float) -> str:
    return "" if value is None else f"{number(scale * value)} {unit}".strip()
