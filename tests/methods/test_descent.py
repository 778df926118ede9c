"""Descent by finite differences, on functions whose minimum is known."""

import math
from itertools import islice

import numpy as np
import pytest

from bayesopt import Float, Optimizer, Space
from bayesopt.acquisition.distinct import SAME
from bayesopt.methods import descent as descent_module
from bayesopt.methods.descent import Course, Leader, descend
from bayesopt.methods.differences import WIDTHS, Differences
from bayesopt.surrogates import curvature


def proposal(X, y):
    """As long as the quadratic has one: then the process would go on."""
    move = next(descend(X, y, Differences.among(X)), None)
    return None if move is None or move.arm == "gradient-enhanced step" else move.point


def ellipsoid(d, condition, seed=0):
    """A quadratic `(x - m)' H (x - m)` with its H and m."""
    source = np.random.default_rng(seed)
    Q = np.linalg.qr(source.standard_normal((d, d)))[0]
    H = (Q * np.geomspace(1.0, condition, d)) @ Q.T
    m = source.uniform(0.3, 0.7, d)
    return lambda x: float((x - m) @ H @ (x - m)), H, m


def rosenbrock(x):
    x = 4.0 * np.asarray(x) - 2.0
    return float((100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2).sum())


def descent(f, X, evaluations):
    """Points and outcomes after so many more evaluations, or fewer if it ends."""
    X = [np.asarray(x) for x in X]
    y = [f(x) for x in X]
    for _ in range(evaluations):
        x = proposal(np.array(X), np.array(y))
        if x is None:
            break
        assert (x >= 0.0).all() and (x <= 1.0).all()
        X.append(x)
        y.append(f(x))
    return np.array(X), np.array(y)


def led(f, X, evaluations):
    """The same where either model may lead; which one led each step."""
    X, course, leaders = [np.asarray(x) for x in X], Course(), []
    y, d = [f(x) for x in X], len(X[0])
    for _ in range(evaluations):
        move = next(descend(np.array(X), np.array(y), Differences.among(np.array(X)), course), None)
        if move is None:
            break
        x = move.point
        assert (x >= 0.0).all() and (x <= 1.0).all()
        value = f(x)
        X.append(x)
        is_step = Differences.among(np.array(X)).of[-1] < 0
        assert is_step == (move.arm != "finite difference")
        if is_step:
            leaders.append(course.leader(d))
            assert leaders[-1] is Leader.PROCESS or move.arm == "quasi-Newton step"
            course = course.after(max(min(y) - value, 0.0), d)
        else:
            course = course.after_difference()
        y.append(value)
    return np.array(X), np.array(y), leaders


#: What `explain` calls the moves of a descent.
MOVES = {"finite difference", "quasi-Newton step", "gradient-enhanced step"}


def start(d, n=10, seed=0):
    return np.random.default_rng(seed).random((n, d))


@pytest.mark.parametrize(("rounded", "width"), [(float, WIDTHS[0]), (np.float32, WIDTHS[1])])
def test_first_a_difference_then_a_step(rounded, width):
    """Inwards along the diagonal, and as wide as single precision needs it; then from the new base."""
    f, *_ = ellipsoid(3, 10.0)
    X = start(3)
    X[0] = [1.0, 0.9, 0.0]
    y = np.array([-1.0, *(float(rounded(f(x))) for x in X[1:])])
    x = proposal(X, y)
    assert (x >= 0.0).all() and (x <= 1.0).all()
    np.testing.assert_allclose(x - X[0], width * np.array([-1.0, -0.8, 1.0]), rtol=1e-6)
    X, y = np.concatenate([X, [x]]), np.append(y, -1.0 - width)
    x = proposal(X, y)
    assert Differences.among(np.concatenate([X, [x]])).of[-1] == -1
    X, y = np.concatenate([X, [x]]), np.append(y, -2.0)
    x = proposal(X, y)
    np.testing.assert_allclose(abs(x - X[-1]).max(), width, rtol=1e-6)


def test_a_step_that_failed_makes_for_all_differences_and_then_is_shortened():
    """In all other directions; then along its line, to between a tenth and a half, until nothing is left."""
    f, *_ = ellipsoid(3, 10.0)
    X, y = start(3), np.array([f(x) for x in start(3)])
    base, places = int(y.argmin()), []
    while (x := proposal(X, y)) is not None:
        of = Differences.among(np.concatenate([X, [x]])).of[-1]
        assert of in (-1, base)
        fails = 2.0 * y[:10].max() if len(places) != 5 else math.nan
        places.append("step" if of < 0 else "difference")
        X, y = np.concatenate([X, [x]]), np.append(y, f(x) if of == base else fails)
    assert places[:4] == ["difference", "step", "difference", "difference"]
    assert set(places[4:]) == {"step"} and len(places) >= 7
    differences = X[Differences.among(X).of == base] - X[base]
    assert np.linalg.matrix_rank(differences / WIDTHS[0], 1e-3) == 3
    steps = X[14:] - X[base]
    lengths = np.linalg.norm(steps, axis=1)
    assert (lengths[1:] <= 0.5001 * lengths[:-1]).all() and (lengths[1:] >= 0.0999 * lengths[:-1]).all()
    np.testing.assert_allclose(steps / lengths[:, None], np.tile(steps[0] / lengths[0], (len(steps), 1)))


def test_differences_in_much_the_same_direction_are_different_points():
    """What an ill-conditioned model knows least of may be nearly one direction again and again."""
    f, *_ = ellipsoid(10, 1e8)
    X, y = descent(f, start(10, 66), 200)
    of = Differences.among(X).of
    assert y.min() < 1e-8 and max(np.bincount(of[of >= 0])) > 3
    for i in np.flatnonzero(of >= 0):
        assert abs(X[:i] - X[i]).max(1).min() > SAME


def test_a_linear_function_leads_to_its_corner():
    X, y = descent(lambda x: float(x @ [3.0, -1.0, 0.01]), start(3), 40)
    np.testing.assert_array_equal(X[y.argmin()], [0.0, 1.0, 0.0])


@pytest.mark.parametrize("condition", [1.0, 1e2, 1e4, 1e6])
def test_an_ellipsoid_is_solved_to_the_last_digits(condition):
    _, y = descent(ellipsoid(5, condition)[0], start(5), 60)
    assert y.min() < 1e-12 * condition**0.5


@pytest.mark.parametrize(("d", "evaluations"), [(2, 80), (4, 200)])
def test_a_bent_valley_is_followed_to_its_end(d, evaluations):
    _, y = descent(rosenbrock, start(d), evaluations)
    assert y.min() < 1e-8


def test_what_is_known_of_the_curvature_is_kept_and_changes_nothing(monkeypatch):
    """While one slope after the other is told of a base, only that base is looked at anew."""
    f = ellipsoid(5, 1e4)[0]
    curvature._followed.cache_clear()
    X, _ = descent(f, start(5), 60)
    info = curvature._followed.cache_info()
    assert info.hits > 5 and info.misses > 5
    monkeypatch.setattr(curvature, "_followed", curvature._followed.__wrapped__)
    np.testing.assert_array_equal(descent(f, start(5), 60)[0], X)


# ---------------------------------------------------------------------------------------------- two models


@pytest.mark.parametrize(("gain", "share"), [(5.0, 3 / 4), (2.0, 1 / 8)])
def test_the_quadratic_leads_first_and_then_the_process_if_it_gains_far_more(gain, share):
    course, leaders = Course(), []
    for _ in range(80):
        leaders.append(course.leader(3))
        course = course.after(gain if leaders[-1] is Leader.PROCESS else 1.0, 3)
    assert set(leaders[:12]) == set(leaders[12::4]) == {Leader.QUADRATIC} and leaders[18] is Leader.PROCESS
    assert leaders[-32:].count(Leader.PROCESS) == 32 * share
    while course.leader(3) is Leader.QUADRATIC:
        course = course.after(1.0, 3)
    assert course.after(0.0, 3).reach < course.reach <= course.after(1.0, 3).reach


@pytest.mark.parametrize("seed", [0, 1])
def test_the_process_sees_the_bend_of_a_valley(seed):
    """A rotated Rosenbrock function in five dimensions: by the quadratic alone it takes far longer."""
    Q = np.linalg.qr(np.random.default_rng(seed).standard_normal((5, 5)))[0]

    def f(x):
        return rosenbrock(0.75 + 0.7 * Q @ (x - 0.5))

    X = start(5, 25, seed)
    _, y, leaders = led(f, X, 175)
    assert y.min() < 1e-5 and leaders.count(Leader.PROCESS) > len(leaders) / 4
    assert descent(f, X, 175)[1].min() > 1e-3


def test_two_models_solve_an_ellipsoid_too():
    _, y, leaders = led(ellipsoid(5, 1e8)[0], start(5), 90)
    assert y.min() < 1e-12 and Leader.PROCESS in leaders


def test_the_process_turns_back_at_the_bounds():
    """A bent valley whose lowest point inside is on a face."""
    X, y, leaders = led(lambda x: rosenbrock(0.6 * x), start(3), 60)
    assert Leader.PROCESS in leaders and X[y.argmin()].max() == 1.0


def test_the_process_is_fitted_to_what_is_near_however_many_slopes_there_are(monkeypatch):
    """All of the best one's, and a limit: a fit takes the cube of it."""
    told = []

    class Told(descent_module.SlopesGP):
        def __init__(self, observations, starts):
            told.append(observations)
            super().__init__(observations, starts)

    monkeypatch.setattr(descent_module, "SlopesGP", Told)
    source, d = np.random.default_rng(0), 12
    bases = source.random((40, d))
    X = np.concatenate([np.concatenate([[x], x + WIDTHS[0] * np.eye(d)]) for x in bases])
    y = np.array([rosenbrock(x) for x in X])
    next(descend(X, y, Differences.among(X), Course(steps=2, differences=400, gains=((0.0,), (1.0,)))))
    (observations,) = told
    is_slope = observations.directions.any(1)
    assert 200 - d - 1 < len(is_slope) <= 200 and is_slope.sum() == d * (~is_slope).sum()
    assert (np.linalg.norm(observations.places[is_slope], axis=1) < 1e-6).sum() == d
    assert (observations.places[~is_slope] == 0.0).all(1).sum() == 1


# -------------------------------------------------------------------------------------------------- ends


@pytest.mark.parametrize(
    "f",
    [
        lambda x: 0.0,
        lambda x: round(float(x @ x), 1),
        lambda x: 1e300 * float(x @ x),
        lambda x: 1e-300 * float(x @ x),
        lambda x: math.nan if x[0] > 0.5 else float(x[1] - x[0]),
        lambda x: 1e308 * (1.0 - 2.0 * (x[0] > 0.5)) * float(x[1]),
    ],
    ids=["flat", "rounded", "huge", "tiny", "failing", "overflowing"],
)
def test_it_ends_quietly_where_there_is_nothing_to_descend(f):
    X, _ = descent(f, start(2), 300)
    assert len(X) < 310


def test_rough_outcomes_cost_one_difference():
    """What looks like a slope there is chance: a training may be exactly repeatable and still be chaotic."""
    X, _ = descent(lambda x: float(x @ x) + 1e-3 * math.sin(1e12 * x.sum()), start(3), 20)
    assert len(X) == 11 and Differences.among(X).of[-1] >= 0


# ---------------------------------------------------------------------------------------------- by default


def test_the_default_method_gets_to_the_end_of_a_bent_valley():
    opt = Optimizer(Space({f"x{j}": Float(0.0, 1.0) for j in range(2)}), seed=0)
    arms = set()
    for _ in range(130):
        arms.add(opt.explain().arm)
        config = opt.ask()
        opt.tell(config, rosenbrock(list(config.values())))
    assert opt.best.value < 1e-8 and {"acquisition", "quadratic", "trust region", *MOVES} <= arms


def test_what_is_pending_is_not_asked_again():
    """Neither a difference nor a step: whatever is under way, what comes next is something else."""
    opt = Optimizer(Space({f"x{j}": Float(0.0, 1.0) for j in range(3)}), seed=0)
    under_way, arms = [], []
    for _ in range(120):
        arms.append(opt.explain().arm)
        under_way.append(opt.ask())
        X = np.array([list(c.values()) for c in [*(trial.config for trial in opt.trials), *under_way]])
        of = Differences.among(X).of
        assert (of[-1] >= 0) == (arms[-1] == "finite difference") or arms[-1] not in MOVES
        assert np.abs(X[:-1] - X[-1]).max(1).min(initial=1.0) > SAME
        if len(under_way) == 3:
            config = under_way.pop(0)
            opt.tell(config, rosenbrock(list(config.values())))
    assert set(arms) >= MOVES and opt.best.value < 1e-2


def several(f, X, rounds, q):
    """The outcomes after so many rounds of up to q moves at a time, and the moves of each."""
    X, course, made = list(X), Course(), []
    y, d = [f(x) for x in X], len(X[0])
    for _ in range(rounds):
        among = Differences.among(np.array(X))
        made.append(list(islice(descend(np.array(X), np.array(y), among, course), q)))
        gain = max(min(y) - min((f(move.point) for move in made[-1]), default=math.inf), 0.0)
        X += [move.point for move in made[-1]]
        y += [f(move.point) for move in made[-1]]
        if any(move.arm != "finite difference" for move in made[-1]):
            course = course.after(gain, d)
    return y, made


def test_at_a_time_there_is_a_step_with_its_gradient_and_the_step_of_the_other_model():
    """First the gradient of the best point; of few places the step comes first, then what is known least."""
    y, made = several(rosenbrock, start(3), 25, 8)
    kinds = [[move.arm for move in moves] for moves in made]
    differences = ["finite difference"] * 3
    assert kinds[0] == differences and kinds[1][:4] == ["quasi-Newton step", *differences]
    both = {"quasi-Newton step", "gradient-enhanced step"}
    assert any(both <= set(moves) for moves in kinds)
    assert min(y) < 1e-6
    steps = np.array([move.point for move in made[1]])
    assert (np.abs(steps[1:4] - steps[0]).max(1) < 2 * WIDTHS[0]).all()
    assert np.linalg.matrix_rank((steps[1:4] - steps[0]) / WIDTHS[0], 1e-3) == 3
    for q in (1, 2, 3):
        for few, many in zip(several(rosenbrock, start(3), 1, q)[1], made, strict=False):
            np.testing.assert_array_equal([m.point for m in few], [m.point for m in many[:q]])


@pytest.mark.parametrize("under_way", [1, 2, 3, 4])
def test_what_is_asked_beside_pending_points_is_what_would_have_been_asked_with_them(under_way):
    """A batch, and as many proposals one after the other with nothing told between them, are the same."""
    f = ellipsoid(3, 100.0)[0]
    X = start(3, 25)
    X = np.concatenate([X, X[[np.argmin([f(x) for x in X])]] + WIDTHS[0] * np.eye(3)])
    y = np.array([f(x) for x in X])
    batch = [move.point for move in descend(X, y, Differences.among(X))]
    pending = np.array(batch[:under_way])
    among = Differences.among(np.concatenate([X, pending]))
    rest = [move.point for move in descend(X, y, among, pending=pending)]
    np.testing.assert_allclose(rest, batch[under_way:], rtol=0, atol=1e-12)


@pytest.mark.parametrize(("q", "evaluations"), [(2, 120), (8, 160)])
def test_batches_of_the_default_method_get_to_the_last_digits(q, evaluations):
    f = ellipsoid(4, 1e3)[0]
    opt = Optimizer(Space({f"x{j}": Float(0.0, 1.0) for j in range(4)}), seed=0)
    for _ in range(evaluations // q):
        for config in opt.ask(q):
            opt.tell(config, f(list(config.values())))
    assert opt.best.value < 1e-8
