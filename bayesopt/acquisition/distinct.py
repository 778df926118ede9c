"""No configuration twice: which points are taken, and what to propose instead."""

import logging
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from bayesopt.device import stalls, sure
from bayesopt.space import Space

log = logging.getLogger("bayesopt")

#: Two encoded points closer than this in every coordinate are the same configuration.
SAME = 1e-9


def is_taken(points: Tensor, taken: Tensor) -> Tensor:
    """Which of the points `(b, m, d)` are among `taken (b, n, d)`, as a mask `(b, m)`."""
    if taken.shape[1] == 0:
        return torch.zeros(points.shape[:2], dtype=torch.bool, device=points.device)
    return torch.cdist(points, taken, p=torch.inf).amin(-1) < SAME


def first_free(
    points: Tensor, value: Tensor, taken: Tensor, space: Space, generators: Sequence[torch.Generator]
) -> Tensor:
    """The first of each study's points `(b, m, d)` that is not taken, `(b, d)`; another one if all are."""
    if not stalls(points) and _all_free(points[:, :1], value[:, :1], taken):
        return points[:, 0]  # the maximisers themselves, nearly always
    refused = is_taken(points, taken) | ~torch.isfinite(value)
    first = (~refused).to(torch.int8).argmax(-1)  # 0 where all are refused: the maximiser itself
    x = points[torch.arange(len(points), device=points.device), first]
    if sure(~refused.all(-1)):
        return x
    for i in refused.all(-1).nonzero()[:, 0].tolist():
        x[i] = untried(space, taken[i], generators[i], x[i])
    return x


def _all_free(points: Tensor, value: Tensor, taken: Tensor) -> bool:
    return not bool(is_taken(points, taken).any()) and bool(torch.isfinite(value).all())


def untried(space: Space, taken: Tensor, source: torch.Generator, fallback: Tensor) -> Tensor:
    """A point `(d,)` not in `taken (n, d)`: by chance, by enumeration where chance is slow, else `fallback`.

    The fallback, a repeated evaluation, is all that is left once a finite space is exhausted.
    """
    points = space.sample(256, source).to(taken.device)
    fresh = ~is_taken(points[None], taken[None])[0]
    if bool(fresh.any()):
        return points[int(fresh.to(torch.int8).argmax())]
    if not math.isinf(space.size):  # an untried one is found after at most len(taken) + 1 steps
        seen = {space.key(config) for config in space.decode(taken.cpu())}
        for config in space.grid():
            if space.key(config) not in seen:
                return space.encode([config])[0][0].to(taken.device)
    log.warning("every configuration of the space has been tried; proposing one again")
    return fallback
