"""`Study`: what it proposes, what is durable, what happens to the trials of the dead."""

import math
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import optuna
import pytest
import sqlalchemy

import bayesopt
from bayesopt import Categorical, Float, Int, Optimizer, Study
from bayesopt.storage import database, owners
from bayesopt.storage.ledger import ABANDONED
from bayesopt.storage.replay import ASKED_AT, OWNER
from bayesopt.storage.study import LostTrialError
from tests.processes import wait_until

ROOT = Path(__file__).parents[2]
SPACE = {
    "x": Float(-1.0, 1.0),
    "k": Int(1, 9, log=True),
    "kind": Categorical(["sgd", None, 1, True, 1.0]),
    "momentum": Float(0.1, 0.9, step=0.1, when={"kind": "sgd"}),
}


def loss(config):
    if config["k"] == 7:
        return None
    return (config["x"] - 0.3) ** 2 + 0.1 * config["k"] + (config["kind"] != "sgd")


@pytest.fixture
def process():
    """Starts worker processes; each is killed in the end."""
    started = []

    def start(*arguments):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, str(Path(__file__).with_name("workers.py")), *map(str, arguments)]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment))
        return started[-1]

    yield start
    for each in started:
        each.kill()
        each.wait()
        each.stdout.close()


def kill(worker):
    worker.send_signal(signal.SIGKILL)
    worker.wait()


# ------------------------------------------------------------------------------------- history and proposals


@pytest.mark.parametrize("where", ["memory", "database"])
def test_proposals_are_those_of_an_optimizer_through_failures_and_restarts(where, url, name):
    storage = optuna.storages.InMemoryStorage() if where == "memory" else url
    reference = Optimizer(SPACE, seed=5)
    for part in range(3):
        with Study(SPACE, storage=storage, name=name, seed=5) as study:
            for _ in range(5):
                trial, config = study.ask(), reference.ask()
                assert trial.config == config and [*map(type, trial.config.values())] == [
                    *map(type, config.values())
                ]
                study.tell(trial, loss(config))
                reference.tell(config, loss(config))
            assert [t.value for t in study.trials] == [t.value for t in reference.trials]
            assert [t.config for t in study.trials] == [t.config for t in reference.trials]
            assert study.best.config == reference.best.config and len(study.trials) == 5 * (part + 1)


def test_batches_and_the_order_of_telling_do_not_matter(url, name):
    with Study(SPACE, storage=url, name=name) as one, Study(SPACE, storage=url, name=name + "b") as other:
        for order in (1, -1, 1):
            trials, others = one.ask(3), other.ask(3)
            assert [t.config for t in trials] == [t.config for t in others]
            for trial in trials:
                one.tell(trial, loss(trial.config))
            for trial in others[::order]:
                other.tell(trial, loss(trial.config))
        assert one.ask().config == other.ask().config


def test_every_ask_and_tell_is_there_for_others_at_once(url, name):
    with Study(SPACE, storage=url, name=name) as mine, Study(storage=url, name=name) as theirs:
        trial = mine.ask()
        assert theirs.running == {0: trial.config}
        told = theirs.tell(0, 0.5)
        assert mine.trials == [replace(told, seconds=mine.best.seconds)] and not mine.running
        with pytest.raises(ValueError, match="has ended"):
            mine.tell(trial, 0.5)


def test_workers_that_share_a_study_exhaust_a_finite_space_without_repeating(url, name):
    space = {"a": Int(1, 4), "b": Categorical(["u", "v", "w"])}
    with Study(space, storage=url, name=name) as one, Study(space, storage=url, name=name) as other:
        trials = [study.ask() for _ in range(6) for study in (one, other)]
        assert len({tuple(trial.config.items()) for trial in trials}) == 12
        assert [trial.number for trial in trials] == list(range(12))


def test_threads_with_studies_of_their_own_take_turns(url, name):
    space = {"a": Int(1, 10), "b": Int(1, 10)}
    Study(space, storage=url, name=name).close()
    configs, errors = [], []

    def work():
        try:
            with Study(storage=url, name=name) as study:
                for _ in range(5):
                    trial = study.ask()
                    configs.append(tuple(trial.config.values()))
                    study.tell(trial, float(sum(trial.config.values())))
        except Exception as error:  # noqa: BLE001 - told in the main thread
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(120)
    assert not errors and len(set(configs)) == len(configs) == 20
    with Study(storage=url, name=name) as study:
        frozen = study.optuna.trials
        assert (
            sorted(t.system_attrs[ASKED_AT] for t in frozen) == [t.number for t in frozen] == list(range(20))
        )


def test_results_from_elsewhere_and_by_configuration(url, name):
    reference = Optimizer(SPACE)
    config = {"x": 0.25, "k": 2, "kind": True}
    with Study(SPACE, storage=url, name=name) as study:
        study.tell(config, 3.0)
        asked = study.ask()
        assert study.tell(asked.config, 1.0).number == asked.number
        reference.tell(config, 3.0)
        reference.tell(reference.ask(), 1.0)
        assert study.ask().config == reference.ask()
        with pytest.raises(ValueError, match="momentum"):
            study.tell({"x": 0.0, "k": 1, "kind": "sgd"}, 1.0)
        assert len(study.trials) == 2


def test_a_forgotten_trial_is_no_result_and_may_come_again(url, name):
    with Study({"a": Int(1, 3)}, storage=url, name=name) as study:
        first = study.ask()
        study.forget(first)
        assert not study.trials and not study.running
        with pytest.raises(LostTrialError):
            study.tell(first, 1.0)
        assert {study.ask().config["a"] for _ in range(3)} == {1, 2, 3}


def test_an_enqueued_configuration_comes_first_and_one_that_cannot_be_fails(url, name, caplog):
    config = {"x": 0.5, "k": 3, "kind": 1.0}
    with Study(SPACE, storage=url, name=name) as study:
        first = study.ask()
        study.optuna.enqueue_trial({"x": 0.1})
        study.enqueue(config)
        with pytest.raises(ValueError, match="x"):
            study.enqueue({**config, "x": 7.0})
        trial = study.ask()
        assert trial.config == config and type(trial.config["kind"]) is float
        assert study.optuna.trials[1].state.name == "FAIL" and "cannot be tried" in caplog.text
        study.tell(trial, 0.1)
        study.tell(first, 0.2)
        assert [t.number for t in study.trials] == [0, 2] and study.best.config == config


# ------------------------------------------------------------------------------------------ as Optuna sees it


def test_for_optuna_it_is_an_ordinary_study(url, name, optunas):
    with Study(SPACE, storage=url, name=name, maximize=True) as study:
        for value in (1.0, None, 3.0):
            study.tell(study.ask(), value, error="out of memory" if value is None else None)
        running = study.ask()
    theirs = optuna.load_study(study_name=name, storage=optunas(url))
    assert [t.state.name for t in theirs.trials] == ["COMPLETE", "FAIL", "COMPLETE", "RUNNING"]
    assert theirs.best_value == 3.0 and theirs.direction.name == "MAXIMIZE"
    assert theirs.trials[1].user_attrs["error"] == "out of memory"
    assert theirs.trials[3].params == running.config
    assert theirs.trials[0].distributions["k"] == optuna.distributions.IntDistribution(1, 9, log=True)
    theirs.tell(3, 9.0)
    with Study(storage=url, name=name) as study:
        assert study.best.value == 9.0 and study.best.config == running.config
        assert study.trials[1].error == "out of memory"


def test_a_study_that_optuna_began_goes_on_here(url, name, optunas):
    theirs = optuna.create_study(storage=optunas(url), study_name=name)
    theirs.optimize(lambda trial: trial.suggest_float("x", -1, 1) ** 2, n_trials=3)
    with pytest.raises(ValueError, match="not made by bayesopt"):
        Study(storage=url, name=name)
    with pytest.raises(ValueError, match="trial 0 does not fit"):
        Study({"y": Float(-1, 1)}, storage=url, name=name)
    with Study({"x": Float(-1, 1)}, storage=url, name=name) as study:
        assert [t.value for t in study.trials] == [t.value for t in theirs.trials]
        trial = study.ask()
        theirs.optimize(lambda trial: trial.suggest_float("x", -1, 1) ** 2, n_trials=1)
        study.tell(trial, 0.0)
        assert [t.number for t in study.trials] == [0, 1, 2, 3, 4]


# --------------------------------------------------------------------------------------------------- the dead


def test_trials_of_a_killed_worker_are_tried_again_at_once(url, name, process, caplog):
    with Study(SPACE, storage=url, name=name) as study:
        study.tell(study.ask(), 1.0)
        worker = process("hold", url, name, 2)
        numbers = [int(worker.stdout.readline()) for _ in range(2)]
        assert numbers == [1, 2]
        configs = [study.running[number] for number in numbers]
        kill(worker)
        again = study.ask(2)
        assert [t.config for t in again] == configs and "lost its worker" in caplog.text
        for trial in again:
            study.tell(trial, 2.0)
        assert [t.number for t in study.trials] == [0, 3, 4]
        frozen = study.optuna.trials
        assert [frozen[n].state.name for n in (1, 2)] == ["FAIL"] * 2
        assert all(ABANDONED in frozen[n].system_attrs for n in (1, 2))
        assert frozen[4].system_attrs["retry_history"] == [2]
        reference = Optimizer(SPACE)  # to whom nobody has died
        reference.tell(reference.ask(), 1.0)
        for config in reference.ask(2):
            reference.tell(config, 2.0)
        assert study.ask().config == reference.ask()


def test_after_so_many_deaths_it_is_the_configuration_that_has_failed(url, name, process):
    with Study(SPACE, storage=url, name=name, max_retries=0) as study:
        worker = process("hold", url, name, 1)
        worker.stdout.readline()
        config = study.running[0]
        kill(worker)
        assert study.ask().config != config
        failed = study.trials[0]
        assert failed.config == config and failed.value is None and "worker died" in failed.error


def test_who_lives_keeps_its_trials_and_so_does_what_nobody_watches(url, name, process):
    with Study(SPACE, storage=url, name=name) as study:
        worker = process("hold", url, name, 1)
        worker.stdout.readline()
        with Study(storage=url, name=name) as other:
            left = other.ask(watched=False)
        assert study.ask().number == 2 and set(study.running) == {0, 1, 2}
        assert OWNER not in study.optuna.trials[left.number].system_attrs


def test_a_worker_elsewhere_is_dead_when_its_heart_has_stopped(url, name, monkeypatch):
    elsewhere = {**owners.myself(), "host": "another"}
    here = Study(SPACE, storage=url, name=name, heartbeat=30)
    there = Study(storage=url, name=name, heartbeat=30)
    with here, there:
        with monkeypatch.context() as patch:
            patch.setattr(owners, "myself", lambda: elsewhere)
            lost = there.ask()
        for number, beats in [(1, True), (2, False)]:
            _let_heartbeat_be_old(here, lost.number)
            if beats:
                there._beat()
            here._stale = -math.inf, frozenset()  # look again
            trial = here.ask()
            assert trial.number == number and (trial.config == lost.config) == (not beats)
        with pytest.raises(LostTrialError, match="silent"):
            there.tell(lost, 1.0)
        here.tell(trial, 2.0)
        assert [t.value for t in there.trials] == [2.0]


def _let_heartbeat_be_old(study, number):
    models = database.models
    trial_id = study.optuna.trials[number]._trial_id
    with study._storage._backend.engine.begin() as connection:
        row = models.TrialHeartbeatModel
        past = datetime(2020, 1, 1)
        connection.execute(sqlalchemy.update(row).where(row.trial_id == trial_id).values(heartbeat=past))


def test_a_heart_beats_as_long_as_there_is_something_to_do():
    beats, busy = [], True
    heart = owners.Heart(lambda: beats.append(None) or busy, 0.01)
    heart.start()
    heart.start()
    wait_until(lambda: len(beats) > 3, seconds=60.0)
    assert sum(thread.name == "bayesopt heart" for thread in threading.enumerate()) == 1
    busy = False
    wait_until(lambda: heart._thread is None, seconds=60.0)
    ended = len(beats)
    time.sleep(0.05)
    assert len(beats) == ended
    busy = True
    heart.start()
    wait_until(lambda: len(beats) > ended, seconds=60.0)
    heart.stop()
    ended = len(beats)
    time.sleep(0.05)
    assert len(beats) == ended


def test_a_heart_survives_a_storage_that_is_away(caplog):
    beats = []

    def beat():
        beats.append(None)
        if len(beats) == 1:
            raise ConnectionError("no route to host")
        return True

    heart = owners.Heart(beat, 0.01)
    heart.start()
    wait_until(lambda: len(beats) > 2, seconds=60.0)
    heart.stop()
    assert "no route to host" in caplog.text


def test_a_process_is_dead_only_if_that_is_certain(process):
    worker = process("identity")
    identity = eval(worker.stdout.readline())
    assert not owners.is_dead(identity) and not owners.is_dead(owners.myself())
    recycled = {**identity, "started": "1"}
    assert owners.is_dead(recycled)
    kill(worker)
    assert owners.is_dead(identity)
    for elsewhere in ("host", "boot", "namespace"):
        assert not owners.is_dead({**identity, elsewhere: "another"})


# ------------------------------------------------------------------------------------------------------ turns


def test_a_worker_that_is_killed_in_its_turn_does_not_stop_the_others(url, name, process):
    with Study(SPACE, storage=url, name=name) as study:
        worker = process("freeze", url, name)
        assert worker.stdout.readline() == "turn\n"
        asked = []
        asking = threading.Thread(target=lambda: asked.append(study.ask()))
        asking.start()
        asking.join(1.0)
        assert not asked  # it waits for its turn
        kill(worker)
        asking.join(60.0)
        assert len(asked) == 1


def test_results_are_stored_while_somebody_has_a_turn(url, name):
    with Study(SPACE, storage=url, name=name) as study, Study(storage=url, name=name) as other:
        trial = study.ask()
        with other._ledger.turn():
            study.tell(trial, 1.0)
        assert other.trials[0].value == 1.0


def test_a_turn_that_lasts_too_long_writes_nothing(name, tmp_path, monkeypatch, caplog):
    url = f"sqlite:///{tmp_path / 'study.db'}"
    with Study(SPACE, storage=url, name=name) as slow, Study(storage=url, name=name) as quick:
        ask = slow._optimizer.ask
        taken = []

        def ask_slowly(count):
            configs = ask(count)
            if not taken:
                time.sleep(0.3)
                taken.append(quick.ask())
            return configs

        monkeypatch.setattr(database, "LEASE_SECONDS", 0.2)
        monkeypatch.setattr(slow._optimizer, "ask", ask_slowly)
        trial = slow.ask()
        assert "took over" in caplog.text
        assert [taken[0].number, trial.number] == [0, 1]
        reference = Optimizer(SPACE)
        assert [taken[0].config, trial.config] == [reference.ask(), reference.ask()]


def test_a_failed_write_leaves_everything_as_it_was(url, name, monkeypatch):
    with Study(SPACE, storage=url, name=name) as study:
        with monkeypatch.context() as patch:
            patch.setattr(study._ledger, "_param", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                study.ask()
        assert not study.optuna.trials and not study.optimizer.pending
        assert study.ask().config == Optimizer(SPACE).ask()


def test_the_work_of_an_ask_and_a_tell_does_not_grow(url, name):
    with Study(SPACE, storage=url, name=name, method="random") as study:
        statements = []
        listen = sqlalchemy.event.listen
        listen(study._storage._backend.engine, "before_cursor_execute", lambda *a: statements.append(a[2]))
        counts = []
        for _ in range(60):
            del statements[:]
            study.tell(study.ask(), 1.0)
            counts.append(len(statements))
        assert counts[-1] == counts[5] <= 25


# ---------------------------------------------------------------------------------------- spaces and settings


def rows(optunas, url, name):
    """What is stored of a study, but for the lease."""
    study = optuna.load_study(study_name=name, storage=optunas(url))
    attributes = study._storage.get_study_system_attrs(study._study_id)
    return [repr(t) for t in study.trials], {k: v for k, v in attributes.items() if k != "bayesopt:turn"}


def test_a_changed_space_is_an_error_that_says_what_changed(url, name, optunas):
    with Study(SPACE, storage=url, name=name) as study:
        study.tell(study.ask(), 1.0)
    before = rows(optunas, url, name)
    changed = {"x": Float(-1.0, 2.0), "k": SPACE["k"], "kind": SPACE["kind"], "depth": Int(1, 3)}
    with pytest.raises(ValueError, match=r"another space.*'x' was Float\(-1.0, 1.0\)") as caught:
        Study(changed, storage=url, name=name)
    assert "'momentum' is gone" in str(caught.value) and "'depth' is new" in str(caught.value)
    with pytest.raises(ValueError, match=r"cannot be extended.*trial 0 does not fit.*depth"):
        Study(changed, storage=url, name=name, on_space_change="extend")
    with pytest.raises(ValueError, match="the order was"):
        Study(dict(reversed(SPACE.items())), storage=url, name=name)
    assert rows(optunas, url, name) == before


def test_a_space_can_be_extended_where_all_old_trials_fit(url, name, caplog):
    with Study(SPACE, storage=url, name=name) as study:
        for trial in study.ask(4):
            study.tell(trial, loss(trial.config))
        old = study.trials
        kinds = Categorical(["sgd", None, 1, True, 1.0, "adam"])
        wider = {**SPACE, "x": Float(-2.0, 2.0), "kind": kinds}
        with Study(wider, storage=url, name=name, on_space_change="extend") as extended:
            assert [t.config for t in extended.trials] == [t.config for t in old]
            extended.tell({"x": 2.0, "k": 1, "kind": "adam"}, 0.5)
            extended.tell(extended.ask(), 1.0)
        assert len(study.trials) < 6 and "is left out" in caplog.text  # by who still has the old space
    with Study(storage=url, name=name) as study:
        assert list(study.space.items()) == list(wider.items())
        assert [t.config["kind"] for t in study.trials][4] == "adam" and len(study.trials) == 6


def test_seed_and_direction_cannot_change_and_settings_stay(url, name):
    with Study(SPACE, storage=url, name=name, seed=3, method="random", maximize=True):
        pass
    with pytest.raises(ValueError, match="has seed 3, got seed=4"):
        Study(SPACE, storage=url, name=name, seed=4)
    with pytest.raises(ValueError, match="was made to maximize, not to minimize"):
        Study(SPACE, storage=url, name=name, maximize=False)
    with Study(storage=url, name=name) as study:
        assert study.ask().config == Optimizer(SPACE, seed=3, method="random").ask() and study.maximize
    with Study(storage=url, name=name, method="sobol") as study:
        assert "method='sobol'" in repr(study.optimizer)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": None}, "needs a name"),
        ({"name": "  "}, "printable"),
        ({"name": "a\x00b"}, "printable"),
        ({"name": "n" * 600}, "512"),
        ({"on_space_change": "ignore"}, "on_space_change"),
        ({"heartbeat": 0}, "heartbeat"),
        ({"max_retries": -1}, "max_retries"),
        ({"pruner": "mean"}, "'curve', 'median', 'asha', 'hyperband'"),
        ({"pruner": 3}, "pruner"),
        ({"seed": -1}, "seed"),
        ({"method": "magic"}, "method"),
        ({"space": {"n": Int(0, 2**54, step=2**10)}}, "'n'.*2\\*\\*53"),
        ({"space": None}, "no SQLite file"),
        ({"storage": optuna.storages.JournalStorage}, "lock"),
    ],
    ids=str,
)
def test_what_is_wrong_is_said_before_anything_is_created(arguments, message, tmp_path):
    given = {"space": SPACE, "storage": f"sqlite:///{tmp_path / 'study.db'}", "name": "a", **arguments}
    with pytest.raises((ValueError, TypeError), match=message):
        Study(given.pop("space"), **given)
    assert not list(tmp_path.iterdir())


def test_a_study_that_is_not_there_is_named_with_those_that_are(url, name):
    with Study(SPACE, storage=url, name=name), pytest.raises(ValueError, match=f"no study 'typo'.*{name}"):
        Study(storage=url, name="typo")


def test_several_objectives_are_an_error(url, name, optunas):
    optuna.create_study(storage=optunas(url), study_name=name, directions=["minimize", "minimize"])
    with pytest.raises(ValueError, match="2 objectives"):
        Study(SPACE, storage=url, name=name)


def test_a_storage_of_ones_own(tmp_path, name, caplog):
    theirs = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'study.db'}")
    with Study(SPACE, storage=theirs, name=name) as study:
        study.tell(study.ask(), 1.0)
    assert "heartbeat_interval" in caplog.text
    with Study(storage=theirs, name=name) as study:
        assert len(study.trials) == 1
    theirs.remove_session()
    theirs.engine.dispose()
    memory = optuna.storages.InMemoryStorage()
    with Study(SPACE, storage=memory, name=name) as one, Study(storage=memory, name=name) as other:
        one.tell(one.ask(), 1.0)
        assert len(other.trials) == 1


def test_study_is_loaded_on_demand():
    assert "Study" in bayesopt.__all__ and bayesopt.Study is Study
    with pytest.raises(AttributeError, match="Studio"):
        _ = bayesopt.Studio
