"""Ask and tell: promises, purity, bad input, bad luck."""

import json
import math
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bayesopt.asking
import bayesopt.surrogates.prefixes
from bayesopt import Between, Categorical, Float, Int, Optimizer, Space
from bayesopt.methods import gp

SMOOTH = {"x": Float(-2.0, 2.0), "y": Float(0.01, 10.0, log=True)}
MIXED = {
    "lr": Float(1e-5, 1e-1, log=True),
    "layers": Int(1, 6),
    "optimizer": Categorical(["adam", "sgd"]),
    "momentum": Float(0.0, 0.99, when={"optimizer": "sgd"}),
    "nesterov": Categorical([True, False], when={"momentum": Between(0.1, None)}),
}


def loss(config):
    """A bowl over whatever is active, so that every kind of parameter matters."""
    words = {"adam": 0.0, "sgd": 1.0, "x": 0.2, "y": 0.9}
    return sum(((words[v] if isinstance(v, str) else float(v)) - 0.3) ** 2 for v in config.values())


def run(opt, trials, objective=loss):
    for _ in range(trials):
        config = opt.ask()
        opt.tell(config, objective(config))
    return opt


def encoded(space, configs):
    return Space(space).encode(configs)[0]


def assert_same(space, a, b, tolerance=1e-6):
    torch.testing.assert_close(encoded(space, a), encoded(space, b), rtol=0, atol=tolerance)


methods = pytest.mark.parametrize("method", ["gp", "random", "sobol", "auto"])
spaces = pytest.mark.parametrize("space", [SMOOTH, MIXED], ids=["smooth", "mixed"])


# ----------------------------------------------------------------------------------------------- purity


@spaces
@methods
def test_same_seed_and_history_same_proposals(space, method):
    a, b = (run(Optimizer(space, seed=3, method=method), 14) for _ in range(2))
    assert a.trials == b.trials
    other = run(Optimizer(space, seed=4, method=method), 14)
    assert [t.config for t in other.trials[1:]] != [t.config for t in a.trials[1:]]


@spaces
@methods
def test_a_restored_study_goes_on_as_if_it_had_never_stopped(space, method, device):
    opt = run(Optimizer(space, seed=1, method=method, device=device), 17)
    opt.ask()  # one evaluation is out
    saved = json.loads(json.dumps(opt.state_dict()))
    restored = Optimizer(space, device=device)
    restored.load_state_dict(saved)
    assert restored.state_dict() == opt.state_dict()
    for _ in range(4):  # the caches of `opt` are warm, those of `restored` empty
        a, b = opt.ask(), restored.ask()
        assert_same(space, [a], [b])
        opt.tell(a, loss(a))
        restored.tell(a, loss(a))


@spaces
def test_the_order_of_telling_does_not_matter(space):
    configs = Optimizer(space, seed=9, method="random").ask(15)
    proposals = []
    for order in (range(15), reversed(range(15)), np.random.default_rng(0).permutation(15)):
        opt = Optimizer(space, seed=2)
        for i in order:
            opt.tell(configs[i], loss(configs[i]))
        proposals.append(opt.ask(2))
    for other in proposals[1:]:
        assert_same(space, proposals[0], other)


@spaces
def test_the_order_of_telling_what_was_asked_does_not_matter(space):
    proposals = []
    for order in ([0, 1, 2, 3, 4, 5, 6, 7, 8, 9], [9, 3, 5, 7, 1, 0, 2, 8, 6, 4]):
        opt = Optimizer(space, seed=2, method="gp")
        configs = opt.ask(10)
        for i in order:
            opt.tell(configs[i], loss(configs[i]))
        proposals.append(opt.ask())
    assert_same(space, proposals[:1], proposals[1:])


@spaces
@pytest.mark.parametrize(("scale", "shift"), [(1024.0, 0.0), (1e-3, 0.0), (1.0, 5.0), (37.0, -11.0)])
def test_scaling_and_shifting_the_outcomes_does_not_matter(space, scale, shift):
    """To the default a shift may matter in the end: it goes by improvements that a shift rounds off."""
    method = "gp" if shift else "auto"
    opt, other = (Optimizer(space, seed=4, method=method) for _ in range(2))
    for _ in range(14):
        config, same = opt.ask(), other.ask()
        assert_same(space, [config], [same], 1e-4)
        opt.tell(config, loss(config))
        other.tell(config, scale * loss(config) + shift)


def test_maximising_is_minimising_the_negative():
    down, up = Optimizer(SMOOTH, seed=1), Optimizer(SMOOTH, seed=1, maximize=True)
    for _ in range(12):
        a, b = down.ask(), up.ask()
        assert a == b
        down.tell(a, loss(a))
        up.tell(b, -loss(b))
    assert up.best.config == down.best.config and up.best.value == -down.best.value


def test_another_process_proposes_the_same():
    code = (
        "import json\nfrom bayesopt import Categorical, Float, Int, Optimizer\n"
        "opt = Optimizer({'x': Float(-2, 2), 'k': Int(1, 9), 'c': Categorical(['a', 'b', 'c'])}, seed=7)\n"
        "for _ in range(12):\n"
        "    c = opt.ask()\n"
        "    opt.tell(c, (c['x'] - 1) ** 2 + c['k'] + (c['c'] == 'b'))\n"
        "print(json.dumps(opt.state_dict()))\n"
    )
    outputs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout
        for _ in range(2)
    ]
    assert outputs[0] == outputs[1] and json.loads(outputs[0])["asked"] == 12


def test_asking_changes_no_global_random_state():
    opt = run(Optimizer(SMOOTH), 8)
    before = torch.get_rng_state(), random.getstate()
    opt.ask()
    assert torch.equal(before[0], torch.get_rng_state()) and before[1] == random.getstate()


# ---------------------------------------------------------------------------------------------- promises


@methods
@pytest.mark.parametrize("q", [1, 3, 20])
def test_ask_returns_exactly_q_distinct_configurations(method, q):
    opt = run(Optimizer(MIXED, method=method), 9)
    space = Space(MIXED)
    known = {space.key(t.config) for t in opt.trials}
    batch = opt.ask(q)
    assert len(batch) == q == len({space.key(c) for c in batch} - known)
    assert len(opt.pending) == q
    more = opt.ask(q)
    assert not {space.key(c) for c in more} & {space.key(c) for c in batch}


@methods
def test_a_finite_space_is_exhausted_without_repeats_and_then_repeats(method, caplog):
    space = Space({"a": Int(1, 3), "b": Categorical(["x", "y"]), "c": Int(1, 2, when={"b": "x"})})
    opt = run(Optimizer(space, method=method), space.size)
    assert len({space.key(t.config) for t in opt.trials}) == space.size == 9
    config = opt.ask()
    assert space.key(config) in {space.key(t.config) for t in opt.trials}
    assert "has been tried" in caplog.text


def test_a_larger_finite_space_is_exhausted_too(monkeypatch):
    monkeypatch.setattr("bayesopt.acquisition.maximizer.ENUMERABLE", 50)  # else every point is a candidate
    space = Space({"a": Int(1, 13), "b": Int(1, 11)})
    opt = Optimizer(space, seed=0)
    grid = list(space.grid())
    opt.tell(grid[:-2], [float(c["a"] + c["b"]) for c in grid[:-2]])
    assert [opt.ask(), opt.ask()] in ([grid[-1], grid[-2]], [grid[-2], grid[-1]])


def test_the_gp_beats_random_on_a_smooth_bowl():
    """Not a benchmark: a broken surrogate, gradient or maximiser would lose this."""
    values = {
        m: np.median([run(Optimizer(SMOOTH, seed=s, method=m), 25).best.value for s in range(5)])
        for m in ("gp", "random")
    }
    assert values["gp"] < 0.01 * values["random"]


def test_the_gp_finds_the_best_categories_and_conditions():
    def objective(config):
        penalty = {"adam": 1.0, "sgd": 0.0}[config["optimizer"]]
        return penalty + (config.get("momentum", 0.0) - 0.9) ** 2 + 0.1 * (config["layers"] - 3) ** 2

    best = run(Optimizer(MIXED, seed=0), 40, objective).best
    assert best.config["optimizer"] == "sgd" and best.config["layers"] == 3
    assert abs(best.config["momentum"] - 0.9) < 0.1


@pytest.mark.parametrize("acquisition", ["log_ei", "ei", "log_nei", "log_pi", "pi", "ucb"])
def test_every_acquisition_runs_and_improves(acquisition):
    opt = run(Optimizer(SMOOTH, seed=0, acquisition=acquisition), 20)
    assert opt.best.value < min(t.value for t in opt.trials[:4])


def test_foreign_results_are_welcome_and_used():
    opt = Optimizer(SMOOTH, seed=0)
    configs = Optimizer(SMOOTH, seed=5, method="sobol").ask(20)
    opt.tell(configs, [loss(c) for c in configs])
    assert len(opt.trials) == 20 and not opt.pending
    proposal = opt.ask()  # past the initial design: the model is used at once
    assert loss(proposal) < np.median([t.value for t in opt.trials])


def test_beliefs_draw_the_first_proposals():
    from bayesopt.beliefs import Normal

    space = {"x": Float(0.0, 100.0, belief=Normal(80.0, 2.0)), "y": Float(0.0, 1.0)}
    first = [Optimizer(space, seed=s).ask(6) for s in range(5)]
    xs = [c["x"] for batch in first for c in batch]
    assert all(70 < x < 90 for x in xs)
    config = run(Optimizer(space, seed=0), 12, lambda c: (c["x"] - 81) ** 2 + c["y"]).best.config
    assert abs(config["x"] - 81) < 3


# ------------------------------------------------------------------------------------------------ batches

batches = pytest.mark.parametrize("batch", ["auto", "qlogei", "ucb_pe", "thompson"])


@spaces
@batches
@pytest.mark.parametrize("q", [2, 7])
def test_every_rule_answers_with_q_distinct_new_configurations(space, batch, q, device):
    opt = run(Optimizer(space, seed=1, batch=batch, device=device), 10)
    keys = {opt.space.key(t.config) for t in opt.trials}
    for _ in range(2):  # the second time beside q pending ones
        proposals = opt.ask(q)
        new = {opt.space.key(c) for c in proposals}
        assert len(proposals) == len(new) == q and not new & keys
        keys |= new


@batches
def test_every_rule_is_a_function_of_seed_and_history(batch):
    a, b = (run(Optimizer(MIXED, seed=3, batch=batch), 9) for _ in range(2))
    first, again = a.ask(5), b.ask(5)
    assert first == again
    a.tell(first[:2], [loss(c) for c in first[:2]])
    b.tell(first[:2], [loss(c) for c in first[:2]])
    restored = Optimizer(MIXED)
    restored.load_state_dict(json.loads(json.dumps(a.state_dict())))
    assert_same(MIXED, a.ask(3), b.ask(3))
    b.forget(b.pending[-3:])
    assert len(restored.pending) == len(b.pending) == 3


@batches
def test_batches_find_the_bottom(batch):
    opt = Optimizer(SMOOTH, seed=0, batch=batch)
    for _ in range(6):
        configs = opt.ask(5)
        opt.tell(configs, [loss(c) for c in configs])
    assert opt.best.value < 0.02


@pytest.mark.parametrize("acquisition", ["log_ei", "log_nei", "pi", "ucb"])
def test_every_acquisition_makes_batches(acquisition):
    opt = run(Optimizer(SMOOTH, seed=0, acquisition=acquisition), 8)
    assert len({tuple(c.values()) for c in opt.ask(4)}) == 4


def test_a_rule_that_does_not_fit_the_acquisition_says_what_does():
    with pytest.raises(ValueError, match="ucb_pe"):
        Optimizer(SMOOTH, acquisition="ucb", batch="qlogei")
    with pytest.raises(ValueError, match=r"batch.*'thompson'"):
        Optimizer(SMOOTH, batch="liar")


def test_what_is_pending_repels():
    """The next proposal moves away from a pending maximiser instead of repeating it a hair's breadth off."""
    opt = run(Optimizer(SMOOTH, seed=0, method="gp"), 12)
    first = opt.ask()
    second = opt.ask()
    opt.forget([first, second])
    again = opt.ask()
    assert_same(SMOOTH, [first], [again], 0.05)
    gap = (encoded(SMOOTH, [first]) - encoded(SMOOTH, [second])).abs().max()
    assert gap > 1e-3


@pytest.mark.parametrize(
    ("last", "beta"), [({}, 1.8), ({"c": Categorical([0, 1])}, 1.8), ({"y": Float(0.0, 1.0)}, 1.2)]
)
def test_the_confidence_bound_is_narrower_among_ten_numbers(last, beta, monkeypatch):
    bounds = []
    bound = gp.UpperConfidenceBound
    monkeypatch.setattr(gp, "UpperConfidenceBound", lambda *args: bounds.append(bound(*args)) or bounds[-1])
    space = {f"x{i}": Float(0.0, 1.0) for i in range(9)} | last
    opt = run(Optimizer(space, seed=0, method="gp"), 10)
    opt.ask()
    assert not bounds  # alone
    opt.ask()
    assert [each.beta for each in bounds] == [beta]


def test_noisy_outcomes_do_not_make_a_lucky_one_the_incumbent():
    """log_nei on a noisy bowl ends nearer to the bottom than its luckiest trial by itself would say."""
    rng = np.random.default_rng(0)
    opt = Optimizer({"x": Float(-1.0, 1.0)}, seed=0, acquisition="log_nei")
    for _ in range(30):
        config = opt.ask()
        opt.tell(config, config["x"] ** 2 + 0.3 * rng.standard_normal())
    late = [abs(t.config["x"]) for t in opt.trials[20:]]
    assert np.median(late) < 0.4


# ------------------------------------------------------------------------------------- pending, threads


def test_forgotten_configurations_are_neither_pending_nor_taken():
    opt = Optimizer({"k": Int(1, 3)}, seed=0)
    configs = opt.ask(3)
    opt.forget(configs[1])
    assert opt.pending == [configs[0], configs[2]]
    assert opt.ask() == configs[1]  # the only one that is free
    opt.forget(configs[:2])
    assert opt.pending == [configs[2]]
    opt.tell(configs[0], 1.0)  # late, and still welcome
    assert opt.trials[0].config == configs[0] and opt.pending == [configs[2]]


@pytest.mark.parametrize(
    ("what", "error", "message"),
    [
        ({"x": 0.0, "y": 1.0}, ValueError, "not pending"),
        ({"x": 0.0}, ValueError, "y"),
        ("x", TypeError, "configuration"),
        (3, TypeError, "configuration"),
    ],
)
def test_a_bad_forget_changes_nothing(what, error, message):
    opt = Optimizer(SMOOTH)
    pending = opt.ask(2)
    with pytest.raises(error, match=message):
        opt.forget(what)
    with pytest.raises(ValueError, match="not pending"):
        opt.forget([pending[0], pending[0]])
    assert opt.pending == pending


def test_pending_configurations_grow_old():
    opt = Optimizer(SMOOTH, seed=0, max_pending_age=3)
    configs = opt.ask(6)
    assert opt.pending == configs  # one batch is asked for as a whole
    last = opt.ask()
    assert opt.pending == [*configs[3:], last]
    restored = Optimizer(SMOOTH)
    restored.load_state_dict(opt.state_dict())
    assert restored.state_dict() == opt.state_dict()
    for bad in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match="max_pending_age"):
            Optimizer(SMOOTH, max_pending_age=bad)


@methods
def test_a_batch_larger_than_what_is_left_takes_all_of_it_and_then_the_best_again(method, caplog):
    space = Space({"a": Int(1, 5), "b": Categorical(["adam", "sgd", "x"])})
    opt = run(Optimizer(space, seed=0, method=method), 6)
    batch = opt.ask(12)
    assert len(batch) == 12 and len({space.key(c) for c in batch[:9]}) == 9
    assert {space.key(c) for c in batch[:9]} | {space.key(t.config) for t in opt.trials} == {
        space.key(c) for c in space.grid()
    }
    assert batch[9] == opt.best.config and "proposing 3 again" in caplog.text
    assert len({space.key(c) for c in batch[9:]}) == 3


def test_many_threads_share_one_optimizer():
    from concurrent.futures import ThreadPoolExecutor

    opt = Optimizer({"x": Float(0.0, 1.0), "k": Int(0, 30)}, seed=0)

    def work(i):
        for _ in range(5):
            config = opt.ask()
            opt.tell(config, loss(config))
        return i

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(work, range(8))) == list(range(8))
    assert [t.number for t in opt.trials] == list(range(40)) and not opt.pending
    assert len({opt.space.key(t.config) for t in opt.trials}) == 40


def test_an_optimizer_can_be_copied_and_pickled():
    import copy
    import pickle

    opt = run(Optimizer(SMOOTH, seed=0), 9)
    for twin in (copy.deepcopy(opt), pickle.loads(pickle.dumps(opt))):
        assert twin.state_dict() == opt.state_dict()
        twin.ask()
        assert not opt.pending


def test_a_large_batch_over_a_finite_space_repeats_nothing():
    space = Space({"a": Int(1, 30), "b": Int(1, 25), "c": Categorical(["x", "y"])})
    opt = run(Optimizer(space, seed=0), 10)
    batch = opt.ask(300)
    assert len({space.key(c) for c in batch} | {space.key(t.config) for t in opt.trials}) == 310


# --------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("configs", "values", "error", "message"),
    [
        ({"x": 0.0, "y": 1.0}, "bad", TypeError, "number"),
        ({"x": 0.0, "y": 1.0}, True, TypeError, "number"),
        ({"x": 0.0, "y": 1.0}, 1 + 2j, TypeError, "number"),
        ({"x": 0.0, "y": 1.0}, [1.0, 2.0], TypeError, "number"),
        ({"x": 0.0, "y": 1.0}, torch.zeros(2), TypeError, "shape"),
        ({"x": 0.0}, 1.0, ValueError, "y"),
        ({"x": 0.0, "y": 1.0, "z": 1.0}, 1.0, ValueError, "z"),
        ({"x": 9.0, "y": 1.0}, 1.0, ValueError, "x"),
        ({"x": "a", "y": 1.0}, 1.0, TypeError, "x"),
        ([{"x": 0.0, "y": 1.0}], [1.0, 2.0], ValueError, "1 configurations and 2 values"),
        ([{"x": 0.0, "y": 1.0}], 1.0, TypeError, "list of values"),
        ([{"x": 0.0, "y": 1.0}, {"x": 7.0, "y": 1.0}], [1.0, 2.0], ValueError, "x"),
        ("x", 1.0, TypeError, "configuration"),
        (3, 1.0, TypeError, "configuration"),
    ],
)
def test_a_bad_tell_names_the_problem_and_changes_nothing(configs, values, error, message):
    opt = run(Optimizer(SMOOTH), 3)
    opt.ask()
    before = opt.state_dict()
    with pytest.raises(error, match=message):
        opt.tell(configs, values)
    assert opt.state_dict() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, "seed"),
        ({"seed": 1.5}, "seed"),
        ({"seed": True}, "seed"),
        ({"method": "GP"}, "method.*'gp'"),
        ({"acquisition": "logei"}, "acquisition.*'log_ei'"),
        ({"batch": "qei"}, "batch.*'qlogei'"),
        ({"device": "tpu9"}, "device"),
        ({"device": "cuda:99"}, "device"),
    ],
)
def test_bad_arguments_say_what_is_allowed(arguments, message):
    with pytest.raises(ValueError, match=message):
        Optimizer(SMOOTH, **arguments)


@pytest.mark.parametrize("q", [0, -1, 1.5, "2", True])
def test_a_bad_count_is_refused(q):
    with pytest.raises(ValueError, match="number of configurations"):
        Optimizer(SMOOTH).ask(q)


@pytest.mark.parametrize(
    "damage",
    [
        lambda s: None,
        lambda s: {},
        lambda s: {**s, "format": 99},
        lambda s: {k: v for k, v in s.items() if k != "trials"},
        lambda s: {**s, "space": Space(MIXED).to_dict()},
        lambda s: {**s, "seed": -3},
        lambda s: {**s, "method": "magic"},
        lambda s: {**s, "trials": [{**s["trials"][0], "value": "x"}]},
        lambda s: {**s, "trials": [{**s["trials"][0], "config": {"x": 99.0, "y": 1.0}}]},
        lambda s: {**s, "trials": [{"config": s["trials"][0]["config"]}]},
        lambda s: {**s, "pending": [{"config": {}}]},
        lambda s: {**s, "asked": "many"},
    ],
)
def test_a_damaged_state_is_refused_and_nothing_changes(damage):
    opt = run(Optimizer(SMOOTH), 6)
    saved = opt.state_dict()
    target = run(Optimizer(SMOOTH, seed=8), 2)
    before = target.state_dict()
    with pytest.raises((ValueError, TypeError)):
        target.load_state_dict(damage(saved))
    assert target.state_dict() == before


def test_what_ask_returns_is_the_callers_to_change():
    opt = Optimizer(SMOOTH)
    config = opt.ask()
    untouched = dict(config)
    config["x"] = 99.0
    assert opt.pending == [untouched]


# ---------------------------------------------------------------------------------------------- bad luck

LUCK = {
    "constant": lambda i, c: 1.0,
    "zero": lambda i, c: 0.0,
    "huge": lambda i, c: 1e300 * (1 if i % 2 else -1),
    "largest": lambda i, c: 1.7e308 * (1 if i % 3 else -1),
    "tiny": lambda i, c: 1e-300 * i,
    "denormal": lambda i, c: 5e-324 * i,
    "all failed": lambda i, c: None,
    "nan": lambda i, c: math.nan,
    "inf": lambda i, c: math.inf,
    "mostly failed": lambda i, c: 1.0 * i if i % 5 == 0 else None,
    "one success": lambda i, c: 0.5 if i == 3 else math.nan,
    "outlier": lambda i, c: 1e250 if i == 4 else 0.1 * i,
    "noise": lambda i, c: math.sin(1e6 * i),
}
SPACES = {
    "smooth": SMOOTH,
    "mixed": MIXED,
    "d = 1": {"x": Float(0.0, 1.0)},
    "d = 200": {f"x{i}": Float(0.0, 1.0) for i in range(200)},
    "single point": {"x": Float(1.0, 1.0), "k": Int(3, 3), "c": Categorical(["only"])},
    "categorical only": {"a": Categorical(["p", "q", "r"]), "b": Categorical([1, 2, None])},
    "two-valued integers": {f"k{i}": Int(0, 1) for i in range(5)},
    "log integers": {"k": Int(1, 10**9, log=True), "m": Int(1, 40)},
}


@pytest.mark.parametrize("luck", LUCK)
@pytest.mark.parametrize("space", SPACES)
def test_ask_always_answers(space, luck, device):
    opt = Optimizer(SPACES[space], seed=0, device=device)
    for i in range(11):
        config = opt.ask()
        opt.tell(config, LUCK[luck](i, config))
    assert len(opt.ask(2)) == 2


@pytest.mark.parametrize("space", SPACES)
def test_duplicated_points_and_a_single_observation(space):
    opt = Optimizer(SPACES[space], seed=0)
    config = opt.ask()
    opt.tell(config, 1.0)
    opt.ask()
    opt.tell([config] * 12, [1.0, 2.0] * 6)
    assert opt.ask() is not None


@settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow])
@given(
    values=st.lists(
        st.one_of(st.none(), st.floats(), st.integers(-(10**400), 10**400)), min_size=1, max_size=14
    )
)
def test_ask_answers_whatever_the_outcomes(values):
    opt = Optimizer(MIXED, seed=1)
    for value in values:
        config = opt.ask()
        opt.tell(config, value)
    finite = [t.value for t in opt.trials if t.value is not None]
    assert all(math.isfinite(v) for v in finite)
    assert (opt.best is None) == (not finite)
    Space(MIXED).validate(opt.ask())


def test_failures_are_avoided():
    """A third of the space fails; proposals learn to stay out of it."""

    def objective(config):
        return None if config["x"] > 0.66 else (config["x"] - 0.6) ** 2 + (config["y"] - 0.4) ** 2

    space = {"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)}
    failed = [
        sum(t.value is None for t in run(Optimizer(space, seed=s), 30, objective).trials) for s in range(6)
    ]
    assert np.mean(failed) < 9.5  # a blind search fails 10.2 times, this one 8.5 with a deviation of 1.3


def test_a_broken_model_falls_back_visibly(monkeypatch, caplog):
    def broken(*args, **kwargs):
        raise torch.linalg.LinAlgError("no factorisation")

    opt = run(Optimizer(SMOOTH), 10)
    monkeypatch.setattr(bayesopt.asking, "propose_gp", broken)
    configs = opt.ask(3)
    assert len({tuple(c.values()) for c in configs}) == 3
    assert "no factorisation" in caplog.text and "quasi-random" in caplog.text


def test_a_fit_without_a_value_is_repeated_from_the_prior_and_then_given_up(monkeypatch, caplog):
    """The middle of the failure ladder, each step by its name."""
    real = bayesopt.surrogates.prefixes.fit_hyperparameters
    broken_when = {}

    def fragile(F, z, kernel, priors, starts=None, warm=None, options=None, known=None):
        optimum = real(F, z, kernel, priors, starts, warm, options, known)
        broken = broken_when["cold"] if warm is None else broken_when["warm"]
        whole = starts is None and z.shape[-1] == 12
        return (
            optimum._replace(value=torch.full_like(optimum.value, torch.inf)) if broken and whole else optimum
        )

    monkeypatch.setattr("bayesopt.surrogates.prefixes.fit_hyperparameters", fragile)
    for broken_when["cold"], message in ((False, "refitting from the prior"), (True, "last good")):
        broken_when["warm"] = True
        opt = Optimizer(SMOOTH, seed=0)
        configs = Optimizer(SMOOTH, method="random").ask(12)
        opt.tell(configs, [loss(c) for c in configs])
        Space(SMOOTH).validate(opt.ask())
        assert message in caplog.text


def test_a_long_history_is_thinned_to_what_matters(monkeypatch):
    monkeypatch.setattr("bayesopt.learner.largest_fit", lambda device, n: 80)
    configs = Optimizer(SMOOTH, seed=5, method="random").ask(150)
    opt = Optimizer(SMOOTH, seed=0)
    opt.tell(configs, [loss(c) for c in configs])
    best = opt.best.value
    for _ in range(6):
        config = opt.ask()
        opt.tell(config, loss(config))
    assert opt.best.value < best
