"""Runs with known answers: random search by quadrature, shares of targets by COCO's own post-processing."""

import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks import figures, problems, statistics, storage
from benchmarks.scores import Scores
from benchmarks.storage import About, Job, Runs, Trial
from tests.benchmarks.runs import built, run


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
