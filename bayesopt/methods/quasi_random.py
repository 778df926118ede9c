"""Proposals that learn nothing: scrambled Sobol points, with which every study begins, and random draws."""

from functools import lru_cache

import torch
from torch import Tensor
from torch.quasirandom import SobolEngine

from bayesopt.methods.history import generator
from bayesopt.space import Space


def design_size(space: Space) -> int:
    """Length of the initial design: `d + 1` within [4, 8]."""
    return min(max(space.dim + 1, 4), 8)


@lru_cache(maxsize=256)
def _sobol_block(seed: int, d: int, block: int) -> Tensor:
    engine = SobolEngine(d, scramble=True, seed=seed % 2**31)
    if block:
        engine.fast_forward(256 * block)
    return engine.draw(256, dtype=torch.float64)


def sobol_point(space: Space, seed: int, index: int) -> Tensor:
    """Point `index` of the study's design `(d,)`, snapped: the centre, then a scrambled Sobol sequence."""
    if index == 0:
        return space.snap(space.centre())[0]
    block, row = divmod(index - 1, 256)
    return space.from_uniform(_sobol_block(seed, space.dim, block)[row])


def random_point(space: Space, seed: int, asked: int) -> Tensor:
    """An independent draw from the beliefs, uniform without any, `(d,)`."""
    return space.sample(1, generator(seed, asked))[0]
