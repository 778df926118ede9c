"""The engine on a device: the same proposals as on the CPU, and hardly ever a wait for the device."""

import math
import platform
import subprocess
import sys
import warnings
from collections import Counter

import pytest
import torch

from bayesopt import Categorical, Float, Int, Optimizer, Replicates, Space
from bayesopt import device as sharing
from bayesopt.device import Watch, constant, entries, put, settled, sparing, stalls, sure, within_memory
from bayesopt.surrogates.gp import GaussianProcess, negative_log_posterior
from bayesopt.surrogates.model import Model
from tests import pretend

SMOOTH = {"x": Float(-1.0, 1.0), "y": Float(-1.0, 1.0)}
MIXED = {
    "a": Float(1e-4, 1.0, log=True),
    "k": Int(1, 9),
    "m": Int(1, 200, log=True),
    "c": Categorical(["u", "v"]),
}
NESTED = {
    "o": Categorical(["s", "t"]), "m": Float(0.0, 0.99, when={"o": "s"}), "z": Int(1, 99, when={"o": "t"}),
}  # fmt: skip
SMALL = {"k": Int(1, 7), "c": Categorical(["u", "v"]), "o": Categorical([1, 2, 4], ordered=True)}


@pytest.fixture(autouse=True)
def _look_at_once(monkeypatch):
    """Later looks drop finished rows later, which changes last digits."""
    monkeypatch.setattr(sharing, "LAG", 0)


def value(config):
    return sum(
        (v - 0.2) ** 2 * 3**j if not isinstance(v, str) else v == "u" for j, v in enumerate(config.values())
    )


def told(space, n, device, fails=False, std=None, **settings):
    """A study that knows n random results; every fourth failed, if it fails."""
    opt = Optimizer(space, seed=1, device=device, **settings)
    uniform = torch.rand(n, opt.space.dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    configs = opt.space.decode(uniform)
    opt.tell(configs, [None if fails and i % 4 == 3 else value(c) for i, c in enumerate(configs)], std=std)
    return opt


def proposals(space, n, device, q=1, asks=2, pending=0, **settings):
    """What is asked for one after the other, the last ones of a batch never told."""
    opt = told(space, n, device, **settings)
    found = []
    for _ in range(asks):
        configs = opt.ask(q)
        found += configs
        done = configs[: q - pending]
        opt.tell(done, [value(config) for config in done])
    return found


CASES = {
    "local arms": (SMOOTH, 8, {"asks": 4}),
    "prefixes": (SMOOTH, 12, {"asks": 1, "method": "gp"}),
    "mixed": (MIXED, 8, {"asks": 1}),
    "conditional, failures": (NESTED, 8, {"fails": True, "asks": 1}),
    "enumerated": (SMALL, 8, {}),
    "noise told": (SMALL, 9, {"std": 0.1}),
    "noise declared": (SMOOTH, 8, {"deterministic": False}),
    "log_nei": (SMOOTH, 8, {"acquisition": "log_nei", "method": "gp", "std": 0.2, "asks": 1}),
    "pi": (MIXED, 8, {"acquisition": "pi", "method": "gp", "asks": 1}),
    "qlogei": (SMOOTH, 8, {"q": 3, "asks": 1, "method": "gp"}),
    "ucb_pe, pending": (SMOOTH, 8, {"q": 2, "pending": 1, "batch": "ucb_pe"}),
    "thompson": (MIXED, 8, {"q": 5, "asks": 1, "batch": "thompson"}),
    "thompson, enumerated": (SMALL, 8, {"q": 5, "asks": 1, "batch": "thompson"}),
    "thompson, many": (SMOOTH, 8, {"q": 130, "asks": 1}),
    "tpe": (MIXED, 20, {"method": "tpe", "asks": 2, "q": 2}),
    "tpe, conditional": (NESTED, 20, {"method": "tpe", "asks": 3, "fails": True}),
    "genetic": (MIXED, 12, {"method": "genetic"}),
    "grid": (SMALL, 4, {"method": "grid"}),
    "design": (NESTED, 1, {}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_device_proposes_what_the_cpu_does(case):
    space, n, settings = CASES[case]
    with pretend.gpu() as gpu:
        there = proposals(space, n, gpu.device, **settings)
    assert there == proposals(space, n, "cpu", **settings)


def test_studies_in_lockstep_propose_the_same_there():
    def run(device):
        studies = Replicates(MIXED, [0, 1, 2], device=device)
        found = []
        for _ in range(7):  # the design is 5
            configs = studies.ask()
            studies.tell(configs, [value(config) for config in configs])
            found += configs
        return found

    with pretend.gpu() as gpu:
        there = run(gpu.device)
    assert there == run("cpu")


@pytest.mark.parametrize("space", [SMOOTH, NESTED, SMALL])
def test_what_is_said_about_the_model_is_the_same_there(space):
    def said(device):
        opt = told(space, 9, device, fails=True, std=0.1)
        best = opt.best.config
        return opt.predict([best]), opt.recommend(), opt.regret(), opt.explain().prediction, opt.explain().fit

    with pretend.gpu() as gpu:
        there = said(gpu.device)
    assert there == said("cpu")


@pytest.mark.parametrize("lag", [1, 2])
def test_looking_later_changes_last_digits_at_most(lag, monkeypatch):
    monkeypatch.setattr(sharing, "LAG", lag)
    with pretend.gpu() as gpu:
        there = proposals(SMOOTH, 8, gpu.device)
    here = proposals(SMOOTH, 8, "cpu")
    torch.testing.assert_close(
        *([list(c.values()) for c in each] for each in (there, here)), rtol=0, atol=1e-9
    )


# ---------------------------------------------------------------------------------------- how often it waits

#: What an ask may wait for: its result, and routines that check theirs inside.
ASK = Counter({("download", "device.py:settled"): 1})
CLIMB = Counter({("eigh", "acquisition/maximizer.py:_inverse_curvature"): 1})
BOX = Counter(
    {("eigh", "surrogates/quadratic.py:_axes"): 1, ("eigh", "surrogates/quadratic.py:lowest_in_box"): 1}
)
BALL = Counter(
    {
        ("eigh", "surrogates/quadratic.py:_axes"): 2,
        ("eigh", "surrogates/quadratic.py:_metric"): 1,
        ("eigh", "surrogates/quadratic.py:lowest_in_ball"): 1,
    }
)


def waits(opt, gpu, asks, q=1):
    """Of each of some asks, by kind and function."""
    found = []
    for _ in range(asks):
        gpu.clear()
        configs = opt.ask(q)
        found.append(Counter((event.kind, event.place.rpartition(":")[0]) for event in gpu.stalls))
        opt.tell(configs, [value(config) for config in configs])
    return found


@pytest.mark.parametrize(
    ("space", "settings", "most"),
    [
        (SMOOTH, {"method": "gp"}, ASK + CLIMB),
        (SMOOTH, {"method": "gp", "fails": True}, ASK + CLIMB),
        (SMOOTH, {}, ASK + CLIMB + (BOX | BALL)),
        (SMALL, {}, ASK),
        (SMALL, {"std": 0.1}, ASK),
        (NESTED, {}, ASK + Counter(dict.fromkeys(CLIMB, 4))),  # one more for each round of discrete moves
        (MIXED, {"method": "tpe"}, ASK),
    ],
    ids=["gp", "failures", "auto", "enumerated", "noise", "conditional", "tpe"],
)
def test_an_ask_waits_once_and_for_routines_that_check_themselves(space, settings, most):
    with pretend.gpu() as gpu:
        waits(told(space, 8, gpu.device, **settings), gpu, asks=4)  # what is copied once, is now
        for each in waits(told(space, 8, gpu.device, **settings), gpu, asks=4):
            assert ASK <= each <= most


@pytest.mark.parametrize("batch", ["qlogei", "ucb_pe", "thompson"])
def test_a_batch_waits_once_and_for_each_climb(batch):
    with pretend.gpu() as gpu:
        for _ in range(2):
            (found,) = waits(told(SMOOTH, 8, gpu.device, batch=batch, method="gp"), gpu, asks=1, q=3)
    assert ASK <= found <= ASK + Counter(dict.fromkeys(CLIMB, 3))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("space", [SMOOTH, SMALL, NESTED])
def test_cuda_itself_counts_no_more(space):
    def waits():
        opt, seen = told(space, 8, "cuda"), []
        for _ in range(4):
            with warnings.catch_warnings(record=True) as found:
                warnings.simplefilter("always")
                torch.cuda.set_sync_debug_mode("warn")
                try:
                    config = opt.ask()
                finally:
                    torch.cuda.set_sync_debug_mode("default")
            seen.append([f"{w.filename}:{w.lineno}" for w in found if "synchroniz" in str(w.message)])
            opt.tell(config, value(config))
        return seen

    waits()  # what is copied once, is now
    assert all(1 <= len(each) <= 6 for each in waits()), waits()


def test_no_tensor_has_a_number_for_each_pair_of_results_and_parameter():
    n, d, m = 48, 12, 60
    with pretend.gpu() as gpu:
        model = Model.of(Space({f"x{i}": Float(0.0, 1.0) for i in range(d)}), gpu.device, warp=True)
        X = put(torch.rand(1, n + m, d, generator=torch.Generator().manual_seed(0)).double(), gpu.device)
        known, y, theta = X[:, :n], X[:, :n].sum(-1), model.priors.mode[None]
        gpu.clear()
        negative_log_posterior(theta, known, y, model.kernel, model.priors)
        assert gpu.largest == 8 * n * n
        _, _, pullback = GaussianProcess.of(model.kernel, theta, known, y).marginals_and_pullback(X[:, n:])
        pullback(X[:, n:, 0], X[:, n:, 1])
        assert gpu.largest == 8 * m * n


# ---------------------------------------------------------------------------------- looking, and not looking


def test_sure_looks_on_the_cpu_and_outside_of_settled():
    assert sure(torch.tensor([True, True]))
    assert not sure(torch.tensor([True, False]))
    with pretend.gpu() as gpu:
        assert not sure(torch.tensor([True, False]).to(gpu.device))


@pytest.mark.parametrize("good", [True, False])
def test_settled_computes_again_with_looks_where_it_was_not_sure(good):
    calls = []

    def compute():
        calls.append(sure(put(torch.tensor([True, good]), gpu.device)))
        return put(torch.full((2, 3), 7.0, dtype=torch.float64), gpu.device)

    with pretend.gpu() as gpu:
        x = settled(compute)
        assert len([e for e in gpu.stalls if e.kind == "download"]) == (1 if good else 2)
    assert type(x) is torch.Tensor
    torch.testing.assert_close(x, torch.full((2, 3), 7.0, dtype=torch.float64))
    assert calls == ([True] if good else [True, False])


def test_settled_forgives_what_follows_from_a_wrong_guess_only():
    error = torch.linalg.LinAlgError

    def follows():
        if sure(put(torch.tensor([False]), gpu.device)):
            raise error("of what was not sure")
        return put(torch.zeros(1, dtype=torch.float64), gpu.device)

    def fails():
        raise error("of itself")

    with pretend.gpu() as gpu:
        assert settled(follows).tolist() == [0.0]
        with pytest.raises(error, match="itself"):
            settled(fails)


def test_a_covariance_that_needs_jitter_is_found_at_the_end_of_the_ask():
    space = {"x": Float(0.0, 1.0)}

    def ask(device):
        opt = Optimizer(space, method="gp", device=device, deterministic=True)
        x = [0.5 + 1e-9 * i for i in range(9)]
        opt.tell([{"x": v} for v in x], [math.sin(1e9 * v) for v in x])
        return opt.ask()

    with pretend.gpu() as gpu:
        there = ask(gpu.device)
    assert there == ask("cpu")


def test_a_watch_looks_some_steps_back_but_at_once_on_the_cpu():
    steps = [torch.tensor([i < 3]) for i in range(5)]
    here = Watch(2)
    assert [bool(here(step)) for step in steps] == [True, True, True, False, False]
    with pretend.gpu() as gpu:
        there = Watch(2)
        seen = [there(put(step, gpu.device)) for step in steps]
        assert not gpu.stalls
    assert seen[:2] == [None, None]
    assert [bool(each) for each in seen[2:]] == [True, True, True]


@pytest.mark.parametrize(
    ("error", "about_memory"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"), True),
        (RuntimeError("cusolver error: CUSOLVER_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (torch.linalg.LinAlgError("not positive definite"), False),
    ],
)
def test_smaller_chunks_are_tried_for_want_of_memory_only(error, about_memory):
    tried = []

    def compute():
        tried.append(entries(8, torch.zeros(1)))
        if tried[-1] > 2:
            raise error
        return "done"

    if about_memory:
        assert within_memory(compute) == ("done", 0.25)
        assert tried == [8, 4, 2]
        assert within_memory(compute, 0.25) == ("done", 0.25)
    else:
        with pytest.raises(type(error), match=str(error)[:9]):
            within_memory(compute)


def test_constants_are_copied_once(device):
    values = (1.0, 2.5)
    assert constant(values, torch.float64, device).tolist() == [1.0, 2.5]
    assert constant(values, torch.float64, device) is constant(values, torch.float64, device)
    assert constant((True, False), torch.bool, device).dtype == torch.bool


def test_chunks_are_wider_on_a_device_and_smaller_where_memory_is_short(device):
    x = torch.zeros(1, device=device)
    assert entries(1000, x) == (16_000 if stalls(x) else 1000)
    with sparing(0.25):
        assert entries(1000, x) == (4000 if stalls(x) else 250)
        assert entries(1, torch.zeros(1)) == 1


# ---------------------------------------------------------------------------------------- the pretend device


def test_a_pretend_device_refuses_what_a_gpu_does():
    with pretend.gpu() as gpu:
        x = torch.ones(3, device=gpu.device)
        with pytest.raises(RuntimeError, match="same device"):
            _ = x + torch.ones(3)
        with pytest.raises(RuntimeError, match="same device"):
            torch.cat([x, torch.ones(3)])
        with pytest.raises(RuntimeError, match="numpy"):
            x.numpy()
        assert (x + torch.tensor(1.0)).device == gpu.device  # a number of the CPU may
    with pytest.raises(RuntimeError, match="no longer there"):
        _ = x + 1


@pytest.mark.parametrize(
    ("kind", "look"),
    [
        ("item", lambda x: bool((x > 0).any())),
        ("item", lambda x: x.sum().item()),
        ("download", lambda x: x.tolist()),
        ("download", lambda x: x.cpu()),
        ("mask", lambda x: x[x > 0]),
        ("mask", lambda x: x.__setitem__(x > 0, x[:1].expand(3))),
        ("nonzero", lambda x: x.nonzero()),
        ("eigh", lambda x: torch.linalg.eigh(x.outer(x))),
        ("upload", lambda x: x[[0, 1]]),
        ("upload", lambda x: x[torch.tensor([0, 1])]),
        ("upload", lambda x: x.new_tensor([1.0])),
        ("upload", lambda x: torch.tensor([1.0], device=x.device)),
        ("upload", lambda x: torch.ones(2).to(x.device)),
        ("", lambda x: torch.where(x > 0, x, 0.0).clamp_(0.0, 1.0).cumsum(0)),
        ("", lambda x: x[torch.zeros(2, dtype=torch.int64, device=x.device)]),
        ("", lambda x: x.add_(1.0).masked_fill(x > 0, 2.0)),
        ("", lambda x: torch.ones(2).to(x.device, non_blocking=True)),
    ],
)  # fmt: skip
def test_a_pretend_device_counts_what_waits(kind, look):
    with pretend.gpu() as gpu:
        x = torch.ones(3, device=gpu.device)
        look(x)
        assert [event.kind for event in gpu.stalls] == [kind] * bool(kind)


_FAULTS = """
import resource, torch
from bayesopt.device import keep_pages

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        tensors = [torch.ones(1 << 17, dtype=torch.float64) for _ in range(8)]
        del tensors
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before = faults()
keep_pages()
faults()  # grows once more
print(before, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="about the GNU C library")
def test_pages_that_tensors_give_back_are_kept():
    """In a process of its own: in this one anybody may have freed a large block before."""
    out = subprocess.run([sys.executable, "-c", _FAULTS], capture_output=True, text=True, check=True).stdout
    before, after = map(int, out.split())
    assert after < 0.05 * before
