"""`quality`: is the speed bought with worse answers?

Over random histories, on the same data and the same model:

- our fit, with an empty cache as in a resumed study, against BoTorch's `fit_gpytorch_mll` on the equivalent
  GPyTorch model (same kernel, priors, bounds and transformed outcomes, parameters in log units). Both
  vectors of hyper-parameters are scored by our negative log posterior; differences are in nats.
- our maximiser of log EI against BoTorch's `optimize_acqf` (10 restarts, 512 raw samples) on the posterior
  of our fit, with the same incumbent. Both points are scored by our log EI.

Beside it, how often a second run of BoTorch - hyper-parameters sampled from the prior, another seed -
reproduces its own first: nobody can be asked to agree with it more often than it does itself.
"""

import argparse
import math
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from torch import Tensor

from bayesopt.acquisition import LogExpectedImprovement, Pointwise, Surface, maximize
from bayesopt.acquisition.candidates import Draws
from bayesopt.acquisition.maximizer import DEFAULT_EFFORT
from bayesopt.methods.history import generator
from bayesopt.surrogates.gp import GaussianProcess, Optimum, negative_log_posterior
from bayesopt.surrogates.model import Model
from bayesopt.surrogates.outcomes import half_rank
from bayesopt.surrogates.prefixes import fit_surrogate
from bayesopt.surrogates.priors import Priors
from benchmarks.histories import History, random_history, unit_box
from benchmarks.report import Report, Row, Table, number, percent, progress

if TYPE_CHECKING:
    from gpytorch.mlls import ExactMarginalLogLikelihood

T = TypeVar("T")

DESCRIPTION = "fits and proposals beside those of BoTorch's optimisers on the same model"

FIT_TOLERANCE = 0.1  # nats of the log posterior
ACQUISITION_TOLERANCE = 0.05  # of log EI

_QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


@dataclass(frozen=True)
class Comparison:
    """Losses (smaller is better) and seconds of us and of BoTorch's two runs on one history."""

    ours: float
    first: float
    second: float
    our_seconds: float
    first_seconds: float

    @property
    def excess(self) -> float:
        """How much worse we are than BoTorch's first run."""
        return self.ours - self.first

    @property
    def excess_of_two(self) -> float:
        """How much worse we are than the better of BoTorch's two runs."""
        return self.ours - min(self.first, self.second)

    @property
    def drift(self) -> float:
        """How much worse BoTorch's second run is than its first."""
        return self.second - self.first


@dataclass(frozen=True)
class Outcome:
    """Both comparisons on one history."""

    history: History
    fit: Comparison
    acquisition: Comparison

    def record(self) -> dict[str, object]:
        """As JSON values."""
        n, d = self.history.X.shape
        what = {"seed": self.history.seed, "problem": self.history.problem, "layout": self.history.layout}
        parts = {"fit": asdict(self.fit), "acquisition": asdict(self.acquisition)}
        losses = {
            name: {k: v if math.isfinite(v) else None for k, v in p.items()} for name, p in parts.items()
        }
        return {**what, "n": n, "d": d, **losses}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--histories", type=int, default=100, help="how many (default: %(default)s)")
    parser.add_argument(
        "--first", type=int, default=0, help="seed of the first history (default: %(default)s)"
    )


# ------------------------------------------------------------------------------------------------ fits


class DictCache:
    """Keeps every prefix of one history."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, int], Optimum] = {}

    def get(self, kind: str, length: int) -> Optimum | None:
        return self._entries.get((kind, length))

    def put(self, kind: str, length: int, optimum: Optimum, /) -> None:
        self._entries[kind, length] = optimum


@torch.no_grad()
def our_fit(model: Model, X: Tensor, y: Tensor) -> tuple[GaussianProcess, float]:
    """The fit of an ask with an empty cache, and the seconds that it takes once the cache is warm."""
    cache = DictCache()
    fit_surrogate(model, X, y, cache)
    return _timed(lambda: fit_surrogate(model, X, y, cache))


def gpytorch_model(X: Tensor, z: Tensor, priors: Priors) -> "ExactMarginalLogLikelihood":
    """Our model in GPyTorch's words, hyper-parameters at the modes of their priors: its marginal likelihood.

    Args: X `(n, d)`, z `(n,)`; priors of (ln l_1 .. ln l_d, ln s2, ln noise).
    """
    from botorch.models import SingleTaskGP
    from botorch.utils.constraints import LogTransformedInterval
    from gpytorch.kernels import MaternKernel, ScaleKernel
    from gpytorch.likelihoods import GaussianLikelihood
    from gpytorch.means import ZeroMean
    from gpytorch.mlls import ExactMarginalLogLikelihood
    from gpytorch.priors import LogNormalPrior

    def prior(j: int) -> LogNormalPrior:
        # The density of ln v has its mode at m - s^2: see bayesopt.surrogates.priors.
        std = float(priors.std[j])
        return LogNormalPrior(float(priors.mode[j]) + std**2, std)

    def bounds(j: int) -> LogTransformedInterval:
        low, mode, high = (math.exp(float(t[j])) for t in (priors.lower, priors.mode, priors.upper))
        return LogTransformedInterval(low, high, initial_value=mode)

    matern = MaternKernel(
        nu=2.5, ard_num_dims=X.shape[-1], lengthscale_prior=prior(0), lengthscale_constraint=bounds(0)
    )
    model = SingleTaskGP(
        X,
        z[:, None],
        likelihood=GaussianLikelihood(noise_prior=prior(-1), noise_constraint=bounds(-1)),
        covar_module=ScaleKernel(matern, outputscale_prior=prior(-2), outputscale_constraint=bounds(-2)),
        mean_module=ZeroMean(),
        outcome_transform=None,
    )
    return ExactMarginalLogLikelihood(model.likelihood, model)


def gpytorch_theta(mll: "ExactMarginalLogLikelihood") -> Tensor:
    """Log hyper-parameters `(p,)` of a `gpytorch_model`, in our order."""
    covariance, noise = mll.model.covar_module, mll.likelihood.noise
    parts = [covariance.base_kernel.lengthscale, covariance.outputscale, noise]
    return torch.cat([part.detach().reshape(-1) for part in parts]).log()


def botorch_fit(X: Tensor, z: Tensor, priors: Priors, seed: int | None) -> Tensor:
    """Hyper-parameters `(p,)` found by `fit_gpytorch_mll`; nan if it fails.

    It starts at the modes of the priors; with a seed, at a draw from them, as BoTorch does when it retries.
    """
    from botorch.exceptions import ModelFittingError
    from botorch.fit import fit_gpytorch_mll
    from botorch.optim.utils import sample_all_priors
    from botorch.utils.sampling import manual_seed

    mll = gpytorch_model(X, z, priors)
    with warnings.catch_warnings(), manual_seed(seed or 0):
        warnings.simplefilter("ignore")
        if seed is not None:
            sample_all_priors(mll.model)
        try:
            fit_gpytorch_mll(mll)
        except ModelFittingError:
            return torch.full((X.shape[-1] + 2,), torch.nan, dtype=X.dtype)
    return gpytorch_theta(mll)


def compare_fits(model: Model, X: Tensor, y: Tensor, seed: int) -> tuple[GaussianProcess, Comparison]:
    """Our GP of one history, X `(1, n, d)` and y `(1, n)`, and the comparison of the fits."""
    z = half_rank(y)

    def loss(theta: Tensor) -> float:
        if not bool(theta.isfinite().all()):
            return math.inf
        theta = torch.clamp(theta, model.priors.lower, model.priors.upper)
        return float(negative_log_posterior(theta[None], X, z, model.kernel, model.priors)[0])

    gp, our_seconds = our_fit(model, X, y)
    first, first_seconds = _timed(partial(botorch_fit, X[0], z[0], model.priors, None))
    second = botorch_fit(X[0], z[0], model.priors, seed)
    return gp, Comparison(loss(gp.theta[0]), loss(first), loss(second), our_seconds, first_seconds)


# ---------------------------------------------------------------------------------------- acquisitions


@torch.no_grad()
def our_proposal(surface: Surface, X: Tensor, z: Tensor, seed: int) -> Tensor:
    """The maximiser that an ask would propose `(1, 1, d)`."""
    effort, space = DEFAULT_EFFORT, surface.space
    draws = Draws.of([generator(seed, X.shape[1], 0)], space.dim, effort.sobol, effort.local, X.device)
    return maximize(surface, X, z, draws, effort)[0][:, :1]


def botorch_proposal(gp: GaussianProcess, best: Tensor, seed: int) -> Tensor:
    """The maximiser that `optimize_acqf` finds on the posterior of one GP, `(1, 1, d)`."""
    from botorch.acquisition import LogExpectedImprovement as BoTorchLogEI
    from botorch.optim import optimize_acqf
    from botorch.utils.sampling import manual_seed

    from bayesopt.interop.botorch import BoTorchModel

    unit = torch.stack([torch.zeros_like(gp.X[0]), torch.ones_like(gp.X[0])])
    with warnings.catch_warnings(), manual_seed(seed):
        warnings.simplefilter("ignore")
        acquisition = BoTorchLogEI(BoTorchModel(gp), best_f=-best)
        return optimize_acqf(acquisition, unit, q=1, num_restarts=10, raw_samples=512)[0][None]


def compare_acquisitions(model: Model, gp: GaussianProcess, X: Tensor, seed: int) -> Comparison:
    """The maximisers of log EI on the posterior of one GP (batch of one)."""
    best = gp.fitted().amin(-1, keepdim=True)
    surface = Surface.over(model.space, model.embedding, gp, Pointwise(gp, LogExpectedImprovement(), best))

    def loss(x: Tensor) -> float:
        return -float(surface.value(*model.space.snap(x)))

    ours, our_seconds = _timed(partial(our_proposal, surface, X, gp.y, seed))
    first, first_seconds = _timed(partial(botorch_proposal, gp.select(0), best[0, 0], 2 * seed))
    second = botorch_proposal(gp.select(0), best[0, 0], 2 * seed + 1)
    return Comparison(loss(ours), loss(first), loss(second), our_seconds, first_seconds)


# ---------------------------------------------------------------------------------------------- report


def compare(history: History) -> Outcome:
    """Both comparisons on one history."""
    space = unit_box(history.X.shape[1])
    model = Model.of(space, torch.device("cpu"))
    X, y = torch.from_numpy(history.X)[None], torch.from_numpy(history.y)[None]
    gp, fits = compare_fits(model, X, y, history.seed)
    return Outcome(history, fits, compare_acquisitions(model, gp, X, history.seed))


def run(args: argparse.Namespace) -> Report:
    count, sizes = (2, (10, 25)) if args.quick else (args.histories, (10, 150))
    outcomes = []
    for seed in range(args.first, args.first + count):
        outcomes.append(compare(random_history(seed, sizes)))
        if (len(outcomes) % 10) == 0:
            progress(f"quality: {len(outcomes)} of {count} histories")
    fits, acquisitions = [o.fit for o in outcomes], [o.acquisition for o in outcomes]
    tables = [
        _summary("Fit: negative log posterior, nats", fits, FIT_TOLERANCE, "95 %"),
        _summary("Maximiser: log EI", acquisitions, ACQUISITION_TOLERANCE, "90 %"),
        _distribution(fits, acquisitions),
        _worst("Fits furthest behind BoTorch", outcomes, lambda o: o.fit),
        _worst("Maximisers furthest behind BoTorch", outcomes, lambda o: o.acquisition),
    ]
    settings = {"histories": count, "first": args.first}
    return Report("Quality of fits and proposals", tables, [o.record() for o in outcomes], settings)


def _summary(title: str, comparisons: Sequence[Comparison], tolerance: float, target: str) -> Table:
    def share(test: Callable[[Comparison], bool]) -> str:
        return percent(statistics.mean(map(test, comparisons)))

    def milliseconds(seconds: Callable[[Comparison], float]) -> str:
        return number(1e3 * statistics.median(map(seconds, comparisons)))

    by = f"by more than {tolerance}"
    rows = [
        [f"ours not worse than BoTorch's {by} (target {target})", share(lambda c: c.excess <= tolerance)],
        [
            f"ours not worse than the better of BoTorch's two {by}",
            share(lambda c: c.excess_of_two <= tolerance),
        ],
        [f"BoTorch's not worse than ours {by}", share(lambda c: c.excess >= -tolerance)],
        [f"BoTorch's second run within {tolerance} of its first", share(lambda c: abs(c.drift) <= tolerance)],
        [f"BoTorch's second run not worse than its first {by}", share(lambda c: c.drift <= tolerance)],
        ["runs of BoTorch that failed", sum(math.isinf(v) for c in comparisons for v in (c.first, c.second))],
        ["median ms, ours", milliseconds(lambda c: c.our_seconds)],
        ["median ms, BoTorch's", milliseconds(lambda c: c.first_seconds)],
    ]
    return Table([title, f"over {len(comparisons)} histories"], rows)


def _distribution(fits: Sequence[Comparison], acquisitions: Sequence[Comparison]) -> Table:
    def row(name: str, values: Sequence[float]) -> Row:
        known = [v for v in values if math.isfinite(v)]
        return [name, *(float(q) for q in np.quantile(known, _QUANTILES))]

    rows = [
        row("fit: ours - BoTorch's first", [c.excess for c in fits]),
        row("fit: BoTorch's second - first", [c.drift for c in fits]),
        row("log EI: BoTorch's first - ours", [c.excess for c in acquisitions]),
        row("log EI: BoTorch's first - second", [c.drift for c in acquisitions]),
    ]
    caption = "Quantiles of the differences; positive is worse than BoTorch's first run."
    return Table(["difference", *(percent(q) for q in _QUANTILES)], rows, caption)


def _worst(
    caption: str, outcomes: Sequence[Outcome], part: Callable[[Outcome], Comparison], count: int = 5
) -> Table:
    ranked = sorted(outcomes, key=lambda o: part(o).excess, reverse=True)[:count]
    histories = [o.history for o in ranked]
    what = [[h.seed, h.problem, h.layout, *h.X.shape] for h in histories]
    rows = [[*cells, part(o).excess] for cells, o in zip(what, ranked, strict=True)]
    return Table(["history", "problem", "layout", "n", "d", "behind by"], rows, caption)


def _timed(call: Callable[[], T]) -> tuple[T, float]:
    start = time.perf_counter()
    result = call()
    return result, time.perf_counter() - start
