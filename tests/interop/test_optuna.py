"""`BayesSampler`: Optuna's own tests of samplers, unmodified, and what it promises beyond."""

import functools
import pickle
import threading

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.testing.pytest_samplers import (
    BasicSamplerTestCase,
    RelativeSamplerTestCase,
    SingleOnlySamplerTestCase,
)
from optuna.trial import TrialState, create_trial

from bayesopt import Between, Categorical, Float, Int, Optimizer, Space
from bayesopt.interop.inferred import fits, infer_space
from bayesopt.interop.optuna import PROPOSAL, BayesSampler

SPACE = {
    "kind": Categorical(["adam", "sgd"]),
    "lr": Float(1e-4, 1.0, log=True),
    "momentum": Float(0.0, 0.9, step=0.1, when={"kind": "sgd"}),
    "layers": Int(1, 4),
}


@pytest.fixture(autouse=True, scope="module")
def _quiet():
    optuna.logging.set_verbosity(optuna.logging.WARNING)


class TestOptunasOwn(BasicSamplerTestCase, RelativeSamplerTestCase, SingleOnlySamplerTestCase):
    @pytest.fixture
    def sampler(self):
        return functools.partial(BayesSampler, seed=0)


def objective(trial):
    """Of `SPACE`, as one defines it while it runs."""
    config = {"kind": trial.suggest_categorical("kind", ["adam", "sgd"])}
    config["lr"] = trial.suggest_float("lr", 1e-4, 1.0, log=True)
    if config["kind"] == "sgd":
        config["momentum"] = trial.suggest_float("momentum", 0.0, 0.9, step=0.1)
    config["layers"] = trial.suggest_int("layers", 1, 4)
    return loss(config)


def loss(config):
    return abs(config["lr"] - 0.01) + abs(config.get("momentum", 0.0) - 0.7) + 0.1 * abs(config["layers"] - 2)


def configs(study):
    return [trial.params for trial in study.trials]


# ---------------------------------------------------------------------------------------------- with a space


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_with_a_space_a_study_is_an_optimizer(direction):
    sign = 1 if direction == "minimize" else -1
    study = optuna.create_study(sampler=BayesSampler(SPACE, seed=4), direction=direction)
    study.optimize(lambda trial: sign * objective(trial), n_trials=14)
    reference = Optimizer(SPACE, seed=4, maximize=sign < 0)
    for _ in range(14):
        config = reference.ask()
        reference.tell(config, sign * loss(config))
    assert configs(study) == [trial.config for trial in reference.trials]


def test_values_of_a_grid_are_exact():
    choices = Categorical([8, 16, 64], ordered=True)
    space = {"f": Float(0.1, 0.9, step=0.1), "k": Int(3, 27, step=3), "c": choices}
    study = optuna.create_study(sampler=BayesSampler(space, seed=0))
    for _ in range(25):
        trial = study.ask()
        f, k = trial.suggest_float("f", 0.1, 0.9, step=0.1), trial.suggest_int("k", 3, 27, step=3)
        assert f in [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9] and k in range(3, 28, 3)
        study.tell(trial, f + k + trial.suggest_categorical("c", [8, 16, 64]))
    assert len({tuple(params.values()) for params in configs(study)}) == 25


def test_failed_and_pruned_trials_count():
    def fragile(trial):
        x = trial.suggest_float("x", 0.0, 1.0)
        if x > 0.6:
            raise RuntimeError("loss exploded")
        trial.report(5.0 - x, 0)
        if x > 0.4:
            raise optuna.TrialPruned
        return 1.0 - x

    study = optuna.create_study(sampler=BayesSampler({"x": Float(0.0, 1.0)}, seed=0, method="gp"))
    study.optimize(fragile, n_trials=16, catch=(RuntimeError,))
    reference = Optimizer({"x": Float(0.0, 1.0)}, seed=0, method="gp")
    for trial in study.trials:
        assert reference.ask() == trial.params
        value = 5.0 - trial.params["x"] if trial.state == TrialState.PRUNED else trial.value
        reference.tell(trial.params, value)
    assert {trial.state.name for trial in study.trials} == {"FAIL", "PRUNED", "COMPLETE"}


def test_running_trials_are_kept_away_from_and_stale_ones_are_not():
    space = {"a": Int(1, 6)}
    study = optuna.create_study(sampler=BayesSampler(space, seed=0, max_pending_age=4))
    running = [study.ask() for _ in range(4)]
    assert len({trial.suggest_int("a", 1, 6) for trial in running}) == 4
    study.tell(running[0], 1.0)
    for trial in [study.ask() for _ in range(2)]:
        study.tell(trial, float(trial.suggest_int("a", 1, 6)))
    assert len({params["a"] for params in configs(study)}) == 6
    for _ in range(8):  # trials 1, 2 and 3 are stale: what they were to try is tried again
        trial = study.ask()
        study.tell(trial, float(trial.suggest_int("a", 1, 6)))
    finished = [trial.params["a"] for trial in study.trials if trial.state == TrialState.COMPLETE]
    assert set(finished) == set(range(1, 7))


def test_what_a_dead_process_was_at_is_not_waited_for():
    study = optuna.create_study(sampler=BayesSampler({"a": Int(1, 2)}, seed=0))
    first = study.ask()
    tried = first.suggest_int("a", 1, 2)
    proposal = study.trials[0].system_attrs[PROPOSAL]
    proposal["owner"]["started"] = "1"
    study._storage.set_trial_system_attr(first._trial_id, PROPOSAL, proposal)
    rest = [study.ask().suggest_int("a", 1, 2) for _ in range(2)]
    assert sorted(rest) == [1, 2] and tried in rest


def test_a_trial_that_was_tried_again_is_no_failure():
    sampler = BayesSampler({"x": Float(0.0, 1.0)}, seed=0)
    study = optuna.create_study(sampler=sampler)
    lost = study.ask()
    lost.suggest_float("x", 0.0, 1.0)
    study.tell(lost, state=TrialState.FAIL)
    again = study.trials[0]
    retry = create_trial(
        state=TrialState.WAITING, params=again.params, distributions=again.distributions,
        system_attrs={"failed_trial": 0, "retry_history": [0]},
    )  # fmt: skip
    study.add_trial(retry)
    study.optimize(lambda trial: trial.suggest_float("x", 0.0, 1.0), n_trials=2)
    engine = next(iter(sampler._engines.values()))
    assert [trial.value for trial in engine.optimizer.trials] == [again.params["x"]]


def test_enqueued_trials_and_parameters_outside_the_space():
    study = optuna.create_study(sampler=BayesSampler(SPACE, seed=0))
    study.enqueue_trial({"kind": "sgd", "lr": 0.5, "momentum": 0.3, "layers": 4})
    study.enqueue_trial({"layers": 3})

    def wider(trial):
        return (
            objective(trial)
            + trial.suggest_float("other", 0, 1)
            + trial.suggest_float("lr", 1e-4, 1.0, log=True)
        )

    study.optimize(wider, n_trials=8)
    assert study.trials[0].params["lr"] == 0.5 and study.trials[1].params["layers"] == 3
    others = [params["other"] for params in configs(study)]
    assert len(set(others)) == 8 and all(0 <= other <= 1 for other in others)


def test_several_objectives_are_an_error():
    study = optuna.create_study(sampler=BayesSampler(SPACE), directions=["minimize", "maximize"])
    with pytest.raises(ValueError, match="multi-objective"):
        study.ask(fixed_distributions={"x": FloatDistribution(0, 1)})


# ----------------------------------------------------------------------------------------------- determinism


def test_a_resumed_study_goes_on_as_one_that_never_stopped():
    whole = optuna.create_study(sampler=BayesSampler(seed=7))
    whole.optimize(objective, n_trials=14)
    parts = optuna.create_study(sampler=BayesSampler(seed=7))
    parts.optimize(objective, n_trials=6)
    parts.sampler = pickle.loads(pickle.dumps(BayesSampler(seed=7)))
    parts.optimize(objective, n_trials=8)
    assert configs(parts) == configs(whole)


def test_with_several_jobs_proposals_follow_from_the_number_of_the_trial():
    def in_rounds(order):
        """Three at a time, which ask in order and end in another one."""
        study = optuna.create_study(sampler=BayesSampler(SPACE, seed=1))
        for _ in range(5):
            trials = [study.ask() for _ in range(3)]
            losses = [objective(trial) for trial in trials]
            for i in order:
                study.tell(trials[i], losses[i])
        return configs(study)

    assert in_rounds([0, 1, 2]) == in_rounds([2, 0, 1])
    jobs = optuna.create_study(sampler=BayesSampler(SPACE, seed=1, method="sobol"))
    jobs.optimize(objective, n_trials=12, n_jobs=3)
    alone = optuna.create_study(sampler=BayesSampler(SPACE, seed=1, method="sobol"))
    alone.optimize(objective, n_trials=12)
    assert configs(jobs) == configs(alone)


def test_jobs_on_one_database_do_not_repeat_each_other(tmp_path):
    space = {"a": Int(1, 5), "b": Int(1, 5)}
    storage = optuna.storages.RDBStorage(
        f"sqlite:///{tmp_path / 'study.db'}", {"connect_args": {"timeout": 60}}
    )
    optuna.create_study(study_name="a", storage=storage)

    def work():
        study = optuna.load_study(study_name="a", storage=storage, sampler=BayesSampler(space, seed=0))
        study.optimize(lambda t: t.suggest_int("a", 1, 5) + t.suggest_int("b", 1, 5), n_trials=8)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    study = optuna.load_study(study_name="a", storage=storage)
    assert len({tuple(sorted(params.items())) for params in configs(study)}) == 24
    storage.remove_session()
    storage.engine.dispose()


def test_hyperbands_brackets_and_one_sampler_for_many_studies():
    sampler = BayesSampler(seed=0)

    def learns(trial):
        value = objective(trial)
        for step in range(9):
            trial.report(value + 1 / (step + 1), step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return value

    for _ in range(2):
        pruner = optuna.pruners.HyperbandPruner(max_resource=9)
        study = optuna.create_study(study_name="same", sampler=sampler, pruner=pruner)
        study.optimize(learns, n_trials=12)
        assert len(study.trials) == 12


# ------------------------------------------------------------------------------------------- without a space


def test_conditions_are_learnt_and_the_best_branch_is_found():
    study = optuna.create_study(sampler=BayesSampler(seed=0))
    study.optimize(objective, n_trials=40)
    inferred = infer_space(study.trials)
    assert inferred["momentum"].when["kind"] in ("sgd", ("sgd",)) and set(inferred) == set(SPACE)
    assert study.best_params["kind"] == "sgd" and study.best_value < 0.12


def finished(*params):
    """Trials with these parameters, numbered."""
    distributions = {
        "layers": IntDistribution(1, 3),
        "kind": CategoricalDistribution(["a", "b", "c"]),
        "fixed": FloatDistribution(1.0, 1.0),
    }
    trials = []
    for number, chosen in enumerate(params):
        said = {name: distributions.get(name, FloatDistribution(0.0, 1.0)) for name in chosen}
        trials.append(create_trial(params=chosen, distributions=said, value=0.0))
        trials[-1].number = number
    return trials


def test_widths_of_layers_and_nested_conditions():
    trials = finished(
        {"layers": 1, "w1": 0.5, "kind": "a"},
        {"layers": 2, "w1": 0.5, "w2": 0.5, "kind": "b", "p": 0.7, "q": 0.1},
        {"layers": 3, "w1": 0.5, "w2": 0.5, "w3": 0.1, "kind": "c", "p": 0.2},
    )
    space = infer_space(trials)
    assert space["w1"].when is None and dict(space["w2"].when) == {"layers": Between(2, 3)}
    assert dict(space["w3"].when) == {"layers": Between(3, 3)}
    assert set(space["p"].when) == {"layers"}  # said before the kind, and it explains as much
    assert all(fits(space, trial) for trial in trials)
    again = infer_space([*trials, *finished({"layers": 2, "w1": 0.1, "w2": 0.1, "kind": "a"})])
    assert set(again["p"].when["kind"]) == {"b", "c"}


def test_constants_are_no_parameters_and_what_nothing_explains_stays_out():
    trials = finished({"x": 0.1, "fixed": 1.0}, {"x": 0.1, "y": 0.2, "fixed": 1.0}, {"x": 0.1, "fixed": 1.0})
    assert list(infer_space(trials)) == ["x"] and infer_space([]) is None
    assert list(infer_space(finished({"x": 0.1}, *[{"x": 0.1, "y": 0.2}] * 10))) == ["x", "y"]


def test_ranges_that_vary_are_all_known_and_old_ones_are_forgotten():
    def trial(number, high, x):
        made = create_trial(params={"x": x}, distributions={"x": FloatDistribution(0.0, high)}, value=0.0)
        made.number = number
        return made

    varying = [trial(i, high, 0.5) for i, high in enumerate([1.0, 3.0, 2.0])]
    assert infer_space(varying) == Space({"x": Float(0.0, 3.0)})
    assert [fits(infer_space(varying), each) for each in varying] == [False, True, False]
    believed = [*varying, *(trial(i, 2.0, 0.1) for i in range(3, 13))]
    assert infer_space(believed) == Space({"x": Float(0.0, 2.0)})


def test_distributions_that_do_not_go_together_are_left_to_chance():
    def trial(distribution, value):
        return create_trial(params={"x": value}, distributions={"x": distribution}, value=0.0)

    for other, value in [
        (IntDistribution(0, 5), 2),
        (FloatDistribution(0.1, 2.0, log=True), 1.0),
        (CategoricalDistribution((1, 2)), 1),
    ]:
        assert infer_space([trial(other, value), trial(FloatDistribution(0.0, 1.0), 0.5)]) is None
    narrow, other = CategoricalDistribution((1, 2)), CategoricalDistribution((2, 3))
    assert infer_space([trial(narrow, 1), trial(other, 3)]) == Space({"x": Categorical([1, 2, 3])})
