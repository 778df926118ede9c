"""A batch of studies is its studies."""

import pytest
import torch

from bayesopt import Categorical, Float, Int, Optimizer, Replicates, Space

SPACES = {
    "smooth": {"x": Float(-1.0, 1.0), "y": Float(0.1, 10.0, log=True)},
    "mixed": {
        "x": Float(0.0, 1.0),
        "k": Int(1, 50),
        "c": Categorical(["a", "b", "c"]),
        "z": Float(0.0, 1.0, when={"c": ["a", "b"]}),
    },
}


def objective(config):
    choice = {"a": 0.0, "b": 0.4, "c": 0.8}[config.get("c", "a")]
    return (
        sum((v - 0.3) ** 2 for v in config.values() if isinstance(v, float))
        + choice
        + 0.01 * config.get("k", 0)
    )


@pytest.mark.parametrize("method", ["gp", "random", "sobol"])
@pytest.mark.parametrize("name", SPACES)
def test_each_study_proposes_what_its_own_optimizer_would(name, method, device):
    space = Space(SPACES[name])
    seeds = [0, 7, 11, 3]
    together = Replicates(space, seeds, method=method, device=device)
    alone = [Optimizer(space, seed=seed, method=method, device=device) for seed in seeds]
    for i in range(16):
        configs = together.ask()
        expected = [opt.ask() for opt in alone]
        # Rounding differs between batched and single products and is amplified by the optimisers' steps.
        torch.testing.assert_close(space.encode(configs)[0], space.encode(expected)[0], rtol=0, atol=1e-5)
        values = [None if (i, j) in {(5, 1), (9, 2)} else objective(c) for j, c in enumerate(expected)]
        together.tell(configs, values)
        for opt, config, value in zip(alone, expected, values, strict=True):
            opt.tell(config, value)


def test_a_study_that_begins_with_failures_does_not_change_its_neighbour():
    space = Space(SPACES["smooth"])
    together = Replicates(space, [0, 7])
    alone = [Optimizer(space, seed=seed) for seed in (0, 7)]
    for i in range(15):
        configs, expected = together.ask(), [opt.ask() for opt in alone]
        torch.testing.assert_close(space.encode(configs)[0], space.encode(expected)[0], rtol=0, atol=1e-5)
        values = [objective(expected[0]), None if i < 11 else objective(expected[1])]
        together.tell(configs, values)
        for opt, config, value in zip(alone, expected, values, strict=True):
            opt.tell(config, value)


def test_studies_of_unequal_length_still_advance():
    studies = Replicates(SPACES["smooth"], seeds=[0, 1, 2])
    extra = Optimizer(SPACES["smooth"], method="sobol").ask(9)
    studies.studies[1].tell(extra, [objective(c) for c in extra])
    for _ in range(8):
        configs = studies.ask()
        studies.tell(configs, [objective(c) for c in configs])
    assert [len(s.trials) for s in studies.studies] == [8, 17, 8]


def test_bad_input_changes_no_study():
    studies = Replicates(SPACES["smooth"], seeds=[0, 1])
    configs = studies.ask()
    before = [s.state_dict() for s in studies.studies]
    with pytest.raises(ValueError, match="2 configurations and values, one for each study"):
        studies.tell(configs[:1], [1.0])
    with pytest.raises(TypeError, match="number"):
        studies.tell(configs, [1.0, "x"])
    with pytest.raises(ValueError, match="x"):
        studies.tell([configs[0], {"x": 5.0, "y": 1.0}], [1.0, 2.0])
    assert [s.state_dict() for s in studies.studies] == before
    with pytest.raises(ValueError, match="seed"):
        Replicates(SPACES["smooth"], seeds=[])


def test_best_of_each():
    studies = Replicates(SPACES["smooth"], seeds=[0, 1], maximize=True)
    configs = studies.ask()
    studies.tell(configs, [1.0, None])
    assert [b and b.value for b in studies.best] == [1.0, None]
