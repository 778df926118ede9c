import copy
import math
import pickle
import time
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from bayesopt.beliefs import Beta, Centre, Exponential, Gamma, LogNormal, LogUniform, Normal, Uniform, Weights
from bayesopt.space import Between, Categorical, Float, Int, Space

# --- random spaces: nested conditions on every kind of parent, declared in any order ----------------------

CHOICES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([0.5, 1.0, 2.0, math.inf]),
    st.text(max_size=3),
)


def key(value):
    return type(value).__name__, value


@st.composite
def conditions(draw, parent):
    """A condition that some value of the parent meets."""
    if isinstance(parent, Categorical):
        values = draw(st.lists(st.sampled_from(parent.choices), min_size=1, max_size=3))
        if parent.ordered and parent.numeric and math.isfinite(values[0]) and draw(st.booleans()):
            return draw(st.sampled_from([Between(values[0], None), Between(None, values[0])]))
    elif parent.levels is not None:
        values = [
            parent.level(k) for k in draw(st.lists(st.integers(0, parent.levels - 1), min_size=1, max_size=3))
        ]
    else:
        values = [draw(st.floats(parent.low, parent.high))]
    if not isinstance(parent, Categorical) and draw(st.booleans()):
        return Between(min(values), max(values) if draw(st.booleans()) else None)
    return values[0] if draw(st.booleans()) else values


@st.composite
def parameters(draw, when, finite):
    kind = draw(
        st.sampled_from(
            ["int", "logint", "stepint", "cat", "ordered", "stepped"] + ["float", "log"] * (not finite)
        )
    )
    if kind == "float":
        low, high = sorted(draw(st.tuples(*[st.floats(-1e6, 1e6)] * 2)))
        return Float(low, high, when=when, belief=draw(st.sampled_from([None, Centre(low, 0.7)])))
    if kind == "log":
        low, high = sorted(draw(st.tuples(*[st.floats(1e-9, 1e9)] * 2)))
        return Float(
            low, high, log=True, when=when, belief=draw(st.sampled_from([None, LogNormal(0.0, 2.0)]))
        )
    if kind == "stepped":
        step = draw(st.sampled_from([0.1, 0.25, 0.3]))
        low = draw(st.integers(-3, 3)) / 10
        high = float(Fraction(str(low)) + draw(st.integers(0, 4)) * Fraction(str(step)))
        return Float(low, high, step=step, when=when)
    if kind in ("cat", "ordered"):
        choices = draw(st.lists(CHOICES, min_size=1, max_size=4, unique_by=key))
        return Categorical(choices, ordered=kind == "ordered", when=when)
    low, size = draw(st.integers(1, 5)), draw(st.integers(0, 4))
    if kind == "stepint":
        return Int(low - 3, low - 3 + 3 * size, step=3, when=when)
    return Int(low, low + size, log=kind == "logint", when=when)


@st.composite
def spaces(draw, finite=False, max_size=6):
    made = {}
    for i in range(draw(st.integers(1, max_size))):
        parents = draw(st.lists(st.sampled_from(list(made)), max_size=2, unique=True)) if made else []
        when = {parent: draw(conditions(made[parent])) for parent in parents} or None
        made[f"p{i}"] = draw(parameters(when, finite))
    return Space({name: made[name] for name in draw(st.permutations(list(made)))})


def holds(expected, value):
    """The meaning of a condition, written a second time."""
    if isinstance(expected, Between):
        return (expected.low is None or value >= expected.low) and (
            expected.high is None or value <= expected.high
        )
    return key(value) in map(key, expected if isinstance(expected, tuple) else (expected,))


def active_names(space, full):
    """Which parameters are active when all have the values `full`: the definition, recursively."""

    def active(name):
        return all(
            active(parent) and holds(expected, full[parent])
            for parent, expected in (space[name].when or {}).items()
        )

    return {name for name in space if active(name)}


def draws(space, n=40, seed=0):
    return torch.rand(n, space.dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


MIXED = Space(
    {
        "lr": Float(1e-5, 0.1, log=True),
        "layers": Int(1, 6),
        "width": Int(8, 1024, log=True),
        "optimizer": Categorical(["adam", "sgd", None]),
        "batch": Categorical([16, 32, 64], ordered=True),
        "drop": Float(0.0, 0.5, step=0.1, when={"layers": Between(3)}),
        "momentum": Float(0.0, 0.99, when={"optimizer": "sgd"}),
        "nesterov": Categorical([True, False], when={"momentum": Between(0.5, 0.9), "batch": [16, 64]}),
    }
)

# --- encode, decode, snap ---------------------------------------------------------------------------------


@given(spaces())
def test_a_decoded_configuration_decodes_to_itself(space):
    configs = space.decode(draws(space))
    X, active = space.encode(configs)
    assert space.decode(X) == configs
    assert torch.equal(active, space.activity(X))
    assert [space.validate(config) for config in configs] == configs
    assert [list(map(key, config.values())) for config in space.decode(X)] == [
        list(map(key, config.values())) for config in configs
    ]


@given(spaces())
def test_snap_is_idempotent_and_agrees_with_encode(space):
    snapped, active = space.snap(draws(space) * 1.2 - 0.1)
    again, active_again = space.snap(snapped)
    assert torch.equal(snapped, again)
    assert torch.equal(active, active_again)
    X, mask = space.encode(space.decode(snapped))
    assert torch.equal(active, mask)
    discrete = torch.tensor([levels is not None for levels in space.levels]) | ~active
    assert torch.equal(X[discrete], snapped[discrete])
    assert torch.equal(space.snap(X)[0], X)


@given(spaces())
def test_activity_of_tensors_is_that_of_dictionaries(space):
    free = Space({name: copy_without_condition(parameter) for name, parameter in space.items()})
    X = draws(space, 30)
    _, active = space.snap(X)
    # The values that the same point has when nothing is conditional; those of continuous parents carry cuts.
    values = [free.decode(X)[i] | config for i, config in enumerate(space.decode(X))]
    for row, full in zip(active.tolist(), values, strict=True):
        assert {name for name, on in zip(space, row, strict=True) if on} == active_names(space, full)


def copy_without_condition(parameter):
    free = copy.copy(parameter)
    object.__setattr__(free, "when", None)
    return free


@given(spaces(), st.sampled_from([torch.float64, torch.float32]))
def test_a_batch_equals_single_points(space, dtype):
    X = draws(space, 6).to(dtype).reshape(2, 3, space.dim)
    for method in (space.snap, space.belief, lambda X: (space.activity(X), space.from_uniform(X))):
        for whole, *parts in zip(method(X), *(method(x) for x in X.reshape(-1, space.dim)), strict=True):
            assert whole.dtype in (dtype, torch.bool)
            torch.testing.assert_close(whole.reshape(6, -1), torch.stack(parts).reshape(6, -1))


@given(spaces())
def test_float32_decodes_like_float64_where_levels_are_few(space):
    X = space.snap(draws(space).float())[0]
    assert torch.equal(X, space.snap(X)[0])
    configs = space.decode(X)
    assert [space.validate(config) for config in configs] == configs
    assert torch.equal(space.activity(X), space.encode(configs)[1])


WIDE = [
    Float(-1e300, 1e300),
    Float(-1.7e308, 1.7e308),
    Float(5e-324, 2e-323),
    Float(5e-324, 1e300, log=True),
    Float(5e-324, 2e-323, log=True),
    Float(100.0, math.nextafter(100, 200), log=True),
    Float(1e6, 1e6 + 1),
    Float(1e-5, 1e-1, log=True),
    Float(2.0, 3.0, log=True),
    Float(0.3, 0.3),
    Float(0.0, 1e9, step=0.001),
    Float(0.0, 1.0, step=1 / 3),
    Int(0, 10**15),
    Int(-(10**15), 10**15),
    Int(10**18, 10**18 + 7),
    Int(1, 2**42, log=True),
    Int(10**12, 10**12 + 5, log=True),
    Int(7, 7, log=True),
]


@pytest.mark.parametrize("parameter", WIDE, ids=repr)
def test_extreme_ranges(parameter):
    space = Space({"p": parameter})
    X = draws(space, 4000)
    X[:2, 0] = torch.tensor([0.0, 1.0])
    values = [config["p"] for config in space.decode(X)]
    assert values[:2] == [parameter.low, parameter.high]
    assert all(
        parameter.low <= value <= parameter.high and type(value) is type(parameter.low) for value in values
    )
    encoded, _ = space.encode([{"p": value} for value in values])
    assert [config["p"] for config in space.decode(encoded)] == values
    ends = [{"p": parameter.low}, {"p": parameter.high}]
    assert space.decode(space.encode(ends)[0]) == ends
    if parameter.levels is not None:
        assert torch.equal(encoded, space.snap(X)[0])
        numbers = [
            0,
            1,
            parameter.levels // 3,
            parameter.levels // 2,
            parameter.levels - 2,
            parameter.levels - 1,
        ]
        exact = [{"p": parameter.level(k)} for k in numbers if 0 <= k < parameter.levels]
        assert space.decode(space.encode(exact)[0]) == exact


@given(st.floats(1e-6, 1.0), st.floats(-5.0, 5.0))
def test_any_float_comes_back_up_to_rounding(tiny, plain):
    space = Space({"a": Float(1e-6, 1.0, log=True), "b": Float(-5.0, 5.0)})
    back = space.decode(space.encode([{"a": tiny, "b": plain}])[0])[0]
    assert back["a"] == pytest.approx(tiny, rel=2e-14, abs=0)
    assert back["b"] == pytest.approx(plain, rel=0, abs=2e-15)


def test_encoded_values_follow_their_formulas():
    space = Space(
        {"f": Float(2.0, 6.0), "g": Float(1e-4, 1.0, log=True), "i": Int(1, 4), "k": Int(1, 8, log=True)}
    )
    X, active = space.encode([{"f": 3.0, "g": 1e-3, "i": 2, "k": 3}])
    log_bin = (math.log(3) - math.log(0.5)) / (math.log(8.5) - math.log(0.5))
    torch.testing.assert_close(X, torch.tensor([[0.25, 0.25, 0.375, log_bin]], dtype=torch.float64))
    assert (X.dtype, active.all()) == (torch.float64, True)


def test_columns_side_by_side_are_those_one_by_one():
    """To the last bit: plain, logarithmic and narrow logarithmic ranges, beside what cannot be joined."""
    ranges = [(-3.0, 5.0), (0.1, 0.9), (-1e308, 1e308), (7.0, 7.0 + 1e-9)]
    scales = [(1e-5, 0.1), (1.0, 9.0), (1e-8, 1e3), (0.9, 1.0), (0.5, 0.7), (3.0, 3.0 + 1e-12)]
    together = Space(
        {f"p{i}": Float(low, high) for i, (low, high) in enumerate(ranges)}
        | {f"l{i}": Float(low, high, log=True) for i, (low, high) in enumerate(scales)}
        | {"cut": Float(0.0, 1.0), "child": Float(0.0, 2.0, when={"cut": Between(0.3, None)}), "k": Int(1, 9)}
    )
    U = torch.rand(40, together.dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    U = torch.cat([U, U.round()])
    configs = together.decode(U)
    X, _ = together.encode(configs)
    for column, name in enumerate(together.names[: len(ranges) + len(scales)]):
        alone, values = Space({name: together[name]}), [{name: config[name]} for config in configs]
        assert alone.decode(U[:, [column]]) == values
        assert torch.equal(alone.encode(values)[0][:, 0], X[:, column])
    for config, x in zip(configs, X, strict=True):
        assert torch.equal(together.encode([config])[0][0], x)


def test_a_logarithmic_int_owns_half_a_unit_on_both_sides():
    space = Space({"k": Int(1, 9, log=True)})
    start, width = math.log(0.5), math.log(9.5) - math.log(0.5)
    for k in range(1, 10):
        edges = [(math.log(k - 0.5) - start) / width + 1e-9, (math.log(k + 0.5) - start) / width - 1e-9]
        assert space.decode(torch.tensor(edges, dtype=torch.float64)[:, None]) == [{"k": k}] * 2


@pytest.mark.parametrize(
    "condition",
    [Between(0.3), Between(None, 0.3), Between(0.3, 0.3), 0.3, [0.1, 0.3], Between(0.0, 0.1), Between(1.0)],
)
@pytest.mark.parametrize("log", [False, True])
def test_conditions_on_floats_are_sharp(condition, log):
    """Neighbouring floats on both sides of a bound: tensors, dictionaries and round trips must agree."""
    low = 1e-3 if log else 0.0
    if isinstance(condition, Between) and condition.low == 0.0:
        condition = Between(low, 0.1)
    space = Space({"child": Int(0, 1, when={"x": condition}), "x": Float(low, 1.0, log=log)})
    bounds = [low, 0.1, 0.3, 1.0]
    values = [v for b in bounds for v in (b, math.nextafter(b, 2), math.nextafter(b, -1)) if low <= v <= 1.0]
    configs = [{"child": 1, "x": v} if holds(space["child"].when["x"], v) else {"x": v} for v in values]
    X, active = space.encode(configs)
    assert torch.equal(space.activity(X), active)
    assert [config.keys() for config in space.decode(X)] == [config.keys() for config in configs]
    assert [space.validate(config) for config in space.decode(X)] == space.decode(X)


def test_deep_chains_and_many_parameters():
    chain = {"p0": Int(0, 3)} | {f"p{i}": Int(0, 3, when={f"p{i - 1}": [1, 3]}) for i in range(1, 200)}
    space = Space(dict(reversed(chain.items())))
    ways = 4  # of a chain of one: 2 values stop it, 2 lead on
    for _ in range(199):
        ways = 2 + 2 * ways
    assert space.size == ways
    full = {f"p{i}": 3 for i in range(200)}
    X, active = space.encode([full, {"p0": 1, "p1": 0}])
    assert active.sum(-1).tolist() == [200, 2]
    assert space.decode(X) == [space.validate(full), {"p1": 0, "p0": 1}]


def test_ten_thousand_configurations_encode_fast():
    configs = MIXED.decode(draws(MIXED, 10_000))
    start = time.perf_counter()
    MIXED.encode(configs)
    assert time.perf_counter() - start < 2.0  # 0.1 s on one free core


def test_snap_does_not_touch_its_argument():
    X = draws(MIXED) * 3 - 1
    before = X.clone()
    for method in (MIXED.snap, MIXED.activity, MIXED.from_uniform, MIXED.belief, MIXED.decode):
        method(X)
        assert torch.equal(X, before)


def test_an_unconditional_continuous_space_only_clamps():
    space = Space({"a": Float(0, 1), "b": Float(1, 9, log=True)})
    X = torch.tensor([[-0.5, 0.3], [0.7, 1.5]])
    snapped, active = space.snap(X)
    assert torch.equal(snapped, X.clamp(0, 1))
    assert active.shape == X.shape
    assert active.all()


def test_empty_batches():
    X, active = MIXED.encode([])
    assert X.shape == active.shape == (0, 8)
    assert MIXED.decode(X) == []
    assert MIXED.snap(X)[0].shape == (0, 8)
    assert MIXED.belief(X)[0].shape == (0,)


# --- sizes and grids --------------------------------------------------------------------------------------


@given(spaces(finite=True, max_size=5))
def test_the_grid_has_every_configuration_once(space):
    full = [parameter.levels for parameter in space.values()]
    assume(math.prod(full) <= 3000)
    grid = list(space.grid())
    assert len({space.key(config) for config in grid}) == len(grid) == space.size
    assert [space.validate(config) for config in grid] == grid
    combinations = (
        dict(zip(space, values, strict=True))
        for values in product(
            *([parameter.level(k) for k in range(parameter.levels)] for parameter in space.values())
        )
    )
    expected = {
        space.key({name: value for name, value in values.items() if name in active_names(space, values)})
        for values in combinations
    }
    assert {space.key(config) for config in grid} == expected


def test_grid_order_and_laziness():
    space = Space({"a": Int(1, 10**12), "b": Categorical(["x", "y"])})
    grid = space.grid()
    assert [next(grid) for _ in range(3)] == [{"a": 1, "b": "x"}, {"a": 1, "b": "y"}, {"a": 2, "b": "x"}]
    with pytest.raises(ValueError, match=r"'lr' is continuous.*step="):
        MIXED.grid()


@pytest.mark.parametrize(
    ("space", "size"),
    [
        ({f"i{i}": Int(1, 1000) for i in range(50)}, 1000**50),
        ({"a": Float(1, 1), "b": Int(2, 2)}, 1),
        ({"a": Float(0, 1)}, math.inf),
        ({"a": Int(0, 1), "b": Float(0, 1, when={"a": 1})}, math.inf),
        # c needs a == 1 through b and a == 2 directly: never active.
        ({"a": Int(0, 2), "b": Int(0, 1, when={"a": 1}), "c": Float(0, 1, when={"b": 1, "a": 2})}, 4),
        ({"a": Int(1, 10**15), "b": Int(1, 10, when={"a": Between(10**14 + 1)})}, 10**14 + 9 * 10**15),
        (
            {f"p{i}": Int(0, 1) for i in range(40)}
            | {"all": Int(1, 3, when={f"p{i}": 1 for i in range(40)})},
            2**40 - 1 + 3,
        ),
        (
            {f"p{i}": Int(0, 1) for i in range(60)}
            | {f"c{i}": Int(1, 3, when={f"p{i}": 1}) for i in range(60)},
            4**60,
        ),
    ],
)
def test_sizes(space, size):
    assert Space(space).size == size


# --- beliefs over a space ---------------------------------------------------------------------------------

BELIEVED = Space(
    {
        "lr": Float(1e-5, 0.1, log=True, belief=Centre(1e-3, 0.8)),
        "drop": Float(0.0, 1.0, belief=Beta(2.0, 5.0)),
        "width": Int(1, 64, log=True, belief=Normal(16.0, 8.0)),
        "layers": Int(1, 5, belief=Exponential(2.0)),
        "opt": Categorical(["a", "b", "c"], belief={"a": 1, "b": 2, "c": 5}),
        "steps": Int(1, 10**6, belief=Normal(3e5, 1e5)),
        "free": Float(0.0, 1.0),
        "cond": Float(0.0, 2.0, when={"opt": ["b", "c"]}, belief=Gamma(0.5, 1.0)),
    }
)


def test_without_beliefs_nothing_is_preferred():
    X = draws(MIXED).reshape(4, 10, 8)
    logp, gradient = MIXED.belief(X)
    assert not MIXED.has_belief
    assert logp.shape == (4, 10)
    assert not logp.any()
    assert gradient.shape == X.shape
    assert not gradient.any()
    assert torch.equal(MIXED.from_uniform(X), MIXED.snap(X)[0])
    assert torch.equal(MIXED.centre(), torch.full((8,), 0.5, dtype=torch.float64))


def test_samples_follow_the_beliefs():
    """Kolmogorov-Smirnov distance between 20,000 samples and the integrated density, column by column."""
    n = 20_000
    X = BELIEVED.sample(n, torch.Generator().manual_seed(0))
    active = BELIEVED.activity(X)
    nodes = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    for column, name in enumerate(BELIEVED):
        single = Space({name: copy_without_condition(BELIEVED[name])})
        density = single.belief(nodes[:, None])[0].exp()
        assert density.mean() == pytest.approx(1.0, abs=1e-2), name  # of a midpoint rule
        samples = X[active[:, column], column].sort().values
        places = torch.linspace(0.02, 0.98, 49, dtype=torch.float64)
        if single.levels[0] is not None and single.levels[0] < 100:
            edges = single.snap(nodes[:, None])[0].squeeze(-1)
            places = (edges.unique()[:-1] + edges.unique()[1:]) / 2
            expected = torch.stack([density[edges < place].sum() / 20_000 for place in places])
        else:
            expected = density.cumsum(0)[(places * 20_000).long() - 1] / 20_000
        found = (samples[:, None] <= places).double().mean(0)
        assert (found - expected).abs().max() < 1.9 / math.sqrt(len(samples)) + 2e-3, name


def test_the_gradient_of_the_belief_is_its_slope():
    X = BELIEVED.snap(draws(BELIEVED, 200, seed=3) * 0.9 + 0.05)[0]
    logp, gradient = BELIEVED.belief(X)
    active = BELIEVED.activity(X)
    assert logp.min() > -60.0
    for column, levels in enumerate(BELIEVED.levels):
        if levels is not None:
            assert not gradient[:, column].any()
            continue
        step = torch.zeros(BELIEVED.dim, dtype=torch.float64)
        step[column] = 1e-8
        slope = (BELIEVED.belief(X + step)[0] - BELIEVED.belief(X - step)[0]) / 2e-8
        # Only a node of the table between the two points may part them, and never by much.
        torch.testing.assert_close(gradient[:, column], slope, rtol=0.05, atol=0.05)
        assert not gradient[~active[:, column], column].any()


def test_beliefs_over_millions_of_levels_reach_the_first():
    space = Space({"n": Int(1, 10**6, belief=LogUniform())})
    ones = [
        config["n"] == 1 for config in space.decode(space.sample(20_000, torch.Generator().manual_seed(0)))
    ]
    assert sum(ones) / 20_000 == pytest.approx(1 / sum(1 / k for k in range(1, 10**6 + 1)), abs=0.01)


def test_inactive_parameters_have_no_belief():
    configs = [{"lr": 1e-3, "drop": 0.2, "width": 16, "layers": 1, "opt": "a", "steps": 10, "free": 0.5}]
    X, _ = BELIEVED.encode(configs)
    moved = X.clone()
    moved[:, -1] = 0.99
    assert torch.equal(BELIEVED.belief(X)[0], BELIEVED.belief(moved)[0])


def test_the_centre_is_the_median():
    centre = BELIEVED.centre()
    found = BELIEVED.decode(centre[None])[0]
    assert found["lr"] == pytest.approx(1e-3, rel=0.05)
    assert found["steps"] == pytest.approx(3e5, rel=0.01)
    assert found["opt"] == "c"
    assert centre[6] == 0.5
    samples = BELIEVED.sample(20_000, torch.Generator().manual_seed(1))
    below = (samples[:, :2] <= centre[:2]).double().mean(0)
    torch.testing.assert_close(below, torch.full((2,), 0.5, dtype=torch.float64), atol=0.015, rtol=0)


def test_samples_repeat_with_their_seed():
    a, b, c = (MIXED.sample(5, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert a.shape == (5, 8)
    assert torch.equal(a, MIXED.snap(a)[0])


# --- a value ----------------------------------------------------------------------------------------------


def test_a_space_is_a_value():
    same = Space(dict(MIXED))
    assert MIXED == same == Space(MIXED) == copy.deepcopy(MIXED) == pickle.loads(pickle.dumps(MIXED))
    assert hash(MIXED) == hash(same)
    assert Space({"a": Int(0, 1), "b": Int(0, 1)}) != Space({"b": Int(0, 1), "a": Int(0, 1), "c": Int(0, 1)})
    assert Space({"a": Int(0, 1), "b": Int(0, 2)}) != Space({"b": Int(0, 2), "a": Int(0, 1)})
    assert Space({"a": Categorical([1])}) != Space({"a": Categorical([True])})
    assert Space({"a": Categorical([1, 2]), "b": Int(0, 1, when={"a": 1})}) != Space(
        {"a": Categorical([1, 2]), "b": Int(0, 1, when={"a": 2})}
    )
    assert eval(repr(MIXED)) == MIXED
    with pytest.raises(AttributeError, match="immutable"):
        MIXED.names = ()
    with pytest.raises(TypeError):
        MIXED.parameters["lr"] = Int(0, 1)


def test_a_space_copies_its_mapping():
    given = {"a": Int(0, 1)}
    space = Space(given)
    given["b"] = Int(0, 1)
    assert list(space) == ["a"]


def test_attributes():
    assert MIXED.names == ("lr", "layers", "width", "optimizer", "batch", "drop", "momentum", "nesterov")
    assert MIXED.levels == (None, 6, 1017, 3, 3, 6, None, 2)
    assert MIXED.categorical == (False, False, False, True, False, False, False, True)
    assert MIXED.conditional == (False,) * 5 + (True,) * 3
    assert (MIXED.dim, len(MIXED), MIXED.has_conditions, MIXED.size) == (8, 8, True, math.inf)
    assert "lr" in MIXED
    assert "rl" not in MIXED
    assert MIXED["layers"] == Int(1, 6)


def test_key_tells_types_apart():
    space = Space({"c": Categorical([True, 1, 1.0, "1", None])})
    assert len({space.key({"c": choice}) for choice in space["c"].choices}) == 5
    assert [type(c["c"]) for c in space.grid()] == [bool, int, float, str, type(None)]
    assert MIXED.key(BASE) == MIXED.key(dict(reversed(BASE.items())) | {"layers": 2.0})
    assert MIXED.key(BASE) != MIXED.key(BASE | {"layers": 1})


# --- validation -------------------------------------------------------------------------------------------

BASE = {"lr": 0.01, "layers": 2, "width": 64, "optimizer": "adam", "batch": 32}


@pytest.mark.parametrize(
    ("change", "value", "kind"),
    [
        ({"lr": np.float64(0.05)}, 0.05, float),
        ({"lr": np.float32(0.0625)}, 0.0625, float),
        ({"layers": np.int64(1)}, 1, int),
        ({"layers": 1.0}, 1, int),
        ({"batch": np.int32(64)}, 64, int),
        ({"optimizer": None}, None, type(None)),
        ({"layers": 4, "drop": 0.1 + 0.2}, 0.3, float),
        ({"layers": 4, "drop": 0}, 0.0, float),
    ],
)
def test_validate_makes_canonical_values(change, value, kind):
    valid = MIXED.validate(BASE | change)
    name = list(change)[-1]
    assert valid[name] == value
    assert type(valid[name]) is kind
    assert list(valid) == [name for name in MIXED if name in valid]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"lr": "big"}, TypeError, r"'lr': expected a number from 1e-05 to 0\.1, got 'big'; give a float"),
        ({"lr": True}, TypeError, r"'lr': expected a number"),
        ({"lr": math.nan}, ValueError, r"'lr': expected a number .* got nan"),
        ({"lr": 1}, ValueError, r"'lr': .* got 1; choose a value inside"),
        ({"lr": 10**400}, ValueError, r"'lr': expected a number"),
        ({"layers": True}, TypeError, r"'layers': expected a whole number .* got True; give an int"),
        ({"layers": 2.5}, TypeError, r"'layers': .* got 2\.5; round it"),
        ({"layers": math.nan}, ValueError, r"'layers': .* got nan"),
        ({"layers": 7}, ValueError, r"'layers': .* from 1 to 6, got 7; choose"),
        (
            {"optimizer": "sdg"},
            ValueError,
            r"'optimizer': expected one of \['adam', 'sgd', None\], got 'sdg'",
        ),
        ({"optimizer": ["adam"]}, ValueError, r"'optimizer': expected one of"),
        ({"batch": 32.0}, ValueError, r"'batch': .* got 32\.0 \(float\); use one of"),
        (
            {"layers": 4, "drop": 0.25},
            ValueError,
            r"'drop': .* step=0\.1, got 0\.25; the nearest are 0\.2 and 0\.3",
        ),
        ({"layers": 4}, ValueError, r"'drop' is active but missing; give it a value"),
        (
            {"drop": 0.1},
            ValueError,
            r"'drop' is inactive: it needs layers to be 3 or more, but layers is 2; remove",
        ),
        (
            {"nesterov": True},
            ValueError,
            r"'nesterov' is inactive: it needs momentum .* momentum is itself inactive",
        ),
        ({"layer": 2}, ValueError, r"unknown parameter 'layer'; did you mean 'layers'\?.* remove it"),
        ({3: 2}, ValueError, r"unknown parameter 3"),
    ],
)
def test_validate_says_what_is_wrong(change, error, message):
    config = BASE | change
    before = dict(config)
    with pytest.raises(error, match=message):
        MIXED.validate(config)
    with pytest.raises(error, match=r"configuration 1: .*" + message):
        MIXED.encode([BASE, config])
    assert config == before


def test_missing_and_wrong_containers():
    with pytest.raises(ValueError, match="'lr' is active but missing"):
        MIXED.validate({"layers": 1})
    with pytest.raises(TypeError, match="must be a mapping"):
        MIXED.validate([1, 2])
    with pytest.raises(TypeError, match="put it in a list"):
        MIXED.encode(BASE)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: MIXED.snap([0.5]), TypeError, "floating-point tensor"),
        (lambda: MIXED.snap(torch.zeros(3, 8, dtype=torch.int64)), TypeError, "dtype torch.int64"),
        (lambda: MIXED.snap(torch.zeros(3, 7)), ValueError, r"\(\.\.\., 8\).*got \(3, 7\)"),
        (lambda: MIXED.decode(torch.zeros(8)), ValueError, r"\(n, 8\), got \(8,\); use X.reshape"),
        (lambda: MIXED.decode(torch.full((1, 8), math.nan)), ValueError, "nan"),
        (lambda: MIXED.sample(2.0, torch.Generator()), TypeError, "n must be an int"),
        (lambda: MIXED.sample(-1, torch.Generator()), ValueError, "0 or more"),
        (lambda: MIXED.sample(1, 0), TypeError, r"torch\.Generator"),
    ],
)
def test_methods_refuse(call, error, message):
    with pytest.raises(error, match=message):
        call()


# --- construction -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Float("a", 1), TypeError, "Float: low must be a number, got 'a'"),
        (lambda: Float(True, 1), TypeError, "Float: low must be a number, got True"),
        (lambda: Float(0, math.inf), ValueError, "Float: high must be finite, got inf"),
        (lambda: Float(0, 10**400), ValueError, "Float: high must be finite"),
        (lambda: Float(2, 1), ValueError, r"Float: low must not be above high, got low=2\.0, high=1\.0"),
        (lambda: Float(0, 1, log=True), ValueError, r"log=True needs low above 0, got low=0\.0"),
        (lambda: Float(1, 2, log=1), TypeError, "log must be True or False, got 1"),
        (lambda: Float(1, 2, log=True, step=0.5), ValueError, r"log=True and step=0\.5 do not go together"),
        (lambda: Float(0, 1, step=-0.5), ValueError, r"step must be above 0, got -0\.5"),
        (lambda: Float(0, 1, step="a"), TypeError, "step must be a number"),
        (lambda: Float(0, 1, step=0.3), ValueError, r"does not divide.*high=0\.9 or high=1\.2"),
        (lambda: Float(0, 1, step=1e-17), ValueError, "too fine"),
        (lambda: Int(0, 1.0), TypeError, r"Int: high must be an int, got 1\.0; use Float"),
        (lambda: Int(False, 3), TypeError, "Int: low must be an int, got False"),
        (lambda: Int(3, 1), ValueError, "Int: low must not be above high"),
        (lambda: Int(0, 3, log=True), ValueError, "Int: log=True needs low above 0"),
        (lambda: Int(1, 9, log=True, step=2), ValueError, "log=True and step=2"),
        (lambda: Int(1, 9, step=0), ValueError, "step must be 1 or more, got 0"),
        (lambda: Int(1, 6, step=3), ValueError, r"does not divide.*high=4 or high=7"),
        (lambda: Int(1, 6, step=10), ValueError, r"does not divide.*high=1 or high=11"),
        (lambda: Int(0, 2**51), ValueError, r"2\*\*51 levels"),
        (lambda: Int(1, 10**15, log=True), ValueError, "too fine for double precision"),
        (lambda: Categorical("abc"), TypeError, "must be a list or a tuple, got 'abc'"),
        (lambda: Categorical([]), ValueError, "must not be empty"),
        (lambda: Categorical(["a", "b", "a"]), ValueError, "got 'a' twice"),
        (lambda: Categorical([object]), TypeError, "use a name for it"),
        (lambda: Categorical([math.nan]), ValueError, "nan cannot be a choice"),
        (lambda: Categorical([1], ordered="yes"), TypeError, "ordered must be True or False"),
        (lambda: Between(), ValueError, "give low, high or both"),
        (lambda: Between(2, 1), ValueError, "low must not be above high"),
        (lambda: Between("a"), TypeError, "Between: low must be a number"),
        (lambda: Between(high=math.nan), ValueError, "Between: high must be finite"),
        (lambda: Float(0, 1, when=["a"]), TypeError, "when must be a mapping"),
        (lambda: Float(0, 1, when={}), ValueError, "leave when out"),
        (lambda: Float(0, 1, when={1: 2}), TypeError, "names of parameters are strings, got 1"),
        (lambda: Float(0, 1, when={"a": []}), ValueError, "'a' accepts no value"),
        (lambda: Float(0, 1, when={"a": object()}), TypeError, "'a' must be a value, a list"),
        (lambda: Float(0, 1, when={"a": [Between(1)]}), TypeError, "'a' lists Between"),
        (lambda: Float(0, 1, belief="high"), TypeError, "belief must be a distribution or a Centre"),
        (lambda: Float(0, 1, belief=Weights((1.0,))), TypeError, "Weights are for choices"),
        (
            lambda: Float(0, 1, belief=Centre(2.0)),
            ValueError,
            r"Centre\.value: expected a number from 0\.0 to 1\.0",
        ),
        (lambda: Float(0, 1, belief=LogUniform()), ValueError, r"needs low above 0, got low=0\.0"),
        (lambda: Float(-1, 1, belief=Gamma(2, 1)), ValueError, r"needs low of 0 or more"),
        (lambda: Int(0, 4, belief=Gamma(0.5, 1)), ValueError, "infinite at 0"),
        (lambda: Categorical(["a"], belief=Normal(0, 1)), TypeError, "must be a Centre or a mapping"),
        (lambda: Categorical(["a"], belief=Centre("b")), ValueError, r"expected one of \['a'\], got 'b'"),
        (lambda: Categorical(["a", "b"], belief={"a": 1}), ValueError, r"no weight to \['b'\]"),
        (
            lambda: Categorical(["a"], belief={"a": 1, "c": 1}),
            ValueError,
            r"expected one of \['a'\], got 'c'",
        ),
        (lambda: Categorical(["a"], belief=Weights((1, 2))), ValueError, "2 weights for 1 choices"),
        (lambda: Categorical(["a"], belief={"a": -1}), ValueError, "0 or more"),
    ],
)
def test_parameters_refuse(make, error, message):
    with pytest.raises(error, match=message):
        make()


CHILD = {"flag": Categorical(["a", "b"]), "n": Int(1, 5), "size": Categorical([1, 2], ordered=True)}


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({}, ValueError, "at least one parameter"),
        ([Int(0, 1)], TypeError, "must be a mapping"),
        ({1: Int(0, 1)}, TypeError, "names of parameters are strings, got 1"),
        ({"": Int(0, 1)}, ValueError, "empty name"),
        ({"x": (0, 1)}, TypeError, r"'x' must be a Float, Int or Categorical, got \(0, 1\)"),
        ({"x": Int(0, 1, when={"x": 1})}, ValueError, "'x': when= depends on itself"),
        (CHILD | {"x": Int(0, 1, when={"flags": "a"})}, ValueError, "'x': .*'flags'; did you mean 'flag'"),
        (
            CHILD | {"x": Int(0, 1, when={"flag": "c"})},
            ValueError,
            r"'x': when= 'flag' can never match.*got 'c'",
        ),
        (CHILD | {"x": Int(0, 1, when={"n": [2, 9]})}, ValueError, r"'x': when= 'n' can never match.*got 9"),
        (CHILD | {"x": Int(0, 1, when={"n": "2"})}, TypeError, r"'x': when= 'n'.*whole number"),
        (
            CHILD | {"x": Int(0, 1, when={"n": Between(6)})},
            ValueError,
            r"'x': .*none of its values.*from 1 to 5",
        ),
        (CHILD | {"x": Int(0, 1, when={"n": Between(2.1, 2.9)})}, ValueError, r"'x': .*none of its values"),
        (CHILD | {"x": Int(0, 1, when={"size": Between(3)})}, ValueError, r"'x': .*which are \[1, 2\]"),
        (CHILD | {"x": Int(0, 1, when={"flag": Between(1)})}, TypeError, r"'x': .*ordered numeric choices"),
        (
            {
                "a": Int(0, 1, when={"b": 1}),
                "b": Int(0, 1, when={"c": 1}),
                "c": Int(0, 1, when={"a": 1}),
                "d": Int(0, 1),
            },
            ValueError,
            "'a': .*cycle, 'a' needs 'b' needs 'c' needs 'a'",
        ),
        ({"x": Float(0, 1, belief=Normal(-1e300, 1e-300))}, ValueError, "'x': belief .* no weight"),
    ],
)
def test_spaces_refuse(parameters, error, message):
    with pytest.raises(error, match=message):
        Space(parameters)


def test_step_levels_are_the_decimals_that_were_written():
    parameter = Float(0.0, 1.0, step=0.1)
    assert [parameter.level(k) for k in range(parameter.levels)] == [k / 10 for k in range(11)]
    fine = Float(0.0, 1000.0, step=0.01)
    assert [fine.level(k) for k in (3, 7, 12345, 99999)] == [0.03, 0.07, 123.45, 999.99]


# --- stored forms -----------------------------------------------------------------------------------------

STORED = Space(
    {
        'a "quoted" näme\x7f': Categorical([None, True, 1, 1.0, "x\n\\", math.inf], ordered=True),
        "lr": Float(1e-5, 0.1, log=True, belief=LogNormal(-7.0, 2.0)),
        "n": Int(-(10**15), 10**15, when={'a "quoted" näme\x7f': [None, True]}, belief=Centre(5, 0.9)),
        "z": Float(0, 1, step=0.25, when={"n": Between(3, 7.5), "lr": Between(high=1e-3)}, belief=Uniform()),
        "one": Categorical(
            ["a", "type"], when={"n": 3, 'a "quoted" näme\x7f': None}, belief={"a": 1, "type": 2}
        ),
        "two": Categorical([None, "a"], belief=Centre(None, 0.3)),
    }
)


@given(spaces())
def test_stored_spaces_come_back(space):
    for back in (
        Space.from_dict(space.to_dict()),
        Space.from_json(space.to_json()),
        Space.from_toml(space.to_toml()),
    ):
        assert back == space
        assert repr(back) == repr(space)


def test_a_hard_space_comes_back():
    assert Space.from_dict(STORED.to_dict()) == STORED
    assert Space.from_json(STORED.to_json()) == STORED
    assert Space.from_toml(STORED.to_toml()) == STORED


def test_toml_by_hand():
    text = """
    opt = {type = "categorical", choices = ["sgd", {none = true}], belief = {sgd = 3, other = 1}}
    [lr]
    type = "float"
    low = 1e-5
    high = 1
    log = true
    when = {opt = "sgd", n = {min = 3}}
    belief = {type = "centre", value = 1e-3}
    [n]
    type = "int"
    low = 1
    high = 5
    when = {opt = ["sgd", {none = true}]}
    """
    with pytest.raises(ValueError, match=r"'opt': Categorical: belief: expected one of .* got 'other'"):
        Space.from_toml(text)
    space = Space.from_toml(text.replace(", belief = {sgd = 3, other = 1}", ""))
    assert space == Space(
        {
            "opt": Categorical(["sgd", None]),
            "lr": Float(1e-5, 1, log=True, when={"opt": "sgd", "n": Between(3)}, belief=Centre(1e-3)),
            "n": Int(1, 5, when={"opt": ["sgd", None]}),
        }
    )


@pytest.mark.parametrize(
    ("entry", "error", "message"),
    [
        (3, TypeError, "'x': expected a table"),
        ({}, ValueError, "'x': unknown type None; types: float, int, categorical"),
        ({"type": "flaot"}, ValueError, "'x': unknown type 'flaot'; did you mean 'float'"),
        ({"type": "float", "low": 0, "hihg": 1}, ValueError, "'x': .*no field 'hihg'; did you mean 'high'"),
        ({"type": "float", "low": 0}, ValueError, "'x': type 'float' needs high"),
        ({"type": "int", "low": 0, "high": "1"}, TypeError, "'x': Int: high must be an int"),
        (
            {"type": "int", "low": 0, "high": 1, "when": {"y": {"mni": 1}}},
            ValueError,
            "'x': when: 'y' must be",
        ),
        ({"type": "int", "low": 0, "high": 1, "when": 3}, TypeError, "'x': when must be a mapping"),
        (
            {"type": "int", "low": 0, "high": 1, "belief": {"type": "norm"}},
            ValueError,
            "'x': .*did you mean 'normal'",
        ),
        (
            {"type": "int", "low": 0, "high": 1, "belief": {"type": "normal", "mean": 1}},
            ValueError,
            "'x': .*needs std",
        ),
    ],
)
def test_stored_spaces_refuse(entry, error, message):
    with pytest.raises(error, match=message):
        Space.from_dict({"x": entry})


def test_broken_texts():
    with pytest.raises(ValueError, match="not valid TOML"):
        Space.from_toml("[x")
    with pytest.raises(ValueError, match="not valid JSON"):
        Space.from_json("{")
    with pytest.raises(TypeError, match="must be a mapping"):
        Space.from_json("[]")
