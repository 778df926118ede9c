"""Ask and tell: `Optimizer`, a study.

An `Optimizer` is its history; everything else is derived. What it proposes is a pure function of the seed,
the number of configurations asked for, the set of trials told and what is pending: not of the order in
which they were told, nor of the process, nor of whether the state was saved and loaded in between.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar, overload

import torch

from bayesopt.asking import ask
from bayesopt.checks import checked_count, checked_tolerance, resolved_device, several
from bayesopt.explaining import explain, predict, recommend
from bayesopt.explanation import Explanation, Prediction, Regret
from bayesopt.learner import Learner
from bayesopt.record import Record
from bayesopt.setting import Setting
from bayesopt.space import Space
from bayesopt.stopping import is_enough, regret_after
from bayesopt.trials import Config, Recommendation, Trial

P = ParamSpec("P")
R = TypeVar("R")

_STATE_FORMAT = 4

#: Formats that can be loaded: 3 had neither std nor deterministic.
_READABLE = (3, 4)


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
        setting = Setting(seed, method, acquisition, batch, maximize, max_pending_age, deterministic)
        record = Record(self.space, setting.checked(self.space))
        self._learner = Learner(record, resolved_device(device))
        self._lock = threading.RLock()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.RLock())

    def __repr__(self) -> str:
        setting, record = self._setting, self._record
        return (
            f"Optimizer({self.space.dim} parameters, method={setting.method!r}, seed={setting.seed}, "
            f"{len(record.trials)} trials, {len(record.pending)} pending)"
        )

    @property
    def _setting(self) -> Setting:
        return self._learner.setting

    @property
    def _record(self) -> Record:
        return self._learner.record

    @contextmanager
    def _recording(self) -> Iterator[Record]:
        """The record, for one thread at a time, to be changed by whoever keeps the history elsewhere."""
        with self._lock:
            yield self._record

    @property
    @_locked
    def trials(self) -> list[Trial]:
        """All trials in the order they were told."""
        return list(self._record.trials)

    @property
    @_locked
    def pending(self) -> list[Config]:
        """Configurations asked for and not yet told, oldest first."""
        return [dict(asked.config) for asked in self._record.pending]

    @property
    @_locked
    def best(self) -> Trial | None:
        """The successful trial with the best value, the earliest of equals; None before the first success.

        Where outcomes are noisy that may be luck: see `recommend`.
        """
        return self._record.best

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
        return recommend(self._learner)

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
            proposals = ask([self._learner], count)[0]
        return proposals[0] if q is None else proposals

    @_locked
    def enqueue(self, configs: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> None:
        """Propose a configuration, or several, before anything else: yours come first, in this order.

        They are proposed even if they have been tried before.

        Raises:
            ValueError, TypeError: a configuration is not valid; nothing is enqueued then.
        """
        checked = [self.space.validate(config) for config in several("enqueue", configs)]
        self._record.enqueued += checked

    @property
    @_locked
    def enqueued(self) -> list[Config]:
        """Configurations enqueued and not yet asked for, the next one first."""
        return [dict(config) for config in self._record.enqueued]

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
        return explain(self._learner)

    @_locked
    def _explain_after(self, configs: Sequence[Config]) -> Explanation:
        """As if these had been enqueued."""
        return explain(self._learner, configs)

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
            learner = self._learner
            if learner.method != "gp":
                raise ValueError(
                    f"method {learner.method!r} has no model of the outcomes; method='gp' has, and "
                    "method='auto' up to 10,000 results"
                )
            if not self._record.outcomes_differ():
                raise LookupError("nothing to predict from: tell at least two outcomes that differ first")
            X, active = self.space.encode(checked)
            predictions = predict(learner, learner.learn(), X[None], active[None])
        return predictions[0] if isinstance(configs, Mapping) else predictions

    @_locked
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
        return regret_after(self._learner, len(self._record.trials))

    @_locked
    def enough(self, tolerance: float) -> bool:
        """Whether bound and mean of the regret were within a tolerance after each of the last three results.

        The first of these is at least the `3 (d + 1)`-th for d parameters: fits to fewer are too sure of
        themselves. A function of what was told, in the order of asking. See `regret`.

        Args:
            tolerance: in the units of the outcomes.
        """
        return is_enough(self._learner, checked_tolerance(tolerance))

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
        checked = self._record.checked(configs, values, std)
        with self._recording() as record:
            record.commit(checked)

    @_locked
    def forget(self, configs: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> None:
        """Give up waiting for a pending configuration, or for several: they may be proposed again.

        An outcome that arrives later can still be told.

        Raises:
            ValueError, TypeError: a configuration is not valid or not pending; nothing is forgotten then.
        """
        self._record.forget(configs)

    @_locked
    def state_dict(self) -> dict[str, Any]:
        """Everything the proposals depend on, as plain JSON values."""
        start = {"format": _STATE_FORMAT, "space": self.space.to_dict()}
        return start | asdict(self._setting) | self._record.to_dict()

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
        setting = Setting(**{field.name: state[field.name] for field in fields(Setting)}).checked(self.space)
        self._learner = Learner(Record.from_dict(self.space, setting, state), self._learner.device)
