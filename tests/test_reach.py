"""How many results are fitted exactly: the decision, by made-up devices, and what is kept of it."""

import pytest
import torch

from bayesopt import Float, Optimizer, calibration, reach
from bayesopt.device import CPU, sparing
from bayesopt.reach import LENGTHS, MATRICES, SECONDS, Reach, largest_fit, longest, seconds_of
from bayesopt.surrogates.model import LARGEST_FIT
from tests import pretend

GPU = torch.device("cuda:0")
GB = 1e9


@pytest.fixture
def gpu(monkeypatch, tmp_path):
    """A GPU that was never measured, in name."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "made-up card")
    for each in (reach.reach_of, reach._tell_short):
        each.cache_clear()
    yield tmp_path
    for each in (reach.reach_of, reach._tell_short):
        each.cache_clear()


@pytest.mark.parametrize(
    ("rate", "memory", "expected"),
    [
        (20e12, 140 * GB, 20_480),
        (20e12, 24 * GB, 16_384),  # 8 matrices of 20,480 are 27 GB
        (20e12, 1 * GB, LARGEST_FIT),
        (1e12, 140 * GB, 8192),  # 1.7 n^3 operations take 0.9 s there, and 7.5 s at the next
        (0.3e12, 140 * GB, 4096),
        (0.03e12, 140 * GB, LARGEST_FIT),
    ],
)
def test_time_and_memory_decide(rate, memory, expected):
    took = {}

    def seconds(n):
        took[n] = 1.7 * n**3 / rate
        return took[n]

    assert longest(seconds, memory) == expected
    assert all(8 * MATRICES * n**2 <= memory for n in took)
    assert sum(took.values()) < 5 * SECONDS  # what takes far too long is not even tried


def test_what_must_take_too_long_is_not_measured():
    assert longest({LENGTHS[0]: 0.6 * SECONDS}.__getitem__, 1e12) == LENGTHS[0]


def test_on_the_cpu_it_is_the_same_everywhere_and_nothing_is_measured(monkeypatch):
    monkeypatch.setattr(reach, "reach_of", lambda gpu: pytest.fail("measured"))
    assert largest_fit(CPU, 10**6) == LARGEST_FIT
    assert largest_fit(GPU, LARGEST_FIT) == LARGEST_FIT  # short histories ask for nothing


def test_it_is_measured_once_and_kept_beside_the_crossover(gpu, monkeypatch):
    monkeypatch.setattr(reach, "measured", lambda device: Reach(8192))
    assert largest_fit(GPU, LARGEST_FIT + 1) == 8192
    reach.reach_of.cache_clear()  # as in another process
    monkeypatch.setattr(reach, "measured", lambda device: pytest.fail("measured again"))
    assert largest_fit(GPU, 10**6) == 8192
    (file,) = (gpu / "bayesopt").iterdir()
    assert file == calibration.cache_file("made-up card", "reach")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "8192", '{"largest": 5000}', '{"largest": "8192"}'])
def test_a_damaged_file_is_measured_again(gpu, text, monkeypatch):
    path = calibration.cache_file("made-up card", "reach")
    path.parent.mkdir(parents=True)
    path.write_text(text)
    monkeypatch.setattr(reach, "measured", lambda device: Reach(4096))
    assert largest_fit(GPU, 10**6) == 4096
    assert Reach.from_json(path.read_text()) == Reach(4096)


def test_where_memory_is_short_a_part_must_do_with_one_warning(gpu, monkeypatch, caplog):
    monkeypatch.setattr(reach, "measured", lambda device: Reach(8192))
    with sparing(0.5):
        assert largest_fit(GPU, 10**6) == 8192
    assert not caplog.records
    with sparing(0.25):
        assert [largest_fit(GPU, 10**6) for _ in range(2)] == [LARGEST_FIT] * 2
    assert len(caplog.records) == 1


def test_what_is_timed_is_an_evaluation_after_another(device, monkeypatch):
    calls = []
    real = reach.negative_log_posterior
    monkeypatch.setattr(
        reach,
        "negative_log_posterior",
        lambda theta, X, *rest: calls.append(X.shape) or real(theta, X, *rest),
    )
    clock = iter([0.0, 10.0, 30.0, 70.0])
    assert (
        seconds_of(device, 40, lambda: next(clock)) == 40.0
    )  # the first of the two, and what it loads, is not
    assert calls == [(1, 40, 20)] * 2


def test_a_study_takes_in_what_its_device_can(monkeypatch):
    """By a made-up reach of 25 on a pretend GPU, where the CPU fits 20."""
    for module in ("surrogates.prefixes", "surrogates.feasibility"):
        monkeypatch.setattr(f"bayesopt.{module}.LARGEST_FIT", 20)
    with pretend.gpu() as gpu:
        monkeypatch.setattr("bayesopt.learner.largest_fit", lambda d, n: 20 if d.type == "cpu" else 25)
        for n, there, here in ((18, 18, 18), (23, 23, 20), (30, 25, 20)):
            for device, expected in ((gpu.device, there), ("cpu", here)):
                opt = Optimizer({"x": Float(0.0, 1.0)}, device=device)
                opt.tell([{"x": i / n} for i in range(n)], [(i / n - 0.3) ** 2 for i in range(n)])
                opt.explain()
                (learnt,) = opt._learner._latest.values()
                assert learnt.outcomes.y.shape[-1] == expected
