"""Local proposals: what the arms say before anything is fitted, and where they look once it is."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bayesopt.acquisition.distinct import is_taken
from bayesopt.acquisition.maximizer import climbed_columns, enumerated
from bayesopt.acquisition.region import Nearby, Region
from bayesopt.acquisition.resolution import Unresolved, has_ties, resolution
from bayesopt.acquisition.surface import lengthscales
from bayesopt.device import constant, put, stalls
from bayesopt.methods.arms import Arms, Turn, differences_among, is_local, is_spare, takes_quadratic
from bayesopt.methods.descent import descend
from bayesopt.methods.history import History
from bayesopt.rows import take
from bayesopt.space import Space
from bayesopt.surrogates.gp import GaussianProcess
from bayesopt.surrogates.model import LARGEST_FIT, Model
from bayesopt.surrogates.quadratic import Quadratic, is_determined

#: Least radius at which something is to be learnt.
_LEAST_LESSON = 0.3

#: A pending evaluation within this share of the reach makes another minimiser of the quadratic wait.
_AWAITED = 0.1

#: Larger than any acquisition.
_FIRST = 1e300

#: Leave-one-out R^2 from which the quadratic is believed, and from which it is worth teaching.
_BELIEVED, _TRUSTED = 0.5, 0.9

#: Bounds of a lengthscale over their geometric mean, as the shape of a trust region.
_ASPECT = (0.2, 5.0)


@dataclass(frozen=True, eq=False)
class Advice:
    """What the local arms of b studies say before anything is fitted.

    Attributes:
        arms: of each study; make: whether they make the next proposal `(b,)`, and not only speak first.
        first, preference, names: as of `Nearby`.
    """

    arms: list[Arms]
    make: Tensor
    first: Tensor
    preference: Tensor
    names: tuple[str, ...] = ()

    def where(self, allowed: Tensor) -> "Advice":
        """Of the first choices only those allowed, `(b, k)`."""
        return replace(self, preference=self.preference.masked_fill(~allowed, -torch.inf))

    def nearby(
        self, space: Space, history: History, lengthscales: Tensor, resolution: Tensor | None = None
    ) -> Nearby:
        """Where to look for lengthscales `(b, d)`: the trust regions, or the whole box.

        Regions reach as far as the `resolution (b,)` of an objective that has plateaus: nearer by is nothing
        new.
        """
        finite = history.y.nan_to_num(nan=torch.inf)
        incumbent = take(history.X, finite.argmin(-1, keepdim=True))[:, 0]
        side = _numbers([arm.side for arm in self.arms], history.X)
        if resolution is not None:
            side = torch.maximum(side, 2.0 * resolution)
        region = trust_region(space, incumbent, lengthscales, side).where(self.make)
        return Nearby(region, self.first, self.preference, self.names)


def consult(space: Space, history: History, at: int, alone: bool = True) -> Advice:
    """The local arms of b studies, each with the same number > 0 of successes, after `at` other proposals.

    Where they do not make it they may speak first: the quadratic, if that thrives. A descent goes step by
    step: it is for a proposal `alone`, with no other one beside it and nothing pending.
    """
    X, y = history.X, history.y
    quadratic = takes_quadratic(space)
    told = list(zip(*(t.numpy() for t in (history.home.X, history.home.y, history.at)), strict=True))
    may_descend = quadratic and not history.noisy and all(levels is None for levels in space.levels)
    differences = [differences_among(X_i, may_descend) for X_i, _, _ in told]
    arms = [
        Arms.after(X_i, y_i, asked, quadratic, among, alone)
        for (X_i, y_i, asked), among in zip(told, differences, strict=True)
    ]
    make = put(torch.tensor([arm.make(at) for arm in arms]), X.device)
    if not quadratic or not is_determined(history.succeeded.shape[1], space.dim):
        return Advice(arms, make, X[:, :0], y[:, :0])
    descending = {
        i: among
        for i, (arm, among) in enumerate(zip(arms, differences, strict=True))
        if alone and among is not None and arm.descends and arm.make(at)
    }
    speakers = [i for i, arm in enumerate(arms) if arm.speak(at) and i not in descending]
    good = take(X, history.succeeded), take(y, history.succeeded)
    point, believed = _by_quadratic(arms, speakers, *good, history.X_pending)
    names = ["quadratic"] * len(arms)
    for i, among in descending.items():
        X_i, y_i, _ = told[i]
        move = descend(X_i, y_i, among, arms[i].course)
        if move is not None:
            point[i], believed[i] = put(torch.from_numpy(move.point), X.device), True
            names[i] = move.arm
    preference = y.new_full((len(arms), 1), _FIRST).masked_fill(~believed.unsqueeze(1), -torch.inf)
    return Advice(arms, make, space.snap(point.unsqueeze(1))[0], preference, tuple(names))


@dataclass(frozen=True, eq=False)
class Local:
    """What makes some of q proposals of b studies local ones, as far as it is known without any fit.

    Attributes:
        unresolved: keeps all of them out of plateaus; slots: which are local; advice: of the arms, None where
            nothing is local.
    """

    unresolved: tuple[Unresolved, ...]
    slots: tuple[bool, ...]
    advice: Advice | None

    @classmethod
    def of(cls, model: Model, history: History, q: int) -> "Local":
        """For the next q proposals after histories, each with the same number > 0 of successes."""
        unresolved, space, asked = _unresolved(model, history), model.space, history.asked
        alone = q + history.X_pending.shape[1] == 1
        spare = alone and is_spare(asked) and takes_quadratic(space)
        slots = tuple(spare or is_local(asked + slot) for slot in range(q))
        if not any(slots) or enumerated(space) is not None:
            return cls(unresolved, (False,) * q, None)
        advice = consult(space, history, asked + slots.index(True), alone)
        for term in unresolved:
            F = model.embedding(advice.first, torch.ones_like(advice.first, dtype=torch.bool))
            advice = advice.where(term.value(F) == 0.0)
        return cls(unresolved, slots, advice)

    def chosen(self, history: History) -> Tensor | None:
        """The proposals `(b, 1, d)` where each study has a first choice that is free: no fit can change them.

        None on a device, where to look at them would stall it.
        """
        if self.advice is None or not self.advice.first.shape[1] or stalls(self.advice.first):
            return None
        free = (self.advice.preference > 0.0) & ~is_taken(self.advice.first, history.known())
        return self.advice.first if bool(free.all()) else None

    def nearby(self, model: Model, gp: GaussianProcess, history: History) -> tuple[Nearby | None, ...]:
        """For each slot that is a local proposal where to look; only the first of them by the quadratic."""
        if self.advice is None:
            return (None,) * len(self.slots)
        radius = self.unresolved[0].radius[:, 0] if self.unresolved else None
        found = self.advice.nearby(model.space, history, lengthscales(gp, model.space.dim), radius)
        first = self.slots.index(True)
        each = (found if slot == first else found.without_first() for slot in range(len(self.slots)))
        return tuple(near if is_there else None for near, is_there in zip(each, self.slots, strict=True))


def _unresolved(model: Model, history: History) -> tuple[Unresolved, ...]:
    """Stay out of plateaus, if the outcomes have any.

    Levels of discrete parameters are resolved by definition; all distances of a long history are too many.
    """
    told = take(history.home.y, history.home.succeeded)
    if not any(climbed_columns(model.space)) or told.shape[-1] > LARGEST_FIT or not has_ties(told):
        return ()
    F = take(model.embedding(history.X, history.active), history.succeeded)
    radius = resolution(F, take(history.y, history.succeeded))
    if not (stalls(radius) or bool((radius > 0.0).any())):  # a radius of 0 changes nothing
        return ()
    pending = model.embedding(history.X_pending, history.active_pending)
    return (Unresolved(F, radius.unsqueeze(-1)).beside(pending),)


def _by_quadratic(
    arms: list[Arms], speakers: list[int], X: Tensor, y: Tensor, X_pending: Tensor
) -> tuple[Tensor, Tensor]:
    """What the turns of some studies propose `(b, d)`, and whether they may `(b,)`: told `X (b, n, d)`, y."""
    point, believed = X[:, 0].clone(), torch.zeros(len(X), dtype=torch.bool, device=X.device)
    for turn in (Turn.BOX, Turn.BALL, Turn.LESSON):
        chosen = [i for i in speakers if arms[i].turn is turn]
        if not chosen:
            continue
        rows = put(torch.tensor(chosen), X.device)
        model = Quadratic.fit(X[rows], y[rows], rounds=1 if turn is Turn.BOX else 2)
        least, reach = _BELIEVED, _numbers([arms[i].ball for i in chosen], X)
        if turn is Turn.BOX:
            reach = _numbers([arms[i].box for i in chosen], X)
            found = model.lowest_in_box(reach)
        elif turn is Turn.BALL:
            found = model.lowest_in_ball(reach)
        else:
            least, found = _TRUSTED, model.least_known(reach.clamp_min(_LEAST_LESSON))
        may = model.score >= least
        if X_pending.shape[1]:  # its answer is on the way
            away = X_pending[rows] - found.unsqueeze(1)
            away = away.abs().amax(-1) if turn is Turn.BOX else (away @ model.B.mT).norm(dim=-1)
            may &= away.amin(-1) > _AWAITED * reach
        point[rows], believed[rows] = found, may
    return point, believed


def _numbers(values: list[float], like: Tensor) -> Tensor:
    return put(torch.tensor(values, dtype=like.dtype), like.device)


def trust_region(space: Space, incumbent: Tensor, lengthscales: Tensor, side: Tensor) -> Region:
    """Boxes around the incumbents `(b, d)`, shaped by lengthscales `(b, d)`, of sides `(b,)` on average."""
    free = constant(climbed_columns(space), torch.bool, incumbent.device).logical_not()
    log_scale = lengthscales.log()
    aspect = (log_scale - log_scale.mean(-1, keepdim=True)).exp().clamp(*_ASPECT)
    return Region.around(incumbent, 0.5 * side.unsqueeze(-1) * aspect, free)
