"""Explanations and predictions: what `ask` then does, what the outcomes then are, second routes."""

import math

import pytest
import torch

import bayesopt.asking
from bayesopt import Float, Optimizer, Study
from bayesopt.explanation import ARMS, Explanation, percent
from bayesopt.methods.insight import mean_improvement
from bayesopt.surrogates.outcomes import OutcomeScale, half_rank
from tests.methods.histories import CONDITIONAL, FINITE, MIXED, SMOOTH, SPACES

METHODS = ("auto", "gp", "tpe", "random", "genetic", "cmaes")


def loss(config):
    numbers = [v for v in config.values() if isinstance(v, int | float)]
    return sum(math.sin(3.0 * i + 1.3 * v / (1 + abs(v))) for i, v in enumerate(numbers)) + 0.1 * len(config)


def told(space, n=20, *, fails=lambda config: False, **settings):
    opt = Optimizer(space, **settings)
    configs = Optimizer(space, method="random", seed=9).ask(n)
    opt.tell(configs, [None if fails(c) else loss(c) for c in configs])
    return opt


# --------------------------------------------------------------------------------- where it comes from


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_the_proposal_explained_is_the_one_then_made_and_nothing_changes(method, space):
    opt = Optimizer(space, method=method, seed=1)
    for i in range(14):
        before = opt.state_dict()
        explanation = opt.explain()
        assert opt.state_dict() == before
        assert explanation.arm in ARMS and all(str(value) for value in explanation.config.values())
        config = opt.ask()
        assert config == explanation.config
        if i % 5:  # some stay pending
            opt.tell(config, loss(config))


def test_arms_by_what_is_under_way_and_what_was_enqueued():
    opt = told(SMOOTH, 16, seed=3)
    assert opt.explain().arm == "acquisition"  # the first, so not a local one
    opt.ask()
    assert opt.explain().arm in ("quadratic", "trust region")
    arms = []
    for _ in range(16):
        arms.append(opt.explain().arm)
        opt.ask()
    assert arms[7::8] == ["exploration", "exploration"]
    assert {*arms[1::8], *arms[3::8], *arms[5::8]} == {"confidence bound"}
    assert set(arms[::2]) <= {"quadratic", "trust region"}
    opt.enqueue({"x": 0.0, "y": 1.0, "z": 0.5})
    explanation = opt.explain()
    assert explanation.arm == "enqueued" and explanation.prediction == opt.predict(explanation.config)


def test_the_quadratic_is_named_where_it_speaks_and_only_there():
    """Of a quadratic function its minimiser is the minimum, whatever the trust region would propose."""
    opt = Optimizer({"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)}, seed=0)
    arms = {}
    for i in range(20):
        explanation = opt.explain()
        config = opt.ask()
        arms[i] = explanation.arm, abs(config["x"] - 0.31) + abs(config["y"] - 0.62)
        opt.tell(config, (config["x"] - 0.31) ** 2 + (config["y"] - 0.62) ** 2)
    quadratic = [distance for arm, distance in arms.values() if arm == "quadratic"]
    assert quadratic and quadratic[0] < 1e-3
    assert all(i % 2 == 1 for i, (arm, _) in arms.items() if arm in ("quadratic", "trust region"))


@pytest.mark.parametrize("method", ["auto", "gp"])
@pytest.mark.parametrize("space", [SMOOTH, MIXED, CONDITIONAL], ids=["numbers", "choices", "conditions"])
def test_proposals_that_look_everywhere_among_numbers_have_a_surrogate_of_their_own(method, space):
    opt = told(space, 25, seed=3, method=method)
    config = opt.trials[0].config
    kernels, predictions = [], []
    for _ in range(4):
        predictions.append(opt.predict(config))
        kernels.append(opt.explain().fit.kernel)
        opt.ask()
    broad = method == "auto" and space is SMOOTH
    assert kernels == [*(("rational quadratic", "Matern 5/2") if broad else ("Matern 5/2", "Matern 5/2"))] * 2
    assert predictions == predictions[:1] * 4  # whoever proposes next


def test_thompson_sampling_an_exhausted_space_and_a_broken_model_are_named(monkeypatch):
    assert told(MIXED, batch="thompson").explain().arm == "acquisition"
    opt = told(MIXED, batch="thompson")
    opt.ask(2)
    assert opt.explain().arm == "draw"
    opt = Optimizer(FINITE)
    configs = opt.ask(30)
    opt.tell(configs, [loss(c) for c in configs])
    assert opt.explain().arm == "repeat"

    def broken(*args, **kwargs):
        raise torch.linalg.LinAlgError("no factorisation")

    opt = told(SMOOTH)
    monkeypatch.setattr(bayesopt.asking, "propose_gp", broken)
    assert opt.explain().arm == "fallback"


def test_what_is_too_old_to_wait_for_is_not_reckoned_with():
    opt = told(SMOOTH, max_pending_age=1)
    opt.ask()
    opt.ask()
    explanation = opt.explain()
    assert len(opt.pending) == 2
    assert explanation.config == opt.ask() and len(opt.pending) == 2


def test_nothing_to_propose_is_explained_too():
    explanation = Optimizer(SMOOTH, method="manual").explain()
    assert explanation == Explanation("manual", "method='manual' was asked for")
    assert "manual" in str(explanation)


def test_parzen_densities_are_those_that_the_proposal_maximises():
    opt = told(CONDITIONAL, 40, method="tpe")
    explanation = opt.explain()
    assert explanation.arm == "density ratio" and explanation.density_ratio > 1
    assert "dense" in explanation.describe()
    assert explanation.prediction is None


# ----------------------------------------------------------------------------------------- predictions


def test_predictions_where_it_was_told_and_their_order():
    opt = told(CONDITIONAL, 30, seed=0)
    for trial, prediction in zip(opt.trials, opt.predict([t.config for t in opt.trials]), strict=True):
        assert prediction.low <= prediction.median <= prediction.high
        assert prediction.success == 1.0 and 0.0 <= prediction.better <= 1.0 and prediction.improvement >= 0.0
        if trial.value < sorted(t.value for t in opt.trials)[10]:
            assert prediction.median == pytest.approx(trial.value, abs=0.25)
    alone, several = opt.predict(opt.trials[3].config), opt.predict([t.config for t in opt.trials[:4]])
    assert alone.median == pytest.approx(several[3].median) and len(several) == 4
    assert opt.predict([]) == []


def test_intervals_hold_the_outcomes_about_as_often_as_they_say():
    inside = total = 0
    for seed in range(8):
        opt = told({f"x{i}": Float(0.0, 1.0) for i in range(3)}, 25, seed=seed)
        configs = Optimizer(opt.space, method="random", seed=100 + seed).ask(60)
        for config, p in zip(configs, opt.predict(configs), strict=True):
            value = loss(config)
            inside += p.low <= value <= p.high
            total += 1
    assert 0.5 < inside / total < 0.97


def test_maximising_is_minimising_the_negative():
    opt, mirrored = told(SMOOTH), Optimizer(SMOOTH, maximize=True)
    mirrored.tell([t.config for t in opt.trials], [-t.value for t in opt.trials])
    configs = Optimizer(SMOOTH, method="random", seed=4).ask(5)
    for p, m in zip(opt.predict(configs), mirrored.predict(configs), strict=True):
        assert (p.median, p.low, p.high) == pytest.approx((-m.median, -m.high, -m.low))
        assert (p.improvement, p.better) == pytest.approx((m.improvement, m.better))
    assert opt.explain().fit.best == pytest.approx(-mirrored.explain().fit.best)


def test_where_evaluations_fail_success_is_less_likely():
    opt = told(SMOOTH, 60, fails=lambda config: config["x"] > 0.3)
    bad, good = opt.predict([{"x": 0.9, "y": 1.0, "z": 0.5}, {"x": -0.8, "y": 1.0, "z": 0.5}])
    assert bad.success < 0.2 and good.success > 0.8


@pytest.mark.parametrize("method", ["tpe", "random", "genetic", "manual"])
def test_a_method_without_a_model_says_so(method):
    with pytest.raises(ValueError, match="no model"):
        told(SMOOTH, method=method).predict({"x": 0.0, "y": 1.0, "z": 0.5})


def test_nothing_can_be_predicted_from_nothing():
    opt, config = Optimizer(SMOOTH), {"x": 0.0, "y": 1.0, "z": 0.5}
    for value in (None, 1.0, 1.0):
        with pytest.raises(LookupError, match="at least two outcomes"):
            opt.predict(config)
        assert opt.explain().prediction is None
        opt.tell(config, value)
    opt.tell(config, 2.0)
    assert math.isfinite(opt.predict(config).median)


def test_a_constant_objective_is_explained_without_numbers():
    opt = Optimizer(SMOOTH)
    for _ in range(10):
        opt.tell(opt.ask(), 1.0)
    assert opt.explain().prediction is None and opt.explain().arm in ARMS


# --------------------------------------------------------------------------------------- outcome units


def scales(device):
    source = torch.Generator().manual_seed(0)
    y = torch.randn(4, 15, generator=source, dtype=torch.float64).exp().to(device)
    y[1] *= 1e-200
    y[2, :9] = y[2, 0]  # the better half ties
    y[3] = -y[3] * 1e200
    return y


def test_the_inverse_leads_back_and_is_straight_below_the_best(device):
    y = scales(device)
    scale, z = OutcomeScale.of(y), half_rank(y)
    size = y.abs().amax(-1, keepdim=True)
    torch.testing.assert_close(scale.outcome(z) / size, y / size, atol=1e-9, rtol=0)
    low = z.amin(-1, keepdim=True)
    one, two = (scale.outcome(low - k) - scale.outcome(low) for k in (1.0, 2.0))
    torch.testing.assert_close(two / size, 2.0 * one / size)
    torch.testing.assert_close(one / size, -scale.unit / size)
    assert (scale.outcome(z.amax(-1, keepdim=True) + 5.0) == y.amax(-1, keepdim=True)).all()
    grid = torch.linspace(-4, 4, 200, dtype=torch.float64, device=device).expand(4, -1)
    assert (scale.outcome(grid).diff() >= -1e-12 * size).all()


def test_expected_improvement_in_outcome_units_is_the_mean_over_draws(device):
    y = scales(device)[[0, 2]]
    scale = OutcomeScale.of(y)
    mu = torch.tensor([[0.3, -1.0, 1.4], [0.1, 0.8, -2.0]], dtype=torch.float64, device=device)
    var = torch.tensor([[1.0, 0.2, 0.5], [0.7, 0.1, 1.0]], dtype=torch.float64, device=device)
    e = torch.randn(200_000, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(device)
    for best in (scale.z[:, :1], scale.z[:, 7:8] + 0.05, scale.z[:, -2:-1]):
        for j in range(3):
            z = mu[:, j : j + 1] + var[:, j : j + 1].sqrt() * e
            drawn = (scale.outcome(best) - scale.outcome(z)).clamp_min(0.0).mean(-1)
            found = mean_improvement(scale, mu, var, best)[:, j]
            torch.testing.assert_close(found, drawn, rtol=2e-2, atol=2e-4)


# -------------------------------------------------------------------------------------------- in words


def test_an_explanation_reads_well():
    opt = told(CONDITIONAL, 30)
    explanation = opt.explain()
    text = str(explanation)
    assert explanation.describe() == text
    for name in explanation.config:
        assert f"  {name} " in text
    for word in ("gp, acquisition", "68 % between", "best so far", "improvement", "noise", "lengthscale x"):
        assert word in text
    assert max(map(len, text.splitlines())) < 100
    assert set(explanation.fit.lengthscales) == set(CONDITIONAL.names)


def test_probabilities_in_words_never_say_never():
    assert percent(1e-12) == "< 0.1 %" and percent(1 - 1e-12) == "> 99.9 %"
    assert (percent(0.0), percent(1.0)) == ("0 %", "100 %")


def test_a_study_explains_what_its_next_ask_does():
    with Study(SMOOTH) as study:
        for _ in range(9):
            explanation = study.explain()
            trial = study.ask()
            assert trial.config == explanation.config
            study.tell(trial, loss(trial.config))
        study.enqueue({"x": 0.5, "y": 2.0, "z": 0.25})
        explanation = study.explain()
        assert explanation.method == "manual" and explanation.arm == "enqueued"
        assert explanation.prediction is not None
        assert study.ask().config == explanation.config
