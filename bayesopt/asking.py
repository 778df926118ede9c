"""Proposals for one study or many: what is enqueued, a design, what a method proposes, or the best again."""

import logging
import math
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from operator import itemgetter

import numpy as np
import torch
from torch import Tensor

from bayesopt import linalg
from bayesopt.acquisition import ACQUISITIONS
from bayesopt.acquisition.distinct import is_taken, untried
from bayesopt.device import keep_pages, settled
from bayesopt.learner import Learner, shared_warm_starts
from bayesopt.methods.cmaes import propose_cmaes
from bayesopt.methods.genetic import propose_genetic
from bayesopt.methods.gp import propose_gp
from bayesopt.methods.grid import propose_grid
from bayesopt.methods.history import History, generator
from bayesopt.methods.quasi_random import random_point, sobol_point
from bayesopt.methods.tpe import propose_tpe
from bayesopt.record import encode
from bayesopt.space import Space
from bayesopt.trials import Config

log = logging.getLogger("bayesopt")

_PROPOSE: dict[str, Callable[[Space, History, int], Tensor]] = {
    "tpe": propose_tpe,
    "genetic": propose_genetic,
    "cmaes": propose_cmaes,
    "grid": propose_grid,
}


def ask(studies: Sequence[Learner], q: int) -> list[list[Config]]:
    """q proposals for each study; those in the same situation advance as one tensor program.

    Raises:
        LookupError: method "manual", and less than that is enqueued.
    """
    for study in studies:
        _check_manual(study, q)
    configs: list[list[Config]] = []
    new = []  # up to where the proposals of each study can be untried ones
    for study in studies:
        study.record.drop_old()
        out = study.record.next_enqueued(q)
        configs.append(out)
        new.append(len(out) + study.untried(q - len(out)))
        for _ in range(min(new[-1] - len(out), study.quasi_random_slots(q - len(out)))):
            out += _ask_quasi_random(study, "design")

    def situation(i: int) -> tuple[str, int, int, int, int, int, int, int, bool, bool]:
        record = studies[i].record
        results = record.results
        told = len(record.trials), results.succeeded, results.pruned, results.foreign
        lengths = new[i] - len(configs[i]), *told, len(record.pending), record.asked
        return studies[i].method, *lengths, record.has_std(), studies[i].may_repeat()

    modelled = sorted((situation(i), i) for i in range(len(studies)) if len(configs[i]) < new[i])
    for (method, slots, *_), members in groupby(modelled, key=itemgetter(0)):
        index = [i for _, i in members]
        proposals = _ask_modelled([studies[i] for i in index], method, slots)
        for i, proposed in zip(index, proposals, strict=True):
            configs[i] += proposed
    for study, out in zip(studies, configs, strict=True):
        if len(out) < q:
            out += _ask_again(study, q - len(out))
    return configs


def _check_manual(study: Learner, q: int) -> None:
    there = len(study.record.enqueued)
    if study.setting.method == "manual" and there < q:
        raise LookupError(
            f"method='manual' proposes what was enqueued: {q} asked for, {there} there; "
            "call enqueue(config) first"
        )


def _ask_again(study: Learner, count: int) -> list[Config]:
    """Configurations of an exhausted space: the best first, those under way last."""
    space, record = study.space, study.record
    log.warning(
        "every configuration of the space (%d) has been tried or is pending; proposing %d again",
        space.size, count,
    )  # fmt: skip
    told = record.results.rows
    best_first = [record.trials[i].config for i in told.number[np.argsort(told.y, kind="stable")]]
    waiting = [asked.config for asked in record.pending]
    every = {space.key(config): config for config in [*best_first, *waiting]}
    rank = {key: i for i, key in enumerate(every)}
    proposals = []
    for _ in range(count):
        under_way = Counter(asked.key for asked in record.pending)
        again = every[min(every, key=lambda key: (under_way[key], rank[key]))]
        proposals += record.issue([again], "repeat")
    return proposals


def _ask_quasi_random(study: Learner, source: str) -> list[Config]:
    """The next point of the design, or another untried one if it has been tried."""
    space, record, method = study.space, study.record, study.setting.method
    seed, asked = study.setting.seed, record.asked
    x = (random_point if method == "random" else sobol_point)(space, seed, asked)
    if not math.isinf(space.size) or record.trials:
        known = study.history().known()[0]
        if bool(is_taken(x[None, None], known[None])):
            x = untried(space, known, generator(seed, asked), x)
    return record.issue(space.decode(x[None].cpu()), method if method in ("random", "sobol") else source)


def _ask_modelled(studies: Sequence[Learner], method: str, q: int) -> list[list[Config]]:
    """Proposals of a method for studies with equally long histories; quasi-random ones if it breaks down."""
    space = studies[0].space
    history = History.stacked([study.history() for study in studies])

    def propose(device: torch.device) -> Tensor:
        return settled(partial(_propose, studies, method, history.to(device), q))

    try:
        X = studies[0].computed(propose, q, len(studies))
    except linalg.LinAlgError as error:
        log.warning("Gaussian process failed (%s); proposing quasi-random configurations instead", error)
        return [
            [config for _ in range(q) for config in _ask_quasi_random(study, "fallback")] for study in studies
        ]
    configs = space.decode(X.flatten(0, 1))
    rows, active = encode(space, configs)
    parts = [slice(i * q, (i + 1) * q) for i in range(len(studies))]
    return [
        study.record.issue(configs[part], method, (rows[part], active[part]))
        for study, part in zip(studies, parts, strict=True)
    ]


def _propose(studies: Sequence[Learner], method: str, history: History, q: int) -> Tensor:
    keep_pages()
    if method == "gp":
        return _propose_gp(studies, history, q)
    return _PROPOSE[method](studies[0].space, history, q)


def _propose_gp(studies: Sequence[Learner], history: History, q: int) -> Tensor:
    first = studies[0]
    setting, device, broad = first.setting, history.X.device, first.is_broad(q)
    acquisition, warm = ACQUISITIONS[setting.acquisition], shared_warm_starts(studies, device, broad)
    learnt = first.latest(broad) if len(studies) == 1 else None
    if learnt is not None and learnt.X.device != device:  # it was enough for one, and now there are many
        learnt = None
    model, local = first.model(device, broad), setting.method == "auto"
    return propose_gp(model, history, q, acquisition, setting.batch, warm, local=local, learnt=learnt)
