"""`BayesSampler`: this engine behind Optuna's interface for samplers."""

import logging
import secrets
import threading
import zlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, RDBStorage, _CachedStorage
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from bayesopt.checks import checked_value
from bayesopt.interop.inferred import fits, infer_space
from bayesopt.methods.history import generator
from bayesopt.optimizer import Optimizer
from bayesopt.parameters import Int
from bayesopt.pruning.pruner import stopped_value
from bayesopt.space import Space
from bayesopt.storage import owners
from bayesopt.storage.database import turn
from bayesopt.storage.distributions import distributions, from_optuna
from bayesopt.storage.ledger import ABANDONED
from bayesopt.storage.replay import RETRIES, stored_std
from bayesopt.trials import Config, Trial

log = logging.getLogger("bayesopt")

#: System attribute of a trial: what was proposed for it and by which process, before Optuna stores any of it.
PROPOSAL = "bayesopt:proposal"

_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
_MOST_ENGINES = 4


class BayesSampler(BaseSampler):
    """Proposes for an Optuna study, in place of `TPESampler` or `GPSampler`.

    Works with `study.optimize`, ask and tell, `n_jobs`, pruners, enqueued trials, every storage, and many
    processes. On SQLite and PostgreSQL processes propose one after the other, mindful of what the others are
    evaluating; on other storages two of them may propose the same at the same moment.

    Without a `space` the parameters are learnt from the trials, conditions included: what depends on the
    value of another parameter, such as the momentum of one optimizer or the width of the third layer, is
    proposed where it exists. A parameter that nothing is known about yet is drawn at random; so the first
    trial is, and whatever the objective asks for outside the range that is known. With a space, the first
    trial is a proposal.

    All trials count. A failed one is a failure, unless it was tried again; a pruned one has the value at
    which `CurvePruner` expected it to end, or else the one that it reported last. A running one is expected
    to end, unless its process is gone or it is older than `max_pending_age` trials.

    What is proposed for a trial depends on the seed, its number, the trials that have ended and those that
    run. With `n_jobs > 1` these two change with the timing of the evaluations; two runs in which the same
    trials had ended when each one began propose the same.

    An objective that knows the standard deviation of the noise in its value says so by
    `trial.set_user_attr("bayesopt:std", ...)`.

    Args:
        space: a `Space`, or a dict of parameters; the objective should suggest the same ones.
        seed: of everything random; None for one that nobody has had.
        method, acquisition, batch, device, deterministic: see `Optimizer`.
        max_pending_age: how many trials later a trial that is still running is no longer waited for.

    Raises:
        ValueError, TypeError: an argument is not one of these. Later: a study with several objectives.

    >>> import optuna
    >>> optuna.logging.set_verbosity(optuna.logging.WARNING)
    >>> study = optuna.create_study(sampler=BayesSampler(seed=0))
    >>> study.optimize(lambda trial: (trial.suggest_float("x", -5, 5) - 1) ** 2, n_trials=15)
    >>> abs(study.best_params["x"] - 1) < 0.01
    True
    """

    def __init__(
        self,
        space: Space | Mapping[str, Any] | None = None,
        *,
        seed: int | None = None,
        method: str = "auto",
        acquisition: str = "log_ei",
        batch: str = "auto",
        device: str = "auto",
        deterministic: bool | None = None,
        max_pending_age: int = 100,
    ) -> None:
        self._space = None if space is None else Space(space)
        self._settings: dict[str, Any] = {
            "seed": secrets.randbits(31) if seed is None else seed,
            "method": method,
            "acquisition": acquisition,
            "batch": batch,
            "device": device,
            "deterministic": deterministic,
        }
        any_space = self._space or {"x": Int(0, 1)}
        Optimizer(any_space, **self._settings, max_pending_age=max_pending_age)  # checks them
        self._max_pending_age = max_pending_age
        self._inferred: dict[str, _Inferred] = {}
        self._engines: dict[tuple[str, Space], _Engine] = {}
        self._lock = threading.RLock()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_lock": None, "_engines": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.RLock())

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        self._raise_error_if_multi_objective(study)
        space = self._space_of(study)
        return {} if space is None else distributions(space)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        self._raise_error_if_multi_objective(study)
        if not search_space:
            return {}
        with self._lock, _turn(study._storage, study._study_id):
            space = self._restricted(study, search_space)
            config = self._engine(study, space).propose(study, trial.number, self._max_pending_age)
            proposal = {"config": config, "owner": owners.myself()}
            study._storage.set_trial_system_attr(trial._trial_id, PROPOSAL, proposal)
        return config

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A random draw that depends on the seed, the number of the trial and the name only."""
        self._raise_error_if_multi_objective(study)
        space = Space({param_name: from_optuna(param_distribution)})
        draw = generator(self._settings["seed"], trial.number, zlib.crc32(param_name.encode()))
        return space.decode(space.sample(1, draw))[0][param_name]

    def _space_of(self, study: Study) -> Space | None:
        """The space given, or the one that the finished trials define."""
        if self._space is not None:
            return self._space
        with self._lock:
            inferred = self._inferred.setdefault(study.study_name, _Inferred())
            return inferred.update(study._get_trials(deepcopy=False, use_cache=True))

    def _restricted(self, study: Study, search_space: Mapping[str, BaseDistribution]) -> Space:
        """Our space, or what others have left of it; a parameter without its parents is unconditional."""
        whole = self._space_of(study)
        if whole is not None and whole.keys() == search_space.keys():
            return whole
        parameters = {}
        for name, distribution in search_space.items():
            known = None if whole is None else whole.get(name)
            parents = () if known is None or known.when is None else tuple(known.when)
            complete = known is not None and all(parent in search_space for parent in parents)
            parameters[name] = known if known is not None and complete else from_optuna(distribution)
        return Space(parameters)

    def _engine(self, study: Study, space: Space) -> "_Engine":
        key = study.study_name, space
        engine = self._engines.pop(key, None)
        if engine is None:
            maximize = study.direction == StudyDirection.MAXIMIZE
            engine = _Engine(Optimizer(space, **self._settings, maximize=maximize))
        self._engines[key] = engine  # the last one used comes last
        while len(self._engines) > _MOST_ENGINES:
            self._engines.pop(next(iter(self._engines)))
        return engine


@dataclass(eq=False)
class _Inferred:
    """The space of a study, as long as its trials say nothing new."""

    space: Space | None = None
    known: set[int] = field(default_factory=set)

    def update(self, trials: Sequence[FrozenTrial]) -> Space | None:
        finished = [t for t in trials if t.state in (TrialState.COMPLETE, TrialState.PRUNED) and t.params]
        new = [trial for trial in finished if trial.number not in self.known]
        forgotten = len(finished) - len(new) < len(self.known)
        space = self.space
        if forgotten or (new and (space is None or not all(fits(space, trial) for trial in new))):
            self.space = infer_space(finished)
        self.known = {trial.number for trial in finished} if new or forgotten else self.known
        return self.space


@dataclass(eq=False)
class _Engine:
    """An `Optimizer` that follows the trials of a study; the number of a trial is its place in asking."""

    optimizer: Optimizer
    ended: set[int] = field(default_factory=set)
    running: dict[int, Config] = field(default_factory=dict)

    def propose(self, study: Study, number: int, max_age: int) -> Config:
        """The proposal for a trial."""
        trials = study.get_trials(deepcopy=False)
        if not self.ended <= {trial.number for trial in trials if trial.state in _FINISHED}:
            self._begin_again()  # a pruner has shown us other trials before
        again = {each for trial in trials for each in trial.system_attrs.get(RETRIES, ())}
        running: dict[int, Config] = {}
        for trial in trials:
            if trial.number == number or trial.number in self.ended:
                continue
            if trial.state in _FINISHED:
                self._end(trial, trial.number in again)
            elif trial.state == TrialState.RUNNING and number - trial.number <= max_age:
                config = self._config(trial)
                if config is not None and not _is_dead(trial):
                    running[trial.number] = config
        self._follow(running)
        with self.optimizer._recording() as record:
            record.asked = number
        config = self.optimizer.ask()
        self.running[number] = config
        return config

    def _begin_again(self) -> None:
        for number, config in self.running.items():
            with self.optimizer._recording() as record:
                record.withdraw(config, number)
        fresh = self.optimizer.state_dict() | {"trials": [], "pending": [], "asked": 0}
        self.optimizer.load_state_dict(fresh)
        self.ended, self.running = set(), {}

    def _end(self, trial: FrozenTrial, tried_again: bool) -> None:
        self.ended.add(trial.number)
        config = self._config(trial)
        pending = self.running.pop(trial.number, None)
        if pending is not None:
            with self.optimizer._recording() as record:
                record.withdraw(pending, trial.number)
        given_up = ABANDONED in trial.system_attrs or (tried_again and trial.state == TrialState.FAIL)
        if config is not None and not given_up:
            pruned = trial.state == TrialState.PRUNED
            outcome = _outcome(trial)
            std = None if outcome is None else stored_std(trial)
            result = Trial(trial.number, config, outcome, pruned=pruned, std=std)
            with self.optimizer._recording() as record:
                record.settle(result, trial.number)

    def _follow(self, running: Mapping[int, Config]) -> None:
        """Have these configurations pending, and no others."""
        for number, config in list(self.running.items()):
            if running.get(number) != config:
                with self.optimizer._recording() as record:
                    record.withdraw(config, number)
                del self.running[number]
        for number, config in running.items():
            if number not in self.running:
                with self.optimizer._recording() as record:
                    record.expect(config, number)
                self.running[number] = config

    def _config(self, trial: FrozenTrial) -> Config | None:
        """What a trial has said, and for the rest what was proposed; None if that is not in the space."""
        proposed = trial.system_attrs.get(PROPOSAL, {}).get("config", {})
        for said in (trial.params, {**proposed, **trial.params}):
            try:
                return self.optimizer.space.validate(
                    {k: v for k, v in said.items() if k in self.optimizer.space}
                )
            except (ValueError, TypeError):
                continue
        return None


def _outcome(trial: FrozenTrial) -> float | None:
    if trial.state == TrialState.FAIL:
        return None
    if trial.state == TrialState.PRUNED and trial.last_step is not None:
        return checked_value(stopped_value(trial))
    return checked_value(trial.values[0]) if trial.values else None


def _is_dead(trial: FrozenTrial) -> bool:
    owner = trial.system_attrs.get(PROPOSAL, {}).get("owner")
    return owner is not None and owners.is_dead(owner)


def _turn(storage: BaseStorage, study_id: int) -> AbstractContextManager[Any]:
    """The right to propose, where the storage can give it; threads have the lock of the sampler."""
    backend = storage._backend if isinstance(storage, _CachedStorage) else storage
    if not isinstance(backend, RDBStorage) or backend.engine.url.get_backend_name() not in (
        "sqlite",
        "postgresql",
    ):
        return nullcontext()
    if backend.engine.url.database in (None, "", ":memory:"):
        return nullcontext()
    return turn(backend.engine, study_id)
