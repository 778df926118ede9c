"""Runs of many workers: they meet one clock, are kept as lines and not repeated, and share their seeds."""

import argparse
import json

import pytest

from benchmarks import runs, workers
from benchmarks.__main__ import main


def test_our_studies_in_lockstep_are_those_alone():
    jobs = [workers.Job("hartmann6", "bayesopt", 3, seed) for seed in (0, 5)]
    together = workers.run_ours(16, jobs)
    for job, one in zip(jobs, together, strict=True):
        alone = workers.run_peer(16, job)
        assert (one.ended, one.time, one.end) == (alone.ended, alone.time, alone.end)
        assert one.regret == pytest.approx(alone.regret, rel=1e-4)


def test_all_methods_meet_the_same_clock():
    ends = {workers.run_peer(12, workers.Job("hartmann6", m, 4, 2)).end for m in ("random", "bayesopt")}
    assert len(ends) == 1


def test_a_run_keeps_its_improvements_and_survives_as_a_line():
    job = workers.Job("levy20", "random", 4, 9)
    run = workers.Run.of(job, [0.5, 1.0, 1.5, 2.0], [4.0, 4.0, 1.0 / 3.0, 1.0 / 3.0])
    assert (run.ended, run.time, run.regret) == ([1, 3], [0.5, 1.5], [4.0, 0.333333])
    assert (run.evaluations, run.end) == (4, 2.0)
    assert workers.Run.of_line(run.line()) == run


def test_peers_with_fewer_seeds_are_compared_on_those(tmp_path):
    jobs = [workers.Job("hartmann6", "random", count, seed) for seed in range(3) for count in (1, 4)]
    path = tmp_path / "workers.jsonl"
    workers.complete(path, jobs[:-1], 8, processes=1, fresh=False)  # the last seed lacks four workers
    arguments = ["workers", "--stored", "--methods", "random", "--problems", "hartmann6", "--seeds", "3"]
    options = ["--workers", "1", "4", "--evaluations", "8", "--out", str(tmp_path)]
    assert main([*arguments, *options]) == 0
    found = json.loads((tmp_path / "workers.json").read_text())["results"]
    assert [cell["seeds"] for cell in found] == [[0, 1]] * 2
    with pytest.raises(SystemExit, match="has no seed of any chosen problem"):
        main([*arguments, *options, "--workers", "1", "16"])


def test_finished_runs_of_workers_are_kept_and_not_repeated(tmp_path, monkeypatch):
    path = tmp_path / "workers.jsonl"
    jobs = [workers.Job("hartmann6", "random", 4, seed) for seed in range(3)]
    first = workers.complete(path, jobs[:2], 6, processes=1, fresh=False)
    asked = []
    honest = workers.run_all
    monkeypatch.setattr(workers, "run_all", lambda todo, *rest: asked.extend(todo) or honest(todo, *rest))
    again = workers.complete(path, jobs, 6, processes=1, fresh=False)
    assert asked == jobs[2:]
    assert [again[job] for job in jobs[:2]] == [first[job] for job in jobs[:2]]
    assert workers.stored(path, jobs, 6) == again
    workers.complete(path, jobs[:1], 7, processes=1, fresh=False)  # more evaluations: another run
    assert asked == [*jobs[2:], *jobs[:1]]
    assert workers.stored(path, jobs, 6).keys() == set(jobs[1:])


def test_a_file_that_lacks_nothing_only_grows(tmp_path):
    """Two programs fill it at once: what the other one has written meanwhile stays."""
    path = tmp_path / "workers.jsonl"
    mine, other = (workers.Job("hartmann6", "random", 4, seed) for seed in (0, 1))

    def results():
        with path.open("a") as file:
            file.write(workers.run_peer(5, other).line() + "\n")
        yield workers.run_peer(5, mine)

    runs.complete(path, [mine], workers.Run.of_line, results())
    assert runs.load(path, workers.Run.of_line).keys() == {mine, other}


def test_jobs_come_seed_by_seed_and_one_slow_worker_gets_half_of_the_evaluations():
    options = {"problems": ["levy20"], "methods": ["optuna-gp", "random"], "workers": [1, 4], "seeds": 2}
    jobs = workers.jobs_of(argparse.Namespace(**options))
    assert [(job.method, job.seed, job.workers) for job in jobs[2:6]] == [
        ("random", 1, 1),
        ("random", 1, 4),
        ("optuna-gp", 0, 1),
        ("optuna-gp", 0, 4),
    ]
    assert [workers.budget(job, 200) for job in jobs[2:6]] == [200, 200, 100, 200]
