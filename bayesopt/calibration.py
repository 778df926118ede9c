"""Where `device="auto"` computes: on the GPU past a crossover that is measured, once a machine.

The engine's own work, a fit and the search for the best point, is timed on both devices in six situations.
Between and beyond them the time of an ask of q proposals for s studies with n results is taken to be

    t(n, q, s) = t(n, 1, 1) s^e(n) (1 + (q - 1) more),

t(n, 1, 1) and e(n) by interpolation in ln n, `more` as measured. The GPU is chosen where it is quicker by a
tenth at least: at the crossover itself it does not matter, and near it the measurement is not exact.

It takes about a second, and is kept in a file of the user's cache directory, for the GPU, the CPU and the
version of torch. Which device an ask takes is then a function of n, q and s.
"""

import hashlib
import json
import logging
import math
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from bayesopt.acquisition import LogExpectedImprovement, Pointwise, Surface, maximize
from bayesopt.acquisition.candidates import Draws
from bayesopt.acquisition.maximizer import DEFAULT_EFFORT
from bayesopt.device import CPU, put
from bayesopt.methods.history import generator
from bayesopt.parameters import Float
from bayesopt.space import Space
from bayesopt.surrogates.gp import GaussianProcess, fit_hyperparameters, warm_options
from bayesopt.surrogates.model import LARGEST_FIT, Model

log = logging.getLogger("bayesopt")

#: What is timed: numbers of results of a single study, the shorter two also of many, one of them in a batch.
LENGTHS, STUDIES, BATCH = (32, 128, 512), 16, 8
DIMENSION = 8

#: Times that it must be quicker for the GPU to be chosen.
_QUICKER = 1.1

#: Of each situation the quickest of so many runs counts; no more are made once they took so many seconds.
_RUNS, _ENOUGH = 3, 0.1

_FORMAT = 1

#: `work(device, n, q, studies)` that is timed.
Work = Callable[[torch.device, int, int, int], object]


class Measurement(Protocol):
    """Something that is kept in a file."""

    def to_json(self) -> str:
        """As text."""


M = TypeVar("M", bound=Measurement)


class Placement(NamedTuple):
    """A device, and why it, in words."""

    device: torch.device
    reason: str


@dataclass(frozen=True)
class Costs:
    """Seconds of an ask on one device.

    Attributes:
        single: of one study with `LENGTHS` results; several: of `STUDIES` with the first two of these.
        batch: of `BATCH` proposals for one study with the second of them.
    """

    single: tuple[float, ...]
    several: tuple[float, ...]
    batch: float

    def __post_init__(self) -> None:
        numbers = (*self.single, *self.several, self.batch)
        if len(self.single) != len(LENGTHS) or len(self.several) != 2:
            raise ValueError(f"expected {len(LENGTHS)} times of one study and 2 of several, got {self}")
        if not all(isinstance(t, float) and 0.0 < t < math.inf for t in numbers):
            raise ValueError(f"times must be positive numbers of seconds, got {numbers}")

    def seconds(self, n: int, q: int = 1, studies: int = 1) -> float:
        """Expected of q proposals for each of so many studies with n results, of which `LARGEST_FIT` count.

        The CPU fits no more; an exact fit to more of them, on a GPU, has limits of its own: `bayesopt.reach`.
        """
        n = max(LENGTHS[0], min(n, LARGEST_FIT))
        one = math.exp(_joined(n, LENGTHS, [math.log(t) for t in self.single]))
        power = [
            math.log(many / one_) / math.log(STUDIES)
            for many, one_ in zip(self.several, self.single, strict=False)
        ]
        share = _joined(min(n, LENGTHS[1]), LENGTHS[:2], power)
        more = max(0.0, self.batch / self.single[1] - 1.0) / (BATCH - 1)
        return one * studies ** min(max(share, 0.0), 1.0) * (1.0 + more * (q - 1))


def _joined(n: float, lengths: Sequence[int], values: Sequence[float]) -> float:
    """The line in ln n through `values` at `lengths`; beyond the last one as between the last two."""
    points = [(math.log(length), value) for length, value in zip(lengths, values, strict=True)]
    x = math.log(n)
    for (x0, y0), (x1, y1) in pairwise(points):
        if x <= x1 or x1 == points[-1][0]:
            return y0 + (y1 - y0) * (x - x0) / (x1 - x0)
    raise AssertionError("at least two lengths")


@dataclass(frozen=True)
class Crossover:
    """What an ask costs on the CPU and on the GPU of this machine."""

    cpu: Costs
    gpu: Costs

    def place(self, gpu: torch.device, n: int, q: int, studies: int) -> Placement:
        """The device for q proposals for each of so many studies with n results."""
        there, here = (costs.seconds(n, q, studies) for costs in (self.gpu, self.cpu))
        kind = "like this" if n <= LARGEST_FIT else f"with {LARGEST_FIT} results"
        text = f"an ask {kind} was measured to take {_text(there)} on the GPU, {_text(here)} on the CPU"
        return Placement(gpu if _QUICKER * there < here else CPU, text)

    @classmethod
    def from_json(cls, text: str) -> "Crossover":
        """What `to_json` wrote.

        Raises:
            ValueError: it is something else.
        """
        try:
            data = json.loads(text)
            costs = [
                Costs(tuple(data[name]["single"]), tuple(data[name]["several"]), data[name]["batch"])
                for name in ("cpu", "gpu")
            ]
        except (TypeError, KeyError) as error:
            raise ValueError(f"not a calibration: {error!r}") from error
        return cls(*costs)

    def to_json(self) -> str:
        """Readable text."""
        return json.dumps(asdict(self), indent=1)


def _text(seconds: float) -> str:
    return f"{1000.0 * seconds:.3g} ms"


def place(n: int, q: int = 1, studies: int = 1) -> Placement:
    """Where "auto" makes q proposals for each of so many studies with n results by the Gaussian process.

    Without a GPU that is the CPU, and nothing is measured or loaded. One study that is shorter than the
    shortest one measured does not even ask for a GPU, which may start CUDA.
    """
    if n < LENGTHS[0] and studies == 1:
        return Placement(CPU, f"fewer than {LENGTHS[0]} results are no work for a GPU")
    if not torch.cuda.is_available():
        return Placement(CPU, "torch finds no GPU here")
    try:
        gpu = torch.device("cuda", torch.cuda.current_device())
        crossover = crossover_of(gpu)
    except RuntimeError as error:
        return Placement(CPU, _unusable(str(error)))
    return crossover.place(gpu, n, q, studies)


@lru_cache(maxsize=8)
def _unusable(error: str) -> str:
    """The reason not to take it, and a warning, once."""
    log.warning("the GPU could not be measured, so device='auto' is the CPU (%s)", error)
    return f"the GPU could not be measured: {error}"


@lru_cache(maxsize=16)
def crossover_of(gpu: torch.device) -> Crossover:
    """That of a GPU and the CPU here: as measured before, or now.

    Raises:
        RuntimeError: the GPU does not work.
    """
    name = torch.cuda.get_device_name(gpu)
    return kept(cache_file(name, "crossover"), lambda: measured(gpu), Crossover.from_json)


def kept(path: Path, measure: Callable[[], M], read: Callable[[str], M]) -> M:
    """What a file holds; where it holds nothing of the kind, what is measured, and kept there if possible."""
    try:
        return read(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        log.info("measuring what the GPU is good for, once on this machine")
    except (OSError, ValueError) as error:
        log.info("measuring again what the GPU is good for: %s (%s)", path, error)
    found = measure()
    try:
        _write(path, found.to_json())
    except OSError as error:
        log.info("what was measured cannot be kept: %s (%s)", path, error)
    return found


def _write(path: Path, text: str) -> None:
    """At once or not at all: whoever reads it meanwhile finds the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(draft).replace(path)
    except OSError:
        Path(draft).unlink(missing_ok=True)
        raise


def cache_file(gpu: str, what: str) -> Path:
    """Where a measurement of this GPU beside this CPU is kept, by this version of torch and format."""
    facts = [gpu, _cpu_name(), os.cpu_count(), torch.get_num_threads(), torch.__version__, _FORMAT]
    digest = hashlib.blake2b(json.dumps(facts).encode(), digest_size=8).hexdigest()
    return _cache_directory() / "bayesopt" / f"{what}-{digest}.json"


def _cache_directory() -> Path:
    """`$XDG_CACHE_HOME`, or what the platform has instead."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    if Path(given).is_absolute():
        return Path(given)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache")


def _cpu_name() -> str:
    """As the kernel of Linux calls it; elsewhere the architecture must do."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line for line in lines if line.startswith("model name")), platform.machine())


def measured(gpu: torch.device) -> Crossover:
    """The costs on both devices, now."""
    return Crossover(costs_of(CPU), costs_of(gpu))


def costs_of(
    device: torch.device, clock: Callable[[], float] = time.perf_counter, work: Work | None = None
) -> Costs:
    """The costs on one device, by a clock in seconds."""
    ask = work or ask_like

    def seconds(n: int, q: int, studies: int) -> float:
        if device.type != "cpu":  # the first one loads kernels and takes memory
            ask(device, n, q, studies)
        times: list[float] = []
        while len(times) < _RUNS and sum(times) < _ENOUGH:
            start = clock()
            ask(device, n, q, studies)
            times.append(clock() - start)
        return min(times)

    ask(device, LENGTHS[0], 1, 1)
    return Costs(
        single=tuple(seconds(n, 1, 1) for n in LENGTHS),
        several=tuple(seconds(n, 1, STUDIES) for n in LENGTHS[:2]),
        batch=seconds(LENGTHS[1], BATCH, 1),
    )


@torch.no_grad()
def ask_like(device: torch.device, n: int, q: int, studies: int) -> Tensor:
    """The work of an ask on made-up results, waited for: a fit and a search for each proposal `(s, q, d)`."""
    space, model = _setting(device)
    source = generator(n)
    X = put(torch.rand(studies, n, space.dim, generator=source, dtype=torch.float64), device)
    y = torch.sin(5.0 * X).sum(-1)
    z = (y - y.mean(-1, keepdim=True)) / y.std(-1, keepdim=True)
    start = model.priors.mode.expand(studies, 1, -1)
    theta = fit_hyperparameters(X, z, model.kernel, model.priors, start, options=warm_options(n)).theta
    gp = GaussianProcess.of(model.kernel, theta, X, z)
    term = Pointwise(gp, LogExpectedImprovement(), gp.fitted().amin(-1, keepdim=True))
    surface = Surface.over(space, model.embedding, gp, term)
    found = []
    for _ in range(q):
        draws = Draws.of([source] * studies, space.dim, DEFAULT_EFFORT.sobol, DEFAULT_EFFORT.local, device)
        found.append(maximize(surface, X, z, draws)[0][:, 0])
    return torch.stack(found, 1).cpu()


@lru_cache(maxsize=16)
def _setting(device: torch.device) -> tuple[Space, Model]:
    space = Space({f"x{i}": Float(0.0, 1.0) for i in range(DIMENSION)})
    return space, Model.of(space, device, warp=True)
