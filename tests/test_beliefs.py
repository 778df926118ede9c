import math

import numpy as np
import pytest
import torch
from scipy import stats

from bayesopt.beliefs import (
    FLOOR,
    Beta,
    Centre,
    Distribution,
    Exponential,
    Gamma,
    LogNormal,
    LogUniform,
    Normal,
    Tables,
    Uniform,
    Weights,
    belief_from_dict,
    smooth_table,
    step_table,
)
from bayesopt.space import Categorical, Float, Int, Space

# --- densities against SciPy ------------------------------------------------------------------------------

CLOSED = [
    (Uniform(), stats.uniform(0.0, 10.0)),
    (LogUniform(), stats.loguniform(1e-3, 10.0)),
    (Normal(2.0, 1.5), stats.norm(2.0, 1.5)),
    (Normal(-4.0, 1.0), stats.norm(-4.0, 1.0)),
    (Normal(2.0, 1e-4), stats.norm(2.0, 1e-4)),
    (LogNormal(0.5, 0.8), stats.lognorm(0.8, scale=math.exp(0.5))),
    (Exponential(1.5), stats.expon(scale=1.5)),
    (Gamma(0.5, 2.0), stats.gamma(0.5, scale=2.0)),
    (Gamma(1.0, 2.0), stats.gamma(1.0, scale=2.0)),
    (Gamma(3.0, 0.7), stats.gamma(3.0, scale=0.7)),
    (Beta(2.0, 5.0), None),
    (Beta(0.5, 0.5), None),
    (Beta(1.0, 1.0), None),
    (Beta(30.0, 0.7), None),
]


@pytest.mark.parametrize(
    ("belief", "law"), CLOSED, ids=lambda value: repr(value) if isinstance(value, Distribution) else ""
)
def test_log_densities_have_the_shape_of_scipy(belief, law):
    values = torch.linspace(0.01, 0.99, 50, dtype=torch.float64)
    law = law or stats.beta(belief.a, belief.b)
    constant = belief.log_density(values).numpy() - law.logpdf(values.numpy())
    np.testing.assert_allclose(constant, constant[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize(
    ("belief", "law"), CLOSED, ids=lambda value: repr(value) if isinstance(value, Distribution) else ""
)
def test_truncated_densities_and_quantiles_match_scipy(belief, law, log):
    low, high = 1e-3, 10.0
    parameter = Float(low, high, log=log, belief=belief)
    law = law or stats.beta(belief.a, belief.b, loc=low, scale=high - low)
    mass = law.cdf(high) - law.cdf(low)
    u = np.linspace(0.005, 0.995, 199)
    space = Space({"p": parameter})
    x = space.from_uniform(torch.from_numpy(u)[:, None])
    values = np.array([config["p"] for config in space.decode(x)])
    np.testing.assert_allclose((law.cdf(values) - law.cdf(low)) / mass, u, atol=1e-3)
    logp = space.belief(x)[0].numpy()
    jacobian = np.log(values) + math.log(math.log(high / low)) if log else math.log(high - low)
    np.testing.assert_allclose(logp, law.logpdf(values) - math.log(mass) + jacobian, atol=5e-3)


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize(
    "belief",
    [Uniform(), LogUniform(), Normal(5.0, 2.0), LogNormal(1.0, 0.5), Exponential(3.0), Gamma(0.5, 4.0)],
)
def test_whole_numbers_weigh_what_their_density_says(belief, log):
    parameter = Int(1, 20, log=log, belief=belief)
    space, plain = Space({"p": parameter}), Space({"p": Int(1, 20, log=log)})
    n = 40_000
    u = (torch.arange(n, dtype=torch.float64)[:, None] + 0.5) / n
    found = np.bincount([config["p"] for config in space.decode(space.from_uniform(u))], minlength=21)[1:] / n
    numbers = torch.arange(1.0, 21.0, dtype=torch.float64)
    expected = belief.log_density(numbers).softmax(0)
    np.testing.assert_allclose(found, expected, atol=2 / n)
    # Relative to what a uniform on the encoded axis gives.
    width = np.bincount([config["p"] for config in plain.decode(plain.from_uniform(u))], minlength=21)[1:] / n
    X, _ = space.encode([{"p": k} for k in range(1, 21)])
    logp, gradient = space.belief(X)
    np.testing.assert_allclose(logp.exp().numpy() * width, expected, atol=4 / n * logp.exp().max().item())
    assert not gradient.any()


@pytest.mark.parametrize(
    ("parameter", "expected"),
    [
        (Categorical(["a", "b", "c", "d"], belief=Centre("b", 0.6)), [0.1, 0.7, 0.1, 0.1]),
        (Categorical([1, 2], ordered=True, belief=Centre(2, 0.5)), [0.25, 0.75]),
        (Categorical([True, 1], belief=Centre(1, 0.5)), [0.25, 0.75]),
        (Categorical(["a", "b"], belief={"b": 3, "a": 1}), [0.25, 0.75]),
        (Categorical(["a", "b"], belief={"b": 0, "a": 1}), [1.0, math.exp(FLOOR) / 2]),
    ],
)
def test_choices_weigh_what_they_were_given(parameter, expected):
    space = Space({"p": parameter})
    X, _ = space.encode([{"p": choice} for choice in parameter.choices])
    np.testing.assert_allclose(space.belief(X)[0].exp().numpy() / len(expected), expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("parameter", "centre"),
    [
        (Float(1e-5, 1e-1, log=True, belief=Centre(1e-3, 0.8)), 0.5),
        (Float(0.0, 2.0, belief=Centre(0.5, 0.6)), 0.25),
        (Int(0, 9999, belief=Centre(2500, 0.9)), 0.25005),
    ],
)
def test_a_centre_is_a_normal_on_the_declared_scale(parameter, centre):
    std = 0.5 * (1 - parameter.belief.confidence)
    law = stats.truncnorm(-centre / std, (1 - centre) / std, loc=centre, scale=std)
    space = Space({"p": parameter})
    x = torch.linspace(0.0, 1.0, 101, dtype=torch.float64)[:, None]
    np.testing.assert_allclose(space.belief(x)[0], law.logpdf(x.squeeze(-1)).clip(min=FLOOR), atol=2e-3)


def test_more_confidence_is_narrower_down_to_a_hundredth():
    assert [Centre(0, confidence).std for confidence in (0.1, 0.5, 0.9, 0.99)] == [0.45, 0.25, 0.05, 0.01]


@pytest.mark.parametrize("std", [1e-2, 1e-5, 1e-9])
@pytest.mark.parametrize("mean", [0.0, 1 / 3, 0.77777, 1.0])
def test_narrow_peaks_between_the_nodes_are_found(mean, std):
    space = Space({"p": Float(0.0, 1.0, belief=Normal(mean, std))})
    u = torch.tensor([[0.1], [0.5], [0.9]], dtype=torch.float64)
    lower, upper = (stats.norm(mean, std).cdf(end) for end in (0.0, 1.0))
    expected = stats.norm(mean, std).ppf(lower + u * (upper - lower))
    np.testing.assert_allclose(space.from_uniform(u), expected, atol=2e-3 * std + 1e-15)


def test_nothing_is_impossible():
    space = Space(
        {"p": Float(0.0, 1.0, belief=Normal(0.5, 0.001)), "q": Float(0.0, 1.0, belief=Beta(9.0, 9.0))}
    )
    logp, gradient = space.belief(torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.5, 0.5]], dtype=torch.float64))
    assert logp.isfinite().all()
    assert gradient.isfinite().all()
    assert logp[:2].tolist() == pytest.approx([2 * FLOOR] * 2, abs=1e-9)


# --- tables -----------------------------------------------------------------------------------------------

TABLES = [
    smooth_table(lambda x: -0.5 * ((x - 0.3) / 0.1) ** 2),
    smooth_table(lambda x: -0.5 * np.log(x)),
    step_table(np.array([0.0, 0.2, 1.0]), np.log([0.7, 0.3])),
]


def test_tables_integrate_to_one():
    tables = Tables(TABLES)
    x = (torch.arange(200_000, dtype=torch.float64)[:, None].expand(-1, 3) + 0.5) / 200_000
    density = tables.log_density(x)[0].exp()
    np.testing.assert_allclose(density.mean(0), 1.0, atol=2e-3)
    np.testing.assert_allclose(density[[10_000, 150_000], 2], [3.5, 0.375])


def test_quantiles_invert_the_integral():
    tables = Tables(TABLES)
    u = torch.linspace(0, 1, 1001, dtype=torch.float64)[:, None].expand(-1, 3)
    x = tables.quantile(u)
    assert (x.diff(dim=0) >= 0).all()
    np.testing.assert_allclose(x[[0, -1]], [[0.0] * 3, [1.0] * 3], atol=1e-4)
    laws = stats.truncnorm(-3, 7, loc=0.3, scale=0.1).cdf(x[:, 0]), x[:, 1].sqrt()
    np.testing.assert_allclose(laws[0], u[:, 0], atol=1e-4)
    np.testing.assert_allclose(laws[1], u[:, 1], atol=1e-3)
    np.testing.assert_allclose(x[[350, 850], 2], [0.1, 0.6])


def test_a_table_of_nothing_is_refused():
    with pytest.raises(ValueError, match="no weight to any value"):
        smooth_table(lambda x: np.full_like(x, -np.inf))
    with pytest.raises(ValueError, match="no weight to any value"):
        step_table(np.array([0.0, 1.0]), np.array([-np.inf]))


# --- values -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "belief",
    [belief for belief, _ in CLOSED] + [Centre("adam", 0.9), Centre(None), Centre(3.5), Weights((1, 0.5))],
    ids=repr,
)
def test_beliefs_come_back_from_their_dictionaries(belief):
    assert belief_from_dict(belief.to_dict()) == belief
    assert hash(belief_from_dict(belief.to_dict())) == hash(belief)


def test_centres_tell_types_apart():
    assert Centre(1) != Centre(True)
    assert Centre(1) != Centre(1.0)
    assert len({Centre(1), Centre(True), Centre(1.0), Centre(1)}) == 3


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Normal("a", 1), TypeError, "Normal: mean must be a number, got 'a'"),
        (lambda: Normal(True, 1), TypeError, "Normal: mean must be a number, got True"),
        (lambda: Normal(0, 0), ValueError, "Normal: std must be a finite number above 0, got 0"),
        (lambda: Normal(math.nan, 1), ValueError, "Normal: mean must be a finite number, got nan"),
        (lambda: LogNormal(0, -1), ValueError, "LogNormal: std must be"),
        (lambda: Exponential(math.inf), ValueError, "Exponential: scale must be"),
        (lambda: Gamma(0, 1), ValueError, "Gamma: shape must be"),
        (lambda: Beta(1, -1), ValueError, "Beta: b must be"),
        (
            lambda: Centre(1, 1.0),
            ValueError,
            r"Centre: confidence must lie strictly between 0 and 1, got 1\.0",
        ),
        (lambda: Centre(1, "high"), TypeError, "Centre: confidence must be a number"),
        (lambda: Weights("ab"), TypeError, "expected a sequence of numbers, got 'ab'"),
        (lambda: Weights((0, 0)), ValueError, "sum above 0"),
        (lambda: belief_from_dict(3), TypeError, "must be a table"),
        (lambda: belief_from_dict({"type": "nromal"}), ValueError, "'nromal'; did you mean 'normal'"),
        (
            lambda: belief_from_dict({"type": "normal", "sdt": 1}),
            ValueError,
            "no field 'sdt'; did you mean 'std'",
        ),
        (lambda: belief_from_dict({"type": "uniform", "low": 1}), ValueError, "its fields: none"),
        (lambda: belief_from_dict({"type": "gamma", "shape": 1}), ValueError, "needs scale"),
    ],
)
def test_beliefs_refuse(make, error, message):
    with pytest.raises(error, match=message):
        make()
