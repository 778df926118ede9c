"""Methods behind one protocol: proposals in the space, batches, results out of order, settings."""

import warnings

import numpy as np
import pytest

from bayesopt import Between, Float, Int, Space
from benchmarks import runner
from benchmarks.__main__ import main
from benchmarks.methods import chosen
from benchmarks.methods.axes import at_unit, axes_of, place_of
from benchmarks.methods.protocol import Inverted, UnsupportedError
from tests.benchmarks.runs import NUMBERS, TREE, built

ODD = {**TREE, "two": Float(0.0, 1.0, when={"kind": "x", "c": Between(3, 5)})}


def test_axes_in_plain_values_agree_with_the_space():
    space = Space(ODD)
    axes = axes_of(space.to_dict())
    rng = np.random.default_rng(0)
    for _ in range(200):
        config = at_unit(axes, rng.random(len(axes)).tolist())
        assert space.validate(config) == config
        again = at_unit(axes, place_of(axes, config))
        assert again.keys() == config.keys()
        assert all(runner._close(again[key], config[key]) for key in config)
        plain = space.encode([config])[0][0].tolist()
        mine = dict(zip([axis.name for axis in axes], place_of(axes, config), strict=True))
        assert [mine[name] for name in space.names] == pytest.approx(plain, abs=1e-9)


def test_a_value_is_read_as_it_is_or_by_its_number():
    space = Space({**TREE, "step": Int(-4, 8, step=3), "only": Int(5, 5), "log": Int(1, 64, log=True)})
    axes = axes_of(space.to_dict())
    rng = np.random.default_rng(0)
    for _ in range(50):
        for axis in axes:
            value = axis.value(rng.random())
            told = axis.index(value) if axis.numbered else value
            assert axis.read(told, numbered=axis.numbered) == value
            if axis.even:
                assert axis.read(float(axis.index(value)), numbered=True) == value
    assert {axis.name for axis in axes if axis.numbered} == {"d", "kind", "size", "nested", "step", "only"}
    assert {axis.name for axis in axes if axis.even} == {"c", "d", "kind", "size", "nested", "step", "only"}


@pytest.mark.parametrize("space", [NUMBERS, TREE, ODD], ids=["numbers", "tree", "odd"])
@pytest.mark.parametrize(
    "name", ["random", "optuna-tpe", "optuna-gp", "hyperopt", "ax", "smac", "cma", "cma-lq", "botorch"]
)
def test_proposals_lie_in_the_space(name, space):
    if name in ("cma", "cma-lq", "botorch") and space is not NUMBERS:
        with pytest.raises(UnsupportedError, match="choices without an order"):
            built(name, space)
        return
    method = built(name, space)
    known = Space(space)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of other libraries
        for place in range(13):
            config = method.ask(1)[0]
            assert known.validate(config) == config
            method.tell(config, None if place == 5 else abs(config["a"]) + 0.1 * config["c"])


@pytest.mark.parametrize("name", ["random", "optuna-tpe", "hyperopt", "cma", "botorch"])
def test_batches_and_results_out_of_order(name):
    method = built(name, NUMBERS)
    waiting = method.ask(5)
    assert len(waiting) == 5
    for k in range(12):
        config = waiting.pop(k % len(waiting))
        method.tell(config, config["a"])
        waiting += method.ask(1)
    assert len(waiting) == 5


@pytest.mark.parametrize("name", ["cma", "cma-lq", "hyperopt", "optuna-tpe"])
def test_peers_learn_where_the_bottom_of_a_bowl_is(name):
    box = {f"x{j}": Float(-1.0, 1.0) for j in range(3)}

    def late(name, seed):
        method, values = built(name, box, seed, 120), []
        for _ in range(120):
            config = method.ask(1)[0]
            values.append(sum((v - 0.3) ** 2 for v in config.values()))
            method.tell(config, values[-1])
        return np.median(values[-40:])

    ratio = [late(name, seed) / late("random", seed) for seed in range(3)]
    assert max(ratio) < 0.6


def test_settings_are_keywords_and_unknown_ones_are_refused(tmp_path):
    method = chosen("bayesopt:method=random,max_pending_age=3,maximize=false")
    assert method.settings == {"method": "random", "max_pending_age": 3, "maximize": False}
    with pytest.raises(ValueError, match="method must be one of bayesopt"):
        chosen("nobody")
    with pytest.raises(ValueError, match=r"name:key=value"):
        chosen("bayesopt:gp")
    with pytest.raises(SystemExit, match="method must be one of"):
        main(["run", "--methods", "bayesopt:method=nothing", "--out", str(tmp_path / "x.jsonl")])


def test_a_function_that_calls_its_objective_can_be_asked():
    def minimise(objective):
        found = [objective(x) for x in (3, 1)]
        raise ArithmeticError(str(found))

    method = Inverted(minimise, lambda x: {"x": x}, failed=99.0)
    assert method.ask(1) == [{"x": 3}]
    method.tell({"x": 3}, 0.5)
    assert method.ask(1) == [{"x": 1}]
    method.tell({"x": 1}, None)
    with pytest.raises(RuntimeError) as caught:
        method.ask(1)
    assert str(caught.value.__cause__) == "[0.5, 99.0]"
