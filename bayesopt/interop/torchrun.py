"""Tuning a distributed training: one rank asks, and all get the same configuration.

    torchrun --nproc-per-node 8 train.py

starts the same program on every rank. There, `SharedStudy` has the methods of a `Study` or an `Optimizer`, to
be called by all ranks alike: the first rank, the leader, does what is asked for, and all get the answer. An
error of the leader is raised on all of them, so that none waits for ever; an error of another rank ends the
program, as `torchrun` does with any. Without `torch.distributed`, or
before it is initialised, there is one rank, and all this is the study itself.

Whatever is sent goes through the default process group. With NCCL each rank has chosen its device before, by
`torch.cuda.set_device`, as such programs do anyway.
"""

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import torch.distributed as dist

from bayesopt.optimizer import Optimizer
from bayesopt.trials import Config, Trial

if TYPE_CHECKING:  # it loads Optuna
    from bayesopt.storage.study import Study
    from bayesopt.storage.trial import RunningTrial

T = TypeVar("T")

LEADER = 0


def is_leader() -> bool:
    """Whether this is the rank that asks, tells, prints and saves.

    >>> is_leader()
    True
    """
    return not _several() or dist.get_rank() == LEADER


def broadcast(value: T) -> T:
    """The leader's value, on every rank; what the others pass is ignored. It must be picklable.

    Raises:
        Exception: the value cannot be pickled; on every rank.

    >>> broadcast({"lr": 0.1})
    {'lr': 0.1}
    """
    return on_leader(lambda: value)


def on_leader(action: Callable[[], T]) -> T:
    """What an action returns that only the leader carries out, on every rank; all of them must call this.

    Raises:
        Exception: what the action raised, on every rank; a RuntimeError if that cannot be sent.
    """
    if not _several():
        return action()
    if dist.get_rank() != LEADER:
        said: list[Any] = [None]
        dist.broadcast_object_list(said, src=LEADER)
        return _opened(said[0])
    try:
        answer = _sealed(action(), None)
    except BaseException as error:
        # The others must not be left waiting, whatever it is: an interrupt too.
        dist.broadcast_object_list([_sealed_error(error)], src=LEADER)
        raise
    dist.broadcast_object_list([answer], src=LEADER)
    return _opened(answer)


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _sealed(value: object, error: BaseException | None) -> bytes:
    return pickle.dumps((value, error))


def _sealed_error(error: BaseException) -> bytes:
    """An error that can be read at the other end, or its words."""
    try:
        sealed = _sealed(None, error)
        pickle.loads(sealed)
    except Exception:  # noqa: BLE001 - pickling can raise anything
        return _sealed(None, RuntimeError(f"on the leader: {type(error).__name__}: {error}"))
    return sealed


def _opened(sealed: bytes) -> Any:
    value, error = pickle.loads(sealed)
    if error is not None:
        raise error
    return value


@dataclass(frozen=True, eq=False)
class SharedTrial:
    """A configuration under evaluation on all ranks; every method is to be called by all of them.

    Attributes:
        number: in the study; that of an `Optimizer` has none.
        config: the configuration, the same on every rank.
    """

    number: int | None
    config: Config
    _running: "RunningTrial | None"  # on the leader, of a study

    def report(self, value: float, step: int) -> None:
        """Report how it goes: the leader's value, after `step` epochs, say; of a study.

        Raises:
            TypeError, ValueError, RuntimeError: as `RunningTrial.report`.
        """
        on_leader(lambda: self._of_a_study().report(value, step))

    def should_prune(self) -> bool:
        """Whether it is not worth going on; the same on every rank."""
        return on_leader(lambda: self._of_a_study().should_prune())

    def _of_a_study(self) -> "RunningTrial":
        if self._running is None:
            raise TypeError("an Optimizer has nobody to report to: share a Study instead")
        return self._running


class SharedStudy:
    """A `Study` or an `Optimizer` of the leader, for all ranks; every method is to be called by all of them.

    Args:
        make: makes the study; called by the leader alone.

    Raises:
        Exception: whatever `make` raises, on every rank.

    >>> from bayesopt import Float, Optimizer
    >>> with SharedStudy(lambda: Optimizer({"x": Float(-1.0, 1.0)})) as study:
    ...     for _ in range(12):
    ...         trial = study.ask()
    ...         _ = study.tell(trial, (trial.config["x"] - 0.3) ** 2)
    ...     abs(study.best.config["x"] - 0.3) < 0.01
    True
    """

    def __init__(self, make: "Callable[[], Study | Optimizer]") -> None:
        self._study: Study | Optimizer | None = None

        def begin() -> None:
            self._study = make()

        on_leader(begin)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the study. The only method that a rank may call by itself."""
        if not isinstance(self._study, Optimizer | None):
            self._study.close()

    def ask(self) -> SharedTrial:
        """A trial to evaluate, the same on every rank."""
        running: list[RunningTrial] = []

        def ask() -> tuple[int | None, Config]:
            if isinstance(self._study, Optimizer):
                return None, self._study.ask()
            assert self._study is not None  # this is the leader
            running.append(self._study.ask())
            return running[0].number, running[0].config

        number, config = on_leader(ask)
        return SharedTrial(number, config, running[0] if running else None)

    def tell(
        self,
        trial: SharedTrial,
        value: object = None,
        *,
        std: object = None,
        pruned: bool = False,
        error: str | None = None,
    ) -> Trial:
        """Report an outcome: the leader's. See `Study.tell` for the arguments and what it raises."""

        def tell() -> Trial:
            if isinstance(self._study, Optimizer):
                if pruned or error is not None:
                    raise TypeError("an Optimizer takes a value and its std alone: share a Study instead")
                self._study.tell(trial.config, value, std=std)
                return self._study.trials[-1]
            assert self._study is not None and trial._running is not None
            return self._study.tell(trial._running, value, std=std, pruned=pruned, error=error)

        return on_leader(tell)

    @property
    def best(self) -> Trial | None:
        """The best trial, None before the first success; on every rank."""
        return on_leader(lambda: self._leading().best)

    @property
    def trials(self) -> list[Trial]:
        """The results; on every rank."""
        return on_leader(lambda: list(self._leading().trials))

    def _leading(self) -> "Study | Optimizer":
        assert self._study is not None  # only the leader looks
        return self._study
