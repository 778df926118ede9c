"""The outcome transform: invariances, ties, extremes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bayesopt.surrogates.outcomes import half_rank


def values(n=21, seed=0):
    return torch.randn(3, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(
    values=st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=30),
    scale=st.floats(1e-3, 1e3),
    shift=st.floats(-1e3, 1e3),
)
def test_mean_zero_deviation_one_and_order_kept(values, scale, shift):
    y = torch.tensor(values, dtype=torch.float64)
    z = half_rank(y)
    assert torch.isfinite(z).all()
    order = y.argsort(stable=True)
    assert (z[order].diff() >= -1e-9).all()
    if y.max() - y.min() > 1e-6:
        torch.testing.assert_close(z.mean(), torch.zeros(()).double(), atol=1e-9, rtol=0)
        torch.testing.assert_close(z.std(), torch.ones(()).double(), atol=1e-6, rtol=0)
        if y.max() - y.min() > 1e-2:  # else the shift costs the digits that tell the values apart
            torch.testing.assert_close(half_rank(scale * y + shift), z, atol=1e-4, rtol=0)


def test_batch_equals_single_and_order_of_values_is_irrelevant(device):
    y = values().to(device)
    z = half_rank(y)
    shuffle = torch.randperm(21, generator=torch.Generator().manual_seed(1)).to(device)
    for i in range(3):
        torch.testing.assert_close(z[i], half_rank(y[i]), rtol=0, atol=1e-14)
        torch.testing.assert_close(z[i][shuffle], half_rank(y[i][shuffle]), rtol=0, atol=1e-14)


def test_better_half_keeps_its_spacing_and_worse_half_only_its_ranks():
    y = values()
    worse = y.clone()
    above = y > y.median(-1, keepdim=True).values
    worse[above] = (3 * y[above]).exp() + 10  # same order, wildly other values
    z, z_worse = half_rank(y), half_rank(worse)
    torch.testing.assert_close(z, z_worse)
    good = y[0] <= y[0].median()
    ratio = z[0][good].diff() / y[0][good].diff()
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio))


def test_equal_values_get_equal_results():
    z = half_rank(torch.tensor([1.0, 5.0, 2.0, 5.0, 5.0, 0.0, 7.0], dtype=torch.float64))
    assert z[1] == z[3] == z[4]


@pytest.mark.parametrize(
    "y",
    [
        [3.0],
        [3.0, 3.0, 3.0],
        [1e300, -1e300, 0.0],
        [1e-300, 2e-300, 3e-300],
        [1.7e308, -1.7e308],
        [5e-324, 0.0, 1e-310],
        [0.0, 0.0, 0.0, 0.0, 1.0],
        [1e16, 1e16 + 2, 1e16 + 4],
    ],
)
def test_extremes_are_finite(y):
    z = half_rank(torch.tensor(y, dtype=torch.float64))
    assert torch.isfinite(z).all()
    assert z.abs().max() < 20


def test_tiny_values_are_told_apart():
    z = half_rank(torch.tensor([1e-300, 2e-300, 3e-300, 9e-300], dtype=torch.float64))
    assert (z.diff() > 0.1).all()
