"""Plateaus: where an objective does not resolve what it is given."""

from typing import ClassVar

import pytest
import torch

from bayesopt import Float, Optimizer
from bayesopt.acquisition.resolution import Unresolved, resolution


def points(n, d, seed=0):
    return torch.rand(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)[None]


def test_the_resolution_of_a_grid_is_found_and_a_smooth_function_has_none(device):
    F = points(200, 2).to(device)
    steps = (8 * F[..., 0]).floor() + 3.1 * (8 * F[..., 1]).floor()
    radius = float(resolution(F, steps))
    assert 0.02 < radius < 0.25  # a good part of the cells' width, 1/8
    assert float(resolution(F, F.sum(-1))) == 0.0
    few = F.sum(-1).clone()
    few[0, 1] = few[0, 0]  # one coincidence
    assert float(resolution(F, few)) == 0.0


def test_by_brute_force():
    F, y = points(40, 3), (2.5 * points(40, 3).sum(-1)).round()
    rows = []
    for i in y[0].argsort(stable=True)[:20].tolist():
        distance = [(float((F[0, i] - F[0, j]).norm()), j) for j in range(40) if j != i]
        nearest, j = min(distance)
        rows.append((nearest, bool(y[0, i] == y[0, j])))
    rows.sort()
    expected = 0.0
    for k in range(1, 21):
        ties = sum(tie for _, tie in rows[:k])
        if ties >= 3 and ties >= k / 4:
            expected = rows[k - 1][0]
    assert float(resolution(F, y)) == pytest.approx(expected)
    assert expected > 0


def test_bad_outcomes_that_are_all_alike_are_no_plateau():
    F = points(60, 3)
    y = F.sum(-1)
    assert float(resolution(F, y.clamp_max(float(y.quantile(0.5))))) == 0.0
    assert float(resolution(F, -(-y).clamp_max(-float(y.quantile(0.5))))) > 0.0  # the good ones are


def test_of_each_study_alone():
    F = torch.cat([points(30, 2, 0), points(30, 2, 1)])
    y = torch.stack([(4 * F[0, :, 0]).floor(), F[1].sum(-1)])
    together = resolution(F, y)
    assert together.tolist() == [float(resolution(F[i : i + 1], y[i : i + 1])) for i in range(2)]
    assert together[0] > 0 and together[1] == 0


def test_the_penalty_and_its_gradient():
    F, X = points(6, 3), points(50, 3, 1)
    term = Unresolved(F, torch.tensor([[0.3]], dtype=torch.float64))
    X.requires_grad_()
    value, gradient = term.value_and_gradient(X)
    torch.testing.assert_close(value, term.value(X))
    distance = torch.cdist(X, F).amin(-1)
    expected = -30.0 * (1 - distance / 0.3).clamp_min(0).square()
    torch.testing.assert_close(value, expected)
    (oracle,) = torch.autograd.grad(expected.sum(), X)
    torch.testing.assert_close(gradient, oracle)
    assert (value < 0).any() and (value == 0).any()
    assert (Unresolved(F, torch.zeros(1, 1, dtype=F.dtype)).value(F) == 0).all()
    assert float(term.value(F).mean()) == -30.0


def test_what_is_under_way_is_kept_away_from_as_well():
    F, new, X = points(6, 3), points(2, 3, 2), points(50, 3, 1)
    radius = torch.tensor([[0.3]], dtype=torch.float64)
    beside, together = Unresolved(F, radius).beside(new), Unresolved(torch.cat([F, new], 1), radius)
    torch.testing.assert_close(beside.value(X), together.value(X))
    assert float(beside.value(new).mean()) == -30.0


class Lookup:
    """The entry of a table of 150 that is nearest to a configuration, as recorded runs are looked up."""

    space: ClassVar = {name: Float(0.0, 1.0) for name in "abc"}

    def __init__(self, seed):
        self.entries = points(150, 3, seed)[0]
        self.losses = (self.entries - 0.3).square().sum(-1)

    def entry(self, config):
        x = torch.tensor([list(config.values())], dtype=torch.float64)
        return int(torch.cdist(x, self.entries).argmin())

    def loss(self, config):
        return float(self.losses[self.entry(config)])


def test_a_table_behind_a_continuous_space_is_not_asked_for_the_same_entry_again():
    """Mostly the best one is found, too."""
    found, different = 0, 0
    for seed in range(6):
        table = Lookup(seed)
        opt = Optimizer(table.space, seed=seed)
        for _ in range(60):
            config = opt.ask()
            opt.tell(config, table.loss(config))
        found += opt.best.value == float(table.losses.min())
        different += len({table.entry(trial.config) for trial in opt.trials})
    assert found >= 4
    assert different > 6 * 35  # 21 where plateaus are no obstacle and the model sees a trend


def test_nor_twice_in_a_batch():
    twice = 0
    for seed in range(4):
        table = Lookup(seed)
        opt = Optimizer(table.space, seed=seed)
        for round_ in range(10):
            configs = opt.ask(8)
            opt.tell(configs, [table.loss(config) for config in configs])
            if round_ >= 4:
                twice += 8 - len({table.entry(config) for config in configs})
    assert twice < 48  # of 192; 62 where only what is observed is kept away from


def test_nor_by_a_worker_while_another_evaluates_it():
    twice = 0
    for seed in range(4):
        table = Lookup(seed)
        opt = Optimizer(table.space, seed=seed)
        running = opt.ask(8)
        for step in range(80):
            opt.tell(running[0], table.loss(running[0]))
            running = [*running[1:], opt.ask()]
            entries = [table.entry(config) for config in running]
            twice += step >= 32 and entries[-1] in entries[:-1]
    assert twice < 34  # of 192; 50 where only what is observed is kept away from
