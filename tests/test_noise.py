"""Noise that is told, declared or seen: bad input, state, storage, the right incumbent, evaluating again."""

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from bayesopt import Categorical, Float, Int, Optimizer, Replicates, Study, minimize
from bayesopt.stopping import regret_after
from bayesopt.trials import FOREIGN, Rows

# Worker processes import their objective: its module must be on the path, which they inherit.
sys.path.append(str(Path(__file__).parent))
import process_objectives

SMOOTH = {"x": Float(-2.0, 2.0), "y": Float(0.0, 1.0)}
COARSE = {"x": Float(-2.0, 2.0, step=0.25), "y": Float(0.0, 1.0, step=0.125)}
FINITE = {"k": Int(0, 4), "c": Categorical(["a", "b"])}


def loss(config):
    return (config["x"] - 0.5) ** 2 + config["y"]


def noisy(config, rng, std=0.3):
    return loss(config) + std * rng.standard_normal()


def run(opt, trials, seed=0, **told):
    rng = np.random.default_rng(seed)
    for _ in range(trials):
        config = opt.ask()
        opt.tell(config, noisy(config, rng), **told)
    return opt


# ------------------------------------------------------------------------------------------------- telling


@pytest.mark.parametrize(
    ("std", "kept"),
    [(None, None), (0.5, 0.5), (2, 2.0), (np.float32(0.5), 0.5), (torch.tensor(0.5), 0.5), ([0.5], None)],
)
def test_what_is_told_is_kept(std, kept):
    opt = Optimizer(SMOOTH)
    if isinstance(std, list):
        with pytest.raises(TypeError, match="std must be a positive number"):
            opt.tell(opt.ask(), 1.0, std=[std])
        return
    opt.tell(opt.ask(), 1.0, std=std)
    assert opt.trials[0].std == kept


def test_lists_take_one_for_all_or_one_for_each():
    opt = Optimizer(SMOOTH)
    opt.tell(opt.ask(3), [1.0, 2.0, 3.0], std=0.1)
    opt.tell(opt.ask(3), [1.0, None, 3.0], std=[0.2, 0.3, None])
    opt.tell(opt.ask(2), [1.0, 2.0], std=np.array([0.4, 0.5]))
    assert [trial.std for trial in opt.trials] == [0.1, 0.1, 0.1, 0.2, None, None, 0.4, 0.5]


@pytest.mark.parametrize(
    ("std", "error", "message"),
    [
        (0.0, ValueError, "positive and finite.*deterministic=True"),
        (-1.0, ValueError, "positive and finite"),
        (math.inf, ValueError, "positive and finite"),
        (10**400, ValueError, "positive and finite"),
        (math.nan, ValueError, "None where it is not known"),
        (True, TypeError, "positive number"),
        ("0.1", TypeError, "positive number"),
        ([0.1, 0.2, 0.3], ValueError, "3 std for 2 values"),
        ([0.1, "x"], TypeError, "positive number"),
    ],
)
def test_what_is_no_standard_deviation_is_an_error_and_nothing_is_told(std, error, message):
    opt = Optimizer(SMOOTH)
    configs = opt.ask(2)
    with pytest.raises(error, match=message):
        opt.tell(configs, [1.0, 2.0], std=std)
    assert not opt.trials and len(opt.pending) == 2


def test_of_a_failed_evaluation_it_does_not_matter():
    opt = Optimizer(SMOOTH)
    opt.tell(opt.ask(2), [None, math.nan], std=[math.nan, -1.0])
    assert [trial.std for trial in opt.trials] == [None, None]


def test_exact_outcomes_have_no_noise():
    opt = Optimizer(SMOOTH, deterministic=True)
    with pytest.raises(ValueError, match="drop one of the two"):
        opt.tell(opt.ask(), 1.0, std=0.1)
    with pytest.raises(TypeError, match="True, False or None"):
        Optimizer(SMOOTH, deterministic="no")


# ------------------------------------------------------------------------------------- proposals and state


def test_noise_that_is_told_changes_what_is_proposed_and_scaling_everything_does_not():
    told, scaled, silent = (run(Optimizer(SMOOTH, seed=1), 0) for _ in range(3))
    rng = np.random.default_rng(0)
    for i in range(14):
        config = told.ask()
        value, std = noisy(config, rng), 0.1 + 0.3 * (i % 3)
        told.tell(config, value, std=std)
        assert scaled.ask() == config
        scaled.tell(config, 1024.0 * value, std=1024.0 * std)
        silent.tell(config, value)
    assert told.ask() == scaled.ask() != silent.ask()


@pytest.mark.parametrize("deterministic", [None, True, False])
def test_the_state_keeps_it_and_goes_on_the_same(deterministic):
    told = {} if deterministic else {"std": 0.3}
    opt = run(Optimizer(SMOOTH, seed=2, deterministic=deterministic), 12, **told)
    other = Optimizer(SMOOTH)
    other.load_state_dict(json.loads(json.dumps(opt.state_dict())))
    assert other.trials == opt.trials
    assert other.state_dict() == opt.state_dict()
    assert other.recommend() == opt.recommend()
    assert other.ask(2) == opt.ask(2)


def test_a_state_from_before_there_was_noise_still_loads():
    opt = run(Optimizer(SMOOTH, seed=2), 11)
    old = opt.state_dict() | {"format": 3}
    del old["deterministic"]
    for trial in old["trials"]:
        del trial["std"]
    other = Optimizer(SMOOTH, deterministic=False)
    other.load_state_dict(old)
    assert other.state_dict() == opt.state_dict()
    assert other.ask() == opt.ask()


def test_the_order_of_telling_does_not_matter():
    asked = Optimizer(SMOOTH, seed=3).ask(10)
    foreign = [{"x": 0.1, "y": 0.5}] * 3
    told = [(c, noisy(c, np.random.default_rng(i)), 0.1 * (i + 1)) for i, c in enumerate(asked)]
    told += [(c, 1.0, s) for c, s in zip(foreign, (0.3, None, 0.1), strict=True)]
    proposals = []
    for order in (range(13), reversed(range(13))):
        opt = Optimizer(SMOOTH, seed=3)
        opt.ask(10)
        for config, value, std in (told[i] for i in order):
            opt.tell(config, value, std=std)
        proposals.append((opt.ask(), opt.recommend()))
    assert proposals[0] == proposals[1]


def test_replicates_are_told_as_their_studies_are():
    studies = Replicates(SMOOTH, [0, 1, 2], deterministic=False)
    studies.tell(studies.ask(), [1.0, 2.0, 3.0], std=0.1)
    studies.tell(studies.ask(2), [[1.0, 2.0]] * 3, std=[None, 0.2, [0.3, 0.4]])
    stds = [[trial.std for trial in study.trials] for study in studies.studies]
    assert stds == [[0.1, None, None], [0.1, 0.2, 0.2], [0.1, 0.3, 0.4]]
    with pytest.raises(ValueError, match="2 std for 3"):
        studies.tell(studies.ask(), [1.0, 2.0, 3.0], std=[0.1, 0.2])


@pytest.mark.parametrize("deterministic", [None, False])
def test_noisy_studies_in_lockstep_propose_what_each_alone_would(deterministic, device):
    """One of them knows its noise, one sees it, one does neither."""
    seeds = [0, 7, 11]
    together = Replicates(SMOOTH, seeds, method="gp", deterministic=deterministic, device=device)
    alone = [
        Optimizer(SMOOTH, seed=s, method="gp", deterministic=deterministic, device=device) for s in seeds
    ]
    rng = np.random.default_rng(0)
    for i in range(14):
        configs, expected = together.ask(), [opt.ask() for opt in alone]
        space = alone[0].space
        torch.testing.assert_close(space.encode(configs)[0], space.encode(expected)[0], rtol=0, atol=1e-5)
        values, stds = [noisy(config, rng) for config in expected], [0.3, None, None]
        together.tell(configs, values, std=stds)
        for opt, config, value, std in zip(alone, expected, values, stds, strict=True):
            opt.tell(config, value, std=std)
        if i == 9:
            for opt in (alone[1], together.studies[1]):
                opt.tell(opt.trials[3].config, 1.0)


# -------------------------------------------------------------------------------------------- minimize, Study


def with_std(config):
    return loss(config), 0.25


def test_an_objective_may_return_a_value_and_its_std():
    result = minimize(with_std, SMOOTH, trials=6)
    assert [trial.std for trial in result.trials] == [0.25] * 6
    assert all(trial.error is None for trial in result.trials)


@pytest.mark.parametrize(
    ("returned", "value", "error"),
    [
        ((1.0, None), 1.0, None),
        ((torch.tensor([1.0]), np.float64(0.5)), 1.0, None),
        ((math.nan, math.nan), None, None),
        ((None, 0.1), None, None),
        ((1.0, 0.0), None, "positive and finite"),
        ((1.0, 0.1, 0.2), None, "TypeError"),
        ([1.0, 0.1], None, "TypeError"),
        ((), None, "TypeError"),
    ],
)
def test_what_a_pair_may_be(returned, value, error):
    (trial,) = minimize(lambda config: returned, SMOOTH, trials=1).trials
    assert trial.value == value
    assert (trial.error is None) if error is None else (error in trial.error)


def test_pairs_come_from_worker_processes_too():
    result = minimize(process_objectives.bowl_with_std, {"x": Float(-1.0, 1.0)}, trials=3, workers=2)
    assert [trial.std for trial in result.trials] == [0.25] * 3


def test_a_study_keeps_it_in_its_storage(tmp_path):
    url = f"sqlite:///{tmp_path / 'study.db'}"
    rng = np.random.default_rng(0)
    with Study(SMOOTH, storage=url, name="a", deterministic=False) as study:
        for i in range(12):
            trial = study.ask()
            std = None if i % 3 == 0 else 0.1 * i
            told = study.tell(trial, noisy(trial.config, rng) if i != 5 else None, std=std)
            assert told.std == (None if i == 5 else std)
        with pytest.raises(ValueError, match="positive and finite"):
            study.tell(study.ask(), 1.0, std=0.0)
        expected = study.trials
        engine = study.optimizer.state_dict()
    with Study(storage=url, name="a") as again:
        assert [trial.std for trial in again.trials] == [trial.std for trial in expected]
        state = again.optimizer.state_dict()
        assert state["deterministic"] is False
        for entry, other in zip(state["trials"], engine["trials"], strict=True):
            assert entry["std"] == other["std"] and entry["config"] == other["config"]


def test_a_study_in_memory_keeps_it_too():
    with Study(SMOOTH) as study:
        study.tell(study.ask(), 1.0, std=0.5)
        assert study.trials[0].std == 0.5
        assert study.optuna.trials[0].user_attrs == {"bayesopt:std": 0.5}


def test_what_others_have_noted_is_read_unless_it_makes_no_sense(caplog):
    with Study(SMOOTH) as study:
        for std in (0.5, -1.0, "much"):
            trial = study.optuna.ask()
            trial.suggest_float("x", -2.0, 2.0)
            trial.suggest_float("y", 0.0, 1.0)
            trial.set_user_attr("bayesopt:std", std)
            study.optuna.tell(trial, 1.0)
        assert [trial.std for trial in study.trials] == [0.5, None, None]
    assert "bayesopt:std" in caplog.text


def test_optunas_sampler_learns_it_from_an_attribute():
    optuna = pytest.importorskip("optuna")
    from bayesopt.interop.optuna import BayesSampler

    sampler = BayesSampler(SMOOTH, seed=0, deterministic=False)
    study = optuna.create_study(sampler=sampler)

    def objective(trial):
        trial.set_user_attr("bayesopt:std", 0.5)
        return trial.suggest_float("x", -2.0, 2.0) ** 2 + trial.suggest_float("y", 0.0, 1.0)

    study.optimize(objective, n_trials=4)
    (engine,) = sampler._engines.values()
    assert [trial.std for trial in engine.optimizer.trials] == [0.5] * 3
    assert engine.optimizer._record.is_noisy()


# ------------------------------------------------------------------------------------------ what is noticed


def rows(X, y):
    n = len(y)
    X = np.array(X, dtype=float).reshape(n, np.size(X[0]) if n else 1)
    return Rows(
        X, X > 0, np.array(y), np.full(n, FOREIGN), np.arange(n), np.full(n, np.nan), X[:, 0] > np.inf
    )


@pytest.mark.parametrize(
    ("X", "y", "differ"),
    [
        ([], [], False),
        ([0.5], [1.0], False),
        ([0.5, 0.5], [1.0, 1.0], False),
        ([0.5, 0.5], [1.0, 1.5], True),
        ([0.5, 0.6], [1.0, 1.5], False),
        ([0.5, 0.5], [1.0, math.nan], False),
        ([0.5, 0.1, 0.5, 0.2], [1.0, 2.0, 3.0, 4.0], True),
        ([[0.5, 0.1], [0.5, 0.2], [0.4, 0.1]], [1.0, 2.0, 3.0], False),
        ([[0.5, 0.1], [0.5, 0.2], [0.5, 0.1]], [1.0, 2.0, 3.0], True),
    ],
)
def test_repeats_that_differ_are_noise(X, y, differ):
    assert rows(X, y).differ() is differ


def test_noise_is_declared_told_or_seen():
    config = {"x": 0.1, "y": 0.1}
    for deterministic, stds, values, expected in [
        (None, [None, None], [1.0, 1.0], False),
        (None, [None, None], [1.0, 2.0], True),
        (None, [None, 0.1], [1.0, 1.0], True),
        (True, [None, None], [1.0, 2.0], False),
        (False, [None, None], [1.0, 1.0], True),
    ]:
        opt = Optimizer(SMOOTH, deterministic=deterministic)
        opt.tell([config] * 2, values, std=stds)
        assert opt._record.is_noisy() is expected


# ----------------------------------------------------------------------------------------- recommendations


def test_there_is_nothing_to_recommend_before_the_first_success():
    opt = Optimizer(SMOOTH)
    assert opt.recommend() is None
    opt.tell(opt.ask(), None)
    assert opt.recommend() is None
    opt.tell(opt.ask(), 3.0)
    assert opt.recommend().config == opt.best.config
    assert opt.recommend().value == pytest.approx(3.0)


@pytest.mark.parametrize("maximize", [False, True])
def test_a_recommendation_is_not_taken_in_by_luck(maximize):
    """Five bad outcomes of a configuration and a lucky one, against six good ones of another."""
    sign = -1.0 if maximize else 1.0
    lucky, good = {"x": -1.5, "y": 0.5}, {"x": 1.5, "y": 0.5}
    values = [1.0, 1.1, 0.9, 1.05, 0.95, -0.5, 0.0, 0.1, -0.1, 0.05, -0.05, 0.0]
    opt = Optimizer(SMOOTH, maximize=maximize)
    opt.tell([lucky] * 6 + [good] * 6, [sign * value for value in values])
    assert opt.best.config == lucky
    found = opt.recommend()
    assert found.config == good
    assert sign * found.value == pytest.approx(0.0, abs=0.15)
    assert 0.0 < found.std < 0.3


def test_where_there_is_no_noise_it_is_the_best():
    opt = Optimizer(SMOOTH, seed=0, deterministic=True)
    for _ in range(12):
        config = opt.ask()
        opt.tell(config, loss(config))
    assert opt.recommend().config == opt.best.config and opt.recommend().std == 0.0
    guessing = Optimizer(SMOOTH, seed=0)
    guessing.tell([t.config for t in opt.trials], [t.value for t in opt.trials])
    assert loss(guessing.recommend().config) < opt.best.value + 1e-4
    assert guessing.recommend().value == pytest.approx(opt.best.value, abs=1e-2)


def test_precise_outcomes_count_more():
    a, b = {"x": -1.5, "y": 0.5}, {"x": 1.5, "y": 0.5}
    far = [{"x": x, "y": y} for x in (-0.5, 0.5) for y in (0.0, 1.0)]
    opt = Optimizer(SMOOTH)
    opt.tell([a, b, *far], [0.0, 0.2, 2.0, 3.0, 2.5, 3.5], std=[2.0, 0.01, *[0.01] * 4])
    assert opt.best.config == a and opt.recommend().config == b


def test_failures_and_pruned_trials_are_not_recommended():
    opt = Optimizer(SMOOTH)
    opt.tell([{"x": x, "y": 0.5} for x in (-1.0, 0.0, 1.0, 1.5)], [3.0, 2.0, None, 2.5])
    state = opt.state_dict()
    state["trials"][1]["pruned"] = True
    opt.load_state_dict(state)
    assert opt.recommend().config == {"x": 1.5, "y": 0.5}


def test_what_was_pruned_teaches_the_model_whatever_the_method():
    points = np.random.default_rng(0).uniform([-2.0, 0.0], [2.0, 1.0], (12, 2))
    configs = [{"x": float(x), "y": float(y)} for x, y in points]
    said = []
    for method in ("gp", "tpe"):
        opt = Optimizer(SMOOTH, method=method)
        opt.tell(configs, [loss(config) for config in configs])
        state = opt.state_dict()
        for i in (3, 5):
            state["trials"][i]["pruned"] = True
        opt.load_state_dict(state)
        said.append(opt.recommend())
    assert said[0] == said[1]


# ----------------------------------------------------------------------------------------- evaluating again


def count_repeats(opt):
    keys = [opt.space.key(trial.config) for trial in opt.trials]
    return len(keys) - len(set(keys))


@pytest.mark.parametrize("method", ["auto", "gp"])
def test_only_where_there_is_noise_a_configuration_is_tried_again(method):
    assert count_repeats(run(Optimizer(COARSE, method=method), 30)) == 0
    assert count_repeats(run(Optimizer(COARSE, method=method, deterministic=True), 30)) == 0
    assert count_repeats(run(Optimizer(COARSE, method=method, deterministic=False), 30)) > 0
    assert count_repeats(run(Optimizer(COARSE, method=method), 30, std=0.3)) > 0
    seen = Optimizer(COARSE, method=method)
    seen.tell([{"x": 0.0, "y": 0.0}] * 2, [0.1, 0.4])
    assert count_repeats(run(seen, 30)) > 1


@pytest.mark.parametrize("acquisition", ["ucb", "pi"])
def test_other_acquisitions_are_taken_at_their_word(acquisition):
    opt = Optimizer(COARSE, acquisition=acquisition, method="gp", deterministic=False)
    config = {"x": 0.0, "y": 0.0}
    opt.tell([config] * 8, [0.0, 0.5] * 4)
    silent = Optimizer(COARSE, acquisition=acquisition, method="gp")
    silent.load_state_dict(opt.state_dict() | {"deterministic": None})
    assert opt.ask() == silent.ask()


def test_a_finite_space_is_searched_by_repeating_what_may_be_best(caplog):
    """Ten configurations, sixty noisy evaluations: most go to the few that compete."""
    rng = np.random.default_rng(1)
    opt = Optimizer(FINITE, seed=0, deterministic=False)
    for _ in range(60):
        config = opt.ask()
        opt.tell(config, 0.5 * config["k"] + (config["c"] == "b") + 0.5 * rng.standard_normal())
    counts = {}
    for trial in opt.trials:
        counts[opt.space.key(trial.config)] = counts.get(opt.space.key(trial.config), 0) + 1
    best = {"k": 0, "c": "a"}
    assert opt.recommend().config == best
    assert counts[opt.space.key(best)] >= 10
    assert "every configuration" not in caplog.text


@pytest.mark.parametrize("q", [2, 5])
def test_a_batch_has_no_configuration_twice_and_none_that_is_pending(q):
    opt = Optimizer(FINITE, seed=0, deterministic=False)
    rng = np.random.default_rng(0)
    for _ in range(3):
        configs = opt.ask(q)
        more = opt.ask(2)
        assert len({opt.space.key(c) for c in configs + more}) == q + 2
        opt.tell(configs + more, [c["k"] + rng.standard_normal() for c in configs + more])


# --------------------------------------------------------------------- what is said of it: the fit has it all


def keys_told(opt):
    return {opt.space.key(trial.config) for trial in opt.trials}


@pytest.mark.parametrize("batch", ["auto", "thompson"])
def test_an_explanation_says_that_a_configuration_is_tried_again(batch):
    opt, rng = Optimizer(COARSE, seed=0, deterministic=False, batch=batch), np.random.default_rng(0)
    again = []
    for i in range(30):
        explanation = opt.explain()
        config = opt.ask()
        assert explanation.config == config
        again.append(explanation.arm == "again")
        assert again[-1] == (opt.space.key(config) in keys_told(opt))
        if i % 4:  # some stay pending
            opt.tell(config, noisy(config, rng), std=0.3)
    assert any(again) and not all(again)


@pytest.mark.parametrize("maximize", [False, True])
def test_a_recommendation_is_what_is_predicted_of_its_configuration(maximize):
    opt = run(Optimizer(SMOOTH, seed=1, maximize=maximize), 15, std=0.3)
    found = opt.recommend()
    prediction = opt.predict(found.config)
    assert found.value == pytest.approx(prediction.median, abs=1e-9)
    assert found.std == pytest.approx(0.5 * (prediction.high - prediction.low), abs=1e-9)
    assert opt.explain().fit.best == pytest.approx(found.value, abs=1e-6)


def test_predictions_and_explanations_believe_precise_outcomes():
    told = [Optimizer(SMOOTH, seed=1) for _ in range(2)]
    configs = Optimizer(SMOOTH, method="random", seed=5).ask(20)
    values = [loss(config) for config in configs]
    lucky = int(np.argmin(values))
    values[lucky] -= 5.0
    for opt, std in zip(told, (0.01, 10.0), strict=True):
        opt.tell(configs, values, std=[std if i == lucky else 0.01 for i in range(20)])
    sure, vague = (opt.predict(configs[lucky]).median for opt in told)
    assert sure < values[lucky] + 0.5 and vague > values[lucky] + 4.0
    assert told[0].explain().fit.best < told[1].explain().fit.best - 3.0


def test_the_regret_after_fewer_results_is_that_which_it_was():
    """With the noise that had been told by then."""
    opt, rng = Optimizer(SMOOTH, seed=1), np.random.default_rng(0)
    before = []
    for i in range(16):
        before.append(opt.regret())
        config = opt.ask()
        opt.tell(config, noisy(config, rng), std=0.1 + 0.1 * (i % 3))
    assert before[-1] is not None
    other = Optimizer(SMOOTH)
    other.load_state_dict(opt.state_dict())
    assert [regret_after(other._learner, n) for n in (14, 15, 16)] == [*before[14:], opt.regret()]
