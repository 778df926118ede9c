"""Promises that every method keeps in every kind of space; configurations that somebody enqueues."""

import copy
import json
from functools import cache

import numpy as np
import pytest
import torch

from bayesopt import Optimizer, Replicates
from bayesopt.setting import METHODS
from tests.methods.histories import CONDITIONAL, FINITE, MIXED, SMOOTH

SPACES = {"smooth": SMOOTH, "mixed": MIXED, "conditional": CONDITIONAL, "finite": FINITE}
AUTOMATIC = [method for method in METHODS if method != "manual"]
CASES = [
    pytest.param(method, space, id=f"{method}-{name}")
    for method in AUTOMATIC
    for name, space in SPACES.items()
    if method != "grid" or space is FINITE
]
cases = pytest.mark.parametrize(("method", "space"), CASES)
methods = pytest.mark.parametrize("method", AUTOMATIC)

TRIALS = 15  # past every design; an odd number of asks, so that the next proposal of "auto" is a local one


def loss(config):
    """Numbers like 0.3, letters their own place: every active parameter matters, one more costs a little."""
    return 0.1 * len(config) + sum(
        (0.1 * "xabcypqs".index(v) if isinstance(v, str) else 0.1 * v - 0.03) ** 2 for v in config.values()
    )


def step(opt):
    config = opt.ask()
    opt.tell(config, None if config.get("c") == "c" and len(opt.trials) % 3 == 0 else loss(config))
    return config


@cache
def _studied(method, space, device, seed):
    opt = Optimizer(space, method=method, seed=seed, device=device)
    for _ in range(TRIALS):
        step(opt)
    return opt


def studied(method, space, device="cpu", seed=0):
    """A study with a history, for the caller to change."""
    return copy.deepcopy(_studied(method, space, device, seed))


def keys(opt):
    """Of everything told and pending."""
    configs = [trial.config for trial in opt.trials] + opt.pending
    return [opt.space.key(config) for config in configs]


def others(space, count, avoid=(), seed=77):
    """Random configurations that are not among those to avoid, nor twice there."""
    avoid = {space.key(config) for config in avoid}
    drawn = {space.key(c): c for c in space.decode(space.sample(400, torch.Generator().manual_seed(seed)))}
    return [config for key, config in drawn.items() if key not in avoid][:count]


def assert_close(space, a, b, tolerance=1e-6):
    torch.testing.assert_close(space.encode(a)[0], space.encode(b)[0], rtol=0, atol=tolerance)


# ------------------------------------------------------------------------------------------- every method


@cases
def test_proposals_are_valid_and_never_known_ones(method, space, device):
    opt = studied(method, space, device)
    proposals = [*opt.ask(3), opt.ask(), *opt.ask(2)]
    assert len(opt.trials) == TRIALS and opt.pending == proposals
    assert all(space.validate(config) == config for config in proposals)
    assert len(set(keys(opt))) == TRIALS + 6
    assert space.decode(space.encode(proposals)[0]) == proposals


@cases
def test_the_same_seed_and_history_give_the_same_proposals(method, space, device):
    opt = Optimizer(space, method=method, seed=0, device=device)
    for _ in range(TRIALS):
        step(opt)
    assert opt.trials == studied(method, space, device).trials
    if method != "grid":
        assert opt.trials[1:] != studied(method, space, device, seed=1).trials[1:]


@cases
def test_the_order_of_telling_does_not_matter(method, space, device):
    """Own results and foreign ones, failures and ties among them, come in any order."""
    proposals = []
    for order in range(3):
        opt = Optimizer(space, method=method, seed=2, device=device)
        asked = opt.ask(8)
        told = [*asked, *others(space, 7, asked)]
        values = [round(loss(config), 1) for config in told]
        values[3] = values[9] = None
        for i in np.random.default_rng(order).permutation(len(told)):
            opt.tell(told[i], values[i])
        proposals.append([opt.ask(), *opt.ask(2)])
    assert proposals[0] == proposals[1] == proposals[2]


@cases
def test_a_restored_study_goes_on_as_if_it_had_never_stopped(method, space, device):
    opt = studied(method, space, device)
    opt.enqueue(others(space, 1))
    opt.ask(2)
    saved = json.loads(json.dumps(opt.state_dict()))
    restored = Optimizer(space, device=device)
    restored.load_state_dict(saved)
    assert restored.state_dict() == opt.state_dict() == saved
    for _ in range(3):  # the caches of one are warm, those of the other empty
        a, b = opt.ask(), restored.ask()
        assert_close(space, [a], [b])
        opt.tell(a, loss(a))
        restored.tell(a, loss(a))


@methods
def test_what_is_pending_is_taken(method, device):
    """All but one configuration told or pending: it is the next one, until something is given up."""
    opt = studied(method, FINITE, device)
    pending = opt.ask(int(FINITE.size) - TRIALS - 1)
    last = opt.ask()
    assert len(set(keys(opt))) == FINITE.size
    opt.forget([pending[4], last])
    assert {FINITE.key(opt.ask()), FINITE.key(opt.ask())} == {FINITE.key(pending[4]), FINITE.key(last)}


@cases
@pytest.mark.parametrize("told", [0, TRIALS])
def test_ask_q_gives_q(method, space, told, device):
    for q in (1, 2, 9):
        opt = studied(method, space, device) if told else Optimizer(space, method=method, device=device)
        proposals = opt.ask(q)
        assert isinstance(proposals, list) and len(proposals) == q == len(opt.pending)
        assert len(set(keys(opt))) == told + q


@pytest.mark.parametrize("method", ["random", "sobol", "grid"])
def test_q_proposals_that_learn_nothing_are_q_times_one(method, device):
    a, b = (studied(method, FINITE, device) for _ in range(2))
    assert a.ask(5) == [b.ask() for _ in range(5)]


@cases
@pytest.mark.parametrize("failures", [1, 12])
def test_when_everything_fails_it_goes_on(method, space, failures, device):
    opt = Optimizer(space, method=method, seed=1, device=device)
    for _ in range(failures):
        opt.tell(opt.ask(), float("nan"))
    opt.ask(2)
    assert opt.best is None and len(set(keys(opt))) == failures + 2
    config = opt.ask()
    opt.tell(config, 1.0)
    assert opt.best.config == config
    assert space.validate(opt.ask()) not in [trial.config for trial in opt.trials]


@cases
def test_foreign_results_count_and_are_not_proposed(method, space, device):
    opt = Optimizer(space, method=method, seed=1, device=device)
    brought = others(space, 12)
    opt.tell(brought, [loss(config) for config in brought])
    assert opt.state_dict()["asked"] == 0 and opt.best.value == min(map(loss, brought))
    for _ in range(3):
        step(opt)
    assert len(set(keys(opt))) == 15


@cases
def test_replicates_are_their_studies(method, space, device):
    seeds = [0, 7, 11]
    together = Replicates(space, seeds, method=method, device=device)
    alone = [Optimizer(space, seed=seed, method=method, device=device) for seed in seeds]
    for i in range(TRIALS):
        configs, expected = together.ask(), [opt.ask() for opt in alone]
        # Rounding differs between batched and single products and is amplified by the optimisers' steps.
        assert_close(space, configs, expected, 1e-5)
        values = [None if (i, j) in {(2, 1), (9, 2)} else loss(c) for j, c in enumerate(expected)]
        together.tell(configs, values)
        for opt, config, value in zip(alone, expected, values, strict=True):
            opt.tell(config, value)
    for configs, opt in zip(together.ask(2), alone, strict=True):
        assert_close(space, configs, opt.ask(2), 1e-4)


@methods
def test_an_exhausted_space_is_asked_again_with_a_warning(method, caplog, device):
    opt = studied(method, FINITE, device)
    for _ in range(int(FINITE.size) - TRIALS):
        step(opt)
    assert len(set(keys(opt))) == FINITE.size and not caplog.text
    best_first = sorted((t for t in opt.trials if t.value is not None), key=lambda t: (t.value, t.number))
    again = [opt.ask(), *opt.ask(2)]
    assert [loss(c) for c in again] == pytest.approx([t.value for t in best_first[:3]])
    assert len({FINITE.key(c) for c in again}) == 3
    assert "every configuration of the space (30) has been tried" in caplog.text


# ------------------------------------------------------------------------------------------------ enqueue


@pytest.mark.parametrize("method", METHODS)
def test_what_is_enqueued_comes_first_and_in_order(method):
    opt = Optimizer(FINITE, method=method, seed=3)
    opt.tell(opt.ask(), 1.0) if method != "manual" else None
    mine = others(FINITE, 4)
    mine.append(mine[0])  # twice, and so be it
    opt.enqueue(mine[:2])
    opt.enqueue(mine[2])
    opt.enqueue(mine[3:])
    assert opt.enqueued == mine and mine[0] not in opt.pending
    assert [opt.ask(), *opt.ask(2)] == mine[:3]
    assert opt.enqueued == mine[3:] and opt.pending == mine[:3]
    if method == "manual":
        assert opt.ask(2) == mine[3:]
    else:
        proposals = opt.ask(4)
        assert proposals[:2] == mine[3:]
        assert not {FINITE.key(c) for c in proposals[2:]} & {FINITE.key(c) for c in mine}
    assert opt.enqueued == [] and opt.state_dict()["asked"] == len(opt.pending) + len(opt.trials)


def test_what_has_been_tried_may_be_enqueued_and_told_again():
    opt = studied("auto", SMOOTH)
    again = opt.best.config
    opt.enqueue(again)
    assert opt.ask() == again and opt.pending == [again]
    opt.tell(again, 0.25)
    assert opt.trials[-1].config == again and opt.trials[-1].value == 0.25 and not opt.pending


@pytest.mark.parametrize("method", ["random", "sobol"])
def test_what_is_enqueued_takes_the_place_of_a_proposal(method):
    """Also in the sequence of random numbers: what follows does not depend on what was enqueued."""
    plain, opt = (Optimizer(SMOOTH, method=method, seed=3) for _ in range(2))
    opt.enqueue(others(SMOOTH, 2))
    assert opt.ask(6)[2:] == plain.ask(6)[2:]


@methods
def test_what_is_enqueued_is_pending_once_asked_for(method):
    opt = Optimizer(FINITE, method=method, seed=0)
    mine = others(FINITE, 3)
    opt.enqueue(mine)
    rest = opt.ask(int(FINITE.size))[3:]
    assert not {FINITE.key(c) for c in rest} & {FINITE.key(c) for c in mine}
    opt.forget(mine[1])
    assert opt.ask() == mine[1]  # the only one that is free


GOOD = {"x": 0.5, "y": 1.0, "z": 0.5}


@pytest.mark.parametrize(
    ("configs", "error", "message"),
    [
        ({"x": 0.5, "y": 1.0}, ValueError, "z"),
        ([GOOD, {**GOOD, "x": 2.0}], ValueError, "x"),
        ([GOOD, {**GOOD, "y": "one"}], TypeError, "y"),
        ([GOOD, {**GOOD, "w": 1.0}], ValueError, "w"),
        ([GOOD, 3], TypeError, "got 3"),
        ("x", TypeError, "got str"),
        (3, TypeError, "got int"),
        (None, TypeError, "got NoneType"),
    ],
)
def test_what_is_not_valid_is_refused_and_nothing_is_enqueued(configs, error, message):
    opt = Optimizer(SMOOTH)
    opt.enqueue(GOOD)
    before = opt.state_dict()
    with pytest.raises(error, match=message):
        opt.enqueue(configs)
    assert opt.state_dict() == before and opt.enqueued == [GOOD]


def test_nothing_may_be_enqueued():
    opt = Optimizer(SMOOTH)
    opt.enqueue([])
    assert opt.enqueued == []


def test_the_queue_is_part_of_the_state():
    opt = Optimizer(MIXED, method="manual", seed=5)
    mine = others(MIXED, 3)
    opt.enqueue(mine)
    opt.ask()
    restored = Optimizer(MIXED)
    restored.load_state_dict(json.loads(json.dumps(opt.state_dict())))
    assert restored.enqueued == mine[1:] and restored.pending == mine[:1]
    assert restored.ask(2) == mine[1:]
    damaged = {**opt.state_dict(), "enqueued": [{"x": 5.0}]}
    with pytest.raises(ValueError, match="x"):
        restored.load_state_dict(damaged)
    assert restored.pending == mine


def test_the_queue_holds_copies():
    opt = Optimizer(SMOOTH)
    mine = dict(GOOD)
    opt.enqueue(mine)
    mine["x"] = -1.0
    opt.enqueued[0]["x"] = -1.0
    opt.enqueued.clear()
    opt.state_dict()["enqueued"][0]["x"] = -1.0
    assert opt.enqueued == [GOOD]
    opt.ask()["x"] = -1.0
    assert opt.pending == [GOOD]


def test_manual_proposes_nothing_of_its_own():
    opt = Optimizer(SMOOTH, method="manual", max_pending_age=1)
    with pytest.raises(LookupError, match=r"1 asked for, 0 there; call enqueue\(config\) first"):
        opt.ask()
    mine = others(SMOOTH, 4)
    opt.enqueue(mine)
    opt.tell(opt.ask(), 2.0)
    opt.ask()
    before = opt.state_dict()
    with pytest.raises(LookupError, match=r"3 asked for, 2 there; call enqueue\(config\) first"):
        opt.ask(3)
    assert opt.state_dict() == before and opt.pending == mine[1:2]
    assert opt.ask(2) == mine[2:]


def test_replicates_take_what_is_enqueued_for_each():
    studies = Replicates(SMOOTH, seeds=[0, 1, 2], method="manual")
    mine = others(SMOOTH, 6)
    for i, study in enumerate(studies.studies):
        study.enqueue(mine[2 * i : 2 * i + 2] if i < 2 else mine[4])
    assert studies.ask() == [mine[0], mine[2], mine[4]]
    before = [study.state_dict() for study in studies.studies]
    with pytest.raises(LookupError, match="enqueue"):  # the third has none left: none of them advances
        studies.ask()
    assert [study.state_dict() for study in studies.studies] == before
    studies.studies[2].enqueue(mine[5])
    assert studies.ask(1) == [[mine[1]], [mine[3]], [mine[5]]]


@cases
def test_a_queue_in_one_replicate_does_not_change_another(method, space):
    together = Replicates(space, [0, 1], method=method)
    mine = others(space, 1)[0]
    together.studies[0].enqueue(mine)
    alone = Optimizer(space, seed=1, method=method)
    for i in range(10):
        configs, expected = together.ask(), alone.ask()
        assert i or configs[0] == mine
        assert_close(space, configs[1:], [expected], 1e-5)
        together.tell(configs, [loss(configs[0]), loss(expected)])
        alone.tell(expected, loss(expected))


# ---------------------------------------------------------------------------------------------- explain


@cases
def test_an_explanation_names_a_method_and_changes_nothing(method, space):
    opt = Optimizer(space, method=method, seed=2)
    for i in range(TRIALS):
        before = opt.state_dict()
        explanation = opt.explain()
        assert explanation.method in METHODS and explanation.reason
        assert opt.state_dict() == before
        if explanation.method == "sobol":  # the design is that of the method of this name
            plain = Optimizer(space)
            plain.load_state_dict({**before, "method": "sobol"})
            assert copy.deepcopy(opt).ask() == plain.ask()
        elif method not in ("auto", "gp"):
            assert explanation.method == method
        else:
            assert explanation.method == "gp" and i >= 4
        step(opt)


def test_the_explanation_follows_what_happens():
    opt = Optimizer(SMOOTH, seed=2)
    assert opt.explain().method == "sobol"
    opt.enqueue(others(SMOOTH, 2))
    assert opt.explain().method == "manual" and "2 to go" in opt.explain().reason
    for config in opt.ask(2):
        opt.tell(config, None)
    assert opt.explain().method == "sobol"
    opt.tell(others(SMOOTH, 10), [None] * 10)
    assert opt.explain().method == "sobol"  # nothing to learn from yet
    opt.tell(GOOD, 1.0)
    assert opt.explain().method == "gp"


def test_what_was_pruned_is_bad_for_tpe_whatever_its_value():
    opt = Optimizer(SMOOTH, method="tpe", seed=1)
    for _ in range(TRIALS):
        step(opt)
    asked = []
    for value in (-100.0, 100.0):
        state = opt.state_dict()
        for i in (3, 7):
            state["trials"][i] |= {"value": value, "pruned": True}
        again = Optimizer(SMOOTH, method="tpe", seed=1)
        again.load_state_dict(state)
        asked.append([again.ask() for _ in range(4)])
    assert asked[0] == asked[1] != [opt.ask() for _ in range(4)]
