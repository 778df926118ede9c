"""Peers one at a time: choices, what Optuna knows of its trials, foreign results, those not installed."""

import numpy as np
import pytest

from bayesopt import Categorical, Float, Space
from benchmarks import peers
from benchmarks.methods import METHODS

MIXED = {
    "lr": Float(0.0, 1.0),
    "units": Categorical([16, 64, 256], ordered=True),
    "activation": Categorical(["relu", "tanh"]),
}


@pytest.mark.parametrize("name", ["random", "optuna-tpe", "optuna-gp"])
def test_peers_take_choices(name):
    if not METHODS[name].installed:
        pytest.skip(METHODS[name].command)
    peer = peers.build(name, MIXED, 0)
    peer.tell({"lr": 0.5, "units": 64, "activation": "relu"}, 1.0)
    configs = []
    for _ in range(14):
        configs.append(peer.ask())
        assert Space(MIXED).validate(configs[-1]) == configs[-1]
        peer.tell(configs[-1], configs[-1]["lr"] + configs[-1]["units"])
    assert {config["units"] for config in configs} == {16, 64, 256}


def test_optuna_knows_what_runs_and_which_trial_a_result_belongs_to():
    pytest.importorskip("optuna")
    peer = peers.build("optuna-tpe", MIXED, 0)
    asked = [peer.ask() for _ in range(6)]
    running = peer.method._study.get_trials(deepcopy=False)
    assert [trial.state.name for trial in running] == ["RUNNING"] * 6
    assert {type(d).__name__ for d in running[0].distributions.values()} == {
        "FloatDistribution",
        "IntDistribution",
        "CategoricalDistribution",
    }
    for number in (4, 0, 5, 2):
        peer.tell(asked[number], float(number))
    values = [trial.value for trial in peer.method._study.get_trials(deepcopy=False)]
    assert values == [0.0, None, 2.0, None, 4.0, 5.0]


def test_optuna_may_run_a_configuration_twice():
    pytest.importorskip("optuna")
    peer = peers.build("optuna-tpe", {"a": Categorical(["only"])}, 0)
    asked = [peer.ask() for _ in range(2)]
    assert asked == [{"a": "only"}] * 2
    for value in (1.0, 2.0, 3.0):  # the third was not asked for
        peer.tell(asked[0], value)
    assert [trial.value for trial in peer.method._study.get_trials(deepcopy=False)] == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("name", ["bayesopt", "botorch", "optuna-gp", "optuna-tpe", "random"])
def test_methods_learn_from_foreign_configurations_and_their_own(name):
    if not METHODS[name].installed:
        pytest.skip(METHODS[name].command)
    box = {"a": Float(-1.0, 1.0), "b": Float(2.0, 5.0)}
    peer = peers.build(name, box, 0)
    rng = np.random.default_rng(0)
    for a, b in rng.uniform([-1.0, 2.0], [1.0, 5.0], (11, 2)).tolist():
        peer.tell({"a": a, "b": b}, a * a + b)
    for _ in range(2):
        config = peer.ask()
        assert config.keys() == box.keys()
        assert all(p.low <= config[key] <= p.high for key, p in box.items())
        peer.tell(config, config["a"] ** 2 + config["b"])


def test_ours_is_the_plain_gaussian_process_unless_its_name_says_otherwise():
    box = {"a": Float(-1.0, 1.0)}
    plain, default = (peers.build(f"bayesopt{more}", box, 0) for more in ("", ":method=auto"))
    assert (plain.state_dict()["method"], default.state_dict()["method"]) == ("gp", "auto")


def test_missing_peers_are_skipped_with_the_command_that_installs_them(monkeypatch, capsys):
    monkeypatch.setattr("benchmarks.methods.find_spec", lambda _: None)
    assert peers.available(["bayesopt", "botorch", "random"]) == ["bayesopt", "random"]
    assert "python -m pip install botorch" in capsys.readouterr().err
