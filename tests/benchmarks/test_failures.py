"""Regions and chances of failure as large as they are said to be."""

import numpy as np
import pytest


def test_a_third_fails_where_a_third_should():
    from benchmarks.failures import PROBLEMS, failing_problem

    share = {"region": 1 / 3, "corner": 1 / 3, "few": 0.03, "chance": 0.2}
    for name in PROBLEMS:
        problem, fails = failing_problem(name, 0)
        failed = [fails(u) for u in np.random.default_rng(1).random((3000, problem.dim))]
        assert np.mean(failed) == pytest.approx(share[name.split(", ")[1]], abs=0.05)
    with pytest.raises(ValueError, match="problem must be"):
        failing_problem("sphere", 0)
