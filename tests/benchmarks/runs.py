"""Peers in spaces of numbers and of everything, and `python -m benchmarks run` in this process."""

import pytest

from bayesopt import Categorical, Float, Int, Space
from benchmarks.__main__ import main
from benchmarks.methods import chosen

NUMBERS = {
    "a": Float(-1.0, 1.0),
    "b": Float(1e-4, 1.0, log=True),
    "c": Int(1, 9),
    "d": Float(0.0, 1.0, step=0.25),
}
TREE = {
    **NUMBERS,
    "kind": Categorical(["x", "y", "z"]),
    "size": Categorical([16, 64, 256], ordered=True),
    "only_x": Float(0.0, 1.0, when={"kind": "x"}),
    "only_yz": Int(1, 64, log=True, when={"kind": ["y", "z"]}),
    "nested": Categorical([True, 1, None], when={"kind": "y"}),
}


def built(name, space, seed=0, budget=30):
    """A peer, or a skip that says why."""
    method = chosen(name)
    if method.lacking:
        pytest.skip(f"needs: {method.lacking}")
    return method.build(Space(space).to_dict(), seed, budget)


def run(path, method="random", problem="branin", seeds="2", evaluations=12, more=()):
    arguments = ["run", "--problems", problem, "--methods", method, "--seeds", seeds]
    return main([*arguments, "--evaluations", str(evaluations), *more, "--out", str(path)])
