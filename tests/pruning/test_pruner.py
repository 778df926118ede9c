"""`CurvePruner`: what it stops and what it never stops, whatever the unit, wherever it runs."""

import math
import pickle
import time

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from bayesopt import CurvePruner, Float, Study, TrialPruned, maximize, minimize
from bayesopt.interop.optuna import BayesSampler
from bayesopt.pruning.pruner import OUTLOOK, Outlook, stopped_value

SPACE = {"x": Float(-1.0, 1.0)}


@pytest.fixture(autouse=True, scope="module")
def _quiet():
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def curves(n, length, seed=0):
    """Noisy exponential decays `(n, length)` towards floors between 0 and 1."""
    rng = np.random.default_rng(seed)
    floor, height, rate = rng.random((n, 1)), 1 + rng.random((n, 1)), 3 + 5 * rng.random((n, 1))
    decays = floor + height * np.exp(-rate * np.linspace(0, 1, length))
    return decays + 0.01 * rng.standard_normal((n, length))


def evaluate(study, curve, steps=None):
    """Run one trial; the number of reports that it made."""
    trial = study.ask()
    steps = range(1, len(curve) + 1) if steps is None else steps
    for count, (value, step) in enumerate(zip(curve, steps, strict=True), 1):
        trial.report(float(value), step)
        if count < len(curve) and trial.should_prune():
            study.tell(trial, state=TrialState.PRUNED)
            return count
    study.tell(trial, float(curve[-1]))
    return len(curve)


def lengths(table, direction="minimize", steps=None, **options):
    study = optuna.create_study(pruner=CurvePruner(**options), direction=direction)
    return [evaluate(study, curve, steps) for curve in table]


TABLE = curves(30, 40)


def test_it_stops_bad_curves_early_and_never_the_best():
    reports = lengths(TABLE)
    best = int(TABLE[:, -1].argmin())
    assert reports[:5] == [40] * 5 and reports[best] == 40
    assert np.mean(reports[5:]) < 20
    finals = np.where(np.array(reports) == 40, TABLE[:, -1], np.inf)
    assert finals.argmin() == best


@pytest.mark.parametrize(("factor", "shift"), [(1e-6, 0.0), (2.0**20, -3e6), (64.0, 0.5)])
def test_the_unit_of_the_loss_does_not_matter(factor, shift):
    assert lengths(factor * TABLE + shift) == lengths(TABLE)


def test_the_unit_of_the_steps_does_not_matter():
    assert lengths(TABLE, steps=range(50, 50 + 1000 * 40, 1000)) == lengths(TABLE)


def test_maximising_is_minimising_the_negative():
    assert lengths(-TABLE, direction="maximize") == lengths(TABLE)


def test_a_smaller_threshold_stops_less():
    reports = [sum(lengths(TABLE, threshold=t)) for t in (0.1, 0.01, 1e-4, 1e-9)]
    assert reports == sorted(reports) and reports[0] < reports[-1]


def test_warm_up_is_as_long_as_asked_for():
    assert min(lengths(TABLE, min_steps=9, warmup=0.0, threshold=0.2)) == 9
    assert min(lengths(TABLE, warmup=0.5, threshold=0.2)) == 22
    reports = lengths(TABLE, min_finished=12)
    assert reports[:12] == [40] * 12 and min(reports[12:]) < 40


def test_what_is_better_than_all_others_at_every_step_goes_on():
    study = optuna.create_study(pruner=CurvePruner())
    for curve in TABLE:
        evaluate(study, curve)
    assert evaluate(study, TABLE.min(0) - 0.02) == 40
    assert evaluate(study, np.full(40, TABLE[:, -1].min() - 0.05)) == 40


@pytest.mark.parametrize("rise", [0.0, 2.0])
def test_a_hopeless_curve_is_stopped_at_once_even_one_that_goes_up(rise):
    study = optuna.create_study(pruner=CurvePruner())
    for curve in TABLE:
        evaluate(study, curve)
    assert evaluate(study, 4.0 + rise * np.linspace(0, 1, 40)) == 11


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_report_that_is_no_number_ends_a_trial_and_is_a_failure(bad):
    def objective(config, trial):
        trial.report(bad if trial.number % 2 else 1.0, 1)
        return None if trial.should_prune() else 1.0

    result = minimize(objective, SPACE, trials=6, pruner="curve", method="random")
    assert [t.value for t in result.trials] == [1.0, None] * 3
    assert [t.pruned for t in result.trials] == [False, True] * 3


def test_curves_with_gaps_of_other_lengths_or_without_reports_do_no_harm():
    study = optuna.create_study(pruner=CurvePruner())
    for i, curve in enumerate(TABLE):
        curve = np.where((np.arange(40) % 7 == 3) & (np.arange(40) < 39), math.nan, curve) if i < 3 else curve
        trial = study.ask()
        for step in range(1 + i % 2, 41 - 10 * (i % 3), 1 + i % 2):
            trial.report(float(curve[step - 1]), step)
        study.tell(trial, float(curve[-1]))
    study.tell(study.ask(), -1.0)  # nothing reported, and the best
    assert evaluate(study, np.full(40, 4.0)) < 40


@pytest.mark.parametrize(
    "finished", [np.ones((8, 20)), np.zeros((8, 1)), TABLE[:4]], ids=["constant", "one step", "few"]
)
def test_nothing_is_stopped_where_there_is_nothing_to_learn_from(finished):
    study = optuna.create_study(pruner=CurvePruner())
    assert [evaluate(study, curve) for curve in finished] == [len(curve) for curve in finished]
    assert evaluate(study, np.full(20, 1e9)) == 20


def test_a_trial_longer_than_all_others_is_let_be():
    study = optuna.create_study(pruner=CurvePruner())
    for curve in TABLE[:8]:
        evaluate(study, curve[:10])
    trial = study.ask()
    trial.report(1e9, 11)
    assert not trial.should_prune()


def test_it_does_not_depend_on_the_order_of_finishing_and_survives_pickling():
    def advice(order, pruner):
        study = optuna.create_study(pruner=pruner)
        trials = [study.ask() for _ in TABLE[:10]]
        for i in order:
            for step, value in enumerate(TABLE[i], 1):
                trials[i].report(float(value), step)
            study.tell(trials[i], float(TABLE[i, -1]))
        evaluate(study, np.full(40, 1.1))
        return study.trials[-1].system_attrs[OUTLOOK]

    pruner = CurvePruner(0.02)
    first = advice(range(10), pruner)
    assert advice(reversed(range(10)), pickle.loads(pickle.dumps(pruner))) == first
    assert Outlook(*first).step < 40


def test_a_stopped_trial_has_the_value_at_which_it_was_expected_to_end(tmp_path):
    def objective(config, trial):
        curve = curves(1, 15, seed=trial.number)[0] + 5 * config["x"] ** 2
        for step, value in enumerate(curve, 1):
            trial.report(float(value), step)
            if trial.should_prune():
                raise TrialPruned
        return float(curve[-1])

    url = f"sqlite:///{tmp_path / 'study.db'}"
    result = minimize(objective, SPACE, 14, storage=url, name="s", pruner=CurvePruner(), method="random")
    stopped = [t for t in result.trials if t.pruned]
    assert len(stopped) > 3 and not result.best_trial.pruned
    with Study(storage=url, name="s") as study:
        assert [t.value for t in study.trials] == result.values  # told by the storage alone
        stored = study.optuna.trials
    errors, stale = [], []
    for trial in stopped:
        final = curves(1, 15, seed=trial.number)[0][-1] + 5 * trial.config["x"] ** 2
        outlook = Outlook(*stored[trial.number].system_attrs[OUTLOOK])
        assert trial.value == outlook.value and outlook.std > 0
        errors.append(abs(trial.value - final))
        stale.append(abs(stored[trial.number].intermediate_values[outlook.step] - final))
    assert np.mean(errors) < np.mean(stale)
    assert result.optimizer.state_dict()["trials"][stopped[0].number]["value"] == stopped[0].value


def test_only_advice_on_the_last_report_counts():
    trial = optuna.trial.create_trial(
        state=TrialState.PRUNED, intermediate_values={1: 3.0, 2: 2.5}, system_attrs={OUTLOOK: [1, 1.0, 0.1]}
    )
    assert stopped_value(trial) == 2.5
    trial.system_attrs[OUTLOOK] = [2, 1.0, 0.1]
    assert stopped_value(trial) == 1.0
    assert stopped_value(optuna.trial.create_trial(state=TrialState.PRUNED)) is None


def test_the_optuna_sampler_learns_from_where_curves_would_have_ended():
    sampler = BayesSampler(SPACE, seed=0)
    study = optuna.create_study(sampler=sampler, pruner=CurvePruner())

    def objective(trial):
        floor = abs(trial.suggest_float("x", -1.0, 1.0) - 0.3)
        for step in range(1, 31):
            trial.report(floor + 5 / step, step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return floor + 5 / 30

    study.optimize(objective, n_trials=20)
    stopped = {t.number: stopped_value(t) for t in study.trials if t.state == TrialState.PRUNED}
    known = {t.number: t.value for engine in sampler._engines.values() for t in engine.optimizer.trials}
    assert stopped and all(known[n] == v for n, v in stopped.items() if n in known)
    assert abs(study.best_params["x"] - 0.3) < 0.1


def test_maximize_takes_it_by_name():
    def objective(config, trial):
        for step in range(1, 21):
            trial.report(-(config["x"] ** 2) - 1 / step, step)
            if trial.should_prune():
                return None
        return -(config["x"] ** 2)

    result = maximize(objective, SPACE, trials=16, pruner="curve", method="random")
    assert any(t.pruned for t in result.trials) and not result.best_trial.pruned
    assert result.best_value == max(-(t.config["x"] ** 2) for t in result.trials)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"threshold": 0.0}, "threshold"),
        ({"threshold": "low"}, "threshold"),
        ({"warmup": 1.0}, "warmup"),
        ({"min_finished": 1}, "min_finished"),
        ({"min_steps": 0}, "min_steps"),
        ({"min_steps": 1.5}, "min_steps"),
    ],
)
def test_wrong_arguments_are_told(arguments, message):
    with pytest.raises(ValueError, match=message):
        CurvePruner(**arguments)


def test_advice_takes_no_time_once_the_process_is_fitted():
    study = optuna.create_study(pruner=CurvePruner())
    for curve in curves(60, 40):
        evaluate(study, curve)
    trial = study.ask()
    for step in range(1, 7):
        trial.report(1.0, step)
    trial.should_prune()
    began = time.perf_counter()
    for _ in range(10):
        trial.should_prune()
    assert time.perf_counter() - began < 0.5
