"""Every command runs, and what several of them measure with: races, memory, other processes."""

import json

import numpy as np
import pytest
import torch

from benchmarks import replicates, scaling
from benchmarks.__main__ import COMMANDS, main
from benchmarks.methods import METHODS


def test_names_are_listed(capsys):
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {"branin", "standing", "optuna-tpe", "bbob/f1/d5/i1"} <= {line.split()[0] for line in lines}
    assert set(METHODS) <= {line.split()[0] for line in lines}


@pytest.mark.parametrize("command", ["speed", "quality", "batch", "workers", "failures", "tpe", "stopping"])
def test_command_runs(command, tmp_path, capsys):
    threads = torch.get_num_threads()
    assert main([command, "--quick", "--threads", "1", "--out", str(tmp_path)]) == 0
    assert torch.get_num_threads() == threads
    assert json.loads((tmp_path / f"{command}-quick.json").read_text())["results"]
    assert (tmp_path / f"{command}-quick.md").read_text() in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("command", sorted({*COMMANDS} - {"gpu"}))  # that one needs a GPU
def test_command_runs_as_a_program(command, tmp_path):
    code = f"from benchmarks.__main__ import main; main([{command!r}, '--quick', '--out', {str(tmp_path)!r}])"
    assert scaling.run_python(code, threads=1).startswith("# ")
    assert (tmp_path / f"{command}-quick.json").exists()


def test_race_times_every_round():
    rounds = replicates.race(studies=2, singles=1, evaluations=4)
    assert len(rounds) == 4
    assert all(lockstep > 0 and single > 0 for lockstep, single in rounds)


def test_memory_is_counted_in_this_process():
    before = scaling.memory_in_use(peak=False)
    block = np.ones(20_000_000)
    assert scaling.memory_in_use(peak=True) > before + 0.9 * block.nbytes / 1e6


def test_measuring_process_that_fails_says_why():
    with pytest.raises(RuntimeError, match="boom"):
        scaling.run_python("raise SystemExit('boom')")
