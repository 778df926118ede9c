"""When to stop: what is still to be gained in a study, and whether that is little enough."""

import logging

import numpy as np
import torch

from bayesopt import linalg
from bayesopt.explanation import Regret
from bayesopt.learner import Learner
from bayesopt.methods.quasi_random import design_size
from bayesopt.methods.regret import RegretDraws, draw_regret
from bayesopt.space import Space

log = logging.getLogger("bayesopt")

#: Of the bound on the regret; after how many results in a row it has to be small to be believed.
CONFIDENCE, PATIENCE = 0.95, 3


def earliest_end(space: Space) -> int:
    """How many results there must be before a bound on the regret is believed."""
    return max(design_size(space), 3 * (space.dim + 1)) + PATIENCE - 1


def is_enough(study: Learner, tolerance: float) -> bool:
    """See `Optimizer.enough`."""
    told = len(study.record.trials)
    return told >= earliest_end(study.space) and all(
        (regret := regret_after(study, told - k)) is not None and regret.within(tolerance)
        for k in range(PATIENCE)
    )


def regret_after(study: Learner, told: int) -> Regret | None:
    """Of the first so many results in canonical order; see `Optimizer.regret`."""
    record = study.record
    key = record.results.rows.number[:told].tobytes()
    if key not in study.regrets:
        recent = list(study.regrets.items())[-PATIENCE:]
        known = told >= design_size(study.space) and record.outcomes_differ(told)
        drawn = _drawn_regret(study, told) if known and study.method == "gp" else None
        study.regrets = dict([*recent, (key, drawn)])
    return study.regrets[key]


def _drawn_regret(study: Learner, told: int) -> Regret | None:
    history, is_all = study.history().first(told), told == len(study.record.trials)

    def draw(device: torch.device) -> RegretDraws:
        latest = study.latest() if is_all else None
        learnt = study.learn_from(history, device) if latest is None else latest
        return draw_regret(learnt, history.to(learnt.X.device))

    try:
        if is_all:
            study.learn()
        found = study.computed(draw)
    except linalg.LinAlgError as error:
        log.warning("Gaussian process failed (%s); the regret is not known", error)
        return None
    regret = found.regret[0].cpu().numpy()
    median, bound = np.quantile(regret, [0.5, CONFIDENCE])
    return Regret(float(median), float(regret.mean()), float(bound), float(found.improvement))
