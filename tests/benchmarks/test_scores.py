"""Scores with known answers, and who has none."""

import math

import numpy as np
import pytest

from benchmarks import page, scores
from benchmarks.scores import Scores
from benchmarks.storage import About, Job, Runs, Trial


def made(values, problem="p", optimum=0.0, floor=1e-3, true=None):
    """Runs of several methods: `{method: one list of values for each seed}`."""
    runs = Runs(about={problem: About(problem, "f", 2, optimum, floor)})
    for method, rows in values.items():
        for seed, row in enumerate(rows):
            runs.trials[Job(problem, method, seed)] = [
                Trial(i, {}, v, v if true is None else true[i], 0.01) for i, v in enumerate(row)
            ]
    return runs


def test_score_is_the_logarithm_of_regret_over_what_random_search_leaves():
    found = Scores.of(
        made({"a": [[8.0, 5.0, 0.2, 3.0]], "random": [[8.0, 4.0, 4.0, 2.0], [9.0, 9.0, 9.0, 2.0]]})
    )
    assert found.left == {"p": 2.0}
    expected = np.log10([[4.0, 2.5, 0.1, 0.1]])
    assert found.log_regret("p", "a") == pytest.approx(expected)
    assert found.variants == ["a", "random"]


def test_score_has_a_floor_and_the_data_may_beat_the_optimum():
    found = Scores.of(made({"a": [[5.0, -1.0]], "random": [[5.0, 1.0]]}))
    assert found.best == {"p": -1.0}
    assert found.log_regret("p", "a").tolist() == [[pytest.approx(math.log10(3.0)), -3.0]]
    unknown = Scores.of(made({"a": [[5.0, 2.0]], "random": [[5.0, 4.0]]}, optimum=math.nan))
    assert unknown.best == {"p": 2.0}


def test_failures_and_noise_in_the_score():
    failing = made({"a": [[None, 3.0, None, 1.0]], "random": [[2.0, 2.0, 2.0, 2.0]]})
    found = Scores.of(failing)
    assert found.regret("p", "a").tolist() == [[math.inf, 3.0, 3.0, 1.0]]
    assert found.log_regret("p", "a")[0, 0] == scores.WORST
    noisy = [Trial(0, {}, 5.0, 4.0, 0.0), Trial(1, {}, 1.0, 6.0, 0.0), Trial(2, {}, 2.0, 0.5, 0.0)]
    assert scores.incumbents(noisy).tolist() == [
        4.0,
        6.0,
        6.0,
    ]  # what looked best, at its value without noise


def test_problems_that_random_search_solves_have_no_score_and_that_is_said():
    found = Scores.of(made({"a": [[1.0]], "random": [[0.0]]}))
    assert found.scored == [] and found.unscored == {"p": "random search solves it"}
    alone = Scores.of(made({"a": [[1.0]]}))
    assert "run --methods random" in alone.unscored["p"]
    sections = page.sections_of(found, "a")
    assert [title for title, _, _ in sections] == ["Without a score", "Problems: f", "Time of a proposal"]


def test_unfinished_runs_are_left_out(capsys):
    found = Scores.of(made({"a": [[3.0, 2.0], [1.0]], "random": [[4.0, 4.0]]}))
    assert found.cells["p", "a"].seeds == [0]
    assert "1 unfinished runs are left out" in capsys.readouterr().err
