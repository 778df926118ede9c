"""The quadratic of slopes and values, and its minimiser, against closed forms."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bayesopt.surrogates.curvature import Slopes, fitted, newton_step


def slopes(H, g, offset, changes):
    """Exact differences of `g'v + v'Hv / 2`."""
    bent = 0.5 * np.einsum("ri,ij,rj->r", changes, H, changes)
    return Slopes(offset, changes, changes @ (g + H @ offset) + bent)


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
    found = fitted(H, own, others, V, excess)
    np.testing.assert_allclose(found.H, H, atol=1e-6 * abs(H).max())
    np.testing.assert_allclose(found.g, g, atol=1e-6 * abs(g).max())
    wrong = fitted(5.0 * np.eye(d), own, others, V, excess)
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
    (unknown,) = fitted(H, two, [], values, excess).unknown
    np.testing.assert_allclose(abs(unknown / abs(unknown).max()), [0.0, 0.0, 1.0], atol=1e-9)
    all_three = slopes(H, g, np.zeros(3), 1e-6 * np.eye(3))
    assert fitted(H, all_three, [], values, excess).unknown == []


@given(st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_a_step_is_newtons_where_that_stays_inside(d, seed):
    source = np.random.default_rng(seed)
    A = source.standard_normal((d, d))
    H, g, x = A @ A.T + 0.1 * np.eye(d), source.standard_normal(d), source.random(d)
    step = newton_step(g, H, x)
    newton = -np.linalg.solve(H, g)
    if ((x + newton >= 0.0) & (x + newton <= 1.0)).all():
        np.testing.assert_allclose(step, newton, rtol=1e-9, atol=1e-12)
    assert (x + step >= 0.0).all() and (x + step <= 1.0).all()
    slope, least, most = g + H @ step, step == -x, step == 1.0 - x  # it is a minimum: Karush, Kuhn and Tucker
    np.testing.assert_allclose(slope[~(least | most)], 0.0, atol=1e-9)
    assert (slope[least] >= 0.0).all() and (slope[most] <= 0.0).all()
