"""How long a history may be for a Gaussian process to be fitted to all of it.

An exact fit costs n^3 operations and a few n x n matrices. On the CPU that is worth its time up to
`LARGEST_FIT` results, whatever the CPU, so that proposals depend on nothing else. On a GPU it is measured,
once a machine: the longest of `LENGTHS` at which the likelihood and its gradient take at most `SECONDS`, and
of whose matrices `MATRICES` fit into the memory of the card. A refit takes at most six evaluations, and one
is due after every 20 % of growth; all other asks factorise once.

Of a longer history a proposal conditions on a part, see `prefixes.most_relevant`.
"""

import json
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache, partial

import torch

from bayesopt.calibration import cache_file, kept
from bayesopt.device import is_short, put
from bayesopt.kernels import Stationary
from bayesopt.surrogates.gp import negative_log_posterior
from bayesopt.surrogates.model import LARGEST_FIT
from bayesopt.surrogates.priors import default_priors

log = logging.getLogger("bayesopt")

#: Numbers of results among which it is chosen: few, so that a measurement that is not exact rarely matters.
LENGTHS = (4096, 8192, 16_384, 20_480)

SECONDS = 2.0

#: The factor and its inverse, twice while failures are appended to them, and as much to work with.
MATRICES = 8

_DIMENSION = 20


@dataclass(frozen=True)
class Reach:
    """The most results that are fitted exactly on a GPU."""

    largest: int

    @classmethod
    def from_json(cls, text: str) -> "Reach":
        """What `to_json` wrote.

        Raises:
            ValueError: it is something else.
        """
        data = json.loads(text)
        largest = data.get("largest") if isinstance(data, dict) else None
        if largest not in (LARGEST_FIT, *LENGTHS):
            raise ValueError(f"not a number of results that is measured: {largest!r}")
        return cls(int(largest))

    def to_json(self) -> str:
        """Readable text."""
        return json.dumps(asdict(self), indent=1)


def largest_fit(device: torch.device, n: int) -> int:
    """The most results that a fit on a device takes in exactly, for a history of n; measured if need be.

    Where memory is so short that `device.within_memory` has come to small chunks: as many as on the CPU.
    """
    if n <= LARGEST_FIT or device.type != "cuda":
        return LARGEST_FIT
    if is_short():
        _tell_short(device)
        return LARGEST_FIT
    return reach_of(device).largest


@lru_cache(maxsize=16)
def _tell_short(device: torch.device) -> None:
    log.warning(
        "%s has too little memory left for an exact fit; taking %d of the results", device, LARGEST_FIT
    )


@lru_cache(maxsize=16)
def reach_of(gpu: torch.device) -> Reach:
    """That of a GPU: as measured before, or now.

    Raises:
        RuntimeError: the GPU does not work, or its memory is taken.
    """
    path = cache_file(torch.cuda.get_device_name(gpu), "reach")
    return kept(path, lambda: measured(gpu), Reach.from_json)


def measured(gpu: torch.device) -> Reach:
    """The reach of a GPU, now; within about 5 seconds."""
    memory = torch.cuda.get_device_properties(gpu).total_memory
    return Reach(longest(partial(seconds_of, gpu), memory))


def longest(seconds: Callable[[int], float], memory: float) -> int:
    """The largest length for which time and memory, in bytes, suffice.

    Args:
        seconds: of an evaluation, by length. What must take too long, by n^2 at least, is not measured.
    """
    found, pace = LARGEST_FIT, 0.0
    for n in LENGTHS:
        if 8.0 * MATRICES * n**2 > memory or pace * n**2 > SECONDS:
            break
        took = seconds(n)
        if took > SECONDS:
            break
        found, pace = n, took / n**2
    return found


@torch.no_grad()
def seconds_of(device: torch.device, n: int, clock: Callable[[], float] = time.perf_counter) -> float:
    """The second of two evaluations of the likelihood of n made-up results and its gradient, waited for."""
    kernel = Stationary(groups=tuple(range(_DIMENSION)), warp=True)
    priors = default_priors(kernel, _DIMENSION).to(device)
    X = torch.rand(1, n, _DIMENSION, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
    X, y = put(X, device), put(torch.sin(5.0 * X).sum(-1), device)
    start = clock()
    for _ in range(2):  # the first one loads kernels and takes memory
        start = clock()
        negative_log_posterior(priors.mode[None], X, y, kernel, priors)[0].cpu()
    return clock() - start
