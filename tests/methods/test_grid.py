"""The grid against brute force."""

import itertools

import pytest
import torch

from bayesopt import Categorical, Float, Int, Space
from bayesopt.methods.grid import check_grid, propose_grid
from bayesopt.methods.history import History
from tests.methods.histories import CHOICES, CONDITIONAL, FINITE, SMOOTH, history, one, places

TREE = Space(
    {
        "k": Int(1, 40, when={"c": ["a", "b"]}),
        "c": Categorical(["a", "b", True, 1]),
        "s": Float(0.0, 1.0, step=0.5, when={"k": [1, 2, 3]}),
    }
)
SPACES = {
    "finite": FINITE, "log": Space({"k": Int(1, 60, log=True), "one": Int(3, 3), "b": Int(-2, 2)}),
    "choices": CHOICES, "tree": TREE,
}  # fmt: skip
spaces = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES.keys())


def told(space, X, pending=0, asked=0):
    """One study that knows X, the last of them pending."""
    X, active = X[None], torch.ones_like(X[None], dtype=torch.bool)
    n = X.shape[1] - pending
    y = torch.zeros(1, n, dtype=X.dtype, device=X.device)
    return History(X[:, :n], active[:, :n], y, X[:, n:], active[:, n:], (0,), asked, places(n, 0))


@spaces
@pytest.mark.parametrize("q", [1, 7])
def test_one_ask_after_the_other_is_the_grid(space, q, device):
    X = torch.empty(0, space.dim, dtype=torch.float64, device=device)
    while len(X) < space.size:
        proposals = propose_grid(space, told(space, X, pending=min(3, len(X))), min(q, space.size - len(X)))
        X = torch.cat([X, proposals[0]])
    assert space.decode(X) == list(space.grid())
    torch.testing.assert_close(X, space.snap(X)[0], rtol=0, atol=0)


def test_the_order_is_that_of_itertools_product():
    names = list(FINITE)
    values = [[FINITE[name].level(k) for k in range(FINITE[name].levels)] for name in names]
    expected = [dict(zip(names, row, strict=True)) for row in itertools.product(*values)]
    X = propose_grid(FINITE, told(FINITE, torch.empty(0, 3, dtype=torch.float64)), len(expected))
    assert FINITE.decode(X[0]) == expected


@spaces
def test_gaps_are_filled_first_and_nothing_known_comes_again(space, device):
    every = space.encode(list(space.grid()))[0].to(device)
    order = torch.randperm(len(every), generator=torch.Generator().manual_seed(1))
    known, free = order[: len(every) // 2], order[len(every) // 2 :].sort().values
    proposals = propose_grid(space, told(space, every[known], pending=2, asked=5), len(free))
    torch.testing.assert_close(proposals[0], every[free], rtol=0, atol=0)


@spaces
def test_past_its_end_it_begins_again(space, device):
    every = space.encode(list(space.grid()))[0].to(device)
    proposals = propose_grid(space, told(space, every[1:]), len(every) + 3)[0]
    torch.testing.assert_close(proposals, torch.cat([every[:1], every, every[:2]]), rtol=0, atol=0)


@spaces
def test_a_batch_of_studies_is_its_studies(space, device):
    h = history(space, device, n=3, pending=1)
    X = propose_grid(space, h, 2)
    for i in range(len(h.seeds)):
        torch.testing.assert_close(X[i : i + 1], propose_grid(space, one(h, i), 2), rtol=0, atol=0)


def test_a_grid_too_large_for_any_counter():
    space = Space({f"k{i}": Int(0, 2**50) for i in range(40)})
    X = torch.empty(0, 40, dtype=torch.float64)
    far = space.encode([dict.fromkeys(space, 2**50)])[0]
    for k in range(5):
        X = torch.cat([X, propose_grid(space, told(space, torch.cat([X, far])), 1)[0]])
        assert space.decode(X[-1:])[0] == {**dict.fromkeys(space, 0), "k39": k}


@pytest.mark.parametrize(
    ("space", "name", "fix"),
    [
        (SMOOTH, "'x'", "step="),
        (CONDITIONAL, "'u'", "step="),
        (Space({"a": Int(0, 3), "lr": Float(1e-5, 1.0, log=True)}), "'lr'", "ordered=True"),
    ],
)
def test_an_infinite_axis_is_named_with_the_fix(space, name, fix):
    with pytest.raises(ValueError, match=f"{name} is continuous; .*{fix}"):
        check_grid(space)
