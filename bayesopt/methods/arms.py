"""The local arms of the default method, and what they have learnt: folds over the history.

Every other proposal is local. The arms take turns, and one that succeeds goes on:

1. the minimiser of a quadratic model within a box around the incumbent;
2. the best point of a trust region;
3. the minimiser of the quadratic within a ball, in the metric of the points it was fitted to, which on an
   ill-conditioned function is that of the level sets;
4. the point that teaches this model most.

While the quadratic succeeds, half of the other proposals are its own, too; and while none of the others
finds anything, but the local ones do, half of them are the arms' in turn, in spaces that take a quadratic.
Where all columns are continuous and outcomes exact, a descent by finite differences takes nearly all turns,
until it does not get on: a first one early, where few of the last results were better than all before, unless
the slopes that it finds tell of a rough function; another one late, where the others find nothing.
Where some of their proposals change nothing any more they have found the bottom of a valley, and rest until
something better is found elsewhere.
How far the arms reach follows from how they fared, in the order of asking; it is computed from the history
at each ask, not kept.
"""

import math
from dataclasses import dataclass
from enum import IntEnum
from statistics import median_low
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bayesopt.acquisition.maximizer import climbed_columns
from bayesopt.methods.descent import Course
from bayesopt.methods.differences import Differences
from bayesopt.space import Space
from bayesopt.surrogates.model import LARGEST_FIT
from bayesopt.surrogates.quadratic import is_determined

Array = NDArray[Any]

#: Side of a trust region at first, the largest one, and the one below which it starts anew; successes in a
#: row that double it, failures that halve it. Eriksson et al. (2019), TuRBO, with less patience.
_SIDE, _MOST_SIDE, _LEAST_SIDE = 0.8, 1.6, 2.0**-7
_SUCCESSES, _FAILURES = 2, 3

#: Half-width of the box in which the quadratic is minimised: first, largest, smallest, and after that;
#: factors after a success and a failure.
_BOX, _MOST_BOX, _LEAST_BOX, _NEW_BOX = 0.25, 0.5, 1e-5, 0.1
_BOX_GROWTH, _BOX_SHRINKAGE = 2.0, 0.4

#: Likewise the radius of the ball, in standard deviations of the points that the model was fitted to.
_BALL, _MOST_BALL, _LEAST_BALL, _NEW_BALL = 1.0, 4.0, 0.1, 1.0
_BALL_GROWTH, _BALL_SHRINKAGE = 3.0, 0.4

#: Local proposals looked back at, and the successes of the quadratic among them for it to get extra turns.
_WINDOW, _THRIVING = 6, 2

#: Proposals of either kind looked back at, and the successes of local ones among them for which the arms get
#: extra turns where the others had none.
_LOOKED_BACK, _ENOUGH = 8, 2

#: Results before the first descent, at least, and how many per dimension are ample; per dimension before
#: another one; steps in a row without an improvement that end one.
_EARLY, _AMPLE, _LATE, _PATIENCE = 20, 10, 20, 8

#: Results looked back at, and how many of them may have been better than all before, for the first one.
_NEWS, _STAGNANT = 8, 1

#: Slope across the space, over the distance of the median outcome from the best one, beyond which the first
#: descent is given up: where a function is smooth, the best of many points is on a gentle slope.
_STEEP = 8.0

#: How much longer the history must be for another one, after one that got on, and after one that did not.
_REST, _LONG_REST = 1.1, 1.5

#: Proposals near the incumbent, since the last gain, that change nothing at the bottom of a valley; how near;
#: and what is nothing, in distances of the median of the first results from the best one and relative to it.
_SETTLED, _NEAR, _NOTHING, _PRECISION = 2, 0.05, 1e-10, 1e-11

#: Most evaluations under way for the first descent to begin early, where a proposal follows on each result.
_FEW = 4

#: Columns beyond which the model of a descent takes too long: it has an entry for any two of them.
_MOST_COLUMNS = 40


class Turn(IntEnum):
    """Whose turn it is among the local proposals, once a quadratic is determined."""

    BOX = 0
    REGION = 1
    BALL = 2
    LESSON = 3

    def next(self) -> "Turn":
        """Who comes after it."""
        return Turn((self + 1) % len(Turn))


def is_local(at: int) -> bool:
    """Whether the proposal made after `at` others is a local one."""
    return at % 2 == 1


def is_extra(at: int) -> bool:
    """Whether it may be one as well: of the quadratic while that thrives, of all arms where others fail."""
    return at % 4 == 2


def is_spare(at: int) -> bool:
    """Whether it may be a descent's."""
    return at % 8 != 0


def begins_early(q: int, pending: int) -> bool:
    """Whether a first descent does, for q proposals beside so many pending ones.

    If many are pending others learn more from evaluations far apart.
    """
    return not pending or q + pending <= _FEW


def is_broad(space: Space, at: int, q: int = 1) -> bool:
    """Whether the surrogate of q proposals after `at` others is the broad one, see `surrogates.model`.

    It serves those that look everywhere, and the local ones beside them in a batch, among numbers: choices
    have no trend to be followed.
    """
    everywhere = q > 1 or not is_local(at)
    return everywhere and not space.has_conditions and not any(space.categorical)


def takes_quadratic(space: Space) -> bool:
    """Whether a polynomial makes sense: all columns are numbers, always active."""
    return not space.has_conditions and all(climbed_columns(space))


@dataclass
class Arms:
    """Of one study: the side of the trust region, the box and the ball of the quadratic, and their record.

    turn: who makes the next local proposal; recent: whether the quadratic succeeded with the last ones.
    near, far: whether the last local proposals succeeded, and the last others where there may be a quadratic.
    news: whether the last results of proposals of any kind were better than all before.
    descends: whether a descent is under way; fell: whether it has succeeded; stuck: its steps in a row that
    did not; begun: results told before the first one; rested: when there may be another one; course: how its
    steps fared; settled: proposals near the incumbent that changed nothing, since the last gain.
    """

    side: float = _SIDE
    box: float = _BOX
    ball: float = _BALL
    turn: Turn = Turn.BOX
    successes: int = 0
    failures: int = 0
    recent: tuple[bool, ...] = ()
    near: tuple[bool, ...] = ()
    far: tuple[bool, ...] = ()
    news: tuple[bool, ...] = ()
    descends: bool = False
    fell: bool = False
    stuck: int = 0
    begun: int = 0
    rested: float = 0.0
    course: Course = Course()
    settled: int = 0

    @classmethod
    def after(
        cls,
        X: Array,
        y: Array,
        at: Array,
        quadratic: bool,
        differences: Differences | None = None,
        q: int = 1,
        pending: int = 0,
    ) -> "Arms":
        """What the local proposals among the told `X (n, d)`, `y (n,)`, asked `at (n,)`, have taught.

        Which of two arms made a proposal at the turn of the box, where the quadratic may not have been
        believed, is told from its distance to the incumbent. What a descent has done is told from the
        differences among X and the pending ones; None where there is to be none. Who asks for one proposal
        at a time has made a step of a descent, or a difference, at each of its turns; who asks for q beside
        so many pending ones, steps only where there are differences beside them.
        """
        arms, (n, d), alone = cls(), X.shape, q + pending == 1
        incumbent, best, known, median = X[0], math.inf, 0, math.nan
        of = np.full(n, -1) if differences is None else differences.of
        is_base = np.isin(np.arange(n), of)
        first = y[np.isfinite(y)][:_EARLY].tolist()
        medians = [median_low(first[: k + 1]) for k in range(len(first))]
        for i, (value, place) in enumerate(zip(y.tolist(), at.tolist(), strict=True)):
            counts, base = known >= 2 * d and place >= 0, int(of[i])
            if base >= 0 and not arms.begun and (arms.descends or arms.may_begin(known, d)):
                arms.descends, arms.begun, median = True, i, float(np.nanmedian(y[:i]))
            if counts and arms.descends and is_spare(place) and (alone or base >= 0 or is_base[i]):
                arms.record_descent(best - value, base >= 0, known, d)
                if base >= 0 and of[i - 1] != base and y[base] == best and arms.rested == 0.0:
                    slope = abs(value - best) / float(np.abs(X[i] - X[base]).max())
                    if not 0.0 < slope <= _STEEP * (median - best):  # rough, or a plateau
                        arms.end_descent(known)
            elif counts and arms.take(place):
                by_model = quadratic and is_determined(known, d) and arms.turn is not Turn.REGION
                if arms.turn is Turn.BOX:
                    by_model &= bool(np.abs(X[i] - incumbent).max() <= 1.001 * arms.box)
                if by_model or arms.turn is Turn.REGION:
                    arms.record(value < best)
                else:
                    arms.record_region(value < best)
                arms.recent = (*arms.recent, by_model and value < best)[-_WINDOW:]
                arms.near = (*arms.near, value < best)[-_LOOKED_BACK:]
            elif counts and quadratic:
                arms.far = (*arms.far, value < best)[-_LOOKED_BACK:]
            if counts and base < 0:
                least = min(_NOTHING * (medians[min(known, _EARLY) - 1] - best), _PRECISION * abs(best))
                if value - best <= least:  # what is worse by more tells nothing
                    arms.record_change(value - best, least, float(np.abs(X[i] - incumbent).max()), known)
            known += value == value
            if place >= 0:
                arms.news = (*arms.news, value < best)[-_NEWS:]
            if value < best:
                incumbent, best = X[i], value
                if not alone:  # whoever found it
                    arms.stuck = 0
            may_descend = differences is not None and arms.nothing_far and not arms.converged
            arms.descends |= may_descend and known >= max(_LATE * d, arms.rested)
        if differences is not None and begins_early(q, pending) and arms.may_begin(known, d):
            arms.descends, arms.begun = True, len(X)
        return arms

    def may_begin(self, known: int, d: int) -> bool:
        """Whether it is time for the first descent, with `known` results."""
        return not self.begun and not self.converged and known >= _first(d) and sum(self.news) <= _STAGNANT

    @property
    def converged(self) -> bool:
        """Whether the incumbent is the bottom of a valley."""
        return self.settled >= _SETTLED

    @property
    def quadratic_thrives(self) -> bool:
        """Whether the quadratic has been succeeding."""
        return sum(self.recent) >= _THRIVING

    @property
    def others_fail(self) -> bool:
        """Whether the other proposals have found nothing for long, while the local ones have."""
        return self.nothing_far and sum(self.near) >= _ENOUGH

    @property
    def nothing_far(self) -> bool:
        """Whether the other proposals have found nothing for long."""
        return len(self.far) == _LOOKED_BACK and not any(self.far)

    def take(self, at: int) -> bool:
        """Whether one of the arms in turn makes the proposal after `at` others, unless a descent does."""
        return not self.converged and (is_local(at) or (is_extra(at) and self.others_fail))

    def make(self, at: int) -> bool:
        """Whether the arms, in turn or in a descent, make it."""
        return self.take(at) or (is_spare(at) and self.descends)

    def speak(self, at: int) -> bool:
        """Whether one other than the trust region may."""
        return not self.converged and (self.make(at) or (is_extra(at) and self.quadratic_thrives))

    def record_descent(self, gain: float, is_difference: bool, known: int, d: int) -> None:
        """A difference or a step was told when `known` results had been, better by `gain` than all before."""
        improved = gain > 0.0
        if is_difference:
            self.course = self.course.after_difference()
        else:
            self.fell |= improved
            self.stuck = 0 if improved else self.stuck + 1
            self.course = self.course.after(gain if improved else 0.0, d)
        if self.stuck == _PATIENCE:
            self.end_descent(known)

    def record_change(self, change: float, least: float, distance: float, known: int) -> None:
        """An outcome was told that differs from the best by at most `least`, which is nothing, or is better.

        A tie may be a plateau, unless another one changed by next to nothing before.
        """
        is_near = distance < _NEAR
        if change < (-least if is_near else 0.0):
            self.settled = 0
        elif is_near and (change != 0.0 or self.settled):
            self.settled += 1
        if self.converged and self.descends:
            self.end_descent(known)

    def end_descent(self, known: int) -> None:
        """There is nothing more to be had from it for a while."""
        self.rested = (_REST if self.fell else _LONG_REST) * known
        self.descends, self.fell, self.stuck, self.course = False, False, 0, Course()

    def record(self, improved: bool) -> None:
        """Whose turn it was found something better than anything before, or did not."""
        turn = self.turn
        if turn is Turn.BOX:
            self.box = min(_BOX_GROWTH * self.box, _MOST_BOX) if improved else _BOX_SHRINKAGE * self.box
            self.box = self.box if self.box >= _LEAST_BOX else _NEW_BOX
        if turn is Turn.BALL:
            self.ball = min(_BALL_GROWTH * self.ball, _MOST_BALL) if improved else _BALL_SHRINKAGE * self.ball
            self.ball = self.ball if self.ball >= _LEAST_BALL else _NEW_BALL
        if turn is Turn.REGION:
            self.record_region(improved)
        if not improved or turn in (Turn.REGION, Turn.LESSON):
            self.turn = turn.next()

    def record_region(self, improved: bool) -> None:
        """The best point of the trust region was, or was not, better than anything before."""
        self.successes, self.failures = (self.successes + 1, 0) if improved else (0, self.failures + 1)
        if self.successes == _SUCCESSES:
            self.side, self.successes = min(2.0 * self.side, _MOST_SIDE), 0
        if self.failures == _FAILURES:
            self.side, self.failures = 0.5 * self.side, 0
        self.side = self.side if self.side >= _LEAST_SIDE else _SIDE


def differences_among(X: Array, pending: Array) -> Differences | None:
    """Those among the points `(n, d)` of a study and then the `pending` ones `(m, d)`.

    None where there is to be no descent yet. All distances of a long history are too many.
    """
    n, d = X.shape
    due = d <= _MOST_COLUMNS and _first(d) <= n <= LARGEST_FIT
    return Differences.among(np.concatenate([X, pending])) if due else None


def _first(d: int) -> int:
    """Results before the first descent: twice as many as a Hessian has entries, in up to 10 dimensions."""
    return max(_EARLY, min(d * d, _AMPLE * d))
