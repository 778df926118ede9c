"""Ask and tell: `Optimizer`, a study.

An `Optimizer` is its history; everything else is derived. What it proposes is a pure function of the seed,
the number of configurations asked for, the set of trials told and what is pending: not of the order in
which they were told, nor of the process, nor of whether the state was saved and loaded in between.
"""

import logging
import math
import numbers
import threading
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import partial, wraps
from itertools import groupby
from operator import itemgetter
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar, overload

import numpy as np
import torch
from torch import Tensor

from bayesopt import linalg
from bayesopt.acquisition import ACQUISITIONS
from bayesopt.acquisition.distinct import is_taken, untried
from bayesopt.acquisition.surface import lengthscales
from bayesopt.calibration import Placement, place
from bayesopt.checks import (
    checked_age,
    checked_count,
    checked_deterministic,
    checked_seed,
    checked_std,
    checked_tolerance,
    checked_value,
    one_of,
    resolved_device,
    several,
    several_stds,
)
from bayesopt.device import CPU, keep_pages, put, settled, within_memory
from bayesopt.explanation import Explanation, Fit, Prediction, Regret
from bayesopt.methods.arms import is_broad
from bayesopt.methods.choice import Choice, choose
from bayesopt.methods.cmaes import check_cmaes, propose_cmaes
from bayesopt.methods.genetic import propose_genetic
from bayesopt.methods.gp import BATCHES, Learnt, learn, propose_gp
from bayesopt.methods.grid import check_grid, propose_grid
from bayesopt.methods.history import History, generator
from bayesopt.methods.insight import arm_of, forecast, noise_deviation
from bayesopt.methods.quasi_random import design_size, random_point, sobol_point
from bayesopt.methods.recommend import Chosen, lowest_mean
from bayesopt.methods.regret import RegretDraws, draw_regret
from bayesopt.methods.tpe import log_ratio, propose_tpe
from bayesopt.reach import largest_fit
from bayesopt.space import Space
from bayesopt.surrogates.model import Model
from bayesopt.surrogates.outcomes import OutcomeScale
from bayesopt.surrogates.warm_starts import SharedWarmStarts, WarmStarts
from bayesopt.trials import FOREIGN, Config, Recommendation, Results, Rows, Trial

log = logging.getLogger("bayesopt")

P = ParamSpec("P")
R = TypeVar("R")

#: Methods that build a model, begin with a design, and propose by themselves once an evaluation succeeded.
_MODELS = ("gp", "tpe", "genetic")

METHODS = ("auto", *_MODELS, "cmaes", "random", "sobol", "grid", "manual")

_PROPOSE: dict[str, Callable[[Space, History, int], Tensor]] = {
    "tpe": propose_tpe,
    "genetic": propose_genetic,
    "cmaes": propose_cmaes,
    "grid": propose_grid,
}
#: Methods that are tensor programs; the others are a few small ones, and stay on the CPU.
_ON_DEVICE = ("gp", "tpe")

_STATE_FORMAT = 4

#: Formats that can be loaded: 3 had neither std nor deterministic.
_READABLE = (3, 4)

#: Of the bound on the regret; after how many results in a row it has to be small to be believed.
CONFIDENCE, PATIENCE = 0.95, 3

_LARGEST_EXPONENT = 700.0  # of what a float can hold


@dataclass(frozen=True, eq=False)
class _Asked:
    """A configuration that is pending; `at` counts the configurations asked for before it, as in `Rows`.

    `source` says who has proposed it, see `explanation.ARMS`; "" for what others have asked for.
    """

    config: Config
    key: Hashable
    row: np.ndarray
    active: np.ndarray
    at: int
    source: str = ""


#: Encoded configurations `(n, d)` and their activity mask.
_Encoded = tuple[np.ndarray, np.ndarray]


def _encoded(space: Space, configs: Sequence[Config]) -> _Encoded:
    X, active = space.encode(configs)
    return X.numpy(), active.numpy()


def _rows_of(claimed: "Sequence[_Asked | None]") -> _Encoded | None:
    """What was pending, encoded; None if anything was not."""
    known = [asked for asked in claimed if asked is not None]
    if not known or len(known) < len(claimed):
        return None
    return np.stack([asked.row for asked in known]), np.stack([asked.active for asked in known])


class _Told(NamedTuple):
    """A result that has been checked."""

    config: Config
    value: float | None
    std: float | None


def _locked(method: Callable[Concatenate["Optimizer", P], R]) -> Callable[Concatenate["Optimizer", P], R]:
    """One thread at a time."""

    @wraps(method)
    def alone(self: "Optimizer", /, *args: P.args, **kwargs: P.kwargs) -> R:
        with self._lock:
            return method(self, *args, **kwargs)

    return alone


class Optimizer:
    """Proposes configurations of a space and learns from their outcomes. Safe to share between threads.

    Args:
        space: a `Space`, or a dict of parameters.
        seed: of everything random.
        method: "auto" (the best we have: a Gaussian process with local arms), "gp" (the plain Gaussian
            process), "tpe" (tree-structured Parzen estimator), "genetic", "cmaes", "random", "sobol", "grid"
            (every configuration of a finite space in turn) or "manual" (only what is enqueued).
        acquisition: for "gp": "log_ei", "ei", "log_nei" (for noisy outcomes), "log_pi", "pi" or "ucb".
        batch: for "gp", how proposals keep out of each other's way and out of that of pending ones: "qlogei"
            (the acquisition, averaged over drawn outcomes of everything unfinished; with "log_ei" it is
            qLogEI), "ucb_pe" (confidence bound and pure exploration in turns), "thompson" (each proposal
            minimises its own draw from the posterior), or "auto".
        device: "cpu", "cuda", "cuda:1", or "auto": at each ask the quicker one for so many results, proposals
            and studies, as measured once on this machine; see `bayesopt.calibration`. On one device proposals
            are a function of the seed and the history; CPU and GPU agree to rounding, which a search can
            amplify, and so do a study that has moved from one to the other and one that was resumed after
            that. A GPU with too little memory for a study is given up for the CPU, with a warning.
        maximize: whether larger outcomes are better.
        max_pending_age: forget a pending configuration once this many others have been asked for after it;
            never, if None.
        deterministic: for the Gaussian process, whether evaluating a configuration again would give the same
            outcome. True: it would, and no noise is fitted. False: it would not; in a space of up to 1,024
            configurations one is then proposed again if another look at it tells more than a new one. None:
            False from when a `std` is told, or a configuration that was evaluated twice has had two outcomes;
            until then nothing is proposed twice.

    Raises:
        ValueError, TypeError: an argument is not one of these; the message says what is.

    >>> from bayesopt import Float
    >>> opt = Optimizer({"x": Float(-1.0, 1.0)}, seed=0)
    >>> for _ in range(12):
    ...     config = opt.ask()
    ...     opt.tell(config, (config["x"] - 0.3) ** 2)
    >>> abs(opt.best.config["x"] - 0.3) < 0.01
    True
    """

    def __init__(
        self,
        space: Space | Mapping[str, Any],
        *,
        seed: int = 0,
        method: str = "auto",
        acquisition: str = "log_ei",
        batch: str = "auto",
        device: str | torch.device = "auto",
        maximize: bool = False,
        max_pending_age: int | None = None,
        deterministic: bool | None = None,
    ) -> None:
        self.space = Space(space)
        self._seed = checked_seed(seed)
        self._method = one_of("method", method, METHODS)
        if self._method == "grid":
            check_grid(self.space)
        if self._method == "cmaes":
            check_cmaes()
        self._acquisition = one_of("acquisition", acquisition, tuple(ACQUISITIONS))
        self._batch = one_of("batch", batch, BATCHES)
        if self._batch == "qlogei" and not ACQUISITIONS[self._acquisition].log_form().is_log:
            raise ValueError(
                f"batch='qlogei' averages an improvement over what is unfinished; with "
                f"acquisition={self._acquisition!r} use batch='ucb_pe', 'thompson' or 'auto'"
            )
        self._device = resolved_device(device)  # None to choose at each ask
        self._share = 1.0  # of the usual chunks, which fits into the memory of the device; 0 if none does
        self._maximize = bool(maximize)
        self._max_pending_age = None if max_pending_age is None else checked_age(max_pending_age)
        self._deterministic = checked_deterministic(deterministic)
        self._trials: list[Trial] = []  # in the order of telling
        self._results = Results(self.space.dim)  # the same, encoded, in canonical order
        self._pending: list[_Asked] = []
        self._known: Counter[Hashable] = Counter()  # keys of what was told or is pending
        self._enqueued: list[Config] = []
        self._asked = 0
        # Of either model, by whether it is the broad one.
        self._warm = {broad: WarmStarts() for broad in (False, True)}
        self._latest: dict[bool, Learnt] = {}  # fitted to all that was told, if somebody wanted to look at it
        self._regrets: dict[bytes, Regret | None] = {}  # after some results, by their numbers; a cache
        self._lock = threading.RLock()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_lock"} | {"_latest": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.RLock())

    def __repr__(self) -> str:
        return (
            f"Optimizer({self.space.dim} parameters, method={self._method!r}, seed={self._seed}, "
            f"{len(self._trials)} trials, {len(self._pending)} pending)"
        )

    @property
    @_locked
    def trials(self) -> list[Trial]:
        """All trials in the order they were told."""
        return list(self._trials)

    @property
    @_locked
    def pending(self) -> list[Config]:
        """Configurations asked for and not yet told, oldest first."""
        return [dict(asked.config) for asked in self._pending]

    @property
    @_locked
    def best(self) -> Trial | None:
        """The successful trial with the best value, the earliest of equals; None before the first success.

        Where outcomes are noisy that may be luck: see `recommend`.
        """
        rows = self._results.rows
        y = np.full(len(rows), np.inf)
        y[rows.number] = np.nan_to_num(self._results.rank_keys, nan=np.inf, posinf=np.inf)
        return self._trials[int(y.argmin())] if np.isfinite(y).any() else None

    @_locked
    def recommend(self) -> Recommendation | None:
        """The tried configuration to take in the end; None before the first success.

        Where outcomes are noisy the best of many is mostly a lucky one. This is the configuration with the
        best posterior mean under the Gaussian process, whatever the method: what its neighbours and repeats
        say of it counts as well. With `deterministic=True` it is that of `best`.

        Raises:
            LinAlgError: the Gaussian process breaks down.

        >>> from bayesopt import Float
        >>> opt = Optimizer({"x": Float(0.0, 1.0)})
        >>> opt.tell([{"x": 0.3}] * 4 + [{"x": 0.9}] * 4, [0.1, 0.2, 0.0, 0.1, -0.1, 0.7, 0.6, 0.8])
        >>> opt.best.config, opt.recommend().config
        ({'x': 0.9}, {'x': 0.3})
        """
        best = self.best
        if best is None or best.value is None:
            return None
        if self._deterministic:
            return Recommendation(dict(best.config), best.value, 0.0)
        rows = self._results.rows
        eligible = torch.from_numpy(~rows.pruned)[None]

        def choose(device: torch.device) -> Chosen:
            history, warm = self._history().to(device), _warm_starts([self], device)
            return lowest_mean(self._model(device), history, put(eligible, device), warm)

        place, value, std = self._computed(choose)
        config = self._trials[int(rows.number[int(place)])].config
        return Recommendation(dict(config), float(-value if self._maximize else value), float(std))

    @overload
    def ask(self) -> Config: ...
    @overload
    def ask(self, q: int) -> list[Config]: ...
    def ask(self, q: int | None = None) -> Config | list[Config]:
        """The next configuration, or a list of the next q; they stay pending until told or forgotten.

        Never fails for numerical reasons, and never repeats a configuration that was told or is pending
        while untried ones remain; once a finite space is exhausted, proposes the best ones again. Where
        outcomes are noisy the Gaussian process may repeat what was told, but not what is pending.
        """
        count = 1 if q is None else checked_count(q)
        with self._lock:
            proposals = ask_together([self], count)[0]
        return proposals[0] if q is None else proposals

    @_locked
    def enqueue(self, configs: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> None:
        """Propose a configuration, or several, before anything else: yours come first, in this order.

        They are proposed even if they have been tried before.

        Raises:
            ValueError, TypeError: a configuration is not valid; nothing is enqueued then.
        """
        self._enqueued += [self.space.validate(config) for config in several("enqueue", configs)]

    @property
    @_locked
    def enqueued(self) -> list[Config]:
        """Configurations enqueued and not yet asked for, the next one first."""
        return [dict(config) for config in self._enqueued]

    @_locked
    def explain(self) -> Explanation:
        """What `ask()` would return now, where it comes from, why, and what is expected of it.

        Asks for nothing, and takes as long as an ask. The method is one of those that `Optimizer` takes:
        "manual" while something is enqueued, "sobol" for the design with which a method begins that learns
        from a model. `print` shows an explanation as lines to read.

        >>> from bayesopt import Int
        >>> opt = Optimizer({"k": Int(0, 9)}, method="grid")
        >>> opt.enqueue({"k": 5})
        >>> opt.explain().method, opt.ask(), opt.explain().method, opt.ask()
        ('manual', {'k': 5}, 'grid', {'k': 0})
        """
        choice = self._choice()
        if self._method == "manual" and not self._enqueued:
            return Explanation(*choice)
        broad = choice.method == "gp" and self._is_broad()
        learnt = self._learnt(broad) if self._method_now() == "gp" else None
        twin = self._twin()
        history = twin._history()
        ask_together([twin], 1)
        explanation = self._explained(choice, twin._pending[-1], history, learnt)
        if twin._pending[-1].source not in _ON_DEVICE:
            return explanation
        device, reason = self._place()
        return replace(explanation, device=str(device), device_reason=reason)

    def _explained(
        self, choice: Choice, asked: _Asked, history: History, learnt: Learnt | None
    ) -> Explanation:
        """Of the proposal that a history before it has led to."""
        explanation = Explanation(*choice, asked.source, dict(asked.config))
        X, active = (torch.from_numpy(part)[None, None] for part in (asked.row, asked.active))
        if asked.source == "tpe":
            ratio = min(float(log_ratio(self.space, history, X)), _LARGEST_EXPONENT)
            return replace(explanation, arm="density ratio", density_ratio=math.exp(ratio))
        if learnt is None:
            return explanation
        if asked.source == "gp":
            setting = ACQUISITIONS[self._acquisition], self._batch, self._method == "auto"
            there = learnt.X.device
            arm = arm_of(learnt, history.to(there), put(X[0, 0], there), *setting)
            explanation = replace(explanation, arm=arm)
        if not self._outcomes_differ():
            return explanation
        return replace(explanation, prediction=self._predictions(learnt, X, active)[0], fit=self._fit(learnt))

    @_locked
    def _explain_after(self, configs: Sequence[Config]) -> Explanation:
        """As if these had been enqueued."""
        twin = self._twin()
        twin._enqueued = [*configs, *self._enqueued]
        return twin.explain()

    def _choice(self) -> Choice:
        """The method of the next proposal, and why."""
        if self._enqueued:
            return Choice("manual", f"enqueued configurations come first: {len(self._enqueued)} to go")
        if self._method_now() in _MODELS and self._quasi_random_slots(1):
            return Choice("sobol", "too few results to learn from: first a design that covers the space")
        if self._method != "auto":
            return Choice(self._method, f"method={self._method!r} was asked for")
        return choose(len(self._trials))

    def _twin(self) -> "Optimizer":
        """Another one that will propose the same; asking it changes nothing here but what is cached."""
        twin = copy(self)
        twin._pending, twin._known = list(self._pending), Counter(self._known)
        twin._latest = dict(self._latest)
        twin._drop_old()
        return twin

    @overload
    def predict(self, configs: Mapping[str, Any]) -> Prediction: ...
    @overload
    def predict(self, configs: Sequence[Mapping[str, Any]]) -> list[Prediction]: ...
    def predict(
        self, configs: Mapping[str, Any] | Sequence[Mapping[str, Any]]
    ) -> Prediction | list[Prediction]:
        """What the Gaussian process expects of a configuration, or of each of several.

        Raises:
            ValueError, TypeError: a configuration is not valid, or the method has no model of the outcomes.
            LookupError: there is nothing to predict from: no two outcomes differ.
            LinAlgError: the Gaussian process breaks down.

        >>> from bayesopt import Float
        >>> opt = Optimizer({"x": Float(-1.0, 1.0)})
        >>> opt.tell([{"x": x / 4} for x in range(-4, 5)], [(x / 4) ** 2 for x in range(-4, 5)])
        >>> prediction = opt.predict({"x": 0.1})
        >>> prediction.low < 0.01 < prediction.high
        True
        """
        checked = [self.space.validate(config) for config in several("predict", configs)]
        if not checked:
            return []
        with self._lock:
            if self._method_now() != "gp":
                raise ValueError(
                    f"method {self._method_now()!r} has no model of the outcomes; method='gp' has, and "
                    "method='auto' up to 10,000 results"
                )
            if not self._outcomes_differ():
                raise LookupError("nothing to predict from: tell at least two outcomes that differ first")
            X, active = self.space.encode(checked)
            predictions = self._predictions(self._learn(), X[None], active[None])
        return predictions[0] if isinstance(configs, Mapping) else predictions

    def regret(self) -> Regret | None:
        """What is still to be gained, by functions drawn from the posterior; None without a model to ask.

        There is one with the methods "auto" and "gp", after the design and once two outcomes differ. A
        function of what was told, whatever is pending. What the model does not suspect it does not reckon
        with, such as a narrow valley where nothing was evaluated.

        >>> from bayesopt import Float
        >>> opt = Optimizer({"x": Float(-1.0, 1.0)}, seed=0)
        >>> for _ in range(14):
        ...     config = opt.ask()
        ...     opt.tell(config, (config["x"] - 0.3) ** 2)
        >>> 0.0 <= opt.regret().median <= opt.regret().bound < 0.01
        True
        """
        with self._lock:
            return self._regret_after(len(self._trials))

    def enough(self, tolerance: float) -> bool:
        """Whether bound and mean of the regret were within a tolerance after each of the last three results.

        The first of these is at least the `3 (d + 1)`-th for d parameters: fits to fewer are too sure of
        themselves. A function of what was told, in the order of asking. See `regret`.

        Args:
            tolerance: in the units of the outcomes.
        """
        limit = checked_tolerance(tolerance)
        with self._lock:
            told = len(self._trials)
            return told >= earliest_end(self.space) and all(
                (regret := self._regret_after(told - k)) is not None and regret.within(limit)
                for k in range(PATIENCE)
            )

    def _regret_after(self, told: int) -> Regret | None:
        """Of the first so many results in canonical order."""
        rows = self._results.rows
        key = rows.number[:told].tobytes()
        if key not in self._regrets:
            recent = list(self._regrets.items())[-PATIENCE:]
            known = told >= design_size(self.space) and self._outcomes_differ(told)
            is_model = self._method_now() == "gp"
            self._regrets = dict([*recent, (key, self._drawn_regret(told) if known and is_model else None)])
        return self._regrets[key]

    def _drawn_regret(self, told: int) -> Regret | None:
        history = self._history().first(told)

        def draw(device: torch.device) -> RegretDraws:
            latest = self._latest.get(False) if told == len(self._trials) else None
            learnt = self._learn_from(history, device) if latest is None else latest
            return draw_regret(learnt, history.to(learnt.X.device))

        try:
            if told == len(self._trials):
                self._learn()
            found = self._computed(draw)
        except linalg.LinAlgError as error:
            log.warning("Gaussian process failed (%s); the regret is not known", error)
            return None
        regret = found.regret[0].cpu().numpy()
        median, bound = np.quantile(regret, [0.5, CONFIDENCE])
        return Regret(float(median), float(regret.mean()), float(bound), float(found.improvement))

    def _outcomes_differ(self, told: int | None = None) -> bool:
        """Whether those of the first so many results, or of all, are not all the same."""
        y = self._results.rows.y[:told]
        finite = y[np.isfinite(y)]
        return len(finite) > 0 and bool(finite.min() < finite.max())

    def _learn(self, broad: bool = False) -> Learnt:
        """What the Gaussian process makes of the history; kept until something is told."""
        if broad not in self._latest:
            self._latest[broad] = self._computed(partial(self._learn_from, self._history(), broad=broad))
        return self._latest[broad]

    def _learn_from(self, history: History, device: torch.device, broad: bool = False) -> Learnt:
        cache = _warm_starts([self], device, broad)
        return learn(self._model(device, broad), history.to(device), cache)

    def _learnt(self, broad: bool = False) -> Learnt | None:
        """The Gaussian process of what was told; None before the first success, or where it breaks down."""
        if not self._results.succeeded:
            return None
        try:
            return self._learn(broad)
        except linalg.LinAlgError as error:
            log.warning("Gaussian process failed (%s); nothing can be predicted", error)
            return None

    def _predictions(self, learnt: Learnt, X: Tensor, active: Tensor) -> list[Prediction]:
        """Of encoded configurations `(1, m, d)` on the CPU, in the user's sign."""
        X, active = (put(part, learnt.X.device) for part in (X, active))
        median, low, high, *rest = (each[0].cpu() for each in forecast(learnt, X, active))
        if self._maximize:
            median, low, high = -median, -high, -low
        columns = (each.tolist() for each in (median, low, high, *rest))
        return [Prediction(*row) for row in zip(*columns, strict=True)]

    def _fit(self, learnt: Learnt) -> Fit:
        best = float(OutcomeScale.of(learnt.y).outcome(learnt.best))
        scales = lengthscales(learnt.outcomes, self.space.dim)[0].tolist()
        return Fit(
            kernel=learnt.model.kernel.profile.name,
            best=-best if self._maximize else best,
            noise=float(noise_deviation(learnt)),
            lengthscales=dict(zip(self.space.names, scales, strict=True)),
        )

    def _method_now(self) -> str:
        return choose(len(self._trials)).method if self._method == "auto" else self._method

    def tell(
        self,
        configs: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        values: object,
        *,
        std: object = None,
    ) -> None:
        """Report outcomes: one configuration and its value, or equally long lists of them.

        A value of None, nan or plus or minus infinity says that the evaluation failed. Configurations need
        not have been proposed: earlier results and hand-made trials are welcome.

        Args:
            configs, values: what was evaluated, and what came out.
            std: standard deviation of the noise in the value, in its units, such as the standard error of a
                mean over folds or seeds: a positive number for all values, or a list with one for each; None
                where it is not known. Noise that is told comes on top of the one that is fitted. That of a
                failed evaluation does not matter.

        Raises:
            ValueError, TypeError: a configuration, value or std is not valid; nothing is told then.
        """
        self._commit(self._checked(configs, values, std))

    @_locked
    def forget(self, configs: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> None:
        """Give up waiting for a pending configuration, or for several: they may be proposed again.

        An outcome that arrives later can still be told.

        Raises:
            ValueError, TypeError: a configuration is not valid or not pending; nothing is forgotten then.
        """
        given = several("forget", configs)
        rest = list(self._pending)
        dropped = []
        for config in given:
            key = self.space.key(config)
            place = next((i for i, asked in enumerate(rest) if asked.key == key), None)
            if place is None:
                raise ValueError(f"{dict(config)} is not pending; opt.pending lists what is")
            dropped.append(rest.pop(place))
        self._drop(dropped)

    def _drop(self, dropped: Sequence[_Asked]) -> None:
        self._pending = [asked for asked in self._pending if asked not in dropped]
        self._known -= Counter(asked.key for asked in dropped)

    def _drop_old(self) -> None:
        """Forget what has been pending for too long."""
        if self._max_pending_age is not None:
            limit = self._asked - 1 - self._max_pending_age
            self._drop([asked for asked in self._pending if FOREIGN < asked.at <= limit])

    def _checked(self, configs: object, values: object, std: object = None) -> list[_Told]:
        """Everything that can be wrong with a `tell`, found before anything changes."""
        if isinstance(configs, Mapping):
            configs, values = [configs], [values]
        elif isinstance(configs, str) or not isinstance(configs, Iterable):
            raise TypeError(
                f"tell expects a configuration (a dict) or a list of them, got {type(configs).__name__}"
            )
        elif isinstance(values, str | Mapping | numbers.Number) or not isinstance(values, Iterable):
            raise TypeError(
                f"tell got a list of configurations and one value ({values!r}); pass a list of values"
            )
        configs, values = list(configs), list(values)
        if len(configs) != len(values):
            raise ValueError(
                f"tell got {len(configs)} configurations and {len(values)} values; "
                "pass one value for each configuration"
            )
        stds = several_stds(std, len(values))
        told = zip(configs, map(checked_value, values), stds, strict=True)
        return [_Told(self.space.validate(c), v, self._checked_std(v, s)) for c, v, s in told]

    def _checked_std(self, value: float | None, std: object) -> float | None:
        """The std of a value; None for one that is not known or does not matter."""
        known = None if value is None else checked_std(std)
        if known is not None and self._deterministic:
            raise ValueError(
                f"std={known!r} says that outcomes are noisy, deterministic=True that they are not; "
                "drop one of the two"
            )
        return known

    @_locked
    def _commit(
        self,
        results: Sequence[_Told],
        seconds: float | None = None,
        error: str | None = None,
    ) -> None:
        claimed = [self._claim(told.config) for told in results]
        places = [FOREIGN if asked is None else asked.at for asked in claimed]
        pairs = enumerate(results, len(self._trials))
        trials = [Trial(i, r.config, r.value, seconds, error, std=r.std) for i, r in pairs]
        self._keep(trials, places, _rows_of(claimed))
        self._known.update(
            self.space.key(r.config) for r, at in zip(results, places, strict=True) if at == FOREIGN
        )

    def _claim(self, config: Config) -> _Asked | None:
        """The pending proposal of this configuration, no longer pending."""
        key = self.space.key(config) if self._pending else None
        for i, asked in enumerate(self._pending):
            if asked.key == key:
                return self._pending.pop(i)
        return None

    def _keep(self, trials: Sequence[Trial], places: Sequence[int], encoded: _Encoded | None = None) -> None:
        """More trials, with their configurations encoded, if somebody has done that."""
        if not trials:
            return
        number = np.arange(len(self._trials), len(self._trials) + len(trials))
        X, active = encoded or _encoded(self.space, [trial.config for trial in trials])
        y = np.array([math.nan if trial.value is None else trial.value for trial in trials])
        y = -y if self._maximize else y
        std = np.array([math.nan if trial.std is None else trial.std for trial in trials])
        at = np.array(places, dtype=np.int64)
        pruned = np.array([trial.pruned for trial in trials], dtype=bool)
        self._latest = {}
        self._results.add(Rows(X, active, y, at, number, std, pruned))
        self._trials += trials

    # -------------------------------------------------------------------------------------------- state

    @_locked
    def state_dict(self) -> dict[str, Any]:
        """Everything the proposals depend on, as plain JSON values."""
        return {
            "format": _STATE_FORMAT,
            "space": self.space.to_dict(),
            "seed": self._seed,
            "method": self._method,
            "acquisition": self._acquisition,
            "batch": self._batch,
            "maximize": self._maximize,
            "max_pending_age": self._max_pending_age,
            "deterministic": self._deterministic,
            "asked": self._asked,
            "trials": [
                {
                    "config": dict(trial.config),
                    "value": trial.value,
                    "asked_at": _asked_at(at),
                    "seconds": trial.seconds,
                    "error": trial.error,
                    "pruned": trial.pruned,
                    "std": trial.std,
                }
                for trial, at in zip(self._trials, self._results.asked_at().tolist(), strict=True)
            ],
            "pending": [
                {"config": dict(asked.config), "asked_at": _asked_at(asked.at)} for asked in self._pending
            ],
            "enqueued": [dict(config) for config in self._enqueued],
        }

    @_locked
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Replace the history and the settings by saved ones; the space must be the same.

        Raises:
            ValueError, TypeError: the state is of another format or space, or damaged; nothing changes then.
        """
        if not isinstance(state, Mapping) or state.get("format") not in _READABLE:
            raise ValueError(
                f"state must be a dict made by state_dict() with format {' or '.join(map(str, _READABLE))}"
            )
        if state["format"] < 4:
            state = {"deterministic": None, **state}
        missing = self.state_dict().keys() - state.keys()
        if missing:
            raise ValueError(f"state lacks {sorted(missing)}; it must be a dict made by state_dict()")
        if Space.from_dict(state["space"]) != self.space:
            raise ValueError(
                "state belongs to another space; build the Optimizer with the space it was saved with"
            )
        loaded = Optimizer(
            self.space, seed=state["seed"], method=state["method"], acquisition=state["acquisition"],
            batch=state["batch"], device=self._device or "auto", maximize=state["maximize"],
            max_pending_age=state["max_pending_age"], deterministic=state["deterministic"],
        )  # fmt: skip
        try:
            loaded._restore(state["trials"])
            loaded._await(
                [self.space.validate(entry["config"]) for entry in state["pending"]],
                [_place(entry["asked_at"]) for entry in state["pending"]],
            )
            loaded._enqueued = [self.space.validate(config) for config in state["enqueued"]]
            loaded._asked = int(state["asked"])
        except KeyError as error:
            raise ValueError(f"state is damaged: a trial or pending entry lacks {error}") from error
        self.__dict__.update(loaded.__getstate__())

    def _restore(self, entries: Sequence[Mapping[str, Any]]) -> None:
        trials = [
            Trial(
                number,
                self.space.validate(entry["config"]),
                checked_value(entry["value"]),
                entry["seconds"],
                entry["error"],
                bool(entry.get("pruned", False)),
                checked_std(entry.get("std")),
            )
            for number, entry in enumerate(entries)
        ]
        self._keep(trials, [_place(entry["asked_at"]) for entry in entries])
        self._known.update(self.space.key(trial.config) for trial in trials)

    def _await(
        self,
        configs: Sequence[Config],
        places: Sequence[int],
        source: str = "",
        encoded: _Encoded | None = None,
    ) -> None:
        """Configurations that are pending from now on; encoded, if somebody has done that.

        A decoded float encodes to within rounding of where it came from; keeping the encoding of what the
        caller sees makes a study restored from its configurations equal to the last bit.
        """
        rows = zip(configs, *(encoded or _encoded(self.space, configs)), places, strict=True)
        awaited = [_Asked(config, self.space.key(config), x, on, at, source) for config, x, on, at in rows]
        self._pending += awaited
        self._known.update(asked.key for asked in awaited)

    # ------------------------------------------------------------------ a history that is kept elsewhere
    # `storage.Study` replays what a storage holds: `at` is the place in the order of asking, None for a
    # configuration that was never proposed.

    @_locked
    def _expect(self, config: Config, at: int | None) -> None:
        """Somebody has asked for this configuration: it is pending."""
        self._await([config], [_place(at)])
        self._asked = max(self._asked, _place(at) + 1)

    @_locked
    def _settle(self, trial: Trial, at: int | None) -> None:
        """A trial has ended, here or elsewhere; whether it was pending or not. It keeps its number."""
        self._withdraw(trial.config, at)
        self._known[self.space.key(trial.config)] += 1
        self._asked = max(self._asked, _place(at) + 1)
        self._keep([trial], [_place(at)])

    @_locked
    def _withdraw(self, config: Config, at: int | None) -> None:
        """No longer pending, if it was, without an outcome."""
        key, place = self.space.key(config), _place(at)
        found = next((asked for asked in self._pending if asked.at == place and asked.key == key), None)
        if found is not None:
            self._drop([found])

    @_locked
    def _rewind(self, asked: int) -> None:
        """As if nothing had been asked for since `asked` configurations had been."""
        self._drop([each for each in self._pending if each.at >= asked])
        self._asked = asked

    # ------------------------------------------------------------------------------------------ history

    def _history(self) -> History:
        """What is known, on the CPU."""
        told, ranks = self._results.rows, self._method_now() == "tpe"
        pending = sorted(self._pending, key=lambda asked: asked.at)
        shape = len(pending), self.space.dim
        return History(
            self._tensor(told.X),
            self._tensor(told.active),
            self._tensor(told.y),
            self._tensor(np.array([asked.row for asked in pending]).reshape(shape)),
            self._tensor(np.array([asked.active for asked in pending], dtype=bool).reshape(shape)),
            (self._seed,),
            self._asked,
            torch.from_numpy(told.at)[None],
            self._tensor(told.std) if self._has_std() else None,
            self._may_repeat(),
            self._tensor(self._results.ranking) if ranks else None,
            self._results.pruned if ranks else 0,
        )

    def _place(self, q: int = 1, studies: int = 1) -> Placement:
        """Where q proposals for each of so many studies like this one are computed, and why."""
        if not self._share:
            return Placement(CPU, "the GPU has too little memory for this study")
        if self._method_now() not in _ON_DEVICE:
            return Placement(CPU, "this method has no use for a GPU")
        if self._device is not None:
            return Placement(self._device, f"device={str(self._device)!r} was asked for")
        if self._method_now() != "gp":
            return Placement(CPU, "an ask of this method is too short for a GPU")
        return place(len(self._trials), q, studies)

    def _computed(self, compute: Callable[[torch.device], R], q: int = 1, studies: int = 1) -> R:
        """`compute(device)` where it is quickest; in smaller chunks or on the CPU where memory is short."""
        device = self._place(q, studies).device
        if device.type == "cpu":
            return compute(device)
        found, self._share = within_memory(partial(compute, device), self._share)
        if found is not None:
            return found
        log.warning("%s has too little memory for this study; it continues on the CPU", device)
        self._latest = {}
        return compute(CPU)

    def _model(self, device: torch.device, broad: bool = False) -> Model:
        exact = self._deterministic is True
        largest = largest_fit(device, len(self._trials))
        return Model.of(self.space, device, self._method == "auto", exact, largest, broad)

    def _is_broad(self, q: int = 1) -> bool:
        """Whether the next q proposals, if the Gaussian process makes them, are made by the broad model."""
        return self._method == "auto" and is_broad(self.space, self._asked, q)

    def _has_std(self) -> bool:
        return self._results.with_std > 0

    def _is_noisy(self) -> bool:
        """Whether outcomes are known to be noisy: declared, told, or seen."""
        if self._deterministic is not None:
            return not self._deterministic
        repeats = len(self._known) < len(self._trials) + len(self._pending)
        return self._has_std() or (repeats and self._results.rows.differ())

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).unsqueeze(0)

    def _untried(self, q: int) -> int:
        """How many of the next q proposals can be configurations that a method may propose.

        Those that were neither told nor are pending; where outcomes are noisy, those that are not pending.
        """
        size = self.space.size
        if math.isinf(size):
            return q
        taken = {asked.key for asked in self._pending} if self._may_repeat() else self._known.keys()
        return min(q, max(0, int(size) - len(taken)))

    def _may_repeat(self) -> bool:
        """Whether a proposal may be a configuration that was told."""
        return self._method_now() == "gp" and self._is_noisy()

    def _quasi_random_slots(self, q: int) -> int:
        """How many of the next q proposals come from the initial design."""
        method = self._method_now()
        if method in ("random", "sobol"):
            return q
        if method not in _MODELS:
            return 0
        if not self._results.succeeded:
            return q
        return min(q, max(0, design_size(self.space) - len(self._trials) - len(self._pending)))

    def _next_enqueued(self, q: int) -> list[Config]:
        """Up to q of the enqueued configurations, now pending."""
        chosen, self._enqueued = self._enqueued[:q], self._enqueued[q:]
        return self._issue(chosen, "enqueued") if chosen else []

    def _issue(self, configs: Sequence[Config], source: str, encoded: _Encoded | None = None) -> list[Config]:
        """Register proposals as pending; what the caller gets is a copy, theirs to change."""
        self._await(configs, range(self._asked, self._asked + len(configs)), source, encoded)
        self._asked += len(configs)
        return [dict(config) for config in configs]


def ask_together(studies: Sequence[Optimizer], q: int) -> list[list[Config]]:
    """q proposals for each study; those in the same situation advance as one tensor program."""
    for study in studies:
        _check_manual(study, q)
    configs: list[list[Config]] = []
    new = []  # up to where the proposals of each study can be untried ones
    for study in studies:
        study._drop_old()
        out = study._next_enqueued(q)
        configs.append(out)
        new.append(len(out) + study._untried(q - len(out)))
        for _ in range(min(new[-1] - len(out), study._quasi_random_slots(q - len(out)))):
            out += _ask_quasi_random(study, "design")

    def situation(i: int) -> tuple[str, int, int, int, int, int, int, int, bool, bool]:
        s = studies[i]
        told = len(s._trials), s._results.succeeded, s._results.pruned, s._results.foreign
        lengths = new[i] - len(configs[i]), *told, len(s._pending), s._asked
        return s._method_now(), *lengths, s._has_std(), s._may_repeat()

    modelled = sorted((situation(i), i) for i in range(len(studies)) if len(configs[i]) < new[i])
    for (method, slots, *_), members in groupby(modelled, key=itemgetter(0)):
        index = [i for _, i in members]
        for i, proposals in zip(
            index, _ask_modelled([studies[i] for i in index], method, slots), strict=True
        ):
            configs[i] += proposals
    for study, out in zip(studies, configs, strict=True):
        if len(out) < q:
            out += _ask_again(study, q - len(out))
    return configs


def _check_manual(study: Optimizer, q: int) -> None:
    if study._method == "manual" and len(study._enqueued) < q:
        raise LookupError(
            f"method='manual' proposes what was enqueued: {q} asked for, {len(study._enqueued)} there; "
            "call enqueue(config) first"
        )


def _ask_again(study: Optimizer, count: int) -> list[Config]:
    """Configurations of an exhausted space: the best first, those under way last."""
    log.warning(
        "every configuration of the space (%d) has been tried or is pending; proposing %d again",
        study.space.size, count,
    )  # fmt: skip
    told = study._results.rows
    best_first = [study._trials[i].config for i in told.number[np.argsort(told.y, kind="stable")]]
    every = {study.space.key(config): config for config in [*best_first, *study.pending]}
    rank = {key: i for i, key in enumerate(every)}
    proposals = []
    for _ in range(count):
        waiting = Counter(asked.key for asked in study._pending)
        again = every[min(every, key=lambda key: (waiting[key], rank[key]))]
        proposals += study._issue([again], "repeat")
    return proposals


def _ask_quasi_random(study: Optimizer, source: str) -> list[Config]:
    """The next point of the design, or another untried one if it has been tried."""
    space, seed, asked = study.space, study._seed, study._asked
    x = (random_point if study._method == "random" else sobol_point)(space, seed, asked)
    if not math.isinf(space.size) or study._trials:
        known = study._history().known()[0]
        if bool(is_taken(x[None, None], known[None])):
            x = untried(space, known, generator(seed, asked), x)
    source = study._method if study._method in ("random", "sobol") else source
    return study._issue(space.decode(x[None].cpu()), source)


def _ask_modelled(studies: Sequence[Optimizer], method: str, q: int) -> list[list[Config]]:
    """Proposals of a method for studies with equally long histories; quasi-random ones if it breaks down."""
    space = studies[0].space
    history = History.stacked([study._history() for study in studies])

    def propose(device: torch.device) -> Tensor:
        return settled(partial(_propose, studies, method, history.to(device), q))

    try:
        X = studies[0]._computed(propose, q, len(studies))
    except linalg.LinAlgError as error:
        log.warning("Gaussian process failed (%s); proposing quasi-random configurations instead", error)
        return [
            [config for _ in range(q) for config in _ask_quasi_random(study, "fallback")] for study in studies
        ]
    configs = space.decode(X.flatten(0, 1))
    rows, active = _encoded(space, configs)
    parts = [slice(i * q, (i + 1) * q) for i in range(len(studies))]
    return [
        study._issue(configs[part], method, (rows[part], active[part]))
        for study, part in zip(studies, parts, strict=True)
    ]


def _propose(studies: Sequence[Optimizer], method: str, history: History, q: int) -> Tensor:
    keep_pages()
    if method == "gp":
        return _propose_gp(studies, history, q)
    return _PROPOSE[method](studies[0].space, history, q)


def _propose_gp(studies: Sequence[Optimizer], history: History, q: int) -> Tensor:
    first = studies[0]
    device = history.X.device
    local, broad = first._method == "auto", first._is_broad(q)
    acquisition, cache = ACQUISITIONS[first._acquisition], _warm_starts(studies, device, broad)
    learnt = first._latest.get(broad) if len(studies) == 1 else None
    if learnt is not None and learnt.X.device != device:  # it was enough for one, and now there are many
        learnt = None
    model = first._model(device, broad)
    return propose_gp(model, history, q, acquisition, first._batch, cache, local=local, learnt=learnt)


def _warm_starts(studies: Sequence[Optimizer], device: torch.device, broad: bool = False) -> SharedWarmStarts:
    """Those of the histories as they are, for a fit of one of the models on a device."""
    rows = [study._results.rows for study in studies]
    numbers = [{"outcomes": r.number[np.isfinite(r.y)], "failures": r.number} for r in rows]
    return SharedWarmStarts([study._warm[broad] for study in studies], numbers, device)


def _place(asked_at: int | None) -> int:
    """`Rows.at` of what was asked for at a place, None for what was never proposed."""
    return FOREIGN if asked_at is None else int(asked_at)


def _asked_at(place: int) -> int | None:
    """The inverse of `_place`."""
    return None if place == FOREIGN else place


def earliest_end(space: Space) -> int:
    """How many results there must be before a bound on the regret is believed."""
    return max(design_size(space), 3 * (space.dim + 1)) + PATIENCE - 1
