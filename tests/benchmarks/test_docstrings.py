"""The examples in docstrings of the benchmarks: pytest itself looks through the package only."""

import doctest

import pytest

from benchmarks import job, methods, report, scaling, speed, speedup, standing, statistics, workers
from benchmarks import run as run_command


@pytest.mark.parametrize(
    "module",
    [statistics, standing, job, methods, run_command, report, speed, scaling, workers, speedup],
    ids=lambda m: m.__name__,
)
def test_examples_in_docstrings(module):
    assert doctest.testmod(module).failed == 0
