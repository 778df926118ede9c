"""Where `device="auto"` computes: the decision, what is kept of it, and what it costs without a GPU."""

import json
import logging
import subprocess
import sys
from itertools import count

import pytest
import torch

from bayesopt import Categorical, Float, Optimizer, Replicates, calibration
from bayesopt.calibration import BATCH, LENGTHS, STUDIES, Costs, Crossover, Placement, kept, place
from bayesopt.device import CPU
from tests import pretend

GPU = torch.device("cuda:0")
SPACE = {"x": Float(-1.0, 1.0), "y": Float(-1.0, 1.0)}

#: A slow and steady one, and one that is slow at first.
FLAT = Costs(single=(0.02, 0.02, 0.04), several=(0.02, 0.02), batch=0.04)
STEEP = Costs(single=(0.01, 0.02, 0.16), several=(0.16, 0.32), batch=0.16)
TABLE = Crossover(cpu=STEEP, gpu=FLAT)


def test_costs_are_as_measured_where_they_were_measured():
    for costs in (FLAT, STEEP):
        assert [costs.seconds(n) for n in LENGTHS] == pytest.approx(costs.single)
        assert [costs.seconds(n, 1, STUDIES) for n in LENGTHS[:2]] == pytest.approx(costs.several)
        assert costs.seconds(LENGTHS[1], BATCH) == pytest.approx(costs.batch)


def test_costs_between_and_beyond_follow_the_line_in_the_logarithms():
    assert STEEP.seconds(64) == pytest.approx((0.01 * 0.02) ** 0.5)
    assert STEEP.seconds(2048) == pytest.approx(0.16 * 8.0)
    assert STEEP.seconds(1) == pytest.approx(0.01)
    assert STEEP.seconds(10**6) == STEEP.seconds(2048)  # of longer histories a part is looked at
    assert STEEP.seconds(128, 15) == pytest.approx(0.02 + 2 * (0.16 - 0.02))
    assert STEEP.seconds(32, 1, 256) == pytest.approx(0.01 * 16.0**2)
    assert FLAT.seconds(512, 1, 1000) == pytest.approx(0.04)


@pytest.mark.parametrize(
    ("n", "q", "studies", "device"),
    [
        (32, 1, 1, CPU),
        (128, 1, 1, CPU),  # as quick there: not by a tenth quicker
        (512, 1, 1, GPU),
        (20_000, 1, 1, GPU),
        (128, BATCH, 1, GPU),
        (32, 1, STUDIES, GPU),
        (32, 1, 2, CPU),
    ],
)
def test_the_gpu_is_chosen_where_it_is_quicker(n, q, studies, device):
    found = TABLE.place(GPU, n, q, studies)
    assert found.device == device
    here, there = STEEP.seconds(n, q, studies), FLAT.seconds(n, q, studies)
    assert (1.1 * there < here) == (device == GPU)
    assert f"{1000 * there:.3g} ms on the GPU, {1000 * here:.3g} ms on the CPU" in found.reason


def test_a_gpu_that_is_never_quicker_is_never_chosen():
    for n in (1, 100, 10_000):
        for q, studies in ((1, 1), (100, 1), (1, 1000)):
            assert Crossover(cpu=FLAT, gpu=FLAT).place(GPU, n, q, studies).device == CPU


def test_measuring_takes_the_quickest_run_of_each_situation_by_the_clock():
    asked, now = [], [0.0]
    steps = count()

    def work(device, n, q, studies):
        asked.append((device, n, q, studies))
        now[0] += 0.001 * n * q * studies * (1 + next(steps) % 2)  # every other run is disturbed

    costs = calibration.costs_of(CPU, lambda: now[0], work)
    assert costs.single[0] == pytest.approx(0.032)
    assert all(1.0 <= t / (0.001 * n) <= 2.0 for t, n in zip(costs.single, LENGTHS, strict=True))
    assert {each[1:] for each in asked} == {
        *((n, 1, 1) for n in LENGTHS), *((n, 1, STUDIES) for n in LENGTHS[:2]), (LENGTHS[1], BATCH, 1),
    }  # fmt: skip
    assert len(asked) <= 1 + 3 * 6


def test_what_is_timed_is_an_ask(device):
    points = calibration.ask_like(device, 16, 2, 3)
    assert points.shape == (3, 2, calibration.DIMENSION)
    assert points.device == CPU
    assert ((points >= 0) & (points <= 1)).all()


def test_what_was_measured_is_kept_and_read_again(tmp_path):
    path = tmp_path / "new" / "crossover.json"
    assert kept(path, lambda: TABLE, Crossover.from_json) == TABLE
    assert kept(path, lambda: pytest.fail("measured again"), Crossover.from_json) == TABLE
    assert [p.name for p in path.parent.iterdir()] == ["crossover.json"]


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "{}", "null", '{"cpu": 1, "gpu": 2}', TABLE.to_json()[:-20],
        TABLE.to_json().replace("0.16", "-0.16"), TABLE.to_json().replace("0.16", '"much"'),
        TABLE.to_json().replace("0.16", "NaN"), "\ud800",
        json.dumps({"cpu": {"single": [1.0], "several": [], "batch": 1.0}}),
    ],
)  # fmt: skip
def test_a_damaged_file_is_measured_again_and_mended(tmp_path, text):
    path = tmp_path / "crossover.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    assert kept(path, lambda: TABLE, Crossover.from_json) == TABLE
    assert Crossover.from_json(path.read_text()) == TABLE


def test_what_cannot_be_kept_is_used_all_the_same(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    with caplog.at_level(logging.INFO, "bayesopt"):
        assert kept(tmp_path / "file" / "crossover.json", lambda: TABLE, Crossover.from_json) == TABLE
    assert "cannot be kept" in caplog.text


def test_the_file_is_that_of_this_machine(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = calibration.cache_file("card", "crossover")
    assert path.parent == tmp_path / "bayesopt"
    assert path == calibration.cache_file("card", "crossover")
    assert path != calibration.cache_file("other card", "crossover")
    assert path != calibration.cache_file("card", "reach")
    monkeypatch.setattr(torch, "__version__", "0")
    assert calibration.cache_file("card", "crossover") != path
    monkeypatch.setenv("XDG_CACHE_HOME", "relative, to be ignored")
    assert calibration.cache_file("card", "crossover").parent.is_absolute()
    assert tmp_path not in calibration.cache_file("card", "crossover").parents


# -------------------------------------------------------------------------------------------------- at an ask


def test_without_a_gpu_nothing_is_measured_loaded_or_written(tmp_path):
    code = """
import sys, torch
torch.cuda.is_available = lambda: False
from bayesopt import Optimizer, Float, calibration
calibration.measured = calibration.cache_file = torch.cuda._lazy_init = None
opt = Optimizer({"x": Float(0.0, 1.0)})
opt.tell([{"x": i / 40} for i in range(40)], [(i / 40 - 0.3) ** 2 for i in range(40)])
opt.ask(), opt.regret()
print(opt.explain().device, opt.explain().device_reason, sep=": ")
assert not torch.cuda.is_initialized()
"""
    env = {"XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": ".", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "cpu: torch finds no GPU here"
    assert not list(tmp_path.iterdir())


def test_a_short_study_does_not_ask_for_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: pytest.fail("asked"))
    assert place(LENGTHS[0] - 1).device == CPU


def test_a_gpu_that_does_not_work_is_left_alone_with_one_warning(monkeypatch, caplog):
    def broken(*_):
        raise RuntimeError("no driver today")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", broken)
    for _ in range(2):
        found = place(100)
        assert found.device == CPU
        assert "no driver today" in found.reason
    assert len(caplog.records) == 1


def study(n, device="auto", **settings):
    opt = Optimizer(SPACE, device=device, **settings)
    uniform = torch.rand(n, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    configs = opt.space.decode(uniform)
    opt.tell(configs, [c["x"] ** 2 + (c["y"] - 0.3) ** 2 for c in configs])
    return opt


def test_a_study_moves_to_the_gpu_as_it_grows_and_proposes_the_same(monkeypatch):
    """By a made-up crossover at 12 results; what was fitted on the CPU moves along."""
    with pretend.gpu() as gpu:

        def by_length(n, q=1, studies=1):
            return Placement(gpu.device if n >= 12 else CPU, "made up")

        monkeypatch.setattr("bayesopt.learner.place", by_length)
        moving, staying = study(11), study(11, "cpu")
        for n in (11, 12):
            gpu.clear()
            config = moving.ask()
            assert bool(gpu.stalls) == (n >= 12)
            there, here = (list(each.values()) for each in (config, staying.ask()))
            assert there == pytest.approx(here, abs=1e-9)
            for opt in (moving, staying):
                opt.tell(config, 1.0)
        assert moving.explain().device == str(gpu.device)
        assert "made up" in moving.explain().describe()


@pytest.mark.parametrize(
    ("settings", "device", "reason"),
    [
        ({"device": "cpu"}, "cpu", "device='cpu' was asked for"),
        ({"method": "tpe"}, "cpu", "too short for a GPU"),
        ({}, "cpu", "fewer than 32 results"),
        ({"method": "genetic"}, "", ""),
    ],
)
def test_an_explanation_says_where_and_why(settings, device, reason):
    found = study(12, **settings).explain()
    assert found.device == device
    assert reason in found.device_reason
    assert (f"on {device}: {found.device_reason}" in found.describe()) == bool(device)


# ---------------------------------------------------------------------------------------------- out of memory


def wide(device):
    """An ask whose largest tensors are candidates by observations."""
    opt = study(40, device, method="gp")
    return opt.ask(), opt


def test_short_of_memory_chunks_become_smaller(monkeypatch, caplog):
    monkeypatch.setattr("bayesopt.acquisition.surface._CHUNK_ENTRIES", 40 * 384 // 16)
    monkeypatch.setattr("bayesopt.device.LAG", 0)
    with pretend.gpu() as gpu:
        _, opt = wide(gpu.device)
        assert opt._learner.memory.share == 1.0
        largest = gpu.largest
    assert largest == 40 * 384 * 8
    with pretend.gpu(memory=0.6 * largest) as gpu, caplog.at_level(logging.INFO, "bayesopt"):
        config, opt = wide(gpu.device)
        assert opt._learner.memory.share == 0.5
        assert gpu.largest <= largest
    assert "out of memory" in caplog.text
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert list(config.values()) == pytest.approx(list(wide("cpu")[0].values()), abs=1e-9)


def test_without_enough_memory_at_all_a_study_continues_on_the_cpu(caplog):
    with pretend.gpu(memory=1000) as gpu:
        config, opt = wide(gpu.device)
        assert config == wide("cpu")[0]
        opt.tell(config, 1.0)
        gpu.clear()
        opt.ask()
        assert not gpu.largest  # it does not try again
        assert opt.explain().device == "cpu"
        assert "too little memory" in opt.explain().device_reason
    assert len([each for each in caplog.records if each.levelno >= logging.WARNING]) == 1


@pytest.mark.parametrize(
    "ask",
    [
        lambda opt: opt.regret(),
        lambda opt: opt.recommend(),
        lambda opt: opt.predict({"x": 0.1, "y": 0.2}),
        lambda opt: opt.explain().prediction,
    ],
)
def test_every_question_is_answered_without_enough_memory(ask):
    with pretend.gpu(memory=1000) as gpu:
        there = ask(study(8, gpu.device))
    assert there == ask(study(8, "cpu"))


def test_studies_in_lockstep_are_answered_without_enough_memory():
    with pretend.gpu(memory=1000) as gpu:
        space = {**SPACE, "c": Categorical(["a", "b"])}
        there, here = (Replicates(space, [0, 1], device=device) for device in (gpu.device, "cpu"))
        for _ in range(6):
            configs = there.ask()
            assert configs == here.ask()
            for studies in (there, here):
                studies.tell(configs, [config["x"] for config in configs])


def test_a_study_that_was_explained_first_moves_to_the_cpu_once(caplog):
    with pretend.gpu(memory=1000) as gpu:
        opt = study(40, gpu.device, method="gp")
        explanation = opt.explain()
        assert explanation.device == "cpu" and "too little memory" in explanation.device_reason
        assert opt.ask() == explanation.config
    assert caplog.text.count("too little memory") == 1
