"""Running an objective: results, failures, interruption, progress."""

import math

import numpy as np
import pytest
import torch

from bayesopt import Float, Int, maximize, minimize

SPACE = {"x": Float(-1.0, 1.0), "k": Int(1, 5)}


def bowl(config):
    return (config["x"] - 0.3) ** 2 + 0.1 * (config["k"] - 2) ** 2


def test_minimize_finds_the_bottom_and_keeps_every_trial():
    seen = []
    result = minimize(bowl, SPACE, trials=25, callback=seen.append)
    assert result.best_config["k"] == 2 and abs(result.best_config["x"] - 0.3) < 0.02
    assert result.best_value == bowl(result.best_config) == min(result.values)
    assert seen == result.trials and [t.number for t in seen] == list(range(25))
    assert all(t.seconds >= 0 and t.error is None for t in seen)


def test_maximize_mirrors_minimize():
    up = maximize(lambda c: -bowl(c), SPACE, trials=15)
    down = minimize(bowl, SPACE, trials=15)
    assert up.best_config == down.best_config and up.best_value == -down.best_value


def test_an_evaluation_that_raises_is_a_failed_trial_with_its_traceback(caplog):
    def fragile(config):
        if config["k"] == 3:
            raise MemoryError("k too large for this device")
        return bowl(config)

    result = minimize(fragile, SPACE, trials=20)
    failed = [t for t in result.trials if t.value is None]
    assert failed and all("k too large" in t.error and "fragile" in t.error for t in failed)
    assert result.best_config["k"] != 3 and "k too large" in caplog.text


@pytest.mark.parametrize("bad", [None, math.nan, math.inf, -math.inf])
def test_when_everything_fails_the_result_says_so(bad):
    result = minimize(lambda c: bad, SPACE, trials=10)
    assert result.values == [None] * 10
    with pytest.raises(ValueError, match="all 10 evaluations failed"):
        _ = result.best_config


def test_when_everything_raises_the_result_shows_the_error():
    def typo(config):
        return config["learning_rate"]

    result = minimize(typo, SPACE, trials=3)
    with pytest.raises(ValueError, match="KeyError: 'learning_rate'"):
        _ = result.best_value


NONSENSE = ["0.5", {"loss": 0.5}, [0.5, 0.6], True, 1j, np.zeros(2), torch.zeros(3, 1)]


@pytest.mark.parametrize("nonsense", NONSENSE, ids=repr)
def test_nonsense_is_a_failed_trial_that_says_what_came(nonsense, caplog):
    result = minimize(lambda c: bowl(c) if c["k"] == 2 else nonsense, SPACE, trials=8)
    failed = [t for t in result.trials if t.config["k"] != 2]
    assert failed and all(t.value is None and "a value must be" in t.error for t in failed)
    assert len(result.trials) == 8 and "a value must be" in caplog.text
    with pytest.raises(ValueError, match="a value must be"):
        _ = minimize(lambda c: nonsense, SPACE, trials=2).best_value


@pytest.mark.parametrize(
    "number", [np.float32(0.5), np.array([0.5]), torch.tensor(0.5), torch.ones(1, 1) / 2]
)
def test_a_number_may_come_in_an_array(number):
    assert minimize(lambda c: number, SPACE, trials=1).values == [0.5]


def test_an_interrupt_returns_what_is_known(caplog):
    calls = []

    def slow(config):
        calls.append(config)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return bowl(config)

    result = minimize(slow, SPACE, trials=50)
    assert len(result.trials) == 3 and result.best_value == min(result.values)
    assert result.optimizer.pending == []
    assert "interrupted after 3 of 50" in caplog.text


def test_an_interrupt_before_the_first_trial_leaves_nothing(caplog):
    def impatient(config):
        raise KeyboardInterrupt

    result = minimize(impatient, SPACE, trials=5)
    assert result.trials == [] and "interrupted after 0 of 5" in caplog.text
    with pytest.raises(ValueError, match="interrupted before its first trial"):
        _ = result.best_config


def test_progress_shows_the_count_the_best_and_the_failures(capsys):
    minimize(lambda c: None if c["k"] == 1 else bowl(c), SPACE, trials=12, progress=True)
    shown = capsys.readouterr().err
    assert "12/12" in shown and "best" in shown and "failed" in shown
    minimize(bowl, SPACE, trials=2, progress=False)
    assert capsys.readouterr().err == ""


def test_the_objective_gets_a_copy():
    def vandal(config):
        config["x"] = 99.0
        return 1.0

    assert all(abs(t.config["x"]) <= 1 for t in minimize(vandal, SPACE, trials=3).trials)


@pytest.mark.parametrize("trials", [0, -1, 2.5, True, "9"])
def test_a_bad_number_of_trials_is_refused(trials):
    with pytest.raises(ValueError, match="trials"):
        minimize(bowl, SPACE, trials=trials)


def test_an_objective_that_cannot_be_called_is_refused():
    with pytest.raises(TypeError, match="callable"):
        minimize("bowl", SPACE)


QUEUE = [{"x": 0.25, "k": 4}, {"x": -0.5, "k": 1}, {"x": 0.25, "k": 4}]


@pytest.mark.parametrize("run", [minimize, maximize])
def test_what_is_enqueued_is_evaluated_first(run):
    result = run(bowl, SPACE, trials=6, enqueue=QUEUE)
    assert [trial.config for trial in result.trials[:3]] == QUEUE and len(result.trials) == 6
    assert result.values[:3] == [bowl(config) for config in QUEUE]
    assert result.optimizer.enqueued == []


def test_more_may_be_enqueued_than_there_are_trials():
    result = minimize(bowl, SPACE, trials=2, enqueue=QUEUE)
    assert [trial.config for trial in result.trials] == QUEUE[:2]
    assert result.optimizer.enqueued == QUEUE[2:]


@pytest.mark.parametrize("trials", [2, 3, 50])
def test_a_manual_run_ends_with_its_queue(trials):
    result = minimize(bowl, SPACE, trials=trials, method="manual", enqueue=QUEUE)
    assert [trial.config for trial in result.trials] == QUEUE[:trials]


def test_a_manual_run_of_which_every_evaluation_fails_ends_too():
    result = minimize(lambda c: None, SPACE, method="manual", enqueue=QUEUE)
    assert result.values == [None] * 3


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"method": "manual"}, ValueError, r"and nothing is; pass enqueue=\[config\]"),
        ({"enqueue": [QUEUE[0], {"x": 7.0, "k": 1}]}, ValueError, "x"),
        ({"enqueue": [{"x": 0.5}]}, ValueError, "k"),
        ({"enqueue": "x"}, TypeError, "enqueue expects"),
        ({"method": "manual", "enqueue": QUEUE, "trials": "9"}, ValueError, "trials"),
    ],
)
def test_a_queue_that_cannot_be_run_is_refused_before_the_first_evaluation(arguments, error, message):
    calls = []
    with pytest.raises(error, match=message):
        minimize(calls.append, SPACE, **arguments)
    assert not calls
