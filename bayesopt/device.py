"""How the engine shares its work with a device that computes while the host goes on.

A GPU is kept busy by a host that runs ahead of it and queues operations. Whenever the host looks at a value
it waits until everything queued has been computed, and the device then waits for the host. So there:

- what the host knows already it does not ask the device for: `History.home`, `constant`;
- copies to the device do not wait: `put`;
- what is nearly always true is taken to be, and checked once at the end: `sure` within `settled`;
- what may save work later is looked at later: `Watch`.

On the CPU a look costs nothing and saves work, and all of these look at once. Nothing here changes a result.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import TypeVar

import torch
from torch import Tensor

log = logging.getLogger("bayesopt")

T = TypeVar("T")

CPU = torch.device("cpu")

#: Shares of the usual chunks that are tried in turn where memory is short.
SHARES = (1.0, 0.5, 0.25, 0.125)

#: How many values that a `Watch` was given it does not look at yet: as many steps as the device has queued.
LAG = 2

#: Bytes of the block that `keep_pages` frees; just below the most that is learnt from.
_KEPT = 31 << 20

#: Times as many numbers that a GPU computes at once, in memory and to be busy.
_WIDER = 16

_doubts: ContextVar[list[Tensor] | None] = ContextVar("doubts", default=None)
_share: ContextVar[float] = ContextVar("share", default=1.0)


def stalls(x: Tensor) -> bool:
    """Whether a look at a value of x makes the host wait for a device."""
    return x.device.type != "cpu"


def put(x: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU on a device, without waiting for it: from pinned memory, as CUDA wants it."""
    if device.type == "cuda" and x.device.type == "cpu":
        x = x.pin_memory()
    return x.to(device, non_blocking=True)


@lru_cache(maxsize=1024)
def constant(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Numbers that never change `(n,)`, copied to each device once; nobody may write to it."""
    return torch.tensor(values, dtype=dtype, device=device)


def entries(most: int, like: Tensor) -> int:
    """How many numbers to compute at once where the CPU computes `most`; fewer within `sparing`."""
    return max(1, int(most * (_WIDER if stalls(like) else 1) * _share.get()))


@lru_cache(maxsize=1)
def keep_pages() -> None:
    """Have the C library keep up to 62 MiB that tensors give back, as it does after any large computation.

    The GNU C library hands memory back to the system, to be mapped and zeroed page by page when it is next
    used, unless a block of that size has been freed before: it learns from the largest one, up to 32 MiB. So
    one is freed, that nobody has written to, in microseconds; without it 20 studies of 100 results take a
    twelfth longer. Other libraries do not mind.
    """
    torch.empty(_KEPT, dtype=torch.uint8)


@contextmanager
def sparing(share: float) -> Iterator[None]:
    """In chunks of this share of the usual ones, because memory is short."""
    token = _share.set(share)
    try:
        yield
    finally:
        _share.reset(token)


def is_short() -> bool:
    """Whether memory is so short that chunks are less than half of the usual ones."""
    return _share.get() < 0.5


def within_memory(compute: Callable[[], T], share: float = 1.0) -> tuple[T | None, float]:
    """`compute()` in chunks that fit into memory, and the share of the usual ones that they are.

    Begins with a share; None and 0 if the smallest ones do not fit.
    """
    for smaller in SHARES:
        if smaller > share:
            continue
        try:
            with sparing(smaller):
                return compute(), smaller
        except RuntimeError as error:
            if not _is_about_memory(error):
                raise
            log.info("out of memory with %g of the usual chunks (%s)", smaller, error)
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()  # after the except clause, whose traceback holds tensors
    return None, 0.0


def _is_about_memory(error: RuntimeError) -> bool:
    """Torch has an exception of its own for it, cuBLAS and cuSOLVER have a status."""
    return isinstance(error, torch.OutOfMemoryError) or "ALLOC_FAILED" in str(error)


def sure(flag: Tensor) -> bool:
    """Whether all of a flag hold. On a device, within `settled`: yes, which is checked in the end."""
    doubts = _doubts.get()
    if doubts is None or not stalls(flag):
        return bool(flag.all())
    doubts.append(flag.all())
    return True


def settled(compute: Callable[[], Tensor]) -> Tensor:
    """`compute()` on the CPU, float64, having waited for the device once.

    If the end shows that something was not as `sure` has said, it is computed again, with a look at each.
    """
    doubts: list[Tensor] = []
    token = _doubts.set(doubts)
    try:
        x = compute()
        if not stalls(x):
            return x
        fine = torch.stack([torch.ones((), dtype=torch.bool, device=x.device), *doubts]).all()
        numbers = torch.cat([x.flatten(), fine.to(x.dtype).view(1)]).cpu()
        if numbers[-1] == 1.0:
            return numbers[:-1].view(x.shape)
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
        if not doubts:
            raise
    finally:
        _doubts.reset(token)
    return compute().cpu()


class Watch:
    """Looks at values `(n,)` that change from step to step, on a device some steps later.

    The host waits for what it looks at, but the device goes on with the steps queued since.
    """

    def __init__(self, lag: int | None = None) -> None:
        self._queue: deque[tuple[Tensor, torch.cuda.Event | None]] = deque()
        self._lag = LAG if lag is None else lag

    def __call__(self, value: Tensor) -> Tensor | None:
        """The value of some steps ago on the CPU; None while there is none. On the CPU it is this one."""
        if not stalls(value):
            return value
        copy, event = value.to("cpu", non_blocking=True), None
        if value.is_cuda:
            event = torch.cuda.Event()
            event.record(torch.cuda.current_stream(value.device))
        self._queue.append((copy, event))
        if len(self._queue) <= self._lag:
            return None
        copy, event = self._queue.popleft()
        if event is not None:
            event.synchronize()
        return copy
