"""Two processes, started as torchrun does: one asks, both get the same, and nobody waits for ever."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bayesopt import Float, Optimizer, Study
from bayesopt.interop.torchrun import SharedStudy, broadcast, is_leader, on_leader

ROOT = Path(__file__).parents[2]
SPACE = {"x": Float(-1.0, 1.0)}

SCRIPT = """
import json, os, sys, threading
import torch.distributed as dist
from optuna.pruners import ThresholdPruner
from bayesopt import Float, Optimizer, Study
from bayesopt.interop.torchrun import SharedStudy, broadcast, is_leader, on_leader

SPACE = {"x": Float(-1.0, 1.0)}
dist.init_process_group("gloo")
rank = dist.get_rank()
said = {"leader": is_leader(), "made": 0}

def make():
    said["made"] += 1
    return Study(SPACE, storage=sys.argv[1], name="shared", pruner=ThresholdPruner(upper=1.0))

with SharedStudy(make) as study:
    said["before"] = study.best
    asked = []
    for _ in range(6):
        trial = study.ask()
        asked.append([trial.number, trial.config])
        study.tell(trial, (trial.config["x"] - 0.3) ** 2 + rank)  # the other rank's would be worse by 1
    said["asked"] = asked
    said["told"] = [[t.config, t.value] for t in study.trials]
    said["best"] = study.best.value
    trial = study.ask()
    trial.report(0.5 + 9 * rank, 1)
    advice = [trial.should_prune()]
    trial.report(9.0 - 9 * rank, 2)
    said["advice"] = advice + [trial.should_prune()]
    said["pruned"] = study.tell(trial, pruned=True).value
    trial = study.ask()
    said["failed"] = study.tell(trial, error="it fell over").error

optimizer = SharedStudy(lambda: Optimizer(SPACE))
trial = optimizer.ask()
said["engine"] = [trial.number, trial.config, optimizer.tell(trial, float(rank)).value, len(optimizer.trials)]

def caught(action):
    try:
        return repr(action())
    except BaseException as error:
        return f"{type(error).__name__}: {error}"

class SecretError(Exception):
    def __init__(self, a, b):
        super().__init__(f"{a} {b}")

def fail(error):
    raise error

said["errors"] = [
    caught(lambda: SharedStudy(lambda: fail(ConnectionError("no database")))),
    caught(lambda: optimizer.tell(trial, "a word")),
    caught(lambda: trial.report(1.0, 1)),
    caught(lambda: on_leader(lambda: fail(SecretError(1, 2)))).rpartition(": ")[2],
    caught(lambda: on_leader(lambda: fail(KeyboardInterrupt()))),
    caught(lambda: on_leader(lambda: fail(OSError(threading.Lock())))).partition("object at")[0][-20:],
    caught(lambda: broadcast(threading.Lock())),
]
said["after"] = broadcast({"from": rank})  # and everybody is still there
json.dump(said, open(f"rank{rank}.json", "w"))
dist.destroy_process_group()
"""


def test_two_ranks_are_one_study(tmp_path):
    (tmp_path / "train.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "train.py",
         f"sqlite:///{tmp_path / 'study.db'}"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, second = (json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1))
    assert (first.pop("leader"), second.pop("leader")) == (True, False)
    assert (first.pop("made"), second.pop("made")) == (1, 0)
    assert first == second
    alone = Optimizer(SPACE)
    for number, (asked, (config, value)) in enumerate(zip(first["asked"], first["told"], strict=True)):
        expected = alone.ask()
        assert asked == [number, expected] and config == expected
        assert value == (config["x"] - 0.3) ** 2
        alone.tell(expected, value)
    assert first["best"] == alone.best.value and first["before"] is None
    assert first["advice"] == [False, True] and first["pruned"] == 9.0 and first["failed"] == "it fell over"
    assert first["engine"] == [None, {"x": 0.0}, 0.0, 1] and first["after"] == {"from": 0}
    assert first["errors"][0] == "ConnectionError: no database"
    assert first["errors"][1].startswith("TypeError: ") and "'a word'" in first["errors"][1]
    assert first["errors"][2].startswith("TypeError: an Optimizer has nobody to report to")
    assert first["errors"][3] == "1 2" and first["errors"][4] == "KeyboardInterrupt: "
    assert "cannot pickle" in first["errors"][6]
    with Study(storage=f"sqlite:///{tmp_path / 'study.db'}", name="shared") as study:
        assert len(study.trials) == 8 and study.running == {}


def test_alone_it_is_the_study_itself():
    assert is_leader() and broadcast([1]) == [1]
    with pytest.raises(KeyError):
        on_leader(lambda: {}["a"])
    study = Study(SPACE, pruner="median")
    with SharedStudy(lambda: study) as shared:
        trial = shared.ask()
        trial.report(0.5, 1)
        assert trial.number == 0 and study.running == {0: trial.config} and trial.should_prune() is False
        assert shared.tell(trial, 0.25, std=0.1) == study.best == shared.best == shared.trials[0]
        assert study.best.std == 0.1
    optimizer = Optimizer(SPACE)
    shared = SharedStudy(lambda: optimizer)
    trial = shared.ask()
    with pytest.raises(TypeError, match="share a Study instead"):
        shared.tell(trial, pruned=True)
    told = shared.tell(trial, 2.0, std=0.1)
    assert (told.value, told.std) == (2.0, 0.1) and optimizer.pending == []
