"""Descent by finite differences, against plain Python, closed forms and functions whose minimum is known."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayesopt import Float, Optimizer, Space
from bayesopt.methods.descent import WIDTHS, Differences, _fitted, _newton_step, descend


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
    X = [source.random(d)]
    for _ in range(30):
        x = X[source.integers(len(X))].copy()
        kind = source.integers(5)
        if kind == 0:
            x = source.random(d)
        elif kind == 1:
            x += 1e-8 * source.standard_normal(d)
        else:
            x[source.integers(d)] += source.choice([-1, 1]) * source.choice([*WIDTHS, 1e-6])
            x *= 1.0 + 1e-16 * source.integers(-1, 2, d)
        X.append(x)
    X = np.array(X)
    of = []
    for i, x in enumerate(X):
        of.append(-1)
        for j in range(i):
            change = sorted(abs(x - X[j]))
            is_one = any(abs(change[-1] - width) < 1e-3 * width for width in WIDTHS)
            if of[i] < 0 and of[j] < 0 and is_one and all(c < 1e-3 * change[-1] for c in change[:-1]):
                of[i] = j
    found = Differences.among(X)
    assert found.of.tolist() == of
    for i in np.flatnonzero(found.of >= 0):
        assert found.axis[i] == abs(X[i] - X[found.of[i]]).argmax()


@pytest.mark.parametrize("width", WIDTHS)
def test_gradients_are_those_of_the_function(width):
    f, H, m = ellipsoid(3, 10.0)
    x = np.array([0.2, 0.9, 0.5])
    X = np.concatenate([start(3), [x], x - width * np.eye(3)])
    y = np.array([f(x) for x in X])
    (base, found), *more = Differences.among(X).slopes(X, y).items()
    assert (base, found.last, more) == (10, 13, [])
    exact = 2.0 * H @ (x - m)
    np.testing.assert_allclose(found.gradient(2.0 * H), exact, atol=1e-14 / width)
    assert width < 1e-6 or abs(found.slopes - exact).max() > 0.1 * width
    y[12] = math.nan
    assert Differences.among(X).slopes(X, y) == {}


def test_first_the_differences_then_a_step():
    """Inwards, and as wide as the outcomes need it that are in single precision."""
    f, *_ = ellipsoid(3, 10.0)
    X = start(3)
    X[0] = [1.0, 0.9, 1.0]
    for rounded, width in ((float, WIDTHS[0]), (np.float32, WIDTHS[1])):
        values = [-1.0, *(float(rounded(f(x))) for x in X[1:])]
        Z, y = X, np.array(values)
        for axis, sign in ((0, -1), (1, 1), (2, -1)):
            x = proposal(Z, y)
            np.testing.assert_allclose(x - X[0], sign * width * np.eye(3)[axis], rtol=0, atol=1e-15)
            Z, y = np.concatenate([Z, [x]]), np.append(y, -1.0 + 2.0 * sign * width * (1.0 + axis))
        x = proposal(Z, y)
        assert Differences.among(np.concatenate([Z, [x]])).of[-1] == -1


# -------------------------------------------------------------------------------------------------- steps


def test_the_curvature_of_a_quadratic_is_found_from_its_secants():
    """Exactly what was known before, if that was right; what the secants tell, if it was not."""
    _, H, _ = ellipsoid(4, 30.0)
    S = np.random.default_rng(1).standard_normal((6, 4))
    V = np.random.default_rng(2).standard_normal((9, 4))
    excess = 0.5 * np.einsum("ri,ij,rj->r", V, H, V)
    np.testing.assert_allclose(_fitted(H, S, S @ H, V, excess), H, rtol=1e-9)
    found = _fitted(20.0 * np.eye(4), S, S @ H, V, excess)
    np.testing.assert_allclose(found, H, atol=0.02 * H.max())
    none = np.zeros((0, 4))
    along = _fitted(np.eye(4), 2.0 * np.eye(4)[:1], 10.0 * np.eye(4)[:1], none, np.zeros(0))
    assert along[0, 0] == pytest.approx(5.0, rel=0.01)
    np.testing.assert_allclose(along[1:, 1:], np.eye(3), atol=1e-9)


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


def test_a_step_that_failed_is_shortened_along_its_line():
    """To between a tenth and a half; in the end there is nothing left to try."""
    f, *_ = ellipsoid(3, 10.0)
    X, y = descent(f, start(3), 3)
    base, steps = X[:10][y[:10].argmin()], []
    while (x := proposal(X, y)) is not None:
        steps.append(x - base)
        X, y = np.concatenate([X, [x]]), np.append(y, 2.0 * y[:10].max() if len(steps) != 2 else math.nan)
    lengths = np.linalg.norm(steps, axis=1)
    assert len(steps) >= 3 and (lengths[1:] <= 0.5001 * lengths[:-1]).all()
    assert (lengths[1:] >= 0.0999 * lengths[:-1]).all()
    np.testing.assert_allclose(steps / lengths[:, None], np.tile(steps[0] / lengths[0], (len(steps), 1)))


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
    for _ in range(100):
        arms.add(opt.explain().arm)
        config = opt.ask()
        opt.tell(config, rosenbrock(list(config.values())))
    assert opt.best.value < 1e-8 and {"acquisition", "quadratic", "trust region", "descent"} <= arms


def test_what_is_pending_is_not_asked_again():
    """Neither a difference nor a step: beside a pending one a descent is silent, and then it goes on."""
    opt = Optimizer(Space({f"x{j}": Float(0.0, 1.0) for j in range(2)}), seed=0)
    kinds = set()
    for _ in range(60):
        config = opt.ask()
        opt.tell(config, rosenbrock(list(config.values())))
        if opt.explain().arm == "descent":
            first = opt.ask()
            X = np.array([list(trial.config.values()) for trial in opt.trials] + [list(first.values())])
            kinds.add(Differences.among(X).of[-1] >= 0)
            assert opt.explain().arm != "descent"
            assert opt.ask() != first
            opt.forget(opt.pending[1:])
            opt.tell(first, rosenbrock(list(first.values())))
    assert kinds == {True, False}
