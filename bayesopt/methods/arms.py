"""The local arms of the default method, and what they have learnt: folds over the history.

Every other proposal is local: the minimiser of a quadratic model near the incumbent where one fits, else the
best point within a trust region. How far they reach follows from how earlier local proposals fared, in the
order of asking; it is computed from the history at each ask, not kept.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bayesopt.acquisition.maximizer import climbed_columns
from bayesopt.acquisition.region import Nearby, Region
from bayesopt.methods.history import History
from bayesopt.space import Space
from bayesopt.surrogates.quadratic import Quadratic, is_determined

Array = NDArray[Any]

#: Side of a trust region at first, the largest one, and the one below which it starts anew; successes in a
#: row that double it, failures that halve it. Eriksson et al. (2019), TuRBO, with less patience.
_SIDE, _MOST_SIDE, _LEAST_SIDE = 0.8, 1.6, 2.0**-7
_SUCCESSES, _FAILURES = 2, 3

#: Half-width of the box in which the quadratic is minimised: first, largest, smallest, and after that.
_REACH, _MOST_REACH, _LEAST_REACH, _NEW_REACH = 0.25, 0.5, 1e-5, 0.1
_GROWTH, _SHRINKAGE = 2.0, 0.4

#: A pending evaluation within this share of the reach makes another minimiser of the quadratic wait.
_AWAITED = 0.1

#: Larger than any acquisition.
_FIRST = 1e300

#: Leave-one-out R^2 from which the quadratic is believed.
_BELIEVED = 0.5

#: Bounds of a lengthscale over their geometric mean, as the shape of a trust region.
_ASPECT = (0.2, 5.0)


def is_local(at: int) -> bool:
    """Whether the proposal made after `at` others is a local one."""
    return at % 2 == 1


def takes_quadratic(space: Space) -> bool:
    """Whether a polynomial makes sense: all columns are numbers, always active."""
    return not space.has_conditions and all(climbed_columns(space))


@dataclass
class Arms:
    """Of one study: the side of the trust region and the reach of the quadratic, and their record.

    resting: whether the quadratic sits out the next local proposal, after a failure.
    """

    side: float = _SIDE
    reach: float = _REACH
    resting: bool = False
    successes: int = 0
    failures: int = 0

    @classmethod
    def after(cls, X: Array, y: Array, at: Array, quadratic: bool) -> "Arms":
        """What the local proposals among the told `X (n, d)`, `y (n,)`, asked `at (n,)`, have taught.

        A local proposal within reach of the incumbent at its time counts as one of the quadratic model.
        """
        arms, d = cls(), X.shape[-1]
        incumbent, best, known = X[0], math.inf, 0
        for i, (value, place) in enumerate(zip(y.tolist(), at.tolist(), strict=True)):
            if known >= 2 * d and is_local(place) and place >= 0:
                near = quadratic and is_determined(known, d) and not arms.resting
                if near and float(np.abs(X[i] - incumbent).max()) <= 1.001 * arms.reach:
                    arms.record_quadratic(value < best)
                else:
                    arms.record_region(value < best)
            known += value == value
            if value < best:
                incumbent, best = X[i], value
        return arms

    def record_quadratic(self, improved: bool) -> None:
        """The minimiser of the quadratic was, or was not, better than anything before."""
        self.reach = min(_GROWTH * self.reach, _MOST_REACH) if improved else _SHRINKAGE * self.reach
        self.reach = self.reach if self.reach >= _LEAST_REACH else _NEW_REACH
        self.resting = not improved

    def record_region(self, improved: bool) -> None:
        """Likewise for the best point of the trust region."""
        self.resting = False
        self.successes, self.failures = (self.successes + 1, 0) if improved else (0, self.failures + 1)
        if self.successes == _SUCCESSES:
            self.side, self.successes = min(2.0 * self.side, _MOST_SIDE), 0
        if self.failures == _FAILURES:
            self.side, self.failures = 0.5 * self.side, 0
        self.side = self.side if self.side >= _LEAST_SIDE else _SIDE


def look_nearby(space: Space, history: History, lengthscales: Tensor) -> Nearby:
    """The local arms of b studies, each with the same number > 0 of successes."""
    X, y = history.X, history.y
    quadratic = takes_quadratic(space)
    told = zip(*(t.cpu().numpy() for t in (X, y, history.at)), strict=True)
    arms = [Arms.after(X_i, y_i, at, quadratic) for X_i, y_i, at in told]
    finite = y.nan_to_num(nan=torch.inf)
    incumbent = X.gather(1, finite.argmin(-1)[:, None, None].expand(-1, 1, space.dim))[:, 0]
    side = X.new_tensor([arm.side for arm in arms])
    region = trust_region(space, incumbent, lengthscales, side)
    succeeded = torch.isfinite(y)
    known = int(succeeded[0].sum())
    if not quadratic or not is_determined(known, space.dim):
        return Nearby(region, X[:, :0], y[:, :0])
    good = X[succeeded].view(len(X), known, -1), y[succeeded].view(len(X), known)
    model = Quadratic.fit(*good)
    reach = X.new_tensor([arm.reach for arm in arms])
    lowest = space.snap(model.minimiser(reach))[0]
    resting = torch.tensor([arm.resting for arm in arms], device=X.device)
    believed = (model.score >= _BELIEVED) & ~resting
    if history.X_pending.shape[1]:  # its answer is on the way
        awaited = torch.cdist(lowest.unsqueeze(1), history.X_pending, p=torch.inf)[:, 0].amin(-1)
        believed &= awaited > _AWAITED * reach
    preference = torch.full_like(model.score, _FIRST).masked_fill(~believed, -torch.inf)
    return Nearby(region, lowest.unsqueeze(1), preference.unsqueeze(1))


def trust_region(space: Space, incumbent: Tensor, lengthscales: Tensor, side: Tensor) -> Region:
    """Boxes around the incumbents `(b, d)`, shaped by lengthscales `(b, d)`, of sides `(b,)` on average."""
    free = torch.tensor([not climbed for climbed in climbed_columns(space)], device=incumbent.device)
    log_scale = lengthscales.log()
    aspect = (log_scale - log_scale.mean(-1, keepdim=True)).exp().clamp(*_ASPECT)
    return Region.around(incumbent, 0.5 * side.unsqueeze(-1) * aspect, free)
