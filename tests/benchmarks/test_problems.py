"""Problems by name: their optima, BBOB by two packages, suffixes, somebody else's folder."""

import math

import numpy as np
import pytest
import torch

from bayesopt import Categorical, Float, Int, Space
from benchmarks import problems
from benchmarks.problems import folder, suites


@pytest.mark.parametrize(
    "name", [n for n in problems.names() if not n.startswith(("bbob", "table", "train"))]
)
def test_no_random_configuration_beats_the_optimum(name):
    problem = problems.get(name, 3)
    sample = problem.space.decode(problem.space.sample(100, torch.Generator().manual_seed(0)))
    values = [problem.function(config) for config in sample]
    assert all(math.isfinite(v) for v in values)
    assert min(values) > problem.optimum - 1e-12


@pytest.mark.parametrize("f", [1, 8, 15, 21])
def test_bbob_of_both_packages_agree_and_have_their_optimum(f):
    pytest.importorskip("ioh")
    cocoex = pytest.importorskip("cocoex")
    problem = problems.get(f"bbob/f{f}/d3/i2")
    theirs = cocoex.Suite("bbob", "", f"dimensions:3 function_indices:{f} instance_indices:2")[0]
    for x in np.random.default_rng(f).uniform(-5, 5, (20, 3)).tolist():
        value = problem.function({f"x{j}": v for j, v in enumerate(x)})
        assert value == pytest.approx(float(theirs(np.array(x))), rel=1e-10)
        assert value > problem.optimum


def test_mixed_and_noisy_bbob():
    pytest.importorskip("cocoex")
    mixed = problems.get("bbob-mixint/f1/d5/i1")
    assert [type(p) for p in mixed.parameters.values()] == [Int] * 4 + [Float]
    noisy, again, other = (problems.get("bbob-noisy/f101/d5/i1", seed) for seed in (0, 0, 1))
    at = {f"x{j}": 1.0 for j in range(5)}
    first = [noisy.function(at) for _ in range(5)]
    assert len(set(first)) == 5
    assert again is noisy
    assert set(first).isdisjoint(other.function(at) for _ in range(5))
    assert noisy.optimum == pytest.approx(problems.get("bbob/f1/d5/i1").optimum)


def test_conditional_optima_are_reached():
    jenatton, layers = problems.get("cond/jenatton"), problems.get("cond/layers")
    assert jenatton.function({"x1": 0, "x2": 0, "x4": 0.0, "r8": 0.0}) == jenatton.optimum
    best = {"layers": 3, "width0": 96, "width1": 48, "width2": 24, "optimizer": "sgd", "momentum": 0.9}
    assert layers.function(layers.space.validate(best)) == layers.optimum


def test_noise_is_seen_but_not_scored_and_belongs_to_seed_and_place():
    plain, noisy = problems.get("hartmann6"), problems.get("hartmann6+noise=0.5")
    config = {f"x{j}": 0.3 for j in range(6)}
    pairs = [noisy.evaluate(config, np.random.default_rng(seed)) for seed in range(400)]
    assert {true for _, true in pairs} == {plain.function(config)}
    observed = np.array([value for value, _ in pairs])
    assert noisy.evaluate(config, np.random.default_rng(7)) == pairs[7]
    assert abs(observed.mean() - plain.function(config)) < 4 * observed.std() / 20
    assert noisy.optimum == plain.optimum and observed.std() > 0.05


@pytest.mark.parametrize("name", ["hartmann6", "cond/layers"])
def test_a_share_fails_and_the_same_corner_takes_longer(name):
    problem = problems.get(f"{name}+fail=0.3+time=4")
    sample = problem.space.decode(problem.space.sample(1500, torch.Generator().manual_seed(5)))
    failed = np.array([problem.evaluate(c, np.random.default_rng(0))[0] is None for c in sample])
    times = np.array([problem.duration(c) for c in sample])
    assert failed.mean() == pytest.approx(0.3, abs=0.06)
    assert times[failed].min() > times[~failed].max()
    assert 1 / 8 < times.min() < 0.7 and 1.5 < times.max() < 8
    assert math.isnan(problem.optimum)


def test_unknown_names_and_suffixes_are_refused():
    with pytest.raises(ValueError, match="no problem is called"):
        problems.get("sphere")
    with pytest.raises(ValueError, match=r"\+noise=NUMBER, \+fail=NUMBER, \+time=NUMBER"):
        problems.get("branin+rain=1")


FOLDER = """
from types import SimpleNamespace as N
def P(name, kind, low=None, high=None, choices=None, conditions=(), log=False):
    return N(name=name, kind=kind, low=low, high=high, log=log, choices=choices, conditions=list(conditions))
def get(name):
    if name != "mine/one":
        raise KeyError(name)
    params = [P("n", "int", 1, 9), P("k", "categorical", choices=["u", "v"]),
              P("x", "float", 1e-3, 1.0, log=True, conditions=[("k", ["u"]), ("n", [2, 3])])]
    return N(name=name, params=params, best_known=-1.0, y_random=None, has_curve=True,
             evaluate=lambda c: c["n"] + c.get("x", 0.0), evaluate_curve=lambda c: [9.0, c["n"]])
"""


def test_a_folder_on_the_command_line_is_a_door_for_private_problems(tmp_path):
    (tmp_path / "problems.py").write_text(FOLDER)
    (tmp_path / "suite.txt").write_text("# mine\nmine/one  # the only one\n\nbranin\nmine/one\n")
    assert suites([str(tmp_path / "suite.txt")]) == ["mine/one", "branin"]
    problem = problems.get("mine/one", 0, tmp_path)
    assert problem.space == Space(
        {
            "n": Int(1, 9),
            "k": Categorical(["u", "v"]),
            "x": Float(1e-3, 1.0, log=True, when={"k": ["u"], "n": [2, 3]}),
        }
    )
    assert (problem.optimum, problem.family, problem.curve({"n": 4})) == (-1.0, "mine", [9.0, 4])
    assert problems.get("branin", 0, tmp_path).name == "branin"  # the folder does not know it: ours
    with pytest.raises(FileNotFoundError, match="expects a folder with a problems"):
        folder.get(tmp_path / "nowhere", "x")
