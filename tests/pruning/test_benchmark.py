"""`python -m benchmarks curves` counts what it says."""

import math

import numpy as np
import pytest

from bayesopt import Float
from benchmarks.curves import NONE, PRUNERS, Group, by_problem, epochs_to, one_run, ratios, table
from benchmarks.problems import Problem

LENGTH = 12


def bowl(config):
    """Every curve is the same but for its level: whoever stops is right to."""
    return [config["x"] ** 2 + 1 / step for step in range(1, LENGTH + 1)]


PROBLEM = Problem("bowl", "mine", {"x": Float(-1.0, 1.0)}, lambda c: bowl(c)[-1], curve=bowl)
GROUP = Group("random", ["bowl"], range(2))


@pytest.fixture(scope="module")
def runs():
    names = (NONE, "CurvePruner", "ASHA")
    return {("bowl", "random", s, n): one_run(PROBLEM, "random", s, n, 16) for s in range(2) for n in names}


def test_without_a_pruner_every_epoch_is_spent(runs):
    for seed in range(2):
        run = runs["bowl", "random", seed, NONE]
        assert run["epochs"] == run["of"] == 16 * LENGTH
        assert run["stopped"] == 0 and not run["stopped_best"]
        values = [value for _, value in run["improvements"]]
        assert values == sorted(values, reverse=True)
    assert ratios(runs, GROUP, NONE) == [1.0, 1.0]


def test_pruners_see_the_same_configurations_and_spend_less(runs):
    full, ours = (runs["bowl", "random", 0, name] for name in (NONE, "CurvePruner"))
    assert ours["epochs"] < full["epochs"] and ours["stopped"] > 0 and not ours["stopped_best"]
    assert ours["improvements"][0] == full["improvements"][0]
    assert ours["improvements"][-1][1] == full["improvements"][-1][1]
    assert ratios(runs, GROUP, "CurvePruner")[0] == pytest.approx(
        ours["improvements"][-1][0] / full["improvements"][-1][0]
    )


def test_a_goal_that_is_not_reached_takes_for_ever(runs):
    run = runs["bowl", "random", 0, NONE]
    assert epochs_to(run, -1.0) == math.inf and epochs_to(run, np.inf) == LENGTH


def test_tables_have_a_row_for_each_pruner_and_each_problem(runs):
    names = [NONE, "CurvePruner", "ASHA"]
    assert [row[1] for row in table(runs, GROUP, names).rows] == names
    assert by_problem(runs, GROUP, names).rows[0][:2] == ["bowl", "1 / 0"]
    assert set(names) <= PRUNERS.keys()
