"""The tree-structured Parzen estimator, for a batch of studies at once.

Bergstra et al. (2011), "Algorithms for hyper-parameter optimization"; Watanabe (2023), arXiv 2304.11127, for
what its settings do. The best outcomes are the good ones, all others, failures and what is pending are the
bad ones. Each side becomes a Parzen mixture, l and g, and the proposal maximises `log l - log g`, a monotone
function of the expected improvement under the model (section 4 of the paper).

Only the ranks of the outcomes matter. Nothing is kept: the proposals are a function of the history.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bayesopt import bfgs
from bayesopt.acquisition.distinct import untried
from bayesopt.acquisition.maximizer import climbed_columns, enumerated
from bayesopt.acquisition.surface import BELIEF_STRENGTH
from bayesopt.device import constant, put, stalls, sure
from bayesopt.methods.history import History, generator
from bayesopt.rows import take
from bayesopt.space import Space
from bayesopt.surrogates.bandwidths import Array, Mask, magic_clip, neighbour_gap, scott
from bayesopt.surrogates.parzen import ParzenMixture

#: Best candidates among which a batch is chosen, at least; they cost a kernel for each pair.
_POOL = 256

#: A single proposal is found by a bound of g that touches it at so many candidates, then by g at so many.
_TANGENTS, _NEAR = 16, 64

#: Codes that differ by no more are those of one configuration; coordinates are exact to 1e-15.
_SAME = 1e-12

#: Of the climb at the end, in encoded units.
_CLIMB = bfgs.Options(evaluations=6, ftol=1e-3, first_step=0.05, max_step=0.1)

#: Bandwidths `(b, n, d)`, or the same for all points, from centres, activity and weights.
Bandwidth = Callable[[Array, Mask, Array], Array]


@dataclass(frozen=True, kw_only=True)
class TPE:
    """Settings; the defaults are what won on the development problems.

    Attributes:
        joint: densities of whole configurations (multivariate TPE), or of each parameter by itself.
        good_share, most_good: the `ceil(good_share n)` best of n successes are good, at most `most_good`;
            those that were pruned count among the n, but are never good.
        most_bad: kernels of the bad side. Of a longer history bad trials at evenly spaced ranks stand for
            all, which bounds what an ask costs.
        candidates: draws from l that are scored.
        sharp_every: every how many asks g is sharp and the chosen points are climbed, 0 for never. In the
            others g is smooth and the best draws stand. See `density_ratio`.
    """

    joint: bool = True
    good_share: float = 0.1
    most_good: int = 25
    most_bad: int = 128
    candidates: int = 2400
    sharp_every: int = 2


DEFAULT = TPE()


@torch.no_grad()
def propose_tpe(space: Space, history: History, q: int, options: TPE = DEFAULT) -> Tensor:
    """q proposals for each study, `(b, q, d)` snapped; each with the same number of successes, maybe none.

    None of them is a configuration that was told, is pending or is another of them, while untried ones
    remain.
    """
    sharp = _is_sharp(history, q, options)
    ratio = density_ratio(space, history, options, sharp)
    taken = _Taken(history.X, history.X_pending)
    source = [generator(seed, history.asked, 0) for seed in history.seeds]
    pool = max(_POOL, 8 * q)
    if q == 1 and options.joint and enumerated(space, history.X.device) is None:
        chosen = _best(ratio, *ratio.good.sample(options.candidates, source), taken)
    else:
        X, good, bad = _candidates(ratio, source, options.candidates, pool)
        good = _wanted(ratio, X, good, taken)
        best = (good - bad).topk(min(X.shape[1], pool if q > 1 else 1), -1).indices
        chosen = take(X, best)
        if q > 1:
            chosen = _greedy(ratio, chosen, take(good, best), take(bad, best), q)
    if sharp:
        chosen = _climbed(ratio, chosen, taken)
    return _distinct(space, chosen, taken, history)


@torch.no_grad()
def log_ratio(space: Space, history: History, X: Tensor, options: TPE = DEFAULT) -> Tensor:
    """`log l - log g` `(b, m)` at snapped points `(b, m, d)`, as the next single proposal is judged by."""
    ratio = density_ratio(space, history, options, _is_sharp(history, 1, options))
    good, bad = ratio.log_densities(X, space.activity(X))
    return good - bad


def _is_sharp(history: History, q: int, options: TPE) -> bool:
    return options.joint and options.sharp_every > 0 and (history.asked // q) % options.sharp_every == 0


@dataclass(frozen=True, eq=False)
class Ratio:
    """The two densities of b studies and what else a proposal is judged by.

    Attributes:
        good, bad: l and g.
        joint: whether whole configurations are compared, or the parameters one by one.
        liar_weight: of that kernel beside all of g.
        belief_weight: of the log belief, as in `acquisition.surface`.
    """

    good: ParzenMixture
    bad: ParzenMixture
    joint: bool
    liar_weight: float
    belief_weight: float

    @property
    def space(self) -> Space:
        """The space of the densities."""
        return self.good.columns.space

    @cached_property
    def liar_scale(self) -> Tensor:
        """Width `(b, 1, d)` of what one more evaluation adds to g: the mean of l's, the prior apart."""
        scale = self.good.scale
        return scale[:, :-1].mean(1, keepdim=True) if scale.shape[1] > 1 else scale

    def log_densities(self, X: Tensor, active: Tensor) -> tuple[Tensor, Tensor]:
        """`log l` and `log g` `(b, m)` at snapped points `(b, m, d)`."""
        if self.joint:
            features = self.good.columns.features(X, active)
            return self.good.log_density_of(features), self.bad.log_density_of(features)
        return self.good.log_marginals(X, active).sum(-1), self.bad.log_marginals(X, active).sum(-1)

    def liars(self, X: Tensor) -> ParzenMixture:
        """Kernels of evaluations that are under way at snapped `X (b, k, d)`, counted as bad."""
        scale = self.liar_scale.expand(X.shape)
        return ParzenMixture.of(self.space, X, self.space.activity(X), scale, torch.ones_like(X[..., 0]))

    def beside(self, X: Tensor) -> "Ratio":
        """With liars at `X (b, k, d)` in g."""
        total = X.shape[1] * self.liar_weight
        bad = self.bad.joined(self.liars(X), total / (1.0 + total))
        return replace(self, bad=bad, liar_weight=self.liar_weight / (1.0 + total))


def density_ratio(space: Space, history: History, options: TPE = DEFAULT, sharp: bool = False) -> Ratio:
    """Both sides of the histories, what is pending on the bad one.

    A smooth g, Scott's bandwidth, only says which region is bad; l alone then decides where in the good one,
    and its maximiser is nearly the same at every ask. So it is not climbed to: what a finite number of
    draws leaves to chance is the local search. A sharp g, neighbour gaps like l, keeps away from every
    single bad point; its maximiser moves with each of them, and is worth climbing to. Smooth is better on
    tables and conditional spaces, sharp on smooth functions; in turns they are as good as the better of
    both.
    """
    ranking, y = history.ranking.numpy(), history.home.y.numpy()
    succeeded = int(np.isfinite(y[0]).sum())
    k = min(math.ceil(options.good_share * succeeded), options.most_good, succeeded - history.pruned)
    others, stand_for = _thinned(ranking.shape[1] - k, options.most_bad)
    places = np.concatenate([np.arange(k), k + others])
    chosen = np.arange(len(ranking))[:, None], ranking[:, places]
    X, active = history.home.X.numpy()[chosen], history.home.active.numpy()[chosen]
    weights, rules = (_rank_weights(k), stand_for), (_gaps, _gaps if sharp else scott)
    good, bad = _mixtures(space, X, active, weights, rules, history.X.device)
    ratio = Ratio(
        good=good,
        bad=bad,
        joint=options.joint,
        liar_weight=1.0 / (k + 1),  # as much as a kernel of l: enough to take its place, however large n is
        belief_weight=BELIEF_STRENGTH / max(1, history.y.shape[1]),
    )
    return ratio.beside(history.X_pending) if history.X_pending.shape[1] else ratio


def _gaps(centre: Array, active: Mask, weight: Array) -> Array:
    return neighbour_gap(centre, active)


def _rank_weights(k: int) -> Array:
    """Proportional to `log(k + 1) - log(rank)`, mean 1, `(k,)`: those of CMA-ES, Hansen (2016), eq. (49)."""
    weight = math.log(k + 1) - np.log(np.arange(1, k + 1))
    return weight * (k / weight.sum()) if k else weight


def _thinned(n: int, most: int) -> tuple[NDArray[np.int64], Array]:
    """At most `most` ranks of n trials, best first, and how many trials each stands for.

    The better half of them as they are: they lie where l is large. The others evenly spaced.
    """
    ranks = np.arange(min(n, most))
    weight = np.ones(len(ranks))
    if n > most:
        near = most // 2
        rest, far = n - near, most - near
        ranks[near:] = near + (np.arange(far) * rest + rest // 2) // far
        weight[near:] = rest / far
    return ranks, weight


def _mixtures(
    space: Space,
    X: Array,
    active: Mask,
    weights: tuple[Array, Array],
    rules: tuple[Bandwidth, Bandwidth],
    device: torch.device,
) -> Iterator[ParzenMixture]:
    """l and g over the trials `(b, n, d)`, good ones first, with these weights; and the prior, weight 1."""
    k, n = len(weights[0]), X.shape[1]
    centre = np.full((len(X), n + 2, space.dim), 0.5)
    scale, on, log_weight = centre.copy(), np.zeros(centre.shape, dtype=bool), np.empty(centre.shape[:2])
    sides = (slice(k), slice(k)), (slice(k, n), slice(k + 1, n + 1))
    for (trials, kernels), weight, rule in zip(sides, weights, rules, strict=True):
        x, live = X[:, trials], active[:, trials]
        centre[:, kernels], on[:, kernels] = x, live
        scale[:, kernels] = _scale(space, x, live, weight, rule)
    log_weight[:] = np.log(np.concatenate([np.append(w, 1.0) / (w.sum() + 1.0) for w in weights]))
    tensors = (put(torch.from_numpy(array), device) for array in (centre, on, scale, log_weight))
    return ParzenMixture.several(space, [k + 1, n - k + 1], *tensors)


def _scale(space: Space, X: Array, active: Mask, weight: Array, rule: Bandwidth) -> Array:
    """Scales `(b, n, d)` of kernels on the trials, or `(b, 1, d)` where all have the same."""
    scale = magic_clip(rule(X, active, weight), active)
    if not any(space.categorical):
        return scale
    return np.where(space.categorical, _choice_spread(space, active), scale)


def _choice_spread(space: Space, active: Mask) -> Array:
    """Share of a kernel's probability that goes to other choices, `(b, 1, d)`: `L / (L + n + 1)`.

    What counting gives: each of the L choices seen `1 / (n + 1)` times more than it was.
    """
    levels = np.array([float(count or 1) for count in space.levels])
    return np.asarray(levels / (levels + active.sum(1, keepdims=True) + 1.0))


def _candidates(
    ratio: Ratio, source: Sequence[torch.Generator], count: int, pool: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Snapped points `(b, m, d)`, `log l` and `log g` `(b, m)`: all of a small space, else draws from l."""
    grid = enumerated(ratio.space, ratio.good.centre.device)
    if grid is not None:
        X, active = (t.expand(len(source), *t.shape) for t in grid)
        return X, *ratio.log_densities(X, active)
    if ratio.joint:
        X, active = ratio.good.sample(count, source)
        return X, *ratio.log_densities(X, active)
    return _recombined(ratio, ratio.good.sample_marginals(count, source), pool)


def _recombined(ratio: Ratio, X: Tensor, pool: int) -> tuple[Tensor, Tensor, Tensor]:
    """Draws of each parameter by itself X `(b, m, d)`, and before them the best of all, the second best, ...

    Returns what `_candidates` does, `pool` points more than draws. Scores of columns add up, so that none
    is computed twice.
    """
    everywhere = torch.ones_like(X, dtype=torch.bool)
    parts = X, ratio.good.log_marginals(X, everywhere), ratio.bad.log_marginals(X, everywhere)
    best = (parts[1] - parts[2]).argsort(dim=1, descending=True, stable=True)[:, :pool]
    X, good, bad = (torch.cat([part.gather(1, best), part], 1) for part in parts)
    X, active = ratio.space.snap(X)
    return X, (good * active).sum(-1), (bad * active).sum(-1)


@dataclass(frozen=True, eq=False)
class _Taken:
    """What no proposal is to be: the told and the pending points, `(b, n, d)` each."""

    told: Tensor
    pending: Tensor

    @cached_property
    def codes(self) -> Tensor:
        """Of all of them `(b, n)`."""
        return torch.cat([_codes(self.told), _codes(self.pending)], 1)

    def has(self, X: Tensor) -> Tensor:
        """Which of the points `(b, m, d)` are among them."""
        if X.shape[1] == 1 and not stalls(X):  # the first column mostly tells that a single point is new
            first = X[..., 0]
            if not any(bool(_same(first, part[..., 0]).any()) for part in (self.told, self.pending)):
                return torch.zeros_like(first, dtype=torch.bool)
        return _among(_codes(X), self.codes)


def _wanted(ratio: Ratio, X: Tensor, good: Tensor, taken: _Taken) -> Tensor:
    """What speaks for points `(b, m, d)`, where `log l` is good `(b, m)`: the belief too; -inf if known."""
    space = ratio.space
    if space.has_belief:
        good = good + ratio.belief_weight * space.belief(X)[0]
    if math.isinf(space.size):  # a draw meets an old point with probability 0
        return good
    return good.masked_fill(taken.has(X), -torch.inf)


def _best(ratio: Ratio, X: Tensor, active: Tensor, taken: _Taken) -> Tensor:
    """The best `(b, 1, d)` of the snapped points `(b, m, d)`.

    On the CPU all are ranked by a bound of g, and those that may be the best judged by g itself, until one of
    these is above the bounds of all others. On a device a look at that would cost more than all of g.
    """
    features = ratio.good.columns.features(X, active)
    good = _wanted(ratio, X, ratio.good.log_density_of(features), taken)
    if stalls(X):
        return take(X, (good - ratio.bad.log_density_of(features)).argmax(-1, keepdim=True))
    score = good - ratio.bad.log_bound_of(features, features[:, :_TANGENTS])
    few, m = _NEAR, score.shape[1]
    while True:
        near = score.topk(min(few, m), -1).indices
        exact = take(good, near) - ratio.bad.log_density_of(take(features, near))
        score = score.scatter(1, near, exact)
        value, place = exact.max(-1, keepdim=True)
        if few >= m or bool((value >= score.amax(-1, keepdim=True)).all()):
            return take(X, near.gather(1, place))
        few *= 4


def _greedy(ratio: Ratio, X: Tensor, good: Tensor, bad: Tensor, q: int) -> Tensor:
    """The q points `(b, q, d)` of X `(b, m, d)` that maximise `good - bad`, each given the ones before.

    Each choice becomes a bad trial at once: g gains a kernel there, at all other points by one `logaddexp`.
    good is -inf where a point may not be taken.
    """
    kernels = ratio.liars(X).log_kernels(X, ratio.space.activity(X)).mT
    bad = bad - math.log(ratio.liar_weight)  # instead of adding it to all kernels; the order stays
    return take(X, (_picks if stalls(X) else _picks_at_home)(kernels, _codes(X), good, bad, q))


def _picks(kernels: Tensor, code: Tensor, good: Tensor, bad: Tensor, q: int) -> Tensor:
    """Places `(b, q)` of the choices of `_greedy`; kernels `(b, m, m)`, of each point at all others."""
    chosen = []
    for _ in range(q):
        pick = (good - bad).argmax(-1, keepdim=True)
        chosen.append(pick)
        bad = torch.logaddexp(bad, take(kernels, pick).squeeze(1))
        good = good.masked_fill(_same(code, code.gather(1, pick)), -torch.inf)
    return torch.cat(chosen, 1)


def _picks_at_home(kernels: Tensor, code: Tensor, good: Tensor, bad: Tensor, q: int) -> Tensor:
    """As `_picks`, by numpy: on the CPU calls cost more than arithmetic."""
    K, at, plus, minus = kernels.numpy(), code.numpy(), good.numpy().copy(), bad.numpy()
    study, chosen = np.arange(len(at)), []
    for _ in range(q):
        pick = (plus - minus).argmax(-1)
        chosen.append(pick)
        minus = np.logaddexp(minus, K[study, pick])
        plus[np.abs(at - at[study, pick, None]) <= _SAME] = -np.inf
    return torch.from_numpy(np.stack(chosen, 1))


def _climbed(ratio: Ratio, X: Tensor, taken: _Taken) -> Tensor:
    """The proposals `(b, q, d)` after bounded BFGS on the numeric columns.

    Each climbs `log l - log g` with the kernels of the others, where they stood, on the bad side. One that
    would not gain after snapping, or not be new, stays where it is.
    """
    if not ratio.joint or not any(climbed_columns(ratio.space)):
        return X
    alone = X.shape[:2] == (1, 1) and not stalls(X) and not ratio.space.has_belief
    found, better = (_climbed_alone if alone else _climbed_abreast)(ratio, X)
    met = _repeats(_codes(torch.cat([X, found], 1)))[:, X.shape[1] :]
    new = ~(taken.has(found) | met)
    return torch.where((better & new).unsqueeze(-1), found, X)


def _climbed_abreast(ratio: Ratio, X: Tensor) -> tuple[Tensor, Tensor]:
    """Where the points `(b, q, d)` have climbed to, all at once, and which are better there `(b, q)`."""
    space, q = ratio.space, X.shape[1]
    free = constant(climbed_columns(space), torch.bool, X.device)
    active = space.activity(X)
    bad, without = ratio.bad, None
    if q > 1:
        bad = ratio.beside(X).bad
        without = torch.zeros(q, bad.log_weight.shape[1], dtype=torch.bool, device=X.device)
        without[:, -q:].fill_diagonal_(True)

    def descent(x: Tensor, keep: Tensor | None) -> tuple[Tensor, Tensor]:
        columns, on = bad.columns, active if keep is None else active[keep]
        features = columns.features(x, on)
        above, up = ratio.good.rows(keep).log_density_and_slope(features)
        below, down = bad.rows(keep).log_density_and_slope(features, without)
        value, slope = below - above, columns.pullback(x, on, down - up)
        if space.has_belief:
            belief, rise = space.belief(x)
            value, slope = value - ratio.belief_weight * belief, slope - ratio.belief_weight * rise
        return value, slope * free

    bounds = torch.where(free, 0.0, X), torch.where(free, 1.0, X)
    first = descent(X, None)
    found, _ = space.snap(bfgs.minimize(descent, X, *bounds, _CLIMB, first=first).x)
    return found, descent(found, None)[0] < first[0]


def _climbed_alone(ratio: Ratio, X: Tensor) -> tuple[Tensor, Tensor]:
    """As `_climbed_abreast` for one point `(1, 1, d)` on the CPU, where calls cost more than arithmetic.

    Features other than those of the numbers stay as they are.
    """
    space, columns = ratio.space, ratio.good.columns
    active = space.activity(X)
    free = np.array(climbed_columns(space)) & active[0, 0].numpy()
    features, numeric = columns.features(X, active)[0, 0].numpy(), columns.numeric.numpy()
    sides = [side.linear() for side in (ratio.good, ratio.bad)]
    p = len(numeric)

    def descent(x: Array) -> tuple[float, Array]:
        u = x[numeric] - 0.5
        features[:p], features[p : 2 * p] = u, u * u
        (above, up), (below, down) = (_log_sum_and_slope(*side, features) for side in sides)
        rise, slope = down - up, np.zeros_like(x)
        slope[numeric] = rise[:p] + 2.0 * u * rise[p : 2 * p]
        return below - above, slope * free

    x = X[0, 0].numpy()
    bounds, first = (np.where(free, 0.0, x), np.where(free, 1.0, x)), descent(x)
    found, _ = space.snap(torch.from_numpy(bfgs.minimize_alone(descent, x, *bounds, _CLIMB, first)))
    return found.view(X.shape), torch.tensor([[descent(found.numpy())[0] < first[0]]])


def _log_sum_and_slope(constants: Array, coefficient: Array, features: Array) -> tuple[float, Array]:
    """`log sum exp(constants + coefficient features)`, of `(n,)`, `(n, F)` and `(F,)`, and its gradient."""
    logs = constants + coefficient @ features
    most = logs.max()
    kernels = np.exp(logs - most)
    total = kernels.sum()
    return float(most + math.log(total)), (kernels / total) @ coefficient


def _codes(X: Tensor) -> Tensor:
    """Where points `(b, n, d)` lie on a random line, `(b, n)`: apart if they differ, but for chance."""
    return X @ _line(X.shape[-1], X.device)


@lru_cache(maxsize=64)
def _line(d: int, device: torch.device) -> Tensor:
    """Its direction `(d,)`, always the same."""
    return torch.randn(d, generator=generator(0), dtype=torch.float64).to(device)


def _among(codes: Tensor, taken: Tensor) -> Tensor:
    """Which of the codes `(b, m)` are among the codes `taken (b, n)`."""
    if codes.shape[1] <= 2:  # comparing with all is cheaper than sorting them
        return _same(codes.unsqueeze(-1), taken.unsqueeze(-2)).any(-1)
    if not taken.shape[1]:
        return torch.zeros_like(codes, dtype=torch.bool)
    # On the CPU by numpy, in less than half of the time.
    table = taken.sort(-1).values if stalls(taken) else torch.from_numpy(np.sort(taken.numpy(), -1))
    place = torch.searchsorted(table, codes - _SAME).clamp(max=table.shape[1] - 1)
    return _same(table.gather(1, place), codes)


def _repeats(codes: Tensor) -> Tensor:
    """Which of the codes `(b, q)` are also those of an earlier one."""
    return _same(codes.unsqueeze(-1), codes.unsqueeze(-2)).tril(-1).any(-1)


def _same(codes: Tensor, others: Tensor) -> Tensor:
    """Which of the codes are of the same configurations."""
    return (codes - others).abs() <= _SAME


def _distinct(space: Space, X: Tensor, taken: _Taken, history: History) -> Tensor:
    """The proposals `(b, q, d)`, those known or repeated replaced by untried ones."""
    again = taken.has(X)
    if X.shape[1] > 1:
        again = again | _repeats(_codes(X))
    if sure(~again):
        return X
    for i, slot in again.nonzero().tolist():
        others = torch.cat([history.known()[i], X[i]])
        X[i, slot] = untried(space, others, generator(history.seeds[i], history.asked, slot + 1), X[i, slot])
    return X
