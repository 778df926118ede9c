"""The Gaussian-process method, for a batch of studies at once.

`propose_gp` goes from histories to configurations: outcome transform, fit, acquisition, maximiser. It keeps
nothing: `Optimizer` holds the history, `Cache` can be dropped.
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from bayesopt import bfgs
from bayesopt.acquisition import (
    Acquisition,
    LogExpectedImprovement,
    LogProbabilityOfImprovement,
    Pointwise,
    Surface,
    UpperConfidenceBound,
    maximize,
)
from bayesopt.acquisition.again import lowest_mean_after
from bayesopt.acquisition.batch import Situation, climb_jointly, greedy
from bayesopt.acquisition.candidates import Draws
from bayesopt.acquisition.distinct import SAME, first_free, is_taken
from bayesopt.acquisition.exploration import PureExploration
from bayesopt.acquisition.fantasies import Averaged, BatchAcquisition, Fantasies, innovations
from bayesopt.acquisition.maximizer import DEFAULT_EFFORT, Effort, enumerated
from bayesopt.acquisition.surface import Term
from bayesopt.acquisition.thompson import thompson
from bayesopt.device import put
from bayesopt.methods.arms import is_spare, takes_quadratic
from bayesopt.methods.history import History, generator
from bayesopt.methods.local import Local
from bayesopt.rows import take
from bayesopt.space import Space
from bayesopt.surrogates.feasibility import fit_feasibility
from bayesopt.surrogates.gp import GaussianProcess
from bayesopt.surrogates.model import LARGEST_FIT, Model
from bayesopt.surrogates.outcomes import half_rank
from bayesopt.surrogates.prefixes import NO_CACHE, Cache, fit_surrogate, warm_start

#: How more than one proposal at a time is chosen, `Optimizer(batch=...)`.
BATCHES = ("auto", "qlogei", "ucb_pe", "thompson")

#: Draws of the outcomes of unfinished evaluations, and of the joint climb at the end.
DRAWS, JOINT_DRAWS = 32, 128

#: Observed points whose value is drawn where outcomes are noisy, to draw the incumbent.
CONTENDERS = 16

#: Most evaluations unfinished at once for which "auto" asks for a batch by qLogEI. Past it, and for one
#: proposal at a time beside pending ones, UCB-PE reaches the same regret sooner.
LARGEST_QLOGEI = 8

#: Most evaluations unfinished at once that "auto" chooses one after the other: beyond, only drawing
#: functions stays quick.
LARGEST_GREEDY = 128

#: UCB-PE only explores with every fourth proposal; fewer standard deviations make up the bound of the others
#: in a vast space, of so many numbers that most of it can never be explored.
EXPLORATION, VAST, BETA_IN_VAST = 4, 10, 1.2

#: Results from which the fits are kept up while proposals do without any.
KEPT_UP = 256

#: Largest batch that is climbed jointly at the end.
JOINT = 16

_JOINT_OPTIONS = bfgs.Options(evaluations=10, ftol=1e-4, first_step=0.2, max_step=1.0)


@dataclass(frozen=True, eq=False)
class Learnt:
    """What the Gaussian process makes of b histories, each with the same number > 0 of successes.

    Attributes:
        model: what was fitted; X, F, y: the successes `(b, n, d)`, their features, their outcomes `(b, n)`.
        outcomes: the fit to the successes and to what was told of their noise; best: its mean at the best of
            them `(b, 1)`.
        gp: the same, except that nothing new is to be learnt where an evaluation failed.
        feasibility: `log P(an evaluation succeeds)`; None while none has failed.
    """

    model: Model
    X: Tensor
    F: Tensor
    y: Tensor
    outcomes: GaussianProcess
    best: Tensor
    gp: GaussianProcess
    feasibility: Pointwise | None


@torch.no_grad()
def learn(model: Model, history: History, cache: Cache = NO_CACHE) -> Learnt:
    """Fit the outcomes and, if any evaluation failed, where they fail.

    Raises:
        LinAlgError: a covariance cannot be factorised.
    """
    F = model.embedding(history.X, history.active)
    X, y, F_known = (take(t, history.succeeded) for t in (history.X, history.y, F))
    outcomes = fit_surrogate(model, F_known, y, cache, _std(history))
    gp, feasibility = outcomes, None
    if history.failed.shape[1]:
        feasibility = _feasibility(*fit_feasibility(model, F, ~torch.isfinite(history.home.y), cache))
        F_failed = take(F, history.failed)
        gp = gp.condition_on(F_failed, gp.marginals(F_failed)[0])
    best = outcomes.fitted().amin(-1, keepdim=True)
    return Learnt(model, X, F_known, y, outcomes, best, gp, feasibility)


@torch.no_grad()
def propose_gp(
    model: Model,
    history: History,
    q: int,
    acquisition: Acquisition,
    batch: str = "auto",
    cache: Cache = NO_CACHE,
    effort: Effort = DEFAULT_EFFORT,
    local: bool = False,
    learnt: Learnt | None = None,
) -> Tensor:
    """q proposals for each study, `(b, q, d)` snapped; each with the same number > 0 of successes.

    One proposal with nothing pending maximises the acquisition; else `batch` says how the proposals keep
    out of each other's way and out of that of the pending ones. If `local`, every other one is made by the
    local arms, see `bayesopt.methods.arms`, and all keep out of plateaus. Who has `learn`t from the history
    already passes that on.

    Where outcomes are known to be noisy, what was told may be proposed again, and is, by a single proposal in
    a small finite space, where the next outcome of one of the best tells more.
    """
    acquisition = acquisition.log_form()
    rule = batch_rule(batch, acquisition, q, history.X_pending.shape[1])
    near = Local.of(model, history, q) if local else None
    chosen = None if near is None or rule == "thompson" else near.chosen(history)
    if chosen is not None:
        _keep_up(model, history, cache)
        return chosen
    learnt = learn(model, history, cache) if learnt is None else learnt
    known = situate(learnt, history, q, near)
    gp, best = learnt.gp, learnt.best
    if rule == "alone":
        x = _propose_one(known, Pointwise(gp, acquisition, best), history, effort)
        again = history.noisy and _looks_twice(model.space, acquisition, learnt.y.shape[-1])
        return _or_again(known, gp, x) if again else x
    if rule == "thompson":
        return _thompson(known, gp, history, q)
    if rule == "ucb_pe":
        return _explore(known, gp, best, history, q, effort, local)
    contenders = _contenders(learnt.outcomes) if acquisition.is_noisy else gp.X[:, :0]
    return _improve(known, gp, best, contenders, history, q, acquisition, effort)


def _keep_up(model: Model, history: History, cache: Cache) -> None:
    """Fit what the next fit starts from, else the first one after hundreds of proposals takes seconds.

    A short history is fitted soon enough.
    """
    if history.succeeded.shape[1] > KEPT_UP:
        F = take(model.embedding(history.X, history.active), history.succeeded)
        warm_start(model, F, take(history.y, history.succeeded), cache, _std(history))


def _std(history: History) -> Tensor | None:
    """What was told of the noise of the successes `(b, n)`."""
    return None if history.std is None else take(history.std, history.succeeded)


def situate(learnt: Learnt, history: History, q: int, local: Local | None = None) -> Situation:
    """What the choice of q proposals starts from."""
    model, gp, y = learnt.model, learnt.gp, learnt.y
    fitted = learnt.outcomes.y
    z = fitted if fitted.shape == y.shape else half_rank(y)  # a long history is thinned
    terms: tuple[Term, ...] = () if learnt.feasibility is None else (learnt.feasibility,)
    away = () if local is None else (*local.unresolved, *local.valleys)
    surface = Surface.over(model.space, model.embedding, gp, *terms, *away)
    nearby = (None,) * q if local is None else local.nearby(model, gp, history)
    taken = history.X_pending if history.noisy else history.known()
    return Situation(surface, learnt.X, z, taken, nearby)


def batch_rule(batch: str, acquisition: Acquisition, q: int, pending: int) -> str:
    """What "auto" stands for; an acquisition other than EI is taken at its word.

    "alone" for a single proposal that has nothing to keep clear of.
    """
    if q + pending == 1 and not acquisition.is_noisy:
        return "alone"
    if batch != "auto":
        return batch
    if q + pending > LARGEST_GREEDY:
        return "thompson"
    if not acquisition.is_log:
        return "ucb_pe"
    together = q > 1 and q + pending <= LARGEST_QLOGEI
    return "qlogei" if together or type(acquisition) is not LogExpectedImprovement else "ucb_pe"


def _propose_one(known: Situation, term: Pointwise, history: History, effort: Effort) -> Tensor:
    generators = _generators(history, 0)
    space, nearby = known.surface.space, known.nearby[0]
    region = None if nearby is None else nearby.region
    draws = Draws.of(generators, space.dim, effort.sobol, effort.local, known.X.device)
    surface = known.surface.of(term, *known.surface.terms)
    points, value = maximize(surface, known.X, known.z, draws, effort, region)
    if nearby is not None:
        points, value = nearby.before(points, value)
    return first_free(points, value, known.taken, space, generators).unsqueeze(1)


def _feasibility(gp: GaussianProcess, threshold: Tensor) -> Pointwise:
    """`log P(an evaluation succeeds)`: log EI and it make EI times P; Gelbart, Snoek & Adams (2014)."""
    return Pointwise(gp, LogProbabilityOfImprovement(), threshold)


def _contenders(gp: GaussianProcess) -> Tensor:
    """Features of the observed points that may be the best one, `(b, k, D)`."""
    best = gp.fitted().topk(min(CONTENDERS, gp.y.shape[-1]), -1, largest=False).indices
    return take(gp.X, best)


def _looks_twice(space: Space, acquisition: Acquisition, n: int) -> bool:
    """Whether one of n observed points may be worth more than the maximiser of the acquisition.

    In a small finite space; in others a neighbour tells as much of the point, and more besides. Acquisitions
    other than EI are taken at their word.
    """
    is_ei = type(acquisition) is LogExpectedImprovement
    return is_ei and n <= LARGEST_FIT and enumerated(space) is not None


def _or_again(known: Situation, gp: GaussianProcess, x: Tensor) -> Tensor:
    """The proposal x `(b, 1, d)`, or one of the best observed points if its next outcome tells more."""
    n = known.X.shape[1]
    repeated = (torch.cdist(known.X, known.X, p=torch.inf) < SAME).tril(-1).any(-1)
    mean = gp.fitted()[:, :n].masked_fill(repeated, torch.inf)
    best = mean.topk(min(CONTENDERS, n), -1, largest=False).indices
    X = torch.cat([take(known.X, best), x], 1)
    noise = gp.noise if gp.known is None else gp.noise + gp.known[:, :n].mean(-1)
    F = known.surface.embedding(*known.surface.space.snap(X))
    lowest = lowest_mean_after(gp, F, noise)
    again = lowest[:, :-1].masked_fill(is_taken(X[:, :-1], known.taken), torch.inf).min(-1)
    return take(X, torch.where(again.values < lowest[:, -1], again.indices, best.shape[1]).unsqueeze(-1))


def _pending(known: Situation, history: History) -> Tensor:
    return known.surface.embedding(history.X_pending, history.active_pending)


def _generators(history: History, slot: int) -> list[torch.Generator]:
    return [generator(seed, history.asked, slot) for seed in history.seeds]


def _beside(unfinished: Tensor, gp: GaussianProcess, best: Tensor, e: Tensor) -> tuple[Fantasies, Tensor]:
    """The fantasies of k unfinished points, by their share of the innovations e, and the rest of e."""
    k = unfinished.shape[1]
    fantasies = Fantasies.of(gp, best, e.shape[-1])
    return fantasies.extend(unfinished, e[:, :k]) if k else fantasies, e[:, k:]


def _improve(
    known: Situation, gp: GaussianProcess, best: Tensor, contenders: Tensor, history: History, q: int,
    acquisition: Acquisition, effort: Effort,
) -> Tensor:  # fmt: skip
    """The acquisition averaged over drawn outcomes of what is unfinished; qLogEI also climbed jointly."""
    unfinished = _pending(known, history)
    if acquisition.is_noisy:  # the incumbent is the best of what is drawn at the observed points
        unfinished, best = torch.cat([contenders, unfinished], 1), torch.full_like(best, torch.inf)

    def start(draws: int) -> tuple[Fantasies, Tensor]:
        count = unfinished.shape[1] + q
        e = put(torch.stack([innovations(draws, count, seed) for seed in history.seeds]), best.device)
        return _beside(unfinished, gp, best, e)

    X = greedy(
        known, *start(DRAWS), lambda slot: Averaged(acquisition), partial(_generators, history), effort
    )
    joint = isinstance(acquisition, LogExpectedImprovement) and known.surface.flat and not any(known.nearby)
    return climb_jointly(known, *start(JOINT_DRAWS), X, _JOINT_OPTIONS) if joint and 1 < q <= JOINT else X


def _explore(
    known: Situation, gp: GaussianProcess, best: Tensor, history: History, q: int, effort: Effort, local: bool
) -> Tensor:
    """By upper confidence bound and, now and then, pure exploration; local proposals apart."""
    pending, space = _pending(known, history), known.surface.space
    is_vast = space.dim >= VAST and takes_quadratic(space)  # choices are worth trying, however many there are
    bound = UpperConfidenceBound(BETA_IN_VAST) if is_vast else UpperConfidenceBound()
    believed = best.new_zeros(len(best), pending.shape[1] + q, 1)

    def rule(slot: int) -> BatchAcquisition:
        explores = known.nearby[slot] is None and is_exploration(history.asked + slot, local)
        return PureExploration() if explores else Averaged(bound)

    return greedy(known, *_beside(pending, gp, best, believed), rule, partial(_generators, history), effort)


def is_exploration(at: int, local: bool) -> bool:
    """Whether UCB-PE only explores after `at` other proposals; of the default, what no descent takes."""
    return not is_spare(at) if local else at % EXPLORATION == EXPLORATION - 1


def _thompson(known: Situation, gp: GaussianProcess, history: History, q: int) -> Tensor:
    """Study by study: each is q functions wide already."""
    if history.X_pending.shape[1]:
        pending = _pending(known, history)
        gp = gp.condition_on(pending, gp.marginals(pending)[0])
    proposals = []
    places = torch.arange(len(history.X), device=history.X.device).split(1)
    for seed, one in zip(history.seeds, places, strict=True):
        X, z, taken = known.X[one], known.z[one], known.taken[one]
        source = generator(seed, history.asked, 0)
        proposals.append(thompson(known.surface.rows(one), gp.select(one), X, z, taken, q, source))
    return torch.stack(proposals)
