"""What a program says on standard output: its metric, and how it goes meanwhile."""

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

STEP = "step"

#: Characters of a line beyond which it is not looked at.
LONGEST = 1 << 20

_NUMBER = re.compile(r"[-+]?((\d+\.?\d*|\.\d+)(e[-+]?\d+)?|nan|inf|infinity)", re.IGNORECASE | re.ASCII)
_SHOWN = 100  # characters of a line, in a message


@dataclass(frozen=True)
class Reading:
    """What one line says.

    Attributes:
        value: of the metric, perhaps nan or an infinity; None if it is malformed.
        step: of which it is the intermediate result; None if it is that of nothing.
        problem: why the value cannot be the result; empty if it can.
        line: its number, from 1.
        text: the line.
    """

    value: float | None
    step: int | None = None
    problem: str = ""
    line: int = 0
    text: str = ""

    def __str__(self) -> str:
        return f"line {self.line} of standard output {self.problem}: {_brief(self.text)}"


class Reader(NamedTuple):
    """How to read a line: what is looked for, in words, and a function that finds it, None if it does not."""

    wanted: str
    read: Callable[[str], Reading | None]


def json_reader(name: str) -> Reader:
    """Reads lines that are a JSON object with that name, or a bare number.

    >>> read = json_reader("loss").read
    >>> read('{"step": 3, "loss": 0.4}').value, read("0.25").value, read("loss: 0.4")
    (0.4, 0.25, None)
    """

    def read(line: str) -> Reading | None:
        if not line.startswith("{"):
            return _checked(float(line)) if _NUMBER.fullmatch(line) else None
        try:
            said = json.loads(line)
        except (ValueError, RecursionError):
            return Reading(None, problem="is not JSON") if name in line else None
        return _checked(said[name], said.get(STEP), name) if name in said else None

    return Reader(f"is a JSON object with {name!r}, or a number", read)


def regex_reader(pattern: str) -> Reader:
    r"""Reads lines with the one named group of a regular expression; a group called `step` says of what step.

    Raises:
        ValueError: no regular expression, or not with such a group.

    >>> read = regex_reader(r"epoch (?P<step>\d+): error (?P<error>\S+)").read
    >>> read("epoch 3: error 0.4").value, read("epoch 3: error 0.4").step
    (0.4, 3)
    """
    try:
        compiled = re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"--regex {pattern!r} is no regular expression: {error}") from None
    names = [name for name in compiled.groupindex if name != STEP]
    if len(names) != 1:
        raise ValueError(
            f"--regex {pattern!r} must have one named group for the metric, such as (?P<loss>[-+.\\de]+), "
            f"besides an optional (?P<step>\\d+); it has {', '.join(names) or 'none'}"
        )

    def read(line: str) -> Reading | None:
        matches = [*compiled.finditer(line)]
        if not matches:
            return None
        found = matches[-1]
        step = found[STEP] if STEP in compiled.groupindex else None
        return _checked(_number(found[names[0]]), _number(step), names[0])

    return Reader(f"matches {pattern!r}", read)


def _number(text: str | None) -> object:
    """A number where there is one, to be judged with the others; a step without fraction as an int."""
    if text is None or not _NUMBER.fullmatch(text.strip()):
        return text
    value = float(text)
    return int(value) if value.is_integer() else value


def _checked(value: object, step: object = None, name: str = "") -> Reading:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return Reading(None, problem=f"must have a number as {name!r}, not {_brief(value)}")
    try:
        value = float(value)
    except OverflowError:
        value = math.inf if value > 0 else -math.inf
    if step is not None and not _is_step(step):
        return Reading(None, problem=f"must have a whole number >= 0 as {STEP!r}, not {_brief(step)}")
    problem = "" if math.isfinite(value) else f"says that the evaluation failed, by {value}"
    assert step is None or isinstance(step, int | float)
    return Reading(value, None if step is None else int(step), problem)


def _is_step(step: object) -> bool:
    whole = isinstance(step, int) or (isinstance(step, float) and step.is_integer())
    return whole and not isinstance(step, bool) and 0 <= step < 2**31  # type: ignore[operator]


def _brief(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


class Output:
    """The standard output of one evaluation, as it comes. Lines of more than `LONGEST` bytes say nothing."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._lines = 0
        self._last_line = ""
        self._rest = b""
        self._reading: Reading | None = None

    def feed(self, chunk: bytes) -> list[Reading]:
        """What the lines say that end in this piece."""
        *lines, rest = (self._rest + chunk).split(b"\n")
        self._rest = rest[: LONGEST + 1]
        return self._absorb(lines)

    def finish(self) -> list[Reading]:
        """What the last line says, if it has no end."""
        rest, self._rest = self._rest, b""
        return self._absorb([rest] if rest else [])

    def value(self) -> float:
        """What the last line says that says anything about the metric.

        Raises:
            ValueError: no line does, or it is no finite number; the message shows the line.
        """
        if self._reading is None:
            what = (
                f"the last of its {self._lines} lines: {_brief(self._last_line)}" if self._lines else "empty"
            )
            raise ValueError(f"no line of standard output {self._reader.wanted}; {what}")
        if self._reading.problem:
            raise ValueError(str(self._reading))
        assert self._reading.value is not None
        return self._reading.value

    def _absorb(self, lines: list[bytes]) -> list[Reading]:
        readings = []
        for line in lines:
            self._lines += 1
            # A progress bar goes back to the beginning of its line: what comes last stays visible.
            text = line.rstrip(b"\r").rpartition(b"\r")[2].decode(errors="replace").strip()
            self._last_line = text or self._last_line
            reading = self._reader.read(text) if len(line) <= LONGEST else None
            if reading is not None:
                self._reading = replace(reading, line=self._lines, text=text)
                readings.append(self._reading)
        return readings
