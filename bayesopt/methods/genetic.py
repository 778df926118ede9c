"""A genetic algorithm for mixed and conditional spaces: the best results breed, one child at a time.

The history is the population (mu + lambda selection without generations), so any number of proposals may be
pending. Two parents come from tournaments among the best results:

- Crossover. Choices are taken from one of the two (uniform crossover, Syswerda 1989), numbers from the
  interval between them and a half beyond either (BLX-0.5, Eshelman & Schaffer 1993). Columns under one and
  the same condition are inherited together. What the one is lacking, being inactive there, comes from the
  other; what both are lacking is drawn anew.
- Mutation of a few active columns: a normal step at one of several scales, another choice.
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from bayesopt.acquisition.distinct import first_free
from bayesopt.methods.history import History, generator
from bayesopt.methods.quasi_random import sobol_point
from bayesopt.rows import take
from bayesopt.space import Space

# Constants were measured on ten problems of every kind, 100 to 500 evaluations; none is critical.

#: Results of the quasi-random design; results that may become parents; how many compete to be one.
DESIGN, PARENTS, TOURNAMENT = 10, 8, 3

#: How often parents are crossed, and how far beyond them numbers may lie, in units of their distance.
CROSSED, BEYOND = 0.9, 0.5

#: Expected number of columns that mutate; at least one does.
MUTATIONS = 1.0

#: Standard deviations of the steps of numbers, in encoded units, each as likely.
SCALES = (0.2, 0.1, 0.03, 0.01)

#: Children of which the first new one is proposed.
CHILDREN = 16


def propose_genetic(space: Space, history: History, q: int) -> Tensor:
    """q proposals for each study, `(b, q, d)` snapped: the design first, then children of the best told."""
    taken = history.known()
    start = taken.shape[1]
    for slot in range(q):
        sources = [generator(seed, history.asked, slot) for seed in history.seeds]
        X = _candidates(space, history, start + slot, sources)
        x = first_free(X, torch.zeros_like(X[..., 0]), taken, space, sources)
        taken = torch.cat([taken, x[:, None]], 1)
    return taken[:, start:]


def _candidates(space: Space, history: History, place: int, sources: Sequence[torch.Generator]) -> Tensor:
    """Points `(b, m, d)`, snapped: of the design at first, and as long as a study has no success."""
    fertile = torch.isfinite(history.y).any(-1)
    adult = place >= DESIGN and bool(fertile.any())
    X = _children(space, history, sources) if adult else history.X.new_empty(len(fertile), 1, space.dim)
    for i in range(len(fertile)):
        if not (adult and bool(fertile[i])):
            X[i] = sobol_point(space, history.seeds[i], place)
    return X


def _children(space: Space, history: History, sources: Sequence[torch.Generator]) -> Tensor:
    """Children `(b, m, d)`, snapped; everything random is in uniforms of each study's own."""
    sizes = [TOURNAMENT, TOURNAMENT, 1, 1, *[space.dim] * 5]
    U = [torch.rand(CHILDREN, sum(sizes), generator=source, dtype=torch.float64) for source in sources]
    draws = torch.stack(U).to(history.X.device).split(sizes, -1)
    first, second, crossed, scale, swap, between, fresh, moved, step = draws
    mother, father = _parents(history, first), _parents(history, second)
    child = _crossed(space, mother, father, crossed < CROSSED, swap, between, fresh)
    return space.snap(_mutated(space, child, scale, moved, step))[0]


def _parents(history: History, draws: Tensor) -> tuple[Tensor, Tensor]:
    """X and activity `(b, m, d)` of the winners of tournaments, by `draws (b, m, t)`."""
    order = history.y.nan_to_num(torch.inf).argsort(dim=-1, stable=True)
    count = torch.isfinite(history.y).sum(-1, keepdim=True).clamp(max=PARENTS)
    rank = (draws.amin(-1) * count).long()  # the best of t ranks
    index = take(order, rank)
    return take(history.X, index), take(history.active, index)


def _crossed(
    space: Space, mother: tuple[Tensor, Tensor], father: tuple[Tensor, Tensor],
    crossed: Tensor, swap: Tensor, between: Tensor, fresh: Tensor,
) -> Tensor:  # fmt: skip
    """Columns of both parents where `crossed (b, m, 1)`, the mother's elsewhere, `(b, m, d)`, not snapped."""
    (X, on), (X_other, on_other) = mother, father
    swap = crossed & (swap[..., _groups(space)] < 0.5)
    child = torch.where(swap, X_other, X)
    numeric = ~torch.tensor(space.categorical, device=X.device)
    blend = X + ((1.0 + 2.0 * BEYOND) * between - BEYOND) * (X_other - X)
    child = torch.where(crossed & on & on_other & numeric, blend, child)
    child = torch.where(on | ~on_other, child, X_other)
    child = torch.where(on_other | ~on, child, X)
    return torch.where(on | on_other, child, fresh).clamp(0.0, 1.0)


@lru_cache(maxsize=64)
def _groups(space: Space) -> list[int]:
    """For each column the first one under the same condition; itself, if it has none."""
    conditions = [parameter.when or name for name, parameter in space.items()]
    return [conditions.index(condition) for condition in conditions]


def _mutated(space: Space, child: Tensor, scale: Tensor, moved: Tensor, step: Tensor) -> Tensor:
    """Children `(b, m, d)` with another value in a few of their active columns, not snapped."""
    levels = torch.tensor([n or torch.inf for n in space.levels], dtype=child.dtype, device=child.device)
    categorical = torch.tensor(space.categorical, device=child.device)
    free = space.activity(child) & (levels > 1)
    moved = torch.where(free, moved, 2.0)
    mutates = free & (moved <= (MUTATIONS / free.sum(-1, keepdim=True)).maximum(moved.amin(-1, keepdim=True)))
    another = (child + (1.0 + (step * (levels - 1.0)).floor()) / levels) % 1.0
    sigma = torch.tensor(SCALES, dtype=child.dtype, device=child.device)[(scale * len(SCALES)).long()]
    z = torch.special.ndtri(step)
    stepped = child + (sigma * z.abs()).maximum(1.0 / levels).copysign(z)  # a level at least
    return torch.where(mutates, torch.where(categorical, another, stepped.clamp(0.0, 1.0)), child)
