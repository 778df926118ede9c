"""Local proposals: what the arms say before anything is fitted, and where they look once it is."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from bayesopt.acquisition.distinct import is_taken
from bayesopt.acquisition.maximizer import climbed_columns, enumerated
from bayesopt.acquisition.region import Nearby, Region
from bayesopt.acquisition.resolution import Unresolved, has_ties, resolution
from bayesopt.acquisition.surface import lengthscales
from bayesopt.device import constant, put, stalls
from bayesopt.kernels import Embedding
from bayesopt.methods.arms import Arms, Turn, differences_among, is_local, is_spare, takes_quadratic
from bayesopt.methods.descent import Move, descend
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

#: Share of the diagonal of the space within which the others keep away from the bottom of a valley.
_VALLEY = 1 / 15

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
        first, preference: as of `Nearby`.
        names: who makes the first choice of each study, in the words of `bayesopt.explanation.ARMS`.
    """

    arms: list[Arms]
    make: Tensor
    first: Tensor
    preference: Tensor
    names: tuple[str, ...] = ()

    def outside(self, term: Unresolved, embedding: Embedding) -> "Advice":
        """Of the first choices only those that are on no plateau."""
        F = embedding(self.first, torch.ones_like(self.first, dtype=torch.bool))
        return replace(self, preference=self.preference.masked_fill(term.value(F) != 0.0, -torch.inf))

    def nearby(
        self, space: Space, history: History, lengthscales: Tensor, resolution: Tensor | None = None
    ) -> Nearby:
        """Where to look for lengthscales `(b, d)`: the trust regions, or the whole box.

        Regions reach as far as the `resolution (b,)` of an objective that has plateaus: nearer by is nothing
        new.
        """
        incumbent = take(history.X, history.best)[:, 0]
        side = _numbers([arm.side for arm in self.arms], history.X)
        if resolution is not None:
            side = torch.maximum(side, 2.0 * resolution)
        region = trust_region(space, incumbent, lengthscales, side).where(self.make)
        return Nearby(region, self.first, self.preference)


@dataclass(eq=False)
class Council:
    """The arms of b studies, and the moves of the descents under way, for one proposal after the other.

    q: of the next proposals; determined: whether there are results for a quadratic; heard: the studies whose
    quadratic has spoken.
    """

    space: Space
    history: History
    q: int
    determined: bool
    arms: list[Arms]
    descents: dict[int, Iterator[Move]]
    heard: set[int] = field(default_factory=set)

    @classmethod
    def of(cls, space: Space, history: History, q: int = 1) -> "Council":
        """On the next q proposals of studies with equally many successes."""
        pending, quadratic = history.X_pending.shape[1], takes_quadratic(space)
        may_descend = quadratic and not history.noisy and all(levels is None for levels in space.levels)
        determined = quadratic and is_determined(history.succeeded.shape[1], space.dim)
        home, arms, descents = history.home, [], {}
        told = zip(*(t.numpy() for t in (home.X, home.y, home.X_pending, history.at)), strict=True)
        for i, (X, y, X_pending, at) in enumerate(told):
            differences = differences_among(X, X_pending) if may_descend else None
            arms.append(Arms.after(X, y, at, quadratic, differences, q, pending))
            if determined and differences is not None and arms[i].descends:
                descents[i] = descend(X, y, differences, arms[i].course, X_pending)
        return cls(space, history, q, determined, arms, descents)

    def advice(self) -> tuple[Advice | None, ...]:
        """On each of the proposals."""
        return tuple(self.advise(self.history.asked + slot) for slot in range(self.q))

    @property
    def alone(self) -> bool:
        """Whether nothing is to be asked for beside the one proposal."""
        return self.q + self.history.X_pending.shape[1] == 1

    @cached_property
    def good(self) -> tuple[Tensor, Tensor]:
        """The points and the outcomes of the successes."""
        return take(self.history.X, self.history.succeeded), take(self.history.y, self.history.succeeded)

    def advise(self, at: int) -> Advice | None:
        """On the proposal after `at` others; None if none is local.

        Descents make what they have a move for, and of the rest every other one is local, where the quadratic
        speaks once. A single proposal that is not may be local too, or the quadratic speak first.
        """
        X, y, every = self.history.X, self.history.y, range(len(self.arms))
        spare = self.descents.items() if is_spare(at) else ()
        moves = {i: move for i, descent in spare if (move := next(descent, None)) is not None}
        if not (is_local(at) or (is_spare(at) and takes_quadratic(self.space))):
            return None
        if self.alone:
            making = [arm.make(at) for arm in self.arms]
            speakers = [i for i in every if self.arms[i].speak(at) and i not in self.descents]
        else:
            making = [i in moves or (is_local(at) and not self.arms[i].converged) for i in every]
            speakers = [i for i in every if making[i] and i not in moves and i not in self.heard]
            self.heard.update(speakers)
            if not any(making):
                return None
        make = put(torch.tensor(making), X.device)
        if not (self.determined and (speakers or moves)):
            return Advice(self.arms, make, X[:, :0], y[:, :0])
        point, believed = _by_quadratic(self.arms, speakers, *self.good, self.history.X_pending)
        names = ["quadratic"] * len(self.arms)
        for i, move in moves.items():
            point[i], believed[i] = put(torch.from_numpy(move.point), X.device), True
            names[i] = move.arm
        preference = y.new_full((len(self.arms), 1), _FIRST).masked_fill(~believed.unsqueeze(1), -torch.inf)
        first = self.space.snap(point.unsqueeze(1))[0]
        return Advice(self.arms, make, first, preference, tuple(names))


@dataclass(frozen=True, eq=False)
class Local:
    """What makes some of q proposals of b studies local ones, as far as it is known without any fit.

    Attributes:
        unresolved: keeps all of them out of plateaus; advice: of the arms, for each of those that are local.
        valleys: keeps them away from where the arms have found the bottom.
    """

    unresolved: tuple[Unresolved, ...]
    advice: tuple[Advice | None, ...]
    valleys: tuple[Unresolved, ...] = ()

    @classmethod
    def of(cls, model: Model, history: History, q: int) -> "Local":
        """For the next q proposals after histories, each with the same number > 0 of successes."""
        unresolved = _unresolved(model, history)
        if enumerated(model.space) is not None:
            return cls(unresolved, (None,) * q)
        council = Council.of(model.space, history, q)
        advice = council.advice()
        for term in unresolved:
            advice = tuple(None if one is None else one.outside(term, model.embedding) for one in advice)
        return cls(unresolved, advice, _valleys(model, history, council.arms))

    def chosen(self, history: History) -> Tensor | None:
        """The proposals `(b, q, d)` where each study has free first choices: no fit can change them.

        None on a device, where to look at them would stall it.
        """
        there = [one for one in self.advice if one is not None and one.first.shape[1]]
        if len(there) < len(self.advice) or stalls(there[0].first):
            return None
        first = torch.cat([one.first for one in there], 1)
        free = torch.cat([one.preference for one in there], 1) > 0.0
        return first if bool((free & ~is_taken(first, history.known())).all()) else None

    def nearby(self, model: Model, gp: GaussianProcess, history: History) -> tuple[Nearby | None, ...]:
        """For each slot that is a local proposal where to look."""
        if all(one is None for one in self.advice):
            return (None,) * len(self.advice)
        radius = self.unresolved[0].radius[:, 0] if self.unresolved else None
        scales = lengthscales(gp, model.space.dim)
        return tuple(
            None if one is None else one.nearby(model.space, history, scales, radius) for one in self.advice
        )


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


def _valleys(model: Model, history: History, arms: list[Arms]) -> tuple[Unresolved, ...]:
    """Stay away from the incumbents that are the bottom of a valley."""
    if not any(arm.converged for arm in arms):
        return ()
    bottom = model.embedding(take(history.X, history.best), take(history.active, history.best))
    reach = _VALLEY * model.space.dim**0.5
    radius = _numbers([reach if arm.converged else 0.0 for arm in arms], history.X)
    return (Unresolved(bottom, radius.unsqueeze(-1)),)


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
