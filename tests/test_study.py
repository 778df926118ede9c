"""Running an objective: results, failures, interruption, progress."""

import math

import pytest

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


def test_nonsense_is_an_error_at_once():
    with pytest.raises(TypeError, match="number"):
        minimize(lambda c: "0.5", SPACE, trials=3)


def test_an_interrupt_returns_what_is_known(caplog):
    calls = []

    def slow(config):
        calls.append(config)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return bowl(config)

    result = minimize(slow, SPACE, trials=50)
    assert len(result.trials) == 3 and result.best_value == min(result.values)
    assert "interrupted after 3 of 50" in caplog.text


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
