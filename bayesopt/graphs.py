"""CUDA graphs: what is computed again and again with tensors of the same shapes is launched at once.

A GPU evaluates the likelihood or the acquisition of a short history in less time than the host takes to
launch its some dozens of operations. `replayed` records them once for each function and shapes, and then
launches the record. Histories grow, so who calls it pads them to multiples of `STEP` (`padding`): a record
serves that many asks.

Off until somebody turns it on, by `BAYESOPT_GRAPHS=1` or `switched(True)`: what it gains has not been
measured on a card. Where it is on, it serves single studies of up to `LONGEST` results on CUDA; longer ones
and batches of studies have arithmetic enough. What cannot be recorded is launched as ever, with one warning.
"""

import logging
import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

log = logging.getLogger("bayesopt")

#: A pure function of tensors, without randomness and without a look at a value.
Function = Callable[..., tuple[Tensor, ...]]

#: Shapes are rounded up to multiples of it; most results that are served; records that are kept.
STEP, LONGEST, KEPT = 32, 1024, 16

_on = os.environ.get("BAYESOPT_GRAPHS") == "1"

_lock = threading.Lock()
_records: "OrderedDict[Hashable, Record]" = OrderedDict()  # the latest used last
_refused: set[Hashable] = set()  # names of functions that cannot be recorded


@contextmanager
def switched(on: bool) -> Iterator[None]:
    """Within it, graphs are used or not, in every thread; what was recorded is forgotten at its ends."""
    global _on  # an argument would pass through every signature between here and `ask`
    before, _on = _on, on
    _forget()
    try:
        yield
    finally:
        _on = before
        _forget()


def _forget() -> None:
    with _lock:
        _records.clear()
        _refused.clear()


def serves(X: Tensor, n: int) -> bool:
    """Whether what is computed of X `(b, m, D)` and n results is to be recorded."""
    return _on and _can_record(X) and X.dim() == 3 and X.shape[0] == 1 and n <= LONGEST


def _can_record(X: Tensor) -> bool:
    return X.is_cuda and not torch.is_grad_enabled()


def padding(n: int) -> int:
    """How many are missing to the next multiple of `STEP`.

    >>> padding(30), padding(32), padding(33)
    (2, 0, 31)
    """
    return -n % STEP


def replayed(name: Hashable, function: Function, *inputs: Tensor) -> tuple[Tensor, ...]:
    """`function(*inputs)`, from a record where there is one for inputs of these shapes, which is made if not.

    Args:
        name: equal for functions that compute the same.
    """
    key = (name, *((t.shape, t.dtype, t.device) for t in inputs))
    with _lock:  # a record has one set of inputs
        if key not in _records and name not in _refused:
            try:
                _records[key] = Record(function, inputs)
            except RuntimeError as error:
                _refused.add(name)
                log.warning(
                    "%s cannot be recorded as a CUDA graph, and is launched as ever (%s)", name, error
                )
        if key in _records:
            _records.move_to_end(key)
            if len(_records) > KEPT:
                _records.popitem(last=False)
            return _records[key](*inputs)
    return function(*inputs)


class Record:
    """The operations of a function on tensors of its own, which inputs are copied to before each replay."""

    def __init__(self, function: Function, inputs: tuple[Tensor, ...]) -> None:
        self._own = [t.clone(memory_format=torch.contiguous_format) for t in inputs]
        self._seen: list[tuple[weakref.ref[Tensor], int] | None] = [None] * len(inputs)
        self._replay, self._outputs = record(function, self._own)

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The function's value; copies of the outputs, since the next replay writes into them."""
        for i, (own, given) in enumerate(zip(self._own, inputs, strict=True)):
            seen = self._seen[i]
            if seen is None or seen[0]() is not given or seen[1] != given._version:
                own.copy_(given, non_blocking=True)
                self._seen[i] = weakref.ref(given), given._version
        self._replay()
        return tuple(out.clone() for out in self._outputs)


def record(function: Function, own: list[Tensor]) -> tuple[Callable[[], None], tuple[Tensor, ...]]:
    """What computes the function again of whatever these tensors hold, and where the outputs then are.

    Raises:
        RuntimeError: an operation waits for the device, or there is no memory.
    """
    device = own[0].device
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        function(*own)  # libraries load kernels and take workspaces, constants are copied
    torch.cuda.current_stream(device).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
        outputs = function(*own)
    return graph.replay, outputs
