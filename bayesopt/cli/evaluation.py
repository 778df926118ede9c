"""One evaluation of a command line: run the program, listen to it, keep its log, judge the end."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Self

from bayesopt.cli.metric import Output, Reader, Reading
from bayesopt.cli.program import STDOUT, Program
from bayesopt.cli.template import Template
from bayesopt.workers.worker import ReportingTrial, TrialFailed, TrialPruned

_TAIL = 20  # last lines of a log, in the error of its trial
_TAIL_BYTES = 4000


class Stopped(BaseException):
    """The run is over; what this program would have come to is not known."""


class Programs:
    """Those that are running, so that they can all be ended."""

    def __init__(self) -> None:
        self.stopping = False
        self._running: set[Program] = set()
        self._lock = threading.RLock()  # a signal handler may come while this thread holds it

    def add(self, program: Program) -> None:
        """From now on it is one of them.

        Raises:
            Stopped: they are to end.
        """
        with self._lock:
            if self.stopping:
                raise Stopped
            self._running.add(program)

    def remove(self, program: Program) -> None:
        """It has ended."""
        with self._lock:
            self._running.discard(program)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        """No more of them."""
        if not self.stopping:
            self.stop()

    def stop(self) -> None:
        """Ask all to end, now and in future; asked again, kill them."""
        with self._lock:
            for program in self._running:
                program.kill() if self.stopping else program.stop()
            self.stopping = True


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The objective: takes a configuration and its trial, and returns the metric of the program.

    Attributes:
        template: the command line.
        reader: finds the metric in a line of standard output.
        logs: folder for one file a trial.
        programs: where a running program is to be found.
        environment: of the programs, besides BAYESOPT_CONFIG and BAYESOPT_TRIAL.
        timeout: seconds after which a program is stopped; None for no limit.
        grace: seconds between SIGTERM and SIGKILL.
        verbose: whether to show the output on standard error as well.
    """

    template: Template
    reader: Reader
    logs: Path
    programs: Programs
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    timeout: float | None = None
    grace: float = 10.0
    verbose: bool = False

    def __call__(self, config: dict[str, Any], trial: ReportingTrial) -> float:
        """Raises TrialFailed or TrialPruned, or Stopped if the whole run is."""
        words = self.template.fill(config, trial.number)
        variables = {"BAYESOPT_CONFIG": json.dumps(config), "BAYESOPT_TRIAL": str(trial.number)}
        output = Output(self.reader)
        with (
            self.log_file(trial.number).open("wb", buffering=0) as log,
            Program(words, {**self.environment, **variables}, self.timeout, self.grace) as program,
        ):
            log.write(f"$ {shlex.join(words)}\n".encode(errors="backslashreplace"))
            self.programs.add(program)
            try:
                self._listen(program, output, trial, log)
            finally:
                self.programs.remove(program)
        return self._judged(program, output, trial)

    def log_file(self, number: int) -> Path:
        """Where the output of a trial is kept."""
        return self.logs / f"trial-{number:05d}.log"

    def _listen(self, program: Program, output: Output, trial: ReportingTrial, log: IO[bytes]) -> None:
        for source, chunk in program.output():
            log.write(chunk)
            if self.verbose:
                sys.stderr.buffer.write(chunk)
                sys.stderr.flush()
            if source == STDOUT:
                for reading in output.feed(chunk):
                    _report(reading, program, trial, log)
        for reading in output.finish():
            _report(reading, program, trial, log)

    def _judged(self, program: Program, output: Output, trial: ReportingTrial) -> float:
        if self.programs.stopping:
            raise Stopped
        if trial.advised:
            raise TrialPruned
        problem = program.problem or self._unhappy_end(program)
        if not problem:
            try:
                return output.value()
            except ValueError as error:
                problem = str(error)
        file = self.log_file(trial.number)
        raise TrialFailed(f"{problem}\nlog: {file}\n{tail(file)}".rstrip("\n"))

    def _unhappy_end(self, program: Program) -> str:
        if program.timed_out:
            return f"the program took longer than {self.timeout:g} s and was stopped"
        assert program.code is not None
        if program.code < 0:
            names = {int(each): each.name for each in signal.Signals}
            return f"the program was killed by {names.get(-program.code, f'signal {-program.code}')}"
        return f"the program ended with exit code {program.code}" if program.code else ""


def _report(reading: Reading, program: Program, trial: ReportingTrial, log: IO[bytes]) -> None:
    """Pass on an intermediate result, and stop the program if the pruner sees no use in it."""
    if reading.value is None:
        log.write(f"bayesopt: {reading}\n".encode(errors="backslashreplace"))
    if reading.value is None or reading.step is None:
        return
    if trial.advised or program.code is not None:
        return
    trial.report(reading.value, reading.step)
    if trial.should_prune():
        program.stop()


def tail(file: Path) -> str:
    """The last lines of a file.

    Raises:
        OSError: it cannot be read.
    """
    with file.open("rb") as log:
        log.seek(0, os.SEEK_END)
        log.seek(max(0, log.tell() - _TAIL_BYTES))
        return b"".join(deque(log, _TAIL)).decode(errors="replace")
