"""Statistics by brute force, by coverage, and by Demsar's example."""

import math

import numpy as np
import pytest

from benchmarks import statistics


def test_runtimes_and_shares_by_brute_force():
    rng = np.random.default_rng(0)
    regret = np.minimum.accumulate(10 ** rng.uniform(-3, 3, (6, 30)), axis=1)
    targets = np.array([100.0, 1.0, 1e-2, 1e-9])
    times = statistics.runtimes(regret, targets)
    for run_times, curve in zip(times, regret, strict=True):
        for reached, target in zip(run_times, targets, strict=True):
            assert reached == next((n for n, r in enumerate(curve, 1) if r <= target), math.inf)
    for budget in (1, 7, 30):
        expected = np.mean(times <= budget)
        assert statistics.ecdf(times, np.array([budget]))[0] == expected


def test_bootstrap_covers_the_median_as_often_as_it_says():
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(150):
        low, high = statistics.bootstrap_band(rng.normal(size=(31, 1)), lambda v: np.median(v, axis=0), 200)
        inside += bool(low[0] <= 0.0 <= high[0])
    assert 0.88 <= inside / 150 <= 0.99


def test_nested_interval_has_the_coverage_of_both_levels():
    """Problems differ more than seeds do: an interval over seeds alone would be far too short."""
    rng = np.random.default_rng(2)
    inside = 0
    for trial in range(150):
        effects = rng.normal(0.5, 1.0, 25)
        found = statistics.nested_mean([e + 0.1 * rng.normal(size=8) for e in effects], 300, seed=trial)
        assert found.low <= found.value <= found.high
        inside += found.low <= 0.5 <= found.high
    assert 0.86 <= inside / 150 <= 0.99


def test_critical_difference_is_that_of_demsar():
    """Demsar (2006), section 3.2.2: four classifiers on 14 data sets, critical value 2.569, CD 1.25."""
    ranks = statistics.friedman(np.random.default_rng(0).random((14, 4)))
    assert ranks.distance == pytest.approx(2.569 * math.sqrt(4 * 5 / (6 * 14)), rel=1e-3)
    assert sum(ranks.mean) == pytest.approx(4 * 5 / 2)


def test_cliques_join_what_cannot_be_told_apart():
    ranks = statistics.Ranks([1.0, 1.5, 2.4, 4.0], 0.0, 1.0)
    assert statistics.cliques(ranks) == [(1.0, 1.5), (1.5, 2.4)]
    assert statistics.cliques(statistics.Ranks([1.0, 3.0], 0.0, 1.0)) == []


def test_holm_is_monotone_and_between_alone_and_bonferroni():
    p = np.random.default_rng(3).random(9) ** 3
    adjusted = np.array(statistics.holm(p.tolist()))
    assert np.all(adjusted >= p - 1e-12) and np.all(adjusted <= np.minimum(1.0, 9 * p) + 1e-9)
    assert np.all(np.diff(adjusted[np.argsort(p)]) >= 0)
    assert adjusted[np.argmin(p)] == pytest.approx(min(1.0, 9 * p.min()))
