"""What a benchmark needs of a method, and what methods of other libraries have in common."""

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from benchmarks.methods.axes import Axis, Config

Space = Mapping[str, Mapping[str, Any]]  # as `bayesopt.Space.to_dict`


class Method(Protocol):
    """One study; smaller values are better. Several configurations may be under way at once."""

    def ask(self, q: int) -> list[Config]:
        """The next q configurations to try."""

    def tell(self, config: Mapping[str, Any], value: float | None, /) -> None:
        """The outcome of a configuration, proposed or not; None if its evaluation failed."""


class UnsupportedError(Exception):
    """A method cannot search a space, and why."""


def need_numbers(axes: Sequence[Axis], method: str) -> None:
    """Refuse choices without an order."""
    unordered = [axis.name for axis in axes if not axis.numeric]
    if unordered:
        raise UnsupportedError(f"{method} knows no choices without an order ({', '.join(unordered[:3])} ...)")


class Waiting:
    """What was asked for and not yet told, each with what the method calls it.

    The same configuration may be under way twice.
    """

    def __init__(self) -> None:
        self._items: list[tuple[Config, Any]] = []

    def add(self, config: Config, token: Any) -> Config:
        self._items.append((config, token))
        return dict(config)

    @property
    def tokens(self) -> list[Any]:
        """Of all that is waited for, the oldest first."""
        return [token for _, token in self._items]

    def pop(self, config: Mapping[str, Any]) -> Any:
        """The token of the oldest such configuration; None if it was not asked for."""
        place = next((i for i, (known, _) in enumerate(self._items) if known == config), None)
        return None if place is None else self._items.pop(place)[1]


class Inverted:
    """A function that calls its objective, as a method that is asked and told.

    It runs in a thread of its own, which waits in the objective for what is told. One evaluation at a time.

    Args:
        minimise: called with an objective of a point; the objective takes whatever `config` understands.
        config: the configuration of a point.
        failed: what the objective returns for an evaluation that failed.
    """

    def __init__(
        self,
        minimise: Callable[[Callable[[Any], float]], None],
        config: Callable[[Any], Config],
        failed: float,
    ) -> None:
        self._minimise, self._config, self._failed = minimise, config, failed
        self._points: queue.Queue[Any] = queue.Queue()
        self._values: queue.Queue[float] = queue.Queue()
        self._thread: threading.Thread | None = None

    def _objective(self, point: Any) -> float:
        self._points.put(point)
        return self._values.get()

    def _run(self) -> None:
        try:
            self._minimise(self._objective)
            self._points.put(StopIteration("the method has ended before its budget"))
        except Exception as error:  # noqa: BLE001 - it is raised where the method is asked
            self._points.put(error)

    def ask(self, q: int) -> list[Config]:
        if q != 1:
            raise UnsupportedError("it evaluates one configuration at a time")
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()
        point = self._points.get()
        if isinstance(point, Exception):
            raise RuntimeError("the method has failed") from point
        return [self._config(point)]

    def tell(self, config: Mapping[str, Any], value: float | None, /) -> None:
        self._values.put(self._failed if value is None else value)
