"""The benchmarks measure what they say: problems have their optima, models are equivalent, commands run."""

import doctest
import importlib
import json
import math
import platform

import numpy as np
import pytest
import torch
from scipy.optimize import minimize as local_search

from bayesopt import Float, Space
from bayesopt.proposals import Model
from bayesopt.surrogates.gp import negative_log_posterior
from bayesopt.surrogates.outcomes import half_rank
from benchmarks import efficiency, histories, peers, problems, quality, replicates, report, scaling, speed
from benchmarks.__main__ import COMMANDS, main
from benchmarks.efficiency import Job

UNIT = np.random.default_rng(0).random((5, 10))


KNOWN = [
    problems.branin_problem(),
    problems.hartmann6_problem(),
    problems.hartmann_bowl(9),
    *(problems.shifted(name, 7, np.random.default_rng(1)) for name in problems.CENTRED),
    problems.efficiency_problem("ackley10", seed=3),
]


# -------------------------------------------------------------------------------------------- problems


@pytest.mark.parametrize("problem", KNOWN, ids=lambda p: p.name)
def test_optimum_is_the_value_at_the_minimiser_and_a_local_minimum(problem):
    at = np.array(problem.minimiser)
    low, high = np.array(problem.bounds).T
    assert np.all((low < at) & (at < high))
    assert problem.function(at) == pytest.approx(problem.optimum, abs=1e-9)
    assert local_search(problem.function, at, bounds=problem.bounds).fun > problem.optimum - 1e-9


@pytest.mark.parametrize("problem", KNOWN, ids=lambda p: p.name)
def test_no_random_point_beats_the_optimum(problem):
    points = np.random.default_rng(2).random((300, problem.dim))
    assert min(problem.at_unit(u) for u in points) > problem.optimum


@pytest.mark.parametrize(
    ("name", "function", "shift", "dim", "half"),
    [
        ("Ackley", problems.ackley, 0.0, 10, 32.768),
        ("Rastrigin", problems.rastrigin, 0.0, 10, 5.12),
        ("Rosenbrock", problems.rosenbrock, 1.0, 10, 5.0),
        ("Branin", problems.branin, 0.0, 2, 5.0),
        ("Hartmann", problems.hartmann6, 0.0, 6, 1.0),
    ],
)
def test_functions_equal_those_of_botorch(name, function, shift, dim, half):
    test_functions = importlib.import_module("botorch.test_functions")
    oracle = getattr(test_functions, name)(**({} if name == "Branin" else {"dim": dim}), dtype=torch.float64)
    X = (UNIT[:, :dim] - (0.0 if name == "Hartmann" else 0.5)) * half
    expected = oracle._evaluate_true(torch.from_numpy(X + shift).double()).numpy()
    assert [function(x) for x in X] == pytest.approx(expected, rel=1e-6)


def test_ackley_is_shifted_by_the_seed_alone_and_at_most_60_percent():
    shifts = np.array([problems.efficiency_problem("ackley10", seed).minimiser for seed in range(30)])
    assert np.abs(shifts).max() <= 0.6 * 32.768
    assert len(np.unique(shifts[:, 0])) == 30
    again = problems.efficiency_problem("ackley10", 7)
    assert again.minimiser == tuple(shifts[7])


def test_gp_draws_have_the_covariance_of_their_kernel():
    """Over many draws at unit lengthscales: variance 1, correlation Matern 5/2."""
    U = np.array([[0.1, 0.2], [0.4, 0.6]])

    rngs = [np.random.default_rng(seed) for seed in range(3000)]
    draws = [problems.matern_sample(2, rng, lengthscale=np.ones(2), features=64) for rng in rngs]
    values = np.array([[draw.at_unit(u) for u in U] for draw in draws])
    r = math.sqrt(5) * math.dist(*U)
    expected = np.array([[1.0, (1 + r + r * r / 3) * math.exp(-r)]])
    assert np.cov(values.T)[:1] == pytest.approx(expected, abs=0.1)


def test_histories_are_reproducible_and_in_the_box():
    first, again = histories.random_history(4), histories.random_history(4)
    assert np.array_equal(first.X, again.X)
    assert np.array_equal(first.y, again.y)
    several = [histories.random_history(seed, (10, 30)) for seed in range(20)]
    assert all(h.X.min() >= 0 and h.X.max() <= 1 and np.isfinite(h.y).all() for h in several)
    assert {h.layout.split(",")[0] for h in several} == {"uniform", "clustered"}


# ----------------------------------------------------------------------------------------------- peers


@pytest.mark.parametrize("name", peers.METHODS)
def test_every_method_learns_from_foreign_configurations_and_its_own(name):
    method = peers.METHODS[name]
    if not method.installed:
        pytest.skip(f"{method.package} is not installed")
    box = {"a": Float(-1.0, 1.0), "b": Float(2.0, 5.0)}
    peer = method.build(box, 0)
    rng = np.random.default_rng(0)
    for a, b in rng.uniform([-1.0, 2.0], [1.0, 5.0], (11, 2)).tolist():
        peer.tell({"a": a, "b": b}, a * a + b)
    for _ in range(2):
        config = peer.ask()
        assert config.keys() == box.keys()
        assert all(p.low <= config[key] <= p.high for key, p in box.items())
        peer.tell(config, config["a"] ** 2 + config["b"])


def test_missing_peers_are_skipped_with_the_command_that_installs_them(monkeypatch, capsys):
    monkeypatch.setattr(peers, "find_spec", lambda _: None)
    assert peers.available(["bayesopt", "botorch", "random"]) == ["bayesopt", "random"]
    assert "python -m pip install botorch" in capsys.readouterr().err


# --------------------------------------------------------------------------------------------- quality


def test_gpytorch_model_is_ours_up_to_a_constant():
    history = histories.random_history(3, (20, 30))
    n, d = history.X.shape
    model = Model.of(Space({f"x{j}": Float(0.0, 1.0) for j in range(d)}), torch.device("cpu"))
    X, z = torch.from_numpy(history.X), half_rank(torch.from_numpy(history.y))
    mll = quality.gpytorch_model(X, z, model.priors)
    assert torch.allclose(quality.gpytorch_theta(mll), model.priors.mode, atol=1e-6)

    mll.train()
    generator = torch.Generator().manual_seed(0)
    differences = []
    for _ in range(4):
        theta = 0.5 * torch.randn(d + 2, generator=generator, dtype=torch.float64)
        theta[-1] -= 5.0
        mll.model.covar_module.base_kernel.lengthscale = theta[:d].exp()
        mll.model.covar_module.outputscale = theta[-2].exp()
        mll.likelihood.noise = theta[-1:].exp()
        theirs = -n * mll(mll.model(*mll.model.train_inputs), mll.model.train_targets).item()
        ours = negative_log_posterior(theta[None], X[None], z[None], model.kernel, model.priors)[0]
        differences.append(theirs - float(ours))
    assert np.ptp(differences) < 1e-5


# ---------------------------------------------------------------------------------------------- report


@pytest.mark.parametrize("module", [report, speed, scaling, efficiency], ids=lambda m: m.__name__)
def test_examples_in_docstrings(module):
    assert doctest.testmod(module).failed == 0


def test_table_refuses_ragged_rows():
    with pytest.raises(ValueError, match="every row needs 2 cells"):
        report.markdown_table(["a", "b"], [[1, 2], [3]])


def test_table_has_a_caption_and_aligned_columns():
    lines = (
        report.Table(["name", "ms"], [["x", 0.125], ["longer", 3.0]], "What it is.").markdown().splitlines()
    )
    assert lines[:2] == ["What it is.", ""]
    assert lines[2:] == [
        "| name   | ms    |",
        "|--------|-------|",
        "| x      | 0.125 |",
        "| longer | 3     |",
    ]


def test_saved_results_name_the_versions_but_not_the_machine(tmp_path):
    text = report.save("name", report.Report("Title", [report.Table(["a"], [[1]])], [1, 2]), tmp_path)
    record = json.loads((tmp_path / "name.json").read_text())
    assert record["results"] == [1, 2]
    assert {"cpu", "cores", "threads", "torch", "date"} <= record["machine"].keys()
    assert (tmp_path / "name.md").read_text() == text
    assert str(tmp_path) not in text
    if node := platform.node():
        assert node not in json.dumps(record)


def test_p_value_sees_a_shift_and_no_difference():
    ours = 10.0 ** np.random.default_rng(0).normal(size=30)
    assert efficiency.p_value(ours, ours) == 1.0
    assert efficiency.p_value(ours, 3 * ours) < 1e-3


# -------------------------------------------------------------------------------------------- commands


@pytest.mark.parametrize("command", ["speed", "quality", "efficiency"])
def test_command_runs(command, tmp_path, capsys):
    threads = torch.get_num_threads()
    assert main([command, "--quick", "--threads", "1", "--out", str(tmp_path)]) == 0
    assert torch.get_num_threads() == threads
    assert json.loads((tmp_path / f"{command}-quick.json").read_text())["results"]
    assert (tmp_path / f"{command}-quick.md").read_text() in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
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


# ------------------------------------------------------------------------------------------ resumption


def test_finished_runs_are_kept_and_not_repeated(tmp_path, monkeypatch):
    path = tmp_path / "runs.jsonl"
    jobs = [Job("branin", "random", seed) for seed in range(3)]
    first = efficiency.complete(path, jobs[:2], 5, processes=1, fresh=False)
    with path.open("a") as file:
        file.write('{"problem": "branin", "method": "ran')  # an interrupted write

    asked = []
    honest = efficiency.run_all
    monkeypatch.setattr(efficiency, "run_all", lambda todo, *rest: asked.extend(todo) or honest(todo, *rest))
    runs = efficiency.complete(path, jobs, 5, processes=1, fresh=False)
    assert asked == jobs[2:]
    assert [runs[job] for job in jobs[:2]] == [efficiency.Run.of_line(first[job].line()) for job in jobs[:2]]
    assert efficiency.load(path).keys() == set(jobs)

    efficiency.complete(path, jobs[:1], 5, processes=1, fresh=True)
    assert asked == [*jobs[2:], *jobs[:1]]
    assert efficiency.load(path).keys() == set(jobs)


def test_regret_of_ours_is_that_of_its_own_optimizer():
    jobs = [Job("ackley10", "bayesopt", seed) for seed in (0, 5)]
    together = efficiency.run_ours(6, jobs)
    alone = [efficiency.run_peer(6, job) for job in jobs]
    for one, other in zip(together, alone, strict=True):
        assert one.regret == pytest.approx(other.regret, rel=1e-6)
        assert all(b <= a for a, b in zip(one.regret, one.regret[1:], strict=False))
