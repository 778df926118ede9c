"""A method in another interpreter proposes what it does here, and its errors come back."""

import subprocess
import sys
from pathlib import Path

import pytest

from bayesopt import Space
from benchmarks.methods.protocol import UnsupportedError
from benchmarks.methods.remote import Remote
from tests.benchmarks.runs import TREE, built

ROOT = Path(__file__).parents[2]


def test_a_method_may_live_in_another_interpreter():
    pytest.importorskip("optuna")
    space = Space(TREE).to_dict()
    here = built("optuna-tpe", TREE, seed=4)
    there = Remote(sys.executable, "optuna-tpe", space, 4, 30)
    for _ in range(14):
        configs = here.ask(2)
        assert there.ask(2) == configs
        for config in configs:
            for method in (here, there):
                method.tell(config, config["a"])
    there.close()


def test_the_other_interpreter_needs_neither_torch_nor_this_package():
    code = (
        "import sys; import benchmarks.methods.remote, benchmarks.methods.random;"
        "print([m for m in ('torch', 'bayesopt', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_reasons_and_errors_come_back_from_the_other_interpreter():
    pytest.importorskip("cma")
    with pytest.raises(UnsupportedError, match="choices without an order"):
        Remote(sys.executable, "cma", Space(TREE).to_dict(), 0, 10)
    with pytest.raises(RuntimeError, match="TypeError"):
        Remote(sys.executable, "random", Space(TREE).to_dict(), 0, 10, nonsense=1)
