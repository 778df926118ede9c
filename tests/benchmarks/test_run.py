"""`python -m benchmarks run`: killed anywhere, called again, prolonged; processes, lockstep, the clock."""

import itertools
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import runner, storage
from benchmarks.__main__ import main
from benchmarks.methods import chosen
from benchmarks.problems.base import Problem
from benchmarks.storage import Job
from tests.benchmarks.runs import run

ROOT = Path(__file__).parents[2]


def results(path):
    """Configurations and values of every run, by the order of asking."""
    return {
        job: [(t.asked, t.config, t.value, t.time) for t in sorted(trials, key=lambda t: t.asked)]
        for job, trials in storage.load(path).trials.items()
    }


def close(a, b):
    return a.keys() == b.keys() and all(
        x[0] == y[0] and runner.same(x[1], y[1]) and x[2] == pytest.approx(y[2], rel=1e-4) and x[3] == y[3]
        for job in a
        for x, y in zip(a[job], b[job], strict=True)
    )


@pytest.mark.parametrize("mode", [(), ("--q", "3"), ("--workers", "3")], ids=["one", "batch", "workers"])
@pytest.mark.parametrize("method", ["bayesopt", "random", "optuna-tpe", "cma", "cma-lq"])
def test_killed_anywhere_nothing_is_lost_or_done_twice(tmp_path, monkeypatch, method, mode):
    if lacking := chosen(method).lacking:
        pytest.skip(f"needs: {lacking}")
    if method == "cma-lq" and mode:
        pytest.skip("one at a time only")
    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    assert run(whole, method, more=mode) == 0
    lines = whole.read_text().splitlines(keepends=True)
    trials = [i for i, line in enumerate(lines) if line.startswith('{"problem')]
    assert len(trials) == 24
    for place in (2, 17):
        kept = lines[: trials[place]]
        cut.write_text("".join(kept) + lines[trials[place]][:40])  # the last line was cut short
        count = itertools.count()
        evaluate = Problem.evaluate

        def counted(*args, count=count, evaluate=evaluate):
            next(count)
            return evaluate(*args)

        with monkeypatch.context() as patch:
            patch.setattr(Problem, "evaluate", counted)
            assert run(cut, method, more=mode) == 0
        assert cut.read_text().startswith("".join(kept))  # it has only grown
        assert next(count) == 24 - place  # and nothing was evaluated twice
        assert close(results(cut), results(whole))
        assert '"restart"' not in cut.read_text()


def test_a_run_that_is_complete_is_not_touched_and_can_be_prolonged(tmp_path):
    path = tmp_path / "a.jsonl"
    run(path, "bayesopt", evaluations=10)
    before = path.read_bytes()
    run(path, "bayesopt", evaluations=10)
    assert path.read_bytes() == before
    run(path, "bayesopt", seeds="1:3", evaluations=13)
    whole = tmp_path / "b.jsonl"
    run(whole, "bayesopt", seeds="1:3", evaluations=13)
    longer = results(path)
    assert {job.seed: len(trials) for job, trials in longer.items()} == {0: 10, 1: 13, 2: 13}
    assert close({job: t for job, t in longer.items() if job.seed}, results(whole))


def test_a_method_that_does_not_repeat_itself_starts_again(tmp_path):
    path = tmp_path / "a.jsonl"
    run(path, "random", evaluations=6)
    text = path.read_text().replace(
        '"seed": 0, "q": 1, "workers": 1, "asked": 2, "config": {"x0": ',
        '"seed": 0, "q": 1, "workers": 1, "asked": 2, "config": {"x0": 1',
    )
    path.write_text("".join(text.splitlines(keepends=True)[:-1]))  # seed 1 lacks a trial, seed 0 is complete
    run(path, "random", evaluations=7)
    restarted = [json.loads(line) for line in path.read_text().splitlines() if "restart" in line]
    assert [r["seed"] for r in restarted] == [0]
    fresh = tmp_path / "b.jsonl"
    run(fresh, "random", evaluations=7)
    assert results(path) == results(fresh)


def test_processes_write_what_one_process_does(tmp_path):
    pytest.importorskip("optuna")
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    for path, processes in ((one, "1"), (two, "2")):
        run(path, "optuna-tpe", problem="cond/jenatton", more=("--processes", processes))
    assert results(one) == results(two)


def test_lockstep_is_what_each_study_does_alone(tmp_path):
    together, alone = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    run(together, "bayesopt", seeds="3")
    for seed in range(3):
        run(alone, "bayesopt", seeds=f"{seed}:{seed + 1}")
    assert close(results(together), results(alone))


def test_asynchronous_runs_keep_the_clock_of_their_seed(tmp_path):
    path = tmp_path / "a.jsonl"
    run(path, "random", evaluations=20, more=("--workers", "4"))
    run(path, "random", evaluations=20, problem="branin+time=8", more=("--workers", "4"))
    ended = {job: [t.time for t in trials] for job, trials in storage.load(path).trials.items()}
    assert all(times == sorted(times) for times in ended.values())
    plain, slow = (ended[Job(p, "random", 0, 1, 4)] for p in ("branin", "branin+time=8"))
    assert plain != slow and 20 / 4 / 2 < plain[-1] < 20


def test_what_cannot_be_done_is_said_and_the_rest_is_done(tmp_path, capsys, monkeypatch):
    pytest.importorskip("cma")
    path = tmp_path / "a.jsonl"
    arguments = ["run", "--problems", "cond/jenatton", "branin", "--methods", "cma", "cma-lq", "--seeds", "1"]
    assert main([*arguments, "--evaluations", "5", "--q", "2", "--out", str(path)]) == 0
    assert results(path).keys() == {Job("branin", "cma", 0, 2)}
    said = capsys.readouterr().err
    assert "knows no choices without an order" in said
    assert "evaluates one configuration at a time" in said
    monkeypatch.setattr("benchmarks.methods.random.Random.ask", lambda self, q: 1 / 0)
    assert run(tmp_path / "b.jsonl") == 1
    assert "ZeroDivisionError" in capsys.readouterr().err


@pytest.mark.slow
def test_killed_by_force_and_run_again(tmp_path):
    path = tmp_path / "a.jsonl"
    command = [sys.executable, "-m", "benchmarks", "run", "--problems", "hartmann6", "--methods", "bayesopt"]
    command += ["--seeds", "3", "--evaluations", "40", "--out", str(path)]
    lengths = []
    for _ in range(3):
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
        deadline, lines = time.monotonic() + 60, 0
        target = (lengths[-1] if lengths else 0) + 20
        while lines < target and time.monotonic() < deadline:
            time.sleep(0.02)
            lines = path.read_bytes().count(b"\n") if path.exists() else 0
        process.kill()
        process.wait()
        lengths.append(path.read_bytes().count(b"\n"))
    subprocess.run(command, cwd=ROOT, check=True, stderr=subprocess.DEVNULL)
    found = results(path)
    assert all([t[0] for t in trials] == list(range(40)) for trials in found.values()) and len(found) == 3
    whole = tmp_path / "b.jsonl"
    subprocess.run([*command[:-1], str(whole)], cwd=ROOT, check=True, stderr=subprocess.DEVNULL)
    first = {job: trials[:30] for job, trials in found.items()}
    assert close(first, {job: trials[:30] for job, trials in results(whole).items()})
    records = [json.loads(line) for line in path.read_text().splitlines() if line.startswith('{"problem')]
    keys = [(r["seed"], r["asked"]) for r in records]
    assert len(keys) == len(set(keys)) == 120
