"""Workers on a simulated clock: when each starts, what it is told, and how they share the time."""

import numpy as np
import pytest

from benchmarks import clock, peers
from benchmarks.methods import METHODS
from benchmarks.problems import functions as problems


class Recorder:
    """A method that proposes 0, 1, 2, ... and remembers what it was told."""

    def __init__(self):
        self.asked, self.told = 0, []

    def ask(self):
        self.asked += 1
        return {"x": self.asked - 1}

    def tell(self, config, value, /):
        assert value == 10 * config["x"]
        self.told.append(config["x"])


def test_durations_belong_to_seed_and_place_and_have_the_moments_they_claim():
    assert clock.durations(3, 7) == clock.durations(3, 50)[:7]
    assert clock.durations(3, 7) != clock.durations(4, 7)
    times = np.array([clock.durations(seed, 200) for seed in range(300)])
    assert times.min() > 0
    assert times.mean() == pytest.approx(1.0, abs=0.01)
    assert times.std() == pytest.approx(clock.VARIATION, abs=0.02)


@pytest.mark.parametrize("count", [1, 4, 16, 64, 500])
def test_a_free_worker_starts_at_once_and_everything_is_told_once_in_order(count):
    recorder, times = Recorder(), clock.durations(5, 200)
    ended, values = clock.simulate(clock.Alone(recorder), [lambda config: 10 * config["x"]], count, [times])
    assert ended.shape == values.shape == (1, 200)
    assert sorted(recorder.told) == list(range(200)) == sorted((values[0] / 10).astype(int))
    ends = dict(zip(recorder.told, ended[0], strict=True))
    started = [0.0] * min(count, 200) + list(ended[0])  # the i-th starts when the one before it makes room
    assert all(ends[i] == started[i] + times[i] for i in range(200))
    assert np.all(np.diff(ended[0]) >= 0)


def test_workers_share_the_time():
    recorders, times = [Recorder() for _ in range(3)], clock.durations(0, 200)
    functions = [lambda config: 10 * config["x"]]
    last = {
        count: clock.simulate(clock.Alone(recorder), functions, count, [times])[0][0, -1]
        for count, recorder in zip((1, 4, 16), recorders, strict=True)
    }
    assert last[1] == pytest.approx(sum(times))
    for count in (4, 16):
        assert sum(times) / count <= last[count] < sum(times) / count + max(times)


@pytest.mark.parametrize("name", ["bayesopt", "optuna-tpe", "random"])
def test_one_worker_is_a_plain_loop(name):
    if not METHODS[name].installed:
        pytest.skip(METHODS[name].command)
    problem = problems.hartmann6_problem()
    first, second = (peers.build(name, problem.space(), 1) for _ in range(2))
    _, values = clock.simulate(clock.Alone(first), [problem], 1, [clock.durations(1, 12)])
    expected = []
    for _ in range(12):
        config = second.ask()
        expected.append(problem(config))
        second.tell(config, expected[-1])
    assert values[0].tolist() == expected
