"""Speed-ups of several workers over one, with known answers, and their picture."""

import math

import numpy as np
import pytest

from benchmarks import pictures, speedup


def curve(*steps):
    return speedup.Curves.of(steps)


ONE = speedup.Reference(regret=np.array([1.0, 2.0, 9.0]), time=np.array([90.0, 100.0, 120.0]))


def test_median_curve_waits_for_half_of_the_seeds():
    found = curve(([1.0, 5.0], [8.0, 2.0]), ([2.0], [4.0]), ([3.0], [6.0]))
    assert found.times.tolist() == [1.0, 2.0, 3.0, 5.0]
    assert found.quantile(0.5).tolist() == [math.inf, 8.0, 6.0, 4.0]
    assert found.reach(np.array([8.0, 7.0, 4.0, 3.9]), np.arange(3)).tolist() == [2.0, 3.0, 5.0, math.inf]


def test_speed_up_is_the_time_of_one_over_the_first_moment_of_several():
    several = curve(([5.0, 40.0], [7.0, 1.0]), ([5.0, 25.0], [7.0, 2.0]), ([5.0], [7.0]))
    found = speedup.speed_up(ONE, several)  # the median falls to 2, the median of one worker, at 40
    assert found.value == 100.0 / 40.0
    assert found.low <= found.value <= found.high
    assert str(found).startswith("2.5x (")


def test_speed_up_may_start_at_the_first_moment_of_one():
    alone = curve(([60.0], [1.0]), ([80.0], [2.0]), ([20.0], [9.0]))
    several = curve(([20.0], [1.0]), ([20.0], [2.0]), ([20.0], [9.0]))
    assert speedup.speed_up(ONE, several).value == 5.0
    assert speedup.speed_up(ONE, several, alone).value == 4.0
    assert speedup.speed_up(ONE, alone, alone).value == 1.0


def test_speed_up_that_is_never_reached_says_so():
    found = speedup.speed_up(ONE, curve(([5.0], [1.0]), ([5.0], [3.0]), ([5.0], [3.0])))
    assert found.value == found.low == 0.0
    assert str(found) == "not reached"


def test_interval_is_a_point_where_seeds_agree():
    same = speedup.Reference(np.full(4, 2.0), np.full(4, 100.0))
    found = speedup.speed_up(same, curve(*[([10.0], [2.0])] * 4))
    assert found == speedup.SpeedUp(10.0, 10.0, 10.0)


def test_w_times_faster_curves_give_w():
    rng = np.random.default_rng(0)
    times, regret = np.cumsum(rng.random((9, 40)), axis=1), -np.sort(-rng.random((9, 40)))
    alone = curve(*zip(times, regret, strict=True))
    faster = curve(*zip(times / 4, regret, strict=True))
    reference = speedup.Reference(regret[:, 20], times[:, 20])
    found = speedup.speed_up(reference, faster, alone)
    assert found.value == pytest.approx(4.0)
    assert (found.low, found.high) == pytest.approx((4.0, 4.0))


def test_picture_has_a_panel_for_each_problem_and_number_of_workers(tmp_path):
    pytest.importorskip("matplotlib")
    curves = {"a": curve(([1.0, 5.0], [8.0, 0.0])), "b": curve(([2.0], [4.0]))}
    figure = pictures.draw({(problem, count): curves for problem in ("p", "q") for count in (1, 4)})
    assert [axes.get_title() for axes in figure.axes] == [
        "p, 1 worker",
        "p, 4 workers",
        "q, 1 worker",
        "q, 4 workers",
    ]
    assert all(axes.get_ylim()[0] > 0 for axes in figure.axes)
    figure.savefig(tmp_path / "picture.png")
