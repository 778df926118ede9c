"""A GPU for machines without one: tensors that say they are on it, and compute on the CPU.

    with pretend.gpu() as gpu:
        Optimizer(space, device=gpu.device).ask()
    assert not gpu.stalls

What a GPU refuses raises here too: operations between devices, `numpy()`. What makes the host wait for it is
written down, with the line of the engine: values that the host reads (`item`, `bool`, `tolist`, `cpu`),
shapes that depend on values (boolean masks, `nonzero`), checks inside of routines (`eigh`), and copies from
pageable memory, which `torch.tensor(..., device="cuda")` and indexing with a list are as well. It is what
`torch.cuda.set_sync_debug_mode` reports on a real one.

The arithmetic is the CPU's, so results are equal to the last bit. What it cannot show: what is fast or slow,
streams, and where CUDA's own kernels differ.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import pytest
import torch
from torch import Tensor
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode

_NAME = "pretend"
_PACKAGE = str(Path(__file__).parents[1] / "bayesopt") + "/"
_CPU = torch.device("cpu")

aten = torch.ops.aten

#: Routines that read values on the host: they return one, shape their result by them, or check them.
_READS = {
    aten._local_scalar_dense: "item",
    aten.nonzero: "nonzero",
    aten.masked_select: "masked_select",
    aten._unique2: "unique",
    aten.repeat_interleave: "repeat_interleave",
    aten.equal: "equal",
    aten._linalg_eigh: "eigh",
    aten._linalg_svd: "svd",
}
_INDEXING = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}
_COPIES = {aten._to_copy, aten.copy_}
_WATCHED = _READS.keys() | _INDEXING | _COPIES


class OnDevice(Tensor):
    """A tensor that says that it is on the device, around the one on the CPU that it `held`."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> "OnDevice":
        made = Tensor._make_wrapper_subclass(
            cls, held.size(), held.stride(), held.storage_offset(), dtype=held.dtype, device=DEVICE
        )
        made.held = held
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{func} was called with a tensor of a device that is no longer there")

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def __repr__(self) -> str:  # type: ignore[override]
        return f"OnDevice({self.held!r})"


class Event(NamedTuple):
    """What the host waits for, and the innermost line of the engine that asked for it."""

    kind: str
    place: str


class Gpu(TorchDispatchMode):
    """What happens on the device, while it is there.

    Attributes:
        stalls: what made the host wait; copies: what went from or to it without that.
        largest: bytes of the largest tensor that an operation returned.
        memory: bytes that it may return before the device is out of memory.
    """

    def __init__(self, device: torch.device, memory: float) -> None:
        super().__init__()
        self.device, self.memory = device, memory
        self.clear()

    def clear(self) -> None:
        """Forget what happened."""
        self.stalls: list[Event] = []
        self.copies: list[Event] = []
        self.largest = 0

    def counted(self) -> Counter[Event]:
        """How often each stall happened."""
        return Counter(self.stalls)

    def run(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """One operation of torch."""
        kwargs = dict(kwargs or {})
        tensors = [*_tensors(args), *_tensors(kwargs.values())]
        known = {id(t.held): t for t in tensors if type(t) is OnDevice}
        target = kwargs.get("device")
        to_here = bool(known) if target is None else torch.device(target).type == _NAME
        if not known and not to_here:
            return func(*args, **kwargs)
        packet = func.overloadpacket
        if packet in _WATCHED or len(known) != len(tensors):
            self._note(func, args, kwargs, [t for t in tensors if type(t) is not OnDevice], to_here)
        if target is not None:
            kwargs["device"] = _CPU
        out = func(*_held(args), **{name: _held(each) for name, each in kwargs.items()})
        if packet is aten.copy_:
            return args[0]
        return self._wrapped(out, known) if to_here else out

    def _wrapped(self, out: Any, known: dict[int, OnDevice]) -> Any:
        """Tensors on the device; those that came in, in place, as they came."""
        if isinstance(out, list | tuple):
            return type(out)(self._wrapped(each, known) for each in out)
        if not isinstance(out, Tensor):
            return out
        if id(out) in known:
            return known[id(out)]
        size = out.numel() * out.element_size()
        self.largest = max(self.largest, size)
        if size > self.memory:
            raise torch.OutOfMemoryError(f"tried to allocate {size} bytes")
        return OnDevice(out)

    def _note(self, func: Any, args: Any, kwargs: Any, others: list[Tensor], to_here: bool) -> None:
        """Write down what stalls, refuse what mixes devices; others are tensors of the CPU."""
        packet = func.overloadpacket
        if packet in _COPIES:
            self._note_copy(packet, args, kwargs, to_here)
            return
        if packet in _READS:
            self._stall(_READS[packet])
        if packet in _INDEXING:
            index = [t for t in args[1] if t is not None]
            if any(t.dtype == torch.bool for t in index):
                self._stall("mask")
            if others:
                self._stall("upload")
            others = [t for t in others if all(t is not i for i in index)]
        if others and packet is aten.where:
            self._stall("upload")
        may_mix = torch.Tag.pointwise in func.tags or packet in _INDEXING
        if any(t.dim() or not may_mix for t in others):
            raise RuntimeError(f"{func}: expected all tensors to be on the same device, found two")

    def _note_copy(self, packet: Any, args: Any, kwargs: Any, to_here: bool) -> None:
        source, target = (args[1], args[0]) if packet is aten.copy_ else (args[0], None)
        was_here = type(source) is OnDevice
        if was_here == (to_here if target is None else isinstance(target, OnDevice)):
            return
        if kwargs.get("non_blocking", target is not None and len(args) > 2 and args[2]):
            self.copies.append(Event("copy", _place()))
        else:
            self._stall("download" if was_here else "upload")

    def _stall(self, kind: str) -> None:
        self.stalls.append(Event(kind, _place()))


# Torch would wrap a method of this name in what loads its compiler, for seconds.
Gpu.__torch_dispatch__ = Gpu.run  # type: ignore[method-assign]


def _tensors(tree: Any) -> list[Tensor]:
    """All tensors among arguments."""
    found = []
    for each in tree:
        if isinstance(each, Tensor):
            found.append(each)
        elif isinstance(each, list | tuple):
            found += _tensors(each)
    return found


def _held(tree: Any) -> Any:
    """Arguments with the CPU's tensors."""
    if type(tree) is OnDevice:
        return tree.held
    return type(tree)(map(_held, tree)) if isinstance(tree, list | tuple) else tree


def _place() -> str:
    """`file:function:line` of the innermost frame of the engine."""
    frame: Any = sys._getframe(2)
    while frame is not None:
        path = frame.f_code.co_filename
        if path.startswith(_PACKAGE):
            return f"{path.removeprefix(_PACKAGE)}:{frame.f_code.co_name}:{frame.f_lineno}"
        frame = frame.f_back
    return "outside the engine"


def _known() -> torch.device | None:
    """The device, made known to torch; None if this one cannot pretend, or need not."""
    make_known = getattr(backend_registration, "_setup_privateuseone_for_python_backend", None)
    if make_known is None or torch.cuda.is_available():
        return None
    make_known(_NAME)
    return torch.device(_NAME, 0)


#: Made known when this is imported: later torch's autograd has counted the devices there are.
DEVICE = _known()


def _copied(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`torch.tensor` as it works: made on the host, then copied."""

    def made(*args: Any, device: Any = None, **kwargs: Any) -> Tensor:
        return make(*args, **kwargs) if device is None else make(*args, **kwargs).to(device)

    return made


def _new(like: Tensor, data: Any, **kwargs: Any) -> Tensor:
    """`Tensor.new_tensor`, likewise."""
    return torch.tensor(data, **{"dtype": like.dtype, "device": like.device, **kwargs})


@contextmanager
def gpu(memory: float = float("inf")) -> Iterator[Gpu]:
    """A machine with a GPU, which is out of memory for a tensor of more bytes than these."""
    if DEVICE is None:
        pytest.skip("torch cannot pretend, or there is a real GPU")
    lifts = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)
    try:
        with (
            patch.object(torch, "tensor", _copied(torch.tensor)),
            patch.object(Tensor, "new_tensor", _new),
            Gpu(DEVICE, memory) as found,
        ):
            yield found
    finally:
        torch._C._set_only_lift_cpu_tensors(lifts)
