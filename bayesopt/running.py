"""A run of an objective while it lasts: `Run`, the loop, and the line that shows how far it is."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bayesopt.books import Books
from bayesopt.optimizer import Optimizer
from bayesopt.trials import Trial
from bayesopt.workers.evaluations import Evaluations

log = logging.getLogger("bayesopt")

_IDLE = 0.25  # seconds until a worker without work looks again


@dataclass(eq=False)
class Run:
    """The loop: ask when a worker is free, tell when an evaluation is finished."""

    books: Books
    under_way: Evaluations
    trials: int
    show: Callable[[Optimizer, int], None]
    callback: Callable[[Trial], None] | None
    tolerance: float | None
    not_before: float = 0.0  # when to ask again, after there was nothing to do
    judged: int = -1  # after how many results it was last asked whether that is enough

    def pursue(self) -> None:
        """Make trials until there are enough, or no more can be made, or somebody presses Ctrl-C."""
        try:
            while self.books.done < self.trials and not self.under_way.ending and not self.is_good():
                self.ask()
                self.tell()
            if self.under_way.broken is not None:
                self.explain(self.under_way.broken)
            self.drain()
        except KeyboardInterrupt:
            self.finish_early()

    def is_good(self) -> bool:
        """Whether little enough is still to be gained. What is enqueued is evaluated first."""
        if self.tolerance is None or self.books.done == self.judged:
            return False
        self.judged = self.books.done
        optimizer = self.books.optimizer
        if not optimizer.enough(self.tolerance) or self.books.enqueued:
            return False
        log.info(
            "stopped after %d of %d trials: with 95 %% no more than %g is still to be gained",
            self.books.done, self.trials, self.tolerance,
        )  # fmt: skip
        return True

    def finish_early(self) -> None:
        """Ask no more, but wait for what is running; unless somebody presses Ctrl-C again."""
        try:
            self.under_way.interrupted = True
            note = f"interrupted after {self.books.done} of {self.trials} trials"
            if running := self.under_way.running:
                note += f"; waiting for {running} running evaluations, press Ctrl-C again to abandon them"
            log.warning("%s", note)
            self.drain()
        except KeyboardInterrupt:
            log.warning("abandoned %d running evaluations", self.under_way.running)
            self.under_way.abandon()

    def explain(self, broken: RuntimeError) -> None:
        if not self.books.done:
            raise broken
        log.error("stopped after %d of %d trials: %s", self.books.done, self.trials, broken)

    def drain(self) -> None:
        while self.under_way.running:
            self.tell()

    def ask(self) -> None:
        free, running = self.under_way.free, self.under_way.running
        if free < 1 or time.monotonic() < self.not_before:
            return
        jobs = self.books.ask(free, running, self.trials)
        if not jobs:  # others are at the rest; one of them may die
            self.not_before = time.monotonic() + _IDLE
            return
        self.show(self.books.optimizer, running + len(jobs))
        for config, trial in jobs:
            self.under_way.start(config, trial)

    def tell(self) -> None:
        if not self.under_way.running:
            time.sleep(max(0.0, self.not_before - time.monotonic()))
        for config, trial, outcome in self.under_way.finished():
            told = self.books.tell(config, trial, outcome)
            self.not_before = 0.0
            self.show(self.books.optimizer, self.under_way.running)
            if told is not None and told.error is not None:
                reason = outcome.reason or told.error
                log.warning("trial %d failed: %s", told.number, reason.partition("\n")[0])
            if told is not None and self.callback is not None:
                self.callback(told)


@contextmanager
def progress_line(enabled: bool, total: int, with_regret: bool) -> Iterator[Callable[[Optimizer, int], None]]:
    """A live line of done, running, failed, best and time left; nothing at all when not enabled."""
    if not enabled:
        yield lambda optimizer, running: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("starting", total=total)

        def show(optimizer: Optimizer, running: int) -> None:
            trials, best = optimizer.trials, optimizer.best
            failed = sum(trial.value is None for trial in trials)
            text = f"{running} running, " if running else ""
            text += f"{failed} failed, " if failed else ""
            text += "no success yet" if best is None else f"best {best.value:.6g}"
            regret = optimizer.regret() if with_regret else None
            text += "" if regret is None else f", at most {regret.bound:.2g} to gain"
            bar.update(task, completed=len(trials), description=text)

        yield show
