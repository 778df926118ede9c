"""The engine and its peers behind one protocol: ask for a configuration, tell what it scored.

Peers are imported when they are built, so that a missing one costs only its own rows.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np
import torch

from bayesopt import Categorical, Float, Optimizer
from benchmarks.report import progress

Config = Mapping[str, Any]
Box = Mapping[str, Float | Categorical]
Key = tuple[Any, ...]


class Peer(Protocol):
    """What a benchmark needs of a method; smaller values are better."""

    def ask(self) -> Config:
        """The next configuration to try."""

    def tell(self, config: Config, value: float | None, /) -> None:
        """The outcome of a configuration, proposed or not; None if its evaluation failed."""


class BoTorch:
    """BoTorch as documented: a fresh SingleTaskGP, then log EI from 10 restarts out of 512 raw points.

    The first `design` configurations are scrambled Sobol points.
    """

    def __init__(self, box: Box, seed: int, design: int = 10) -> None:
        self._names = tuple(box)
        self._low = torch.tensor([p.low for p in box.values()], dtype=torch.float64)
        self._width = torch.tensor([p.high for p in box.values()], dtype=torch.float64) - self._low
        self._sobol = torch.quasirandom.SobolEngine(len(box), scramble=True, seed=seed)
        self._generator = torch.Generator().manual_seed(seed)
        self._design = design
        self._X: list[list[float]] = []
        self._y: list[float] = []

    def tell(self, config: Config, value: float | None, /) -> None:
        if value is None:  # the model of the tutorial knows no failures
            return
        self._X.append([config[name] for name in self._names])
        self._y.append(value)

    def ask(self) -> Config:
        in_design = len(self._y) < self._design
        u = self._sobol.draw(1, dtype=torch.float64)[0] if in_design else self._propose()
        return dict(zip(self._names, (self._low + self._width * u).tolist(), strict=True))

    def _propose(self) -> torch.Tensor:
        from botorch.acquisition import LogExpectedImprovement
        from botorch.fit import fit_gpytorch_mll
        from botorch.models import SingleTaskGP
        from botorch.optim import optimize_acqf
        from botorch.utils.sampling import manual_seed
        from gpytorch.mlls import ExactMarginalLogLikelihood

        X = (torch.tensor(self._X, dtype=torch.float64) - self._low) / self._width
        Y = -torch.tensor(self._y, dtype=torch.float64)[:, None]
        unit = torch.stack([torch.zeros_like(self._low), torch.ones_like(self._low)])
        seed = int(torch.randint(2**31, (), generator=self._generator))
        with warnings.catch_warnings(), manual_seed(seed):
            warnings.simplefilter("ignore")
            model = SingleTaskGP(X, Y)
            fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
            acquisition = LogExpectedImprovement(model, best_f=Y.max())
            return optimize_acqf(acquisition, unit, q=1, num_restarts=10, raw_samples=512)[0][0]


class Optuna:
    """An Optuna study in memory with one of its samplers as shipped; any number of trials may run at once.

    An ordered choice is an integer to it, the number of the choice: its own categories know no order.
    """

    def __init__(self, box: Box, seed: int, sampler: str) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._optuna = optuna
        self._box = box
        self._failed = optuna.trial.TrialState.FAIL
        self._distributions = {name: self._distribution(p) for name, p in box.items()}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # experimental arguments of the samplers
            self._study = optuna.create_study(sampler=getattr(optuna.samplers, sampler)(seed=seed))
        self._running: dict[Key, list[Any]] = {}  # the same configuration may run twice

    def _distribution(self, parameter: Float | Categorical) -> Any:
        kinds = self._optuna.distributions
        if isinstance(parameter, Float):
            return kinds.FloatDistribution(parameter.low, parameter.high)
        if parameter.ordered:
            return kinds.IntDistribution(0, parameter.levels - 1)
        return kinds.CategoricalDistribution(parameter.choices)

    def ask(self) -> Config:
        trial = self._study.ask(self._distributions)
        self._running.setdefault(self._key(trial.params), []).append(trial)
        chosen = ((name, p, trial.params[name]) for name, p in self._box.items())
        return {name: p.level(value) if _numbered(p) else value for name, p, value in chosen}

    def tell(self, config: Config, value: float | None, /) -> None:
        chosen = ((name, p, config[name]) for name, p in self._box.items())
        params = {name: p.index(value) if _numbered(p) else value for name, p, value in chosen}
        if trials := self._running.get(self._key(params)):
            self._study.tell(trials.pop(0), value, state=None if value is not None else self._failed)
            return
        create = partial(self._optuna.trial.create_trial, params=params, distributions=self._distributions)
        self._study.add_trial(create(state=self._failed) if value is None else create(value=value))

    def _key(self, params: Config) -> Key:
        return tuple(params[name] for name in self._box)


def _numbered(parameter: Float | Categorical) -> bool:
    return isinstance(parameter, Categorical) and parameter.ordered


class Random:
    """Uniform sampling: what any method has to beat."""

    def __init__(self, box: Box, seed: int) -> None:
        self._box = box
        self._rng = np.random.default_rng(seed)

    def ask(self) -> Config:
        return {name: self._draw(p) for name, p in self._box.items()}

    def _draw(self, parameter: Float | Categorical) -> Any:
        if isinstance(parameter, Float):
            return float(self._rng.uniform(parameter.low, parameter.high))
        return parameter.level(int(self._rng.integers(parameter.levels)))

    def tell(self, config: Config, value: float | None, /) -> None:
        """Nothing to learn."""


@dataclass(frozen=True)
class Method:
    """How a method is called, what it needs to be installed, how it is made from a box and a seed."""

    name: str
    build: Callable[[Box, int], Peer]
    package: str | None = None

    @property
    def installed(self) -> bool:
        """Whether its package is there."""
        return self.package is None or find_spec(self.package) is not None


def _ours(method: str) -> Callable[[Box, int], Peer]:
    return lambda box, seed: Optimizer(box, seed=seed, method=method)


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("bayesopt", _ours("gp")),
        Method("botorch", BoTorch, "botorch"),
        Method("optuna-gp", lambda box, seed: Optuna(box, seed, "GPSampler"), "optuna"),
        Method("optuna-tpe", lambda box, seed: Optuna(box, seed, "TPESampler"), "optuna"),
        Method("random", Random),
    )
}


def available(names: Sequence[str]) -> list[str]:
    """The named methods that are installed, in order; for the others, says how to install them."""
    for name in names:
        if not METHODS[name].installed:
            progress(f"{name} is skipped; install it with: python -m pip install {METHODS[name].package}")
    return [name for name in names if METHODS[name].installed]
