"""From reports to tables."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayesopt.pruning.curves import WORST, Scale, grid_of, on_grid


@given(st.integers(1, 3000))
def test_the_grid_is_short_sorted_and_ends_at_the_end(n):
    steps = np.arange(n) * 7.0 + 3
    grid = grid_of(steps)
    assert len(grid) <= 32 and grid[-1] == steps[-1] and np.all(np.diff(grid) > 0)
    assert set(grid) <= set(steps) and grid[0] <= steps[0] + 7 * max(1, n / 49)


def test_a_curve_holds_its_last_report_and_knows_how_far_it_has_come():
    grid = np.array([0.0, 2.0, 5.0, 9.0])
    values, reached = on_grid({4: 3.0, 1: 7.0, 5: 2.0}, grid)
    assert values.tolist() == [7.0, 7.0, 2.0, 2.0] and reached == 3
    assert on_grid({20: 1.0}, grid)[1] == 4


FINITE = st.floats(-1e3, 1e3)


@given(st.lists(FINITE, min_size=3, max_size=20), st.floats(1e-3, 1e3), FINITE)
def test_scaled_losses_do_not_depend_on_their_unit(finals, factor, shift):
    values = np.array(finals)
    scale, other = Scale.of(values), Scale.of(factor * values + shift)
    if scale is not None and other is not None and scale.spread > 1e-6:
        expected = other.scaled(factor * values + shift)
        assert np.allclose(scale.scaled(values), expected, atol=1e-3)


def test_scaling_keeps_the_order_and_can_be_undone_up_to_the_cut():
    scale = Scale.of(np.array([1.0, 2.0, 3.0, 4.0, 100.0]))
    values = np.array([-1e6, -3.0, 1.0, 2.9, 8.0])
    z = scale.scaled(values)
    assert np.all(np.diff(z) > 0)
    assert [scale.value(each) for each in z] == pytest.approx(values.tolist())
    step = 1e-6
    assert scale.slope(0.7) == pytest.approx(
        (scale.value(0.7 + step) - scale.value(0.7 - step)) / (2 * step), rel=1e-6
    )
    assert scale.scaled(np.array([1e9, np.inf, np.nan, -np.inf])).tolist() == [WORST] * 4


@pytest.mark.parametrize("finals", [[2.0, 2.0, 2.0, 5.0, 7.0], [np.inf, np.nan], []])
def test_no_scale_where_the_better_half_is_all_alike(finals):
    assert Scale.of(np.array(finals)) is None


@pytest.mark.parametrize("unit", [1e-200, 1.0, 1e200])
def test_spread_is_the_root_mean_square_of_the_better_half_in_any_unit(unit):
    scale = Scale.of(unit * np.array([9.0, 1.0, 5.0, 2.0, np.inf, 7.0]))
    assert scale.centre == pytest.approx(5.0 * unit)
    assert scale.spread == pytest.approx(np.sqrt((16 + 9 + 0) / 3) * unit)
