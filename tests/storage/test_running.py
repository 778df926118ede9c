"""`minimize` on a storage: going on, sharing, reporting, pruning, interruption, a database that goes away."""

import multiprocessing
import os
import sys
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import optuna
import pytest
import torch
from optuna.pruners import HyperbandPruner, MedianPruner, SuccessiveHalvingPruner, ThresholdPruner
from sqlalchemy.exc import OperationalError

from bayesopt import Float, Study, TrialPruned, books, maximize, minimize
from bayesopt.storage.trial import RunningTrial, checked_report
from bayesopt.study import run, takes_trial
from benchmarks.durability import crowd, survive

sys.path.append(str(Path(__file__).parents[1]))  # worker processes import their objective
import process_objectives as objectives

SPACE = {"x": Float(-1.0, 1.0)}
ALWAYS = ThresholdPruner(upper=-1.0)  # of losses that are all above


def test_the_same_command_goes_on_and_proposes_what_one_run_would(url, name):
    alone = minimize(objectives.bowl, SPACE, trials=12, seed=2)
    calls = []

    def interrupted(config):
        calls.append(config)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return objectives.bowl(config)

    first = minimize(interrupted, SPACE, trials=12, storage=url, name=name, seed=2)
    assert len(first.trials) == 5
    result = minimize(interrupted, SPACE, trials=12, storage=url, name=name, seed=2)
    assert len(result.trials) == 12 and result.optimizer.pending == []
    assert [t.config for t in result.trials[:5]] == [t.config for t in alone.trials[:5]]
    assert len(calls) == 13  # the one that was interrupted, and nothing twice
    done = minimize(interrupted, SPACE, trials=12, storage=url, name=name, seed=2)
    assert [t.config for t in done.trials] == [t.config for t in result.trials]
    assert len(calls) == 13 and result.best_value < 1e-3


def test_without_interruption_a_storage_changes_nothing(url, name):
    alone = maximize(lambda c: -objectives.bowl(c), SPACE, trials=10, seed=1)
    kept = maximize(lambda c: -objectives.bowl(c), SPACE, trials=10, seed=1, storage=url, name=name)
    assert [(t.config, t.value) for t in kept.trials] == [(t.config, t.value) for t in alone.trials]
    assert kept.best_config == alone.best_config


def test_what_is_enqueued_is_evaluated_once_however_often_the_command_is_started(url, name):
    mine = [{"x": 0.25}, {"x": -0.75}]
    space = {"x": Float(-1.0, 1.0)}
    for trials in (1, 3, 5):
        result = minimize(lambda c: c["x"] ** 2, space, trials, storage=url, name=name, enqueue=mine)
    assert [trial.config for trial in result.trials[:2]] == mine
    assert len({trial.config["x"] for trial in result.trials}) == 5


def test_a_stored_list_ends_with_its_last_entry(url, name):
    mine = [{"x": 0.25}, {"x": -0.75}]
    kept = {"storage": url, "name": name, "method": "manual"}
    with pytest.raises(ValueError, match="nothing is"):
        minimize(lambda c: c["x"], {"x": Float(-1.0, 1.0)}, 50, **kept)
    result = minimize(lambda c: c["x"], {"x": Float(-1.0, 1.0)}, 50, **kept, enqueue=mine)
    assert [trial.config for trial in result.trials] == mine


def test_several_runs_share_the_work_and_each_returns_the_whole(url, name):
    results, configs = [], []

    def objective(config):
        configs.append(config["x"])
        return objectives.bowl(config)

    def work():
        results.append(minimize(objective, SPACE, trials=20, storage=url, name=name, method="random"))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(120)
    assert [len(result.trials) for result in results] == [20] * 3
    assert len(configs) == len(set(configs)) == 20
    assert [t.number for t in results[0].trials] == list(range(20))


@pytest.mark.parametrize("kind", ["processes", "threads", "process pool", "here"])
def test_an_evaluation_reports_from_wherever_it_is_and_can_be_pruned(kind, tmp_path, name):
    url = f"sqlite:///{tmp_path / 'study.db'}"
    spawned = partial(ProcessPoolExecutor, mp_context=multiprocessing.get_context("spawn"))
    pool = {"threads": ThreadPoolExecutor, "process pool": spawned}.get(kind)
    executor = None if pool is None else pool(2)
    how = {"workers": 2} if kind == "processes" else {"executor": executor}
    result = minimize(objectives.curve, SPACE, trials=3, storage=url, name=name, pruner=ALWAYS, **how)
    assert all(t.pruned and t.value == objectives.bowl(t.config) + 1.0 for t in result.trials)
    with pytest.raises(ValueError, match="all 3 evaluations"):
        _ = result.best_config
    result = minimize(objectives.curve, SPACE, trials=6, storage=url, name=name, **how)
    assert [t.pruned for t in result.trials] == [True] * 3 + [False] * 3
    with Study(storage=url, name=name) as study:
        states = [(t.state.name, len(t.intermediate_values)) for t in study.optuna.trials]
        assert states == [("PRUNED", 1)] * 3 + [("COMPLETE", 3)] * 3
        assert study.best == study.trials[result.best_trial.number]
    if executor is not None:
        executor.shutdown()


@pytest.mark.parametrize(
    ("pruner", "kind"),
    [("median", MedianPruner), ("asha", SuccessiveHalvingPruner), ("hyperband", HyperbandPruner)],
)
def test_pruners_stop_what_is_going_badly(pruner, kind, name):
    steps = []

    def objective(config, trial):
        loss = 0.0 if trial.number < 6 else 1.0 + trial.number
        for step in range(1, 20):
            trial.report(loss, step)
            steps.append(trial.number)
            if trial.should_prune():
                raise TrialPruned
        return loss

    result = minimize(objective, SPACE, trials=14, pruner=pruner, method="random")
    assert isinstance(kind(), optuna.pruners.BasePruner)
    assert any(t.pruned for t in result.trials[6:]) and len(steps) < 14 * 19
    assert not result.best_trial.pruned and result.best_value == 0.0


def test_what_was_pruned_is_a_lesson_but_never_the_best():
    def objective(config, trial):
        trial.report(-5.0 if config["x"] > 0.5 else 1.0, 0)
        return None if trial.should_prune() else 2.0

    result = minimize(objective, SPACE, trials=12, pruner=ThresholdPruner(lower=0.0))
    assert {t.value for t in result.trials if t.pruned} == {-5.0} and result.best_value == 2.0
    state = result.optimizer.state_dict()
    result.optimizer.load_state_dict(state)
    assert result.optimizer.best.value == 2.0 and result.optimizer.state_dict() == state


def test_none_without_advice_is_still_a_failure():
    result = minimize(lambda config, trial: None, SPACE, trials=2)
    assert [(t.value, t.pruned) for t in result.trials] == [(None, False)] * 2


@pytest.mark.parametrize("workers", [1, 2])
def test_a_wrong_report_is_an_error_of_the_evaluation(workers, tmp_path):
    result = minimize(objectives.misreporting, SPACE, trials=1, workers=workers)
    assert "report expects a number, got 'a lot'" in result.trials[0].error


def test_reports_are_checked():
    assert checked_report(torch.tensor([2.0]), torch.tensor(3).item()) == (2.0, 3)
    for value, step, error in [("1", 0, TypeError), (1.0, 0.5, TypeError), (1.0, -1, ValueError)]:
        with pytest.raises(error, match="report expects"):
            checked_report(value, step)


def test_the_first_report_of_a_step_counts_and_an_ended_trial_reports_no_more(url, name):
    with Study(SPACE, storage=url, name=name) as study:
        trial = study.ask()
        trial.report(1.0, 0)
        trial.report(2.0, 0)
        study.tell(trial, pruned=True)
        assert study.trials[0].value == 1.0 and study.trials[0].pruned
        with pytest.raises(RuntimeError, match="has ended"):
            trial.report(1.0, 1)


def test_who_takes_the_trial():
    assert takes_trial(objectives.curve) and takes_trial(lambda c, trial=None: 0.0)
    assert not takes_trial(objectives.bowl) and not takes_trial(lambda c, verbose=False: 0.0)
    assert not takes_trial(lambda c, *, trial: 0.0) and not takes_trial(max)


def test_a_trial_in_memory_stays_in_its_process():
    with Study(SPACE) as study, ProcessPoolExecutor(1) as pool, pytest.raises(TypeError, match="storage"):
        run(objectives.curve, study, trials=1, executor=pool)
    with Study(SPACE) as study, pytest.raises(TypeError, match="give it a storage"):
        study.ask().__reduce__()


def test_a_forked_process_must_not_use_sqlite(tmp_path, name, monkeypatch):
    with Study(SPACE, storage=f"sqlite:///{tmp_path / 'study.db'}", name=name) as study:
        fork = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork"))
        with fork, pytest.raises(TypeError, match="forked"):
            run(objectives.curve, study, trials=1, executor=fork)
        make, arguments = study.ask().__reduce__()
        monkeypatch.setattr(os, "getpid", lambda: -1)
        with pytest.raises(RuntimeError, match="forked"):
            make(*arguments)
        monkeypatch.undo()


def test_a_name_needs_a_storage():
    with pytest.raises(ValueError, match="needs a storage"):
        minimize(objectives.bowl, SPACE, name="alone")


def test_a_database_that_is_away_for_a_moment_loses_nothing(url, name, monkeypatch, caplog):
    monkeypatch.setattr(books.time, "sleep", lambda seconds: None)
    failures = iter([False, True, True] * 100)

    def unreliable(method):
        def call(*arguments, **options):
            if next(failures):
                raise OperationalError("SELECT 1", None, ConnectionError("server closed the connection"))
            return method(*arguments, **options)

        return call

    with Study(SPACE, storage=url, name=name) as study:
        monkeypatch.setattr(study, "_ask", unreliable(study._ask))
        monkeypatch.setattr(study, "tell", unreliable(study.tell))
        result = run(objectives.bowl, study, trials=4)
    assert [t.value is not None for t in result.trials] == [True] * 4 and "does not answer" in caplog.text


def test_a_database_that_stays_away_ends_the_run(name, tmp_path, monkeypatch):
    monkeypatch.setattr(books, "_PATIENCE", 0.0)
    with Study(SPACE, storage=f"sqlite:///{tmp_path / 'study.db'}", name=name) as study:
        study._storage._backend.engine.dispose()
        monkeypatch.setattr(study._ledger, "places", lambda beyond: _gone())
        with pytest.raises(OperationalError):
            run(objectives.bowl, study, trials=1)
        monkeypatch.undo()


def _gone():
    raise OperationalError("SELECT 1", None, ConnectionError("server closed the connection"))


def test_a_late_result_is_dropped(url, name, caplog):
    with Study(SPACE, storage=url, name=name) as study:

        def objective(config, trial):
            if trial.number == 0:
                with Study(storage=url, name=name) as other:
                    other.tell(0, 7.0)
            return objectives.bowl(config)

        result = run(objective, study, trials=3)
    assert result.values[0] == 7.0 and len(result.trials) == 3 and "dropped" in caplog.text


def test_a_trial_can_be_sent_to_another_process(url, name):
    with Study(SPACE, storage=url, name=name) as study:
        trial = study.ask()
        make, arguments = trial.__reduce__()
        copy = make(*arguments)
        assert isinstance(copy, RunningTrial) and copy.config == trial.config
        copy.report(0.5, 3)
        assert study.optuna.trials[0].intermediate_values == {3: 0.5}
        copy._study._storage._backend.engine.dispose()


def test_killed_workers_lose_and_double_nothing(url):
    left = survive(url, trials=24, kills=6, workers=3)
    assert (left.kills, left.results, left.failed) == (6, 24, 0)
    assert left.lost == left.doubled == left.again == left.stuck == 0
    assert left.evaluations == 24 + left.retried or left.evaluations < 24 + left.kills


def test_a_crowd_repeats_nothing(url):
    found = crowd(url, "bayesopt, random", processes=4, trials=16, seconds=0.01)
    assert (found.trials, found.duplicates) == (16, 0)
