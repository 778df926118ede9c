"""One method against others: kinds of problems, and ranks and paired tests with known answers."""

import doctest
import math
from itertools import product

import numpy as np
import pytest
from scipy import stats

from bayesopt import Float, Int
from benchmarks import problems, runner, tpe, versus
from benchmarks.__main__ import build_parser, main
from benchmarks.problems import MissingError, Problem
from benchmarks.scores import Scores
from benchmarks.storage import About, Job, Runs, Trial, append
from benchmarks.versus import Group, Versus, compared, kind, merged

A, B, RANDOM = "bayesopt:method=random", "optuna-tpe", "random"


def test_examples_in_docstrings():
    assert doctest.testmod(versus).failed == 0


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("bbob/f1/d5/i1", "smooth"),
        ("bbob/f14/d5/i1", "smooth"),
        ("bbob/f3/d5/i1", "rugged"),
        ("bbob/f21/d5/i1", "rugged"),
        ("bbob-mixint/f1/d5/i1", "mixed"),
        ("hartmann6+noise=0.1", "smooth"),
        ("levy20", "rugged"),
        ("cond/jenatton", "conditional"),
    ],
)
def test_kinds_of_problems(name, expected):
    try:
        problem = problems.get(name)
    except MissingError as missing:
        pytest.skip(f"needs: {missing}")
    assert kind(problem) == expected


def test_what_is_no_test_function_is_a_table_or_tuning():
    table = Problem("mine/a", "mine", {"a": Int(1, 3)}, lambda config: config["a"])
    assert kind(table) == "tables"
    assert kind(table.changed(parameters={"a": Int(1, 3), "b": Float(0.0, 1.0)})) == "tuning"


# ------------------------------------------------------------------------------------------- known answers

REGRET = {A: [0.01, 0.02, 0.04, 0.08, 0.5], B: [0.1, 0.1, 0.02, 0.1, 0.5], RANDOM: [1.0, 1.0, 1.0, 1.0, 1.0]}


def scores():
    """Two problems of optimum 0; the second one has ten times the regret of the first."""
    runs = Runs(about={name: About(name, "f", 2, 0.0, 1e-8) for name in ("p", "q")})
    for (scale, name), (method, regrets) in product([(1.0, "p"), (10.0, "q")], REGRET.items()):
        for seed, regret in enumerate(regrets):
            runs.trials[Job(name, method, seed)] = [Trial(0, {}, scale * regret, scale * regret, 0.0)]
    return Scores.of(runs)


def test_ranks_scores_and_pairs_are_those_counted_by_hand():
    group = Group.of(scores(), ["p", "q"], [A, B, RANDOM])
    assert (group.problems, group.pairs) == (2, 10)
    assert group.rank == pytest.approx(
        {A: (1 + 1 + 2 + 1 + 1.5) / 5, B: (2 + 2 + 1 + 2 + 1.5) / 5, RANDOM: 3.0}
    )
    for method, regrets in REGRET.items():
        assert group.score[method].value == pytest.approx(np.log10(regrets).mean())
    ours = group.versus[B]
    d = np.log10(REGRET[A]) - np.log10(REGRET[B])
    assert (ours.won, ours.lost) == (6, 2)
    assert ours.difference.value == pytest.approx(d.mean())
    assert ours.difference.low < d.mean() < ours.difference.high
    assert ours.p == pytest.approx(stats.wilcoxon(np.tile(d, 2)).pvalue)


def test_other_units_change_nothing_and_swapped_sides_the_sign():
    found = (
        Group.of(scores(), ["q"], [A, B]),
        Group.of(scores(), ["p"], [A, B]),
        Group.of(scores(), ["p"], [B, A]),
    )
    same, one, other = found[0].versus[B], found[1].versus[B], found[2].versus[A]
    assert same.difference.value == pytest.approx(one.difference.value)
    assert other.difference.value == pytest.approx(-one.difference.value)
    assert (other.won, other.lost, other.p) == (one.lost, one.won, pytest.approx(one.p))


def test_no_difference_is_no_evidence():
    found = Versus.of([np.zeros(5), np.zeros(4)])
    assert (found.p, found.won, found.lost, found.difference.value) == (1.0, 0, 0, 0.0)


# ----------------------------------------------------------------------------------------------- what is kept


def lines(job, count):
    return [{**job.record(), **Trial(i, {"x": i}, float(i), float(i), 0.0).record()} for i in range(count)]


def test_of_each_run_the_longest_counts(tmp_path):
    job, other = Job("p", A, 0), Job("p", B, 0)
    append(tmp_path / "short.jsonl", lines(job, 2))
    append(tmp_path / "long.jsonl", [*lines(job, 3), *lines(other, 1)])
    for files in (("short", "long"), ("long", "short"), ("nowhere", "short", "long")):
        runs = merged([tmp_path / f"{name}.jsonl" for name in files], [A])
        assert {job: len(trials) for job, trials in runs.trials.items()} == {job: 3}


def test_runs_of_other_files_are_not_done_again(tmp_path, monkeypatch):
    path, new = tmp_path / "old.jsonl", tmp_path / "new.jsonl"
    labels = [A, RANDOM]
    main(
        [
            "run",
            "--problems",
            "branin",
            "--methods",
            *labels,
            "--seeds",
            "2",
            "--evaluations",
            "8",
            "--out",
            str(path),
        ]
    )
    done = []
    honest = runner.run
    monkeypatch.setattr(runner, "run", lambda task: done.extend(task.jobs) or honest(task))
    before = compared([new, path], ["branin"], None, labels, 2, 8, 1)
    assert done == [] and not new.exists()
    after = compared([new, path], ["branin"], None, labels, 3, 8, 1, called="mine")
    assert sorted(done) == sorted(Job("branin", label, 2) for label in labels)
    assert (before.groups["smooth"].pairs, after.groups["all"].pairs) == (2, 3)
    assert (before.suite, after.suite, after.evaluations) == ("branin", "mine", 8)


# ---------------------------------------------------------------------------------------------------- command


def test_both_are_timed_by_both_clocks_on_a_growing_history():
    pytest.importorskip("optuna")
    found = tpe.race(tpe.Cell(12, 6, 3), 0, ["optuna-tpe"])
    assert found.keys() == {"bayesopt", "optuna-tpe"}
    for clocks in found.values():
        assert [len(clocks[c]) for c in ("wall", "cpu")] == [3, 3]  # the first one is not counted
        assert min(clocks["cpu"]) > 0
        assert sum(clocks["cpu"]) <= 1.1 * sum(clocks["wall"]) + 1e-3


def test_parts_can_be_had_alone(tmp_path):
    args = ["tpe", "--quick", "--parts", "efficiency", "--threads", "1", "--out", str(tmp_path)]
    args = build_parser().parse_args(args)
    report = tpe.run(args)
    assert report.results.keys() == {"efficiency"}
    assert report.results["efficiency"]["groups"].keys() == {"all", "smooth", "conditional"}
    assert math.isfinite(report.results["efficiency"]["groups"]["all"]["versus"][RANDOM]["p"])
    kept = (tmp_path / "tpe-quick.jsonl").read_bytes()
    assert tpe.run(args).results == report.results
    assert (tmp_path / "tpe-quick.jsonl").read_bytes() == kept
