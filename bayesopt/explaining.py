"""What a study says of its proposals, of configurations, and of which one to take."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from bayesopt.acquisition import ACQUISITIONS
from bayesopt.acquisition.surface import lengthscales
from bayesopt.asking import ask
from bayesopt.device import put
from bayesopt.explanation import Explanation, Fit, Prediction
from bayesopt.learner import Learner, shared_warm_starts
from bayesopt.methods.choice import Choice, choose
from bayesopt.methods.gp import Learnt
from bayesopt.methods.history import History
from bayesopt.methods.insight import arm_of, forecast, noise_deviation
from bayesopt.methods.recommend import Chosen, lowest_mean
from bayesopt.methods.tpe import log_ratio
from bayesopt.record import Asked
from bayesopt.setting import MODELS, ON_DEVICE
from bayesopt.surrogates.outcomes import OutcomeScale
from bayesopt.trials import Config, Recommendation

_LARGEST_EXPONENT = 700.0  # of what a float can hold


def explain(study: Learner, first: Sequence[Config] = ()) -> Explanation:
    """What the study would propose now, as if `first` had been enqueued; see `Optimizer.explain`."""
    twin = study.twin()
    twin.record.enqueued = [*first, *twin.record.enqueued]
    choice = _choice(twin)
    if twin.setting.method == "manual" and not twin.record.enqueued:
        return Explanation(*choice)
    broad = choice.method == "gp" and twin.is_broad()
    learnt = twin.learnt(broad) if twin.method == "gp" else None
    history = twin.history()
    ask([twin], 1)
    asked = twin.record.pending[-1]
    explanation = _explained(study, choice, asked, history, learnt)
    if asked.source not in ON_DEVICE:
        return explanation
    device, reason = study.placement()
    return replace(explanation, device=str(device), device_reason=reason)


def _choice(study: Learner) -> Choice:
    """The method of the next proposal, and why."""
    enqueued, method = len(study.record.enqueued), study.setting.method
    if enqueued:
        return Choice("manual", f"enqueued configurations come first: {enqueued} to go")
    if study.method in MODELS and study.quasi_random_slots(1):
        return Choice("sobol", "too few results to learn from: first a design that covers the space")
    if method != "auto":
        return Choice(method, f"method={method!r} was asked for")
    return choose(len(study.record.trials))


def _explained(
    study: Learner, choice: Choice, asked: Asked, history: History, learnt: Learnt | None
) -> Explanation:
    """Of the proposal that a history before it has led to."""
    explanation = Explanation(*choice, asked.source, dict(asked.config))
    X, active = (torch.from_numpy(part)[None, None] for part in (asked.row, asked.active))
    if asked.source == "tpe":
        ratio = min(float(log_ratio(study.space, history, X)), _LARGEST_EXPONENT)
        return replace(explanation, arm="density ratio", density_ratio=math.exp(ratio))
    if learnt is None:
        return explanation
    if asked.source == "gp":
        setting, there = study.setting, learnt.X.device
        how = ACQUISITIONS[setting.acquisition], setting.batch, setting.method == "auto"
        arm = arm_of(learnt, history.to(there), put(X[0, 0], there), *how)
        explanation = replace(explanation, arm=arm)
    if not study.record.outcomes_differ():
        return explanation
    return replace(explanation, prediction=predict(study, learnt, X, active)[0], fit=_fit(study, learnt))


def predict(study: Learner, learnt: Learnt, X: Tensor, active: Tensor) -> list[Prediction]:
    """Of encoded configurations `(1, m, d)` on the CPU, in the user's sign."""
    X, active = (put(part, learnt.X.device) for part in (X, active))
    median, low, high, *rest = (each[0].cpu() for each in forecast(learnt, X, active))
    if study.setting.maximize:
        median, low, high = -median, -high, -low
    columns = (each.tolist() for each in (median, low, high, *rest))
    return [Prediction(*row) for row in zip(*columns, strict=True)]


def _fit(study: Learner, learnt: Learnt) -> Fit:
    best = float(OutcomeScale.of(learnt.y).outcome(learnt.best))
    space = study.space
    scales = lengthscales(learnt.outcomes, space.dim)[0].tolist()
    return Fit(
        kernel=learnt.model.kernel.profile.name,
        best=-best if study.setting.maximize else best,
        noise=float(noise_deviation(learnt)),
        lengthscales=dict(zip(space.names, scales, strict=True)),
    )


def recommend(study: Learner) -> Recommendation | None:
    """See `Optimizer.recommend`."""
    record, maximize = study.record, study.setting.maximize
    best = record.best
    if best is None or best.value is None:
        return None
    if study.setting.deterministic:
        return Recommendation(dict(best.config), best.value, 0.0)
    rows = record.results.rows
    eligible = torch.from_numpy(~rows.pruned)[None]

    def choose(device: torch.device) -> Chosen:
        history, warm = study.history().to(device), shared_warm_starts([study], device)
        return lowest_mean(study.model(device), history, put(eligible, device), warm)

    place, value, std = study.computed(choose)
    config = record.trials[int(rows.number[int(place)])].config
    return Recommendation(dict(config), float(-value if maximize else value), float(std))
