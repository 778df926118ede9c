"""Descent by finite differences, against plain Python, closed forms and functions whose minimum is known."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayesopt import Float, Optimizer, Space
from bayesopt.acquisition.distinct import SAME
from bayesopt.methods.descent import WIDTHS, Differences, _fitted, _newton_step, _Slopes, descend


def proposal(X, y):
    return descend(X, y, Differences.among(X))


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


def start(d, n=10, seed=0):
    return np.random.default_rng(seed).random((n, d))


# -------------------------------------------------------------------------------------------- differences


@given(st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_differences_are_told_from_bases(d, seed):
    """Against a loop over pairs; with differences of differences, small steps, and roundings."""
    source = np.random.default_rng(seed)
    widths = [times * width for width in WIDTHS for times in range(1, 17)]
    X = [source.random(d)]
    for _ in range(30):
        x = X[source.integers(len(X))].copy()
        kind = source.integers(5)
        if kind == 0:
            x = source.random(d)
        elif kind == 1:
            x += 1e-8 * source.standard_normal(d)
        else:
            v = source.uniform(-1.0, 1.0, d)
            x += v / abs(v).max() * source.choice([*WIDTHS, 3.0 * WIDTHS[0], 0.5 * WIDTHS[0], 1e-6])
            x *= 1.0 + 1e-16 * source.integers(-1, 2, d)
        X.append(x)
    X = np.array(X)
    of = []
    for i, x in enumerate(X):
        of.append(-1)
        for j in range(i):
            change = abs(x - X[j]).max()
            is_one = any(abs(change - width) < 1e-3 * WIDTHS[0] for width in widths)
            if of[i] < 0 and of[j] < 0 and is_one:
                of[i] = j
    assert Differences.among(X).of.tolist() == of


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


def test_a_step_that_failed_makes_for_another_difference_and_then_is_shortened():
    """In all other directions; then along its line, to between a tenth and a half, until nothing is left."""
    f, *_ = ellipsoid(3, 10.0)
    X, y = start(3), np.array([f(x) for x in start(3)])
    base, places = int(y.argmin()), []
    while (x := proposal(X, y)) is not None:
        of = Differences.among(np.concatenate([X, [x]])).of[-1]
        assert of in (-1, base)
        fails = 2.0 * y[:10].max() if len(places) != 8 else math.nan
        places.append("step" if of < 0 else "difference")
        X, y = np.concatenate([X, [x]]), np.append(y, f(x) if of == base else fails)
    assert places[:6] == 3 * ["difference", "step"] and set(places[6:]) == {"step"} and len(places) >= 9
    differences = X[Differences.among(X).of == base] - X[base]
    assert np.linalg.matrix_rank(differences / WIDTHS[0], 1e-3) == 3
    steps = X[15:] - X[base]
    lengths = np.linalg.norm(steps, axis=1)
    assert (lengths[1:] <= 0.5001 * lengths[:-1]).all() and (lengths[1:] >= 0.0999 * lengths[:-1]).all()
    np.testing.assert_allclose(steps / lengths[:, None], np.tile(steps[0] / lengths[0], (len(steps), 1)))


def test_differences_in_much_the_same_direction_are_different_points():
    """What an ill-conditioned model knows least of may be nearly one direction again and again."""
    f, *_ = ellipsoid(10, 1e8)
    X, _ = descent(f, start(10, 66), 200)
    of = Differences.among(X).of
    assert len(X) == 266 and max(np.bincount(of[of >= 0])) > 3
    for i in np.flatnonzero(of >= 0):
        assert abs(X[:i] - X[i]).max(1).min() > SAME


# -------------------------------------------------------------------------------------------------- steps


def slopes(H, g, offset, changes):
    """Exact differences of `g'v + v'Hv / 2`."""
    bent = 0.5 * np.einsum("ri,ij,rj->r", changes, H, changes)
    return _Slopes(offset, changes, changes @ (g + H @ offset) + bent)


@given(st.integers(1, 5), st.integers(0, 5), st.integers(0, 2**32 - 1))
def test_a_quadratic_is_found_from_its_slopes_and_values(d, known, seed):
    """If there are enough of them, whatever was believed before; and its own slopes are as told."""
    source = np.random.default_rng(seed)
    A = source.standard_normal((d, d))
    H, g = A @ A.T + 0.3 * np.eye(d), source.standard_normal(d)
    own = slopes(H, g, np.zeros(d), 1e-3 * np.eye(d)[: min(known, d)]) if known else None
    others = [
        slopes(H, g, source.standard_normal(d), 1e-3 * source.standard_normal((1 + i % d, d)))
        for i in range(3 * d * (d + 1))
    ]
    V = source.standard_normal((3 * d, d))
    excess = V @ g + 0.5 * np.einsum("ri,ij,rj->r", V, H, V)
    found = _fitted(H, own, others, V, excess)
    np.testing.assert_allclose(found.H, H, atol=1e-6 * abs(H).max())
    np.testing.assert_allclose(found.g, g, atol=1e-6 * abs(g).max())
    wrong = _fitted(5.0 * np.eye(d), own, others, V, excess)
    np.testing.assert_allclose(wrong.H, H, atol=0.1 * abs(H).max())
    if own is not None:
        on_own = own.changes @ wrong.g + 0.5 * np.einsum("ri,ij,rj->r", own.changes, wrong.H, own.changes)
        np.testing.assert_allclose(on_own, own.outcome, atol=1e-4 * abs(own.outcome).max())


def test_what_is_known_least_is_in_the_metric_of_the_curvature():
    """Orthogonal there to what has been differenced; nothing where all has been."""
    H, g = np.diag([1.0, 100.0, 1e4]), np.ones(3)
    two = slopes(H, g, np.zeros(3), 1e-6 * np.array([[1.0, 1.0, 0.0], [0.0, 1.0, 0.0]]))
    values = 0.1 * np.random.default_rng(0).standard_normal((6, 3))
    excess = values @ g + 0.5 * np.einsum("ri,ij,rj->r", values, H, values)
    unknown = _fitted(H, two, [], values, excess).unknown
    np.testing.assert_allclose(abs(unknown / abs(unknown).max()), [0.0, 0.0, 1.0], atol=1e-9)
    all_three = slopes(H, g, np.zeros(3), 1e-6 * np.eye(3))
    assert not _fitted(H, all_three, [], values, excess).unknown.any()


@given(st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_a_step_is_newtons_where_that_stays_inside(d, seed):
    source = np.random.default_rng(seed)
    A = source.standard_normal((d, d))
    H, g, x = A @ A.T + 0.1 * np.eye(d), source.standard_normal(d), source.random(d)
    step = _newton_step(g, H, x)
    newton = -np.linalg.solve(H, g)
    if ((x + newton >= 0.0) & (x + newton <= 1.0)).all():
        np.testing.assert_allclose(step, newton, rtol=1e-9, atol=1e-12)
    assert (x + step >= 0.0).all() and (x + step <= 1.0).all()
    slope, least, most = g + H @ step, step == -x, step == 1.0 - x  # it is a minimum: Karush, Kuhn and Tucker
    np.testing.assert_allclose(slope[~(least | most)], 0.0, atol=1e-9)
    assert (slope[least] >= 0.0).all() and (slope[most] <= 0.0).all()


def test_a_linear_function_leads_to_its_corner():
    X, y = descent(lambda x: float(x @ [3.0, -1.0, 0.01]), start(3), 40)
    np.testing.assert_array_equal(X[y.argmin()], [0.0, 1.0, 0.0])


@pytest.mark.parametrize("condition", [1.0, 1e2, 1e4, 1e6])
def test_an_ellipsoid_is_solved_to_the_last_digits(condition):
    _, y = descent(ellipsoid(5, condition)[0], start(5), 90)
    assert y.min() < 1e-8 * condition**0.5


@pytest.mark.parametrize(("d", "evaluations"), [(2, 80), (4, 200)])
def test_a_bent_valley_is_followed_to_its_end(d, evaluations):
    _, y = descent(rosenbrock, start(d), evaluations)
    assert y.min() < 1e-8


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
    assert opt.best.value < 1e-8 and {"acquisition", "quadratic", "trust region", "descent"} <= arms


def test_what_is_pending_is_not_asked_again():
    """Neither a difference nor a step: beside a pending one a descent is silent, and then it goes on."""
    opt = Optimizer(Space({f"x{j}": Float(0.0, 1.0) for j in range(2)}), seed=0)
    kinds = set()
    for i in range(60):
        config = opt.ask()
        opt.tell(config, rosenbrock(list(config.values())))
        if i % 2 and opt.explain().arm == "descent":
            first = opt.ask()
            X = np.array([list(trial.config.values()) for trial in opt.trials] + [list(first.values())])
            kinds.add(Differences.among(X).of[-1] >= 0)
            assert opt.explain().arm != "descent"
            assert opt.ask() != first
            opt.forget(opt.pending[1:])
            opt.tell(first, rosenbrock(list(first.values())))
    assert kinds == {True, False}
