"""Tables, the facts about the machine, and where results are kept."""

import json
import math
import os
import platform
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"

_PACKAGES = ("torch", "gpytorch", "botorch", "optuna", "numpy", "scipy")

Row = Sequence[object]


@dataclass(frozen=True)
class Table:
    """A header, rows of cells, and a line or two that say what they are."""

    header: Sequence[str]
    rows: Sequence[Row]
    caption: str = ""

    def markdown(self) -> str:
        """The table in Markdown, its caption above it."""
        text = markdown_table(self.header, self.rows)
        return f"{self.caption}\n\n{text}" if self.caption else text


@dataclass(frozen=True)
class Report:
    """What a command found: tables for people, `results` for programs, the settings that made them."""

    title: str
    tables: Sequence[Table]
    results: Any
    settings: Mapping[str, Any] = field(default_factory=dict)

    def markdown(self, facts: Mapping[str, object]) -> str:
        """The whole report in Markdown."""
        settings = ", ".join(f"{name} {value}" for name, value in self.settings.items() if value is not None)
        parts = [f"# {self.title}", *(table.markdown() for table in self.tables)]
        parts.append("; ".join(f"{name}: {value}" for name, value in facts.items()))
        if settings:
            parts.append(f"Settings: {settings}")
        return "\n\n".join(parts) + "\n"


def number(value: float, digits: int = 3) -> str:
    """A number with so many significant digits, without an exponent where that is readable.

    >>> number(1234.5), number(0.012345), number(3.0), number(1.5e-9), number(float("nan"))
    ('1234', '0.0123', '3', '1.5e-09', 'n/a')
    """
    if math.isnan(value):
        return "n/a"
    if value == 0 or math.isinf(value):
        return f"{value:g}"
    exponent = math.floor(math.log10(abs(value)))
    if exponent < -4 or exponent > 6:
        return f"{value:.{digits}g}"
    text = f"{value:.{max(0, digits - 1 - exponent)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def percent(fraction: float) -> str:
    """A fraction as a percentage.

    >>> percent(0.954)
    '95 %'
    """
    return f"{100 * fraction:.0f} %"


def spread(values: Sequence[float], scale: float = 1.0) -> str:
    """`median (min-max)` of measurements, times `scale`."""
    middle, low, high = (scale * v for v in (statistics.median(values), min(values), max(values)))
    return f"{number(middle)} ({number(low)}-{number(high)})"


def markdown_table(header: Sequence[str], rows: Sequence[Row]) -> str:
    """A Markdown table with aligned columns; floats go through `number`.

    >>> print(markdown_table(["n", "ms"], [[20, 1.25], [1000, 80.0]]))
    | n    | ms   |
    |------|------|
    | 20   | 1.25 |
    | 1000 | 80   |
    """
    cells = [[_text(cell) for cell in row] for row in [header, *rows]]
    if len({len(row) for row in cells}) > 1:
        raise ValueError(f"every row needs {len(header)} cells, got {sorted({len(row) for row in cells})}")
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    padded = [[cell.ljust(w) for cell, w in zip(row, widths, strict=True)] for row in cells]
    lines = [f"| {' | '.join(row)} |" for row in padded]
    lines.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    return "\n".join(lines)


def _text(cell: object) -> str:
    return number(cell) if isinstance(cell, float) else str(cell)


def machine() -> dict[str, object]:
    """What the numbers depend on: processor, cores, threads, versions, date; no names, no paths."""
    facts: dict[str, object] = {
        "cpu": _cpu_model(),
        "cores": _cores(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
    }
    facts.update({name: version for name in _PACKAGES if (version := _version(name))})
    return {**facts, "date": date.today().isoformat()}


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def save(name: str, report: Report, folder: Path = RESULTS) -> str:
    """Write `<name>.json` and `<name>.md` into the folder, over older ones; returns the Markdown."""
    facts = machine()
    text = report.markdown(facts)
    record = {"command": name, "machine": facts, "settings": dict(report.settings), "results": report.results}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    (folder / f"{name}.md").write_text(text, encoding="utf-8")
    return text


def can_draw() -> bool:
    """Whether pictures can be drawn; says what they need if not."""
    if find_spec("matplotlib") is not None:
        return True
    progress('no pictures; they need: python -m pip install "bayesopt-torch[plots]"')
    return False


def progress(text: str) -> None:
    """One line about what is under way, on the error stream."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """Run with so many PyTorch threads, its own default if None, and put the old number back."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
