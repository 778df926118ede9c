"""What is still to be gained, and stopping by it: a function of the history, second routes, the loop."""

import logging
import math

import pytest
import torch
from scipy.optimize import minimize as scipy_minimize

from bayesopt import Categorical, Float, Int, Optimizer, Study, TrialPruned, maximize, minimize
from bayesopt.methods.quasi_random import design_size
from bayesopt.methods.regret import draw_regret
from bayesopt.stopping import PATIENCE, earliest_end
from bayesopt.study import run
from bayesopt.surrogates.outcomes import OutcomeScale
from tests.methods.histories import CONDITIONAL, FINITE

LINE = {"x": Float(0.0, 1.0)}
PLANE = {"x": Float(-1.0, 1.0), "y": Float(-1.0, 1.0)}


def bowl(config):
    return (config["x"] - 0.3) ** 2 + 2.0 * (config["y"] + 0.2) ** 2


def told(space, n, value, **settings):
    opt = Optimizer(space, **settings)
    configs = Optimizer(space, method="random", seed=1).ask(n)
    opt.tell(configs, [value(config) for config in configs])
    return opt


def asked(space, n, value, **settings):
    opt = Optimizer(space, **settings)
    for _ in range(n):
        config = opt.ask()
        opt.tell(config, value(config))
    return opt


# ----------------------------------------------------------------------------------------------- estimate


def test_regret_is_that_of_functions_drawn_and_minimised_one_by_one():
    """Second route: pathwise draws, each minimised by scipy from many starts."""
    opt = told(PLANE, 12, lambda c: math.sin(3 * c["x"]) + math.cos(4 * c["y"]), seed=3, method="gp")
    learnt = opt._learner.learnt()
    gp, scale = learnt.outcomes.select(0), OutcomeScale.of(learnt.y[0])
    paths = gp.sample_paths(150, torch.Generator().manual_seed(0))
    grid = torch.rand(4000, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    values = paths(grid)
    best = gp.X[gp.y.argmin()].unsqueeze(0)
    regrets = []
    for s in range(150):
        one = paths.select(torch.tensor([s]))
        start = grid[values[s].argmin()].numpy()
        found = scipy_minimize(
            lambda x, one=one: float(one(torch.from_numpy(x)[None])),
            start,
            bounds=[(0, 1)] * 2,
            method="Powell",
        )
        low = min(found.fun, float(values[s].min()))
        pair = torch.tensor([float(one(best)), low], dtype=torch.float64)
        regrets.append(float(-scale.outcome(pair).diff()))
    direct = torch.tensor(regrets, dtype=torch.float64).clamp_min(0.0)
    ours = draw_regret(learnt, opt._learner.history()).regret[0]
    q = torch.tensor([0.25, 0.5, 0.75, 0.95], dtype=torch.float64)
    torch.testing.assert_close(ours.quantile(q), direct.quantile(q), rtol=0.25, atol=0.05)


def test_a_finite_space_that_is_known_leaves_nothing_to_gain():
    opt = Optimizer(FINITE)
    configs = opt.ask(30)
    opt.tell(configs, [c["a"] + c["s"] + (c["c"] == "x") for c in configs])
    assert opt.regret().bound < 0.02


def test_the_bound_shrinks_and_holds_on_an_easy_function():
    opt = Optimizer(PLANE, seed=0)
    bounds, held = [], 0
    for _ in range(25):
        config = opt.ask()
        opt.tell(config, bowl(config))
        if (regret := opt.regret()) is not None:
            bounds.append(regret.bound)
            held += opt.best.value <= regret.bound
            assert 0 <= regret.median <= regret.bound and regret.mean >= 0 and regret.improvement >= 0
    assert len(bounds) == 25 - design_size(opt.space) + 1
    assert bounds[-1] < 1e-3 < bounds[0] and held >= len(bounds) - 3


@pytest.mark.parametrize("space", [PLANE, CONDITIONAL], ids=["plane", "conditional"])
def test_scale_shift_sign_order_and_what_is_pending_do_not_matter(space):
    def value(config):
        return sum(math.sin(5 * v) for v in config.values() if isinstance(v, float))

    plain = told(space, 20, value).regret()
    scaled = told(space, 20, lambda c: 7.0 + 100.0 * value(c)).regret()
    assert scaled.bound == pytest.approx(100.0 * plain.bound, rel=1e-6)
    assert scaled.improvement == pytest.approx(100.0 * plain.improvement, rel=1e-6)
    assert told(space, 20, lambda c: -value(c), maximize=True).regret() == plain
    opt = told(space, 20, value)
    opt.ask(3)
    assert opt.regret() == plain
    backwards = Optimizer(space)
    backwards.tell([t.config for t in reversed(opt.trials)], [t.value for t in reversed(opt.trials)])
    assert backwards.regret() == plain


def test_what_will_fail_is_no_gain():
    """Lower and lower towards x = 1, but there is nothing beyond 0.5."""
    failing = asked(LINE, 40, lambda c: None if c["x"] > 0.5 else -c["x"], method="gp")
    assert failing.regret().bound < 0.05


def test_there_is_no_estimate_without_a_model():
    assert Optimizer(PLANE).regret() is None
    assert told(PLANE, design_size(Optimizer(PLANE).space) - 1, bowl).regret() is None
    assert told(PLANE, 20, lambda c: 1.0).regret() is None
    assert told(PLANE, 20, lambda c: None).regret() is None
    assert told(PLANE, 20, bowl, method="tpe").regret() is None


def test_looking_changes_no_proposal():
    one, two = asked(PLANE, 12, bowl, seed=5), asked(PLANE, 12, bowl, seed=5)
    for _ in range(4):
        one.regret()
        one.explain()
        config = one.ask()
        assert config == two.ask()
        one.tell(config, bowl(config))
        two.tell(config, bowl(config))


# ----------------------------------------------------------------------------------------------- stopping


def test_enough_is_three_small_bounds_in_a_row_whenever_somebody_looks():
    opt, small = Optimizer(PLANE, seed=0), []
    for _ in range(22):
        config = opt.ask()
        opt.tell(config, bowl(config))
        regret = opt.regret()
        small.append(regret is not None and max(regret.bound, regret.mean) <= 1e-2)
        fresh = Optimizer(PLANE, seed=0)
        fresh.load_state_dict(opt.state_dict())
        expected = len(small) >= earliest_end(opt.space) and all(small[-PATIENCE:])
        assert opt.enough(1e-2) == fresh.enough(1e-2) == expected
    assert any(small[:-PATIENCE]) and not all(small)


@pytest.mark.parametrize("direction", [minimize, maximize])
def test_a_run_ends_when_little_is_left_to_gain(direction, caplog):
    sign = 1 if direction is minimize else -1
    with caplog.at_level(logging.INFO, logger="bayesopt"):
        result = direction(
            lambda c: sign * bowl(c), PLANE, trials=60, stop_when="regret", tolerance=0.01, progress=False
        )
    assert earliest_end(result.optimizer.space) <= len(result.trials) < 40
    assert abs(result.best_value) < 0.01
    assert result.optimizer.enough(0.01)
    assert f"stopped after {len(result.trials)} of 60 trials" in caplog.text


def test_tolerance_zero_never_stops_and_the_enqueued_come_first():
    result = minimize(bowl, PLANE, trials=15, stop_when="regret", tolerance=0, progress=False)
    assert len(result.trials) == 15
    mine = [{"x": 0.9, "y": k / 20} for k in range(20)]
    done = minimize(bowl, PLANE, trials=60, stop_when="regret", tolerance=100.0, enqueue=mine, progress=False)
    assert [t.config for t in done.trials] == mine


def test_a_stored_study_stops_where_it_would_have_without_interruption(tmp_path):
    whole = minimize(bowl, PLANE, trials=60, stop_when="regret", tolerance=0.01, progress=False)
    stop = {"stop_when": "regret", "tolerance": 0.01, "progress": False}
    where = {"storage": f"sqlite:///{tmp_path}/x.db", "name": "x"}
    minimize(bowl, PLANE, trials=len(whole.trials) - 1, **where, **stop)
    resumed = minimize(bowl, PLANE, trials=60, **where, **stop)
    assert len(resumed.trials) == len(whole.trials)
    again = minimize(bowl, PLANE, trials=60, **where, **stop)
    assert len(again.trials) == len(whole.trials)
    with Study(**where) as study:
        assert study.enough(0.01) and study.regret().bound <= 0.01
        assert len(run(bowl, study, 60, **stop).trials) == len(whole.trials)


def test_workers_stop_too_and_what_is_running_is_awaited():
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(3) as executor:
        result = minimize(
            bowl, PLANE, trials=80, executor=executor, stop_when="regret", tolerance=0.02, progress=False
        )
    assert len(result.trials) < 70 and not result.optimizer.pending
    assert abs(result.best_value) < 0.02


def test_the_progress_line_says_what_is_left_to_gain(capfd):
    minimize(bowl, PLANE, trials=60, stop_when="regret", tolerance=0.01, progress=True)
    assert "to gain" in capfd.readouterr().err


def test_trials_stopped_early_do_not_disturb():
    def objective(config, trial):
        trial.report(bowl(config), 0)
        if config["x"] > 0.8:
            raise TrialPruned
        return bowl(config)

    result = minimize(objective, PLANE, trials=60, stop_when="regret", tolerance=0.01, progress=False)
    assert len(result.trials) < 60


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stop_when": "regret"}, "needs a tolerance"),
        ({"tolerance": 0.1}, "stop_when must be 'regret'"),
        ({"stop_when": "soon", "tolerance": 0.1}, "got 'soon'"),
        ({"stop_when": "regret", "tolerance": -1.0}, "tolerance must be a number >= 0"),
        ({"stop_when": "regret", "tolerance": math.nan}, "tolerance must be a number >= 0"),
        ({"stop_when": "regret", "tolerance": "1"}, "tolerance must be a number >= 0"),
        ({"stop_when": "regret", "tolerance": 0.1, "method": "tpe"}, "needs a model"),
    ],
)
def test_what_is_wrong_is_said_at_once(arguments, message):
    with pytest.raises(ValueError, match=message):
        minimize(bowl, PLANE, **arguments)


def test_mixed_spaces_stop():
    space = {"k": Int(1, 9), "c": Categorical(["a", "b"]), "u": Float(0.0, 1.0, when={"c": "b"})}

    def value(config):
        return abs(config["k"] - 4) + (config["u"] - 0.5) ** 2 if "u" in config else 1.0 + config["k"]

    result = minimize(value, space, trials=80, stop_when="regret", tolerance=0.1, progress=False)
    assert len(result.trials) < 80 and result.best_value < 0.1
