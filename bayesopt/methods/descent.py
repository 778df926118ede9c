"""Descent by finite differences: what finds the bottom of a smooth valley, be it bent or ill-conditioned.

Where outcomes are exact, an evaluation right beside a point tells the slope there in one direction
(`differences`). A model is fitted to the outcomes and slopes at the best point and before it, and its
minimiser is the next point: a quasi-Newton method (Nocedal & Wright, 2006, chapters 6 and 8) that does not
wait for whole gradients. Of a new best point the slope is evaluated in one direction, that of which the model
knows least, and in all others after a step that failed: an inexact gradient does as long as the step it
leads to succeeds (Carter, 1991, "On the global convergence of trust region algorithms using inexact gradient
information").

There are two models. A quadratic (`surrogates.curvature`) solves ill-conditioned functions and crawls along
bent valleys; a Gaussian process of the nearest values and slopes (`surrogates.slopes`) sees the bend and is
the slower one where there is none. Which one leads follows from what their steps have gained (`Course`).

It keeps nothing. A base is a point that is not a difference, and the best one is to be improved; which of its
differences are there, and how far along its step has been searched, is read off the history.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bayesopt.acquisition.distinct import SAME
from bayesopt.bfgs import Options, minimize_alone
from bayesopt.methods.differences import Differences, beside, is_rough, width_of
from bayesopt.surrogates.curvature import Curvature, follow, newton_step
from bayesopt.surrogates.slopes import Observations, SlopesGP

Array = NDArray[Any]

#: Least and largest share of a failed step that is tried next, and the least of the whole.
_SHORTER, _LONGER, _SHORTEST = 0.1, 0.5, 1e-3

#: What is under way to a point is as near to it, relative to the step that leads there.
_ABOUT = 0.5

#: How much a point may be off a line, relatively.
_ON_LINE = 1e-6

#: Steps of which the process leads one in any case, and of which the quadratic does; the last steps of either
#: that are compared, and how many times as much those of the process must have gained for it to lead more.
_TRIED, _KEPT, _GAINS, _FACTOR = 8, 4, 4, 4.0

#: Half the side of the box in which the process is minimised: at first, the largest, the smallest; factors
#: after a step that gained and one that did not.
_REACH, _MOST_REACH, _LEAST_REACH = 0.3, 0.5, 1e-6
_REACH_GROWTH, _REACH_SHRINKAGE = 2.0, 0.4

#: Bases that the process is fitted to, per dimension: the nearest. Their outcomes and slopes, at most: a fit
#: takes the cube of it.
_AROUND, _MOST_ROWS = 5, 200

#: Its noise, relative to how far an outcome is above the best: what is not as smooth as it has it.
_UNSMOOTH = 1e-5

#: Lengthscales to fit it from: all the same, and in proportion to those of the quadratic, of this mean.
_LENGTHSCALE = 0.5

#: Bounds of the sides of its box over the mean one; what it costs to leave the space, in slopes of the mean.
_ASPECT, _OUTSIDE = (1e-3, 1e3), 1e4

_CLIMB = Options(evaluations=60, ftol=1e-14, first_step=0.1, max_step=1.0)


class Leader(IntEnum):
    """Which of the two models makes a step."""

    QUADRATIC = 0
    PROCESS = 1


class Move(NamedTuple):
    """A point `(d,)` to be evaluated, and what it is, in the words of `bayesopt.explanation.ARMS`."""

    point: Array
    arm: str


@dataclass(frozen=True)
class Course:
    """How the steps of a descent fared that were told, in their order.

    The quadratic leads until there were twice as many evaluations, differences too, as a Hessian has entries,
    before which it cannot know it. Then the process leads every eighth step; and three of four while its last
    steps gained several times what the quadratic's did. The quadratic is the default, for what it learns of
    the curvature pays later.

    steps, differences: how many were told; gains: of the last steps of either model; reach: half the side of
    the process's box.
    """

    steps: int = 0
    differences: int = 0
    gains: tuple[tuple[float, ...], tuple[float, ...]] = ((), ())
    reach: float = _REACH

    def leader(self, d: int) -> Leader:
        """Of the next step, in d dimensions."""
        if self.steps + self.differences < d * (d + 1) or self.steps % _KEPT == 0:
            return Leader.QUADRATIC
        quadratic, process = map(sum, self.gains)
        leads = self.steps % _TRIED == 2 or process > _FACTOR * quadratic
        return Leader.PROCESS if leads else Leader.QUADRATIC

    def after(self, gain: float, d: int) -> "Course":
        """Once the next step was told, better by `gain` than all before, or 0."""
        leader, gains, reach = self.leader(d), list(self.gains), self.reach
        gains[leader] = (*gains[leader], gain)[-_GAINS:]
        if leader is Leader.PROCESS:
            grown = min(_REACH_GROWTH * reach, _MOST_REACH)
            reach = grown if gain > 0.0 else max(_REACH_SHRINKAGE * reach, _LEAST_REACH)
        return replace(self, steps=self.steps + 1, gains=(gains[0], gains[1]), reach=reach)

    def after_difference(self) -> "Course":
        """Once the next difference was told."""
        return replace(self, differences=self.differences + 1)


@dataclass(frozen=True, eq=False)
class _Known:
    """Points `X (n, d)` and their outcomes `y (n,)`, some differences of others.

    bases: those that are not, if they succeeded; base: the best; told: differences that succeeded, by base.
    mine: those of the best base; later: what is no difference, failures too, since the last of them.
    """

    X: Array
    y: Array
    bases: Array
    told: dict[int, Array]
    base: int
    mine: Array
    later: Array

    def quadratic(self) -> Curvature:
        """The one at the base."""
        return follow(self.X, self.y, self.bases, self.told, self.base)

    def quadratic_at(self, x: Array, value: float) -> Curvature:
        """The one at another point, supposed to be a base of that value."""
        X, y, n = np.concatenate([self.X, [x]]), np.append(self.y, value), len(self.y)
        return follow(X, y, np.append(self.bases, n), self.told, n)

    @property
    def needs_slope(self) -> bool:
        """Whether the process is due another one: of a new base, or after a step that failed."""
        return not len(self.mine) or (len(self.mine) < self.X.shape[1] and len(self.later) > 0)

    @property
    def had_failed(self) -> bool:
        """Whether a step had, before the last difference: that was not asked for along with the first one."""
        return len(self.mine) > 1 and bool(((self.bases > self.mine[0]) & (self.bases < self.mine[-1])).any())


class _Plan(NamedTuple):
    """What a model asks for.

    due: directions of slopes of the base to be known before anything else; step: to the next base, if it has
    any; beside: the directions of the slopes at such a point, if it is where it should be.
    """

    due: list[Array]
    step: Callable[[], Move | None]
    beside: Callable[[Array], list[Array]]


class _Asked:
    """The n points of a history and those asked for since: `points`, each maybe a difference `of` another."""

    def __init__(self, known: _Known, pending: Array, of: Array) -> None:
        self.points, self.of, self.n = [*known.X, *pending], of.tolist(), len(known.X)
        self._base, self._width = known.base, width_of(known.y)

    def awaited(self, step: Array) -> int | None:
        """The place of one that was asked for and is about there, seen from the base."""
        near = _ABOUT * float(np.linalg.norm(step - self.points[self._base]))
        for place in range(self.n, len(self.points)):
            if self.of[place] < 0 and np.linalg.norm(self.points[place] - step) < near:
                return place
        return None

    def add(self, point: Array, of: int = -1) -> int:
        """Its place."""
        self.points.append(point)
        self.of.append(of)
        return len(self.points) - 1

    def differences(self, at: int, directions: list[Array]) -> Iterator[Move]:
        """Those of the point at a place, but for as many as were asked for already."""
        for direction in directions[self.of[self.n :].count(at) :]:
            point = beside(self.points[at], direction, self._width, np.array(self.points))
            if point is None:
                return
            self.add(point, at)
            yield Move(point, "finite difference")


def descend(
    X: Array, y: Array, differences: Differences, course: Course = Course(), pending: Array | None = None
) -> Iterator[Move]:
    """What to evaluate next, what matters most first; nothing where there is nothing to do.

    Who waits for each outcome makes the first move alone: a difference, or a point along the step from the
    best base. Who does not makes several, or goes on while some are pending: the differences beside the step,
    as if it were the next base, and the step of the other model.

    Args:
        X: encoded `(n, d)` in the order of asking; y: outcomes `(n,)`, nan for a failure.
        differences: `Differences.among` them and then those pending.
        course: of the steps before.
        pending: asked for, encoded `(m, d)`; None for none.
    """
    moves = _moves(X, y, differences, course, X[:0] if pending is None else pending)
    while True:
        with np.errstate(all="ignore"):  # the largest floats are an infinity apart
            move = next(moves, None)
        if move is None:
            return
        yield move


def _moves(X: Array, y: Array, differences: Differences, course: Course, pending: Array) -> Iterator[Move]:
    of = differences.of[: len(y)]
    tried = np.flatnonzero(of < 0)
    bases = tried[np.isfinite(y[tried])]
    base = int(bases[y[bases].argmin()])
    mine = np.flatnonzero(of == base)
    if is_rough(X[mine] - X[base], y[mine] - y[base], float(np.ptp(y[np.isfinite(y)]))):
        return
    if not np.isfinite(y[mine]).all():
        return
    known = _Known(X, y, bases, Differences(of).by_base(y), base, mine, tried[tried > mine.max(initial=base)])
    asked = _Asked(known, pending, differences.of)
    if not known.told:
        inwards = 0.5 - X[base]
        yield from asked.differences(base, [inwards, *np.linalg.svd(inwards[None])[2][1:]])
        return
    models = [_by_quadratic, _by_process]
    if course.leader(X.shape[1]) is Leader.PROCESS:
        models.reverse()
    leads = True
    for plan in (model(known, course.reach) for model in models):
        if plan is None:
            continue
        if leads:
            yield from asked.differences(base, plan.due)
        step = plan.step()
        if step is None:
            continue
        place = asked.awaited(step.point)
        if place is None:
            place = asked.add(step.point)
            yield step
        if leads:
            yield from asked.differences(place, plan.beside(asked.points[place]))
        leads = False


def _by_quadratic(known: _Known, _: float) -> _Plan | None:
    """Differences, and a point along the quadratic's step."""
    x, value, later = known.X[known.base], known.y[known.base], known.later
    try:
        model = known.quadratic()
        step = newton_step(model.g, model.H, x)
        slope = float(model.g @ step)
        tried = _shares(step, known.X[later] - x)
    except np.linalg.LinAlgError:
        return None  # the differences vanish, or overflow
    due = model.unknown[: 0 if len(known.mine) else 1]
    if len(known.mine) and (slope >= 0.0 or tried.any() or known.had_failed):
        due = model.unknown  # one, or all of them

    def along() -> Move | None:
        """The step, or less of it after one that failed."""
        share = _share(tried, slope, known.y[later] - value)
        is_one = slope < 0.0 and share >= _SHORTEST
        return Move(np.clip(x + share * step, 0.0, 1.0), "quasi-Newton step") if is_one else None

    def beside(point: Array) -> list[Array]:
        """What is not known of the slopes there, once the value is as the quadratic has it."""
        s = point - x
        try:
            return known.quadratic_at(point, float(value + model.g @ s + 0.5 * s @ model.H @ s)).unknown
        except np.linalg.LinAlgError:
            return []

    return _Plan(due, along, beside)


def _by_process(known: _Known, reach: float) -> _Plan | None:
    """Differences where the process knows the gradient least, and its minimiser within `reach`.

    Its axes are those of the curvature. What is near and the sides of the box are in proportion to the root
    of the quadratic's lengthscales: these themselves are best for ill-conditioned functions, and a cube for
    bent valleys.
    """
    x = known.X[known.base]
    origin = np.zeros_like(x)
    try:
        curvature, axes = np.linalg.eigh(known.quadratic().H)
        shape = curvature**-0.25
        shape /= np.exp(np.log(shape).mean())
        lengths = shape**2
        starts = _LENGTHSCALE * np.stack([np.ones_like(x), lengths])
        process = SlopesGP(_around(known, axes, shape), starts)
    except np.linalg.LinAlgError:
        return None
    level, slope = process.mean(origin)
    price = _OUTSIDE * float(np.abs(slope).max())

    def inside(v: Array) -> tuple[float, Array]:
        """The mean, and a penalty outside the space, in the units of the quadratic."""
        mean, slope = process.mean(lengths * v)
        point = x + axes @ (lengths * v)
        out = point - np.clip(point, 0.0, 1.0)
        return mean + price * float(out @ out), lengths * (slope + 2.0 * price * (axes.T @ out))

    def lowest() -> Move | None:
        """The minimiser, if it is new."""
        side = reach * np.clip(shape, *_ASPECT) / lengths
        v = minimize_alone(inside, origin, -side, side, _CLIMB, (level, lengths * slope))
        found = np.clip(x + axes @ (lengths * v), 0.0, 1.0)
        is_new = np.abs(known.X - found).max(1).min() > SAME
        return Move(found, "gradient-enhanced step") if is_new else None

    def unknown(point: Array) -> list[Array]:
        """By how much of the slopes there is not known."""
        try:
            vectors = np.linalg.eigh(process.gradient_covariance(axes.T @ (point - x)))[1]
        except np.linalg.LinAlgError:
            return []
        return [axes @ v for v in vectors.T[::-1]]

    return _Plan(unknown(x)[:1] if known.needs_slope else [], lowest, unknown)


def _around(known: _Known, axes: Array, shape: Array) -> Observations:
    """The nearest values and slopes, in the axes, the outcomes in standard deviations of the values."""
    X, y, base, d = known.X, known.y, known.base, len(axes)
    far = np.linalg.norm((X[known.bases] - X[base]) @ axes / shape, axis=1)
    near = known.bases[far.argsort(kind="stable")][: _AROUND * d]
    slopes_of = np.array([len(known.told.get(int(k), ())) for k in near])
    few = np.cumsum(1 + slopes_of) <= _MOST_ROWS
    near, of = near[few], np.repeat(near[few], slopes_of[few])
    at = np.concatenate([known.told[int(k)] for k in near if int(k) in known.told] or [of])
    change = X[at] - X[of]
    size = np.linalg.norm(change, axis=1)
    values, slopes = y[near] - y[base], (y[at] - y[of]) / size
    outcomes = np.concatenate([values, slopes]) / values.std()
    places = np.concatenate([X[near], X[of] + 0.5 * change]) - X[base]
    directions = np.concatenate([np.zeros((len(near), d)), change / size[:, None]])
    return Observations(places @ axes, directions @ axes, outcomes, (_UNSMOOTH * outcomes) ** 2)


def _shares(step: Array, V: Array) -> Array:
    """How far along the step the points at offsets `V (m, d)` are, `(m,)`; 0 for those beside it."""
    share = V @ step / (step @ step)
    beside = np.linalg.norm(V - share[:, None] * step, axis=1) > _ON_LINE * np.linalg.norm(V, axis=1)
    return np.where(beside | (share < 0.0) | (share > 1.0 + _ON_LINE), 0.0, share)


def _share(tried: Array, slope: float, excess: Array) -> float:
    """How far to go along the step, after points so far along it were `excess (m,)` above the base.

    To the minimiser of the parabola through the last one, as Nocedal & Wright, eq. (3.57), within limits; as
    short as allowed after one that failed, which has no excess.
    """
    share = 1.0
    for at, above in zip(tried, excess, strict=True):
        if at > 0.0:
            shorter = -0.5 * at * slope / (above - at * slope)
            share = min(
                share, at * min(max(shorter, _SHORTER), _LONGER) if shorter == shorter else at * _SHORTER
            )
    return share
