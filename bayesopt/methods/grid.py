"""The Cartesian product of a finite space, in the order of `Space.grid`: the first parameter changes slowest.

Nothing remembers a position. The next configurations are the first ones of the grid that are neither told
nor pending, so a study that was stopped, or told results from elsewhere, goes on where the gaps are.
"""

from itertools import chain, cycle, islice

import numpy as np
import torch
from torch import Tensor

from bayesopt.beliefs import Array
from bayesopt.methods.history import History
from bayesopt.parameters import Float
from bayesopt.space import Space


def check_grid(space: Space) -> None:
    """Check that the grid of the space is finite.

    Raises:
        ValueError: a parameter is continuous; the message names it and says what to do.

    >>> from bayesopt import Float, Space
    >>> check_grid(Space({"lr": Float(0.0, 1.0)}))
    Traceback (most recent call last):
    ValueError: method='grid' needs a finite space, and parameter 'lr' is continuous; give it a step=
    """
    for name, parameter in space.items():
        if parameter.levels is None:
            log = isinstance(parameter, Float) and parameter.log
            fix = "list its values in a Categorical(..., ordered=True)" if log else "give it a step="
            raise ValueError(
                f"method='grid' needs a finite space, and parameter {name!r} is continuous; {fix}"
            )


def propose_grid(space: Space, history: History, q: int) -> Tensor:
    """The first q configurations of the grid that each study does not know, `(b, q, d)` snapped.

    Costs O(n + q) for n told and pending ones, however far the grid has come. Past its end it begins again.

    Raises:
        ValueError: the space is infinite, see `check_grid`.
    """
    check_grid(space)
    next_ones = _walk if space.has_conditions else _count
    known = history.known()
    rows = [next_ones(space, X.cpu().numpy(), q) for X in known]
    return torch.from_numpy(np.stack(rows)).to(known.device)


def _count(space: Space, known: Array, q: int) -> Array:
    """Without conditions a cell is a number in mixed radix, whose digits are the levels.

    Of the first n + q cells q are free: cells beyond need not be told apart, which keeps numbers small.
    """
    cells = min(len(known) + q, int(space.size))
    radices = [min(levels or 0, cells) for levels in space.levels]
    number = np.zeros(len(known), dtype=np.int64)
    for x, axis, radix in zip(known.T, space.axes, radices, strict=True):
        number = np.minimum(number * radix + axis.decode(x).astype(np.int64), cells)
    free = np.ones(cells + 1, dtype=np.bool_)
    free[number] = False
    number = np.concatenate([free[:cells].nonzero()[0], np.resize(np.arange(cells), q)])[:q]
    columns = []
    for axis, radix in zip(reversed(space.axes), reversed(radices), strict=True):
        number, level = np.divmod(number, radix)
        columns.append(axis.encode(level.astype(np.float64)))
    return np.stack(columns[::-1], -1)


def _walk(space: Space, known: Array, q: int) -> Array:
    """With conditions the cells are visited one after the other; at most the n known ones are passed over."""
    seen = set(map(space.key, space.decode(torch.from_numpy(known))))
    free = (config for config in space.grid() if space.key(config) not in seen)
    return space.encode(list(islice(chain(free, cycle(space.grid())), q)))[0].numpy()
