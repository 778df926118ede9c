"""The local arms of the default method: what the history has taught them, and what they propose."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayesopt import Float, Int, Space
from bayesopt.methods import arms as arms_module
from bayesopt.methods.arms import (
    Arms,
    Turn,
    differences_among,
    is_extra,
    is_local,
    is_spare,
    takes_quadratic,
)
from bayesopt.methods.descent import Course
from bayesopt.methods.differences import WIDTHS
from tests.methods.histories import CHOICES, CONDITIONAL, FINITE, MIXED, SMOOTH

# ------------------------------------------------------------------------------------- what they have learnt


def told_story(X, y, at, quadratic):
    """Side, box, ball, turn, thriving: the docstrings of the module in plain Python, with their numbers."""
    side, box, ball, turn = 0.8, 0.25, 1.0, 1
    record = []  # improvements of the region in a row, True or False
    credit = []  # of each local proposal: did the quadratic find something better?
    d = len(X[0])
    successes = []  # (value, x), in the order of asking
    for x, value, place in zip(X, y, at, strict=True):
        best = min(successes, key=lambda s: s[0]) if successes else None  # the earliest of equals
        improved = not math.isnan(value) and (best is None or value < best[0])
        if place >= 0 and place % 2 == 1 and len(successes) >= 2 * d:
            enough = len(successes) >= 1.3 * (2 * d + 1)
            near = max(abs(a - b) for a, b in zip(x, best[1], strict=True)) <= 1.001 * box
            took_turn = quadratic and enough and (turn != 1 or near)
            credit.append(took_turn and turn != 2 and improved)
            if not took_turn or turn == 2:
                record = [*record, improved] if not record or record[-1] == improved else [improved]
                if record == [True, True]:
                    side, record = min(2 * side, 1.6), []
                elif record == [False] * 3:
                    side, record = side / 2, []
                side = 0.8 if side < 2**-7 else side
            if took_turn and turn == 1:
                box = min(2 * box, 0.5) if improved else 0.4 * box
                box = 0.1 if box < 1e-5 else box
            if took_turn and turn == 3:
                ball = min(3 * ball, 4.0) if improved else 0.4 * ball
                ball = 1.0 if ball < 0.1 else ball
            if took_turn and not (improved and turn in (1, 3)):
                turn = turn % 4 + 1
        if not math.isnan(value):
            successes.append((value, x))
    return side, box, ball, turn, sum(credit[-6:]) >= 2


@st.composite
def stories(draw):
    """Told rows in canonical order: foreign ones first; gaps, ties, failures, improvements by chance."""
    d = draw(st.integers(1, 3))
    n = draw(st.integers(2 * d, 70))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    spread = draw(st.sampled_from([0.003, 0.05, 0.3]))
    falling = draw(st.sampled_from([0.0, 0.05, 1.0]))
    foreign = draw(st.integers(0, n))
    X = np.clip(0.5 + spread * rng.standard_normal((n, d)), 0.0, 1.0)
    y = np.round(rng.standard_normal(n) - falling * np.arange(n), 1)
    y[rng.random(n) < draw(st.sampled_from([0.0, 0.3]))] = np.nan
    at = np.full(n, -1)
    at[foreign:] = np.sort(rng.choice(2 * n, n - foreign, replace=False))
    return X, y, at


@given(stories(), st.booleans())
def test_the_fold_is_the_story_told_in_plain_words(story, quadratic):
    X, y, at = story
    arms = Arms.after(X, y, at, quadratic)
    side, box, ball, turn, thrives = told_story(X.tolist(), y.tolist(), at.tolist(), quadratic)
    assert (arms.side, arms.turn + 1, arms.quadratic_thrives) == (side, turn, thrives)
    assert arms.box == pytest.approx(box, rel=1e-12) and arms.ball == pytest.approx(ball, rel=1e-12)


def test_the_stories_reach_every_corner():
    """Else the test above is about nothing: all arms succeed and fail, with reaches of many sizes."""
    seen = set()
    for seed in range(300):
        rng = np.random.default_rng(seed)
        X = np.clip(0.5 + 0.1 * rng.standard_normal((60, 2)), 0, 1)
        y = rng.standard_normal(60) - 0.3 * (seed % 3) * np.arange(60)
        arms = Arms.after(X, y, np.arange(60), quadratic=True)
        seen.add((arms.side, round(arms.box, 4), round(arms.ball, 4), arms.turn, arms.quadratic_thrives))
    sides, boxes, balls, turns, thrives = map(set, zip(*seen, strict=True))
    assert min(len(sides), len(boxes), len(balls)) >= 4 and turns == {*Turn} and thrives == {True, False}


@given(st.lists(st.booleans(), max_size=300))
def test_the_reaches_stay_within_their_bounds_and_everybody_gets_a_turn(records):
    arms, turns = Arms(), []
    for improved in records:
        turns.append(arms.turn)
        arms.record(improved)
        assert 2.0**-7 <= arms.side <= 1.6 and 1e-5 <= arms.box <= 0.5 and 0.1 <= arms.ball <= 4.0
        goes_on = improved and turns[-1] in (Turn.BOX, Turn.BALL)
        assert arms.turn == (turns[-1] if goes_on else turns[-1].next())


def test_two_successes_double_the_side_and_three_failures_halve_it():
    arms, sides = Arms(), []
    for improved in [1, 1, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]:
        arms.record_region(bool(improved))
        sides.append(arms.side)
    assert sides == [0.8, 1.6, 1.6, 1.6, 1.6, 1.6, 1.6, 1.6, 1.6, 0.8, 0.8, 0.8, 0.4]
    for _ in range(15):
        arms.record_region(False)
    assert arms.side == 0.4 / 2**5
    for _ in range(3):
        arms.record_region(False)
    assert arms.side == 0.8  # it starts anew


def test_a_reach_starts_anew_below_the_smallest_one():
    """The box at a tenth of the space, the ball as it began."""
    for turn, name, first, least, anew, most in (
        (Turn.BOX, "box", 0.25, 1e-5, 0.1, 0.5),
        (Turn.BALL, "ball", 1.0, 0.1, 1.0, 4.0),
    ):
        arms, reaches = Arms(), []
        for improved in [False] * 14 + [True] * 6:
            arms.turn = turn
            arms.record(improved)
            reaches.append(getattr(arms, name))
        k = next(i for i in range(14) if first * 0.4 ** (i + 1) < least)
        np.testing.assert_allclose(reaches[:k], first * 0.4 ** np.arange(1, k + 1))
        assert reaches[k] == anew and reaches[-1] == most


def test_foreign_results_move_the_incumbent_and_teach_nothing_else():
    X = np.random.default_rng(0).random((40, 2))
    y = np.random.default_rng(1).standard_normal(40)
    assert Arms.after(X, y, np.full(40, -1), True) == Arms()
    others = Arms.after(X, y, np.arange(0, 80, 2), True)  # no local proposal among them
    assert replace(others, far=(), news=()) == Arms() and len(others.far) == 8
    assert Arms.after(X, y, np.arange(40), True) != Arms()


@pytest.mark.parametrize(
    ("local", "others", "expected"),
    [((1, 1), (), True), ((1,), (), False), ((1, 1), (1,), False), ((1, 1), (9,), True)],
    ids=["two of the local ones", "only one", "one of the others lately", "one of the others long ago"],
)
def test_arms_get_extra_turns_where_only_they_succeed(local, others, expected):
    """Improvements so many steps before the last local proposals, and before the last others."""
    n = 60
    at, y = np.arange(n), np.full(n, 1.0)
    places = [n - 1 - 2 * 2 * k for k in range(1, len(local) + 1)] + [n - 2 - 2 * k for k in others]
    for step, place in enumerate(sorted(places)):
        y[place] = -1.0 - step
    X = np.random.default_rng(0).random((n, 2))
    arms = Arms.after(X, y, at, True)
    assert arms.others_fail == expected
    assert not Arms.after(X, y, at, False).others_fail  # where there can be no quadratic
    assert [arms.make(i) for i in range(8)] == [False, True, expected, True] * 2


def test_a_descent_begins_late_where_nothing_is_found_and_ends_when_it_is_stuck(monkeypatch):
    """Improvements by local proposals only; then none at all. It takes seven of eight turns meanwhile."""
    monkeypatch.setattr(arms_module, "begins_early", lambda q, pending: False)
    n, d = 140, 2
    X, at = np.random.default_rng(0).random((n, d)), np.arange(n)
    y = np.where(at < 60, -1.0 * (at // 2), 99.0)  # the odd ones are level with the even ones before them

    def after(k, quadratic=True, noisy=False):
        among = differences_among(X[:k], X[:0]) if quadratic and not noisy else None
        return Arms.after(X[:k], y[:k], at[:k], quadratic, among)

    stages = [Arms(), *(after(k) for k in range(1, n + 1))]
    assert not any(arms.descends for arms in stages[:75])  # until 8 of the others have found nothing
    begun = next(k for k, arms in enumerate(stages) if arms.descends)
    assert [stages[begun].make(i) for i in range(9)] == [False, *[True] * 7, False]
    ended = next(k for k in range(begun, n) if not stages[k].descends)
    tries = [k for k in range(begun, ended) if is_spare(k)]
    assert len(tries) == 8
    again = next(k for k in range(ended, n) if stages[k].descends)
    assert again == math.ceil(1.5 * (ended - 1))
    y[tries[-1]] = -100.0  # a step succeeds in time
    assert after(ended).descends
    for quadratic, noisy in ((False, False), (True, True)):
        assert not after(begun, quadratic, noisy).descends


@pytest.mark.parametrize("d", [1, 2, 5, 8])
def test_the_first_descent_begins_with_results_for_a_hessian(d):
    """And where few others are pending; else it has not begun, unless its first difference has been told."""
    X, y, at = np.random.default_rng(0).random((80, d)), np.arange(80.0), np.arange(80)

    def after(k, q, pending):
        return Arms.after(X[:k], y[:k], at[:k], True, differences_among(X[:k], X[:0]), q, pending)

    first = max(20, d * d)
    for q, pending in ((1, 0), (1, 3), (2, 2), (8, 0)):
        begun = [after(k, q, pending).descends for k in range(1, 80)]
        assert begun == [k >= first for k in range(1, 80)]
    assert not any(after(k, 1, 4).descends for k in range(1, 80) if k < 20 * d)
    X[first] = X[0] + WIDTHS[0]
    y[first] = WIDTHS[0]
    assert after(first + 1, 1, 4).descends and after(first + 1, 1, 4).begun == first


def test_in_company_a_step_is_what_has_differences():
    """Others at the turns of a descent are not its failures, and one that gained gives it time."""
    n, d = 80, 2
    source = np.random.default_rng(0)
    X, y, at = source.random((n, d)), source.uniform(1.0, 2.0, n), np.arange(n)
    X[0], y[0] = 0.5, 0.0
    for i in range(20, n):  # a batch of eight: one that looks everywhere, a step, its differences, others
        if i % 8 in (2, 3):
            X[i] = X[i - i % 8 + 1] + WIDTHS[0] * np.eye(d)[i % 8 - 2]
            y[i] = y[i - i % 8 + 1]
    X[20], y[20] = X[0] + WIDTHS[0], WIDTHS[0]

    def after(k, q=8):
        return Arms.after(X[:k], y[:k], at[:k], True, differences_among(X[:k], X[:0]), q)

    assert [after(24 + 8 * k).stuck for k in range(1, 7)] == [1, 2, 3, 4, 5, 6]
    assert [after(24 + 8 * k).course.steps for k in range(1, 7)] == [1, 2, 3, 4, 5, 6]
    assert not after(40, q=1).descends  # alone, all of them would have been
    y[63] = -1.0
    assert [after(k).stuck for k in (63, 64, 72)] == [5, 0, 1]


def test_slopes_are_judged_where_the_best_result_is():
    """Those beside a step that failed tell nothing of a rough function: it is high up."""
    X, y = np.random.default_rng(0).random((26, 2)), np.linspace(1.0, 2.0, 26)
    X[0], X[20] = 0.5, 0.5 + WIDTHS[0]
    y[0], y[20] = 0.0, WIDTHS[0]
    y[21] = 100.0
    X[22], y[22] = X[21] + WIDTHS[0] * np.array([1.0, 0.0]), y[21] + 99.0 * WIDTHS[0]
    at = np.array([*range(20), *range(21, 27)])
    arms = Arms.after(X, y, at, True, differences_among(X, X[:0]), 8)
    assert arms.descends and arms.stuck == 1


def test_in_many_dimensions_the_first_descent_begins_with_ten_results_a_dimension():
    X = np.random.default_rng(0).random((320, 32))
    assert differences_among(X[:319], X[:0]) is None and differences_among(X, X[:0]) is not None


@pytest.mark.parametrize(
    ("improved", "begins"),
    [((), 20), ((19,), 20), ((12, 19), 21), ((13, 19), 22), ((18, 19), 27), ((11, 19), 20)],
)
def test_the_first_descent_waits_while_others_find_something(improved, begins):
    """At most one of the last eight results may have been better than all before."""
    y = np.full(40, 1.0)
    y[0] = 0.0
    y[list(improved)] = -np.arange(1.0, len(improved) + 1)
    X, at = np.random.default_rng(0).random((40, 2)), np.arange(40)
    stages = [Arms.after(X[:k], y[:k], at[:k], True, differences_among(X[:k], X[:0])) for k in range(1, 40)]
    assert next(k for k, arms in enumerate(stages, 1) if arms.descends) == begins


@pytest.mark.parametrize(
    ("slope", "goes_on"),
    [(7.9, True), (-7.9, True), (1e-3, True), (8.1, False), (-8.1, False), (0.0, False), (math.nan, False)],
)
def test_slopes_of_a_rough_function_end_the_first_descent(slope, goes_on):
    """Across the space, over the distance of the median from the best; nor is there anything on a plateau."""
    X, y = (
        np.random.default_rng(0).random((21, 2)),
        np.array([9.0, 4.0, 6.0, 5.0, 3.0, 3.0, 2.0, 7.0, 1.0, 8.0] * 2),
    )
    X[6], y[6] = 0.5, 0.0
    X[20] = X[6] + WIDTHS[0] * np.array([0.3, 1.0])
    y = np.append(y, slope * (X[20, 1] - 0.5) * np.median(y))
    arms = Arms.after(X, y, np.array([*range(20), 21]), True, differences_among(X, X[:0]))
    assert (arms.begun, arms.descends, arms.rested) == (20, goes_on, 0.0 if goes_on else 30.0)


def test_differences_are_no_failures_of_a_descent():
    arms = Arms(descends=True)
    for step in range(1, 8):
        for is_difference in (False, True):
            arms.record_descent(0.0, is_difference, 50, 2)
            assert (arms.descends, arms.stuck) == (True, step)
        assert arms.course.steps == step
    arms.record_descent(1.0, True, 50, 2)  # nor is a better one a success
    assert (arms.descends, arms.stuck, arms.fell) == (True, 7, False)
    arms.record_descent(0.0, False, 50, 2)
    assert (arms.descends, arms.stuck, arms.rested, arms.course) == (False, 0, 75.0, Course())


@pytest.mark.parametrize(
    ("change", "distance", "rests"),
    [(1e-10, 0.01, True), (-1e-10, 0.01, True), (1e-8, 0.01, False), (1e-10, 0.1, False), (0.0, 0.01, False)],
)
def test_the_arms_rest_at_the_bottom_of_a_valley(change, distance, rests):
    """Until something better turns up elsewhere; of what is far away, or on a plateau, nothing follows."""
    X = np.random.default_rng(0).random((30, 2))
    y, at = np.arange(130.0, 100.0, -1.0), np.arange(33)
    X = np.concatenate([X, X[29] + np.array([[0.3, 1.0], [0.2, -0.7], [-0.5, -1.0]]) * distance])
    y = np.append(y, [101.0 + change, 101.5, 101.0 + 2.0 * change])  # a failure in between tells nothing
    arms = Arms.after(X, y, at, True)
    assert arms.converged == rests == (not any(arms.take(i) or arms.speak(i) for i in range(8)))
    assert not Arms.after(X[:32], y[:32], at[:32], True).converged
    X, y, at = np.append(X, [[0.0, 0.0]], 0), np.append(y, 50.0), np.arange(34)
    assert not Arms.after(X, y, at, True).converged


def test_a_gain_near_by_is_no_bottom_yet():
    arms = Arms()
    for change in (1e-12, -1e-8, -1e-12):
        arms.record_change(change, 1e-10, 1e-6, 50)
        assert not arms.converged
    arms.record_change(0.0, 1e-10, 1e-6, 50)
    assert arms.converged


def test_a_descent_that_has_arrived_is_over():
    arms = Arms(descends=True)
    for k in (1, 2):
        assert arms.descends
        arms.record_change(-1e-12, 1e-10, 1e-6, 50)
        assert arms.settled == k
    assert (arms.descends, arms.converged, arms.may_begin(100, 2)) == (False, True, False)


def test_failures_of_local_proposals_are_not_successes():
    X, y = np.random.default_rng(0).random((16, 2)), np.arange(16.0)
    failed, worse = y.copy(), y.copy()
    failed[5::2], worse[5::2] = np.nan, 99.0
    a, b = (Arms.after(X, values, np.arange(16), False) for values in (failed, worse))
    assert a == b and a.side < 0.8


def test_where_a_polynomial_makes_sense():
    assert takes_quadratic(SMOOTH) and takes_quadratic(Space({"k": Int(0, 100), "x": Float(0, 1)}))
    assert not any(map(takes_quadratic, (MIXED, CONDITIONAL, FINITE, CHOICES)))
    assert [is_local(at) for at in range(4)] == [False, True, False, True]
    assert [at for at in range(9) if is_extra(at)] == [2, 6]
    assert [at for at in range(17) if not is_spare(at)] == [0, 8, 16]
