"""A trial that runs: what its evaluation can tell the study meanwhile, and ask."""

import math
import numbers
import os
from collections.abc import Callable
from typing import Any

import optuna
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.storages import RDBStorage, _CachedStorage

from bayesopt.pruning.pruner import CurvePruner
from bayesopt.storage.opening import check_not_forked
from bayesopt.trials import Config

#: Storages that trials sent to this process have opened, by process, URL and study.
_opened: dict[tuple[int, str, str], _CachedStorage] = {}

#: Pruners by name, ours and Optuna's, without further arguments; "asha" is asynchronous successive halving.
PRUNERS: dict[str, Callable[[], BasePruner]] = {
    "curve": CurvePruner,
    "median": MedianPruner,
    "asha": SuccessiveHalvingPruner,
    "hyperband": HyperbandPruner,
}


def checked_pruner(pruner: object) -> BasePruner:
    """A pruner by name, as it is, or one that never prunes for None.

    Raises:
        ValueError, TypeError: neither a name nor a pruner.
    """
    if pruner is None:
        return NopPruner()
    if isinstance(pruner, str):
        if pruner not in PRUNERS:
            raise ValueError(f"pruner must be one of {', '.join(map(repr, PRUNERS))}, got {pruner!r}")
        return PRUNERS[pruner]()
    if not isinstance(pruner, BasePruner):
        raise TypeError(f"pruner must be an optuna pruner or its name, got {pruner!r}")
    return pruner


class RunningTrial:
    """A configuration under evaluation.

    Can be sent to other processes, unless the study lives in memory: there it opens the storage by itself.

    Attributes:
        number: in the study.
        config: the configuration; yours to change.
        advised: whether `should_prune` has said so.
    """

    def __init__(self, study: optuna.Study, number: int, trial_id: int, config: Config) -> None:
        self.number = number
        self.config = dict(config)
        self.advised = False
        self._study = study
        self._trial_id = trial_id

    def __repr__(self) -> str:
        return f"RunningTrial({self.number}, {self.config})"

    def report(self, value: float, step: int) -> None:
        """Report how it goes: a value on the scale of the objective, after `step` epochs, say.

        The first value of a step counts. nan is welcome: it says that the evaluation has gone astray.

        Raises:
            TypeError, ValueError: not a number, or a step that is not a whole number >= 0.
            RuntimeError: the trial has ended, for instance because this worker was taken for dead.
        """
        value, step = checked_report(value, step)
        storage = self._study._storage
        try:
            if step not in storage.get_trial(self._trial_id).intermediate_values:
                storage.set_trial_intermediate_value(self._trial_id, step, value)
        except optuna.exceptions.UpdateFinishedTrialError:
            raise RuntimeError(
                f"trial {self.number} has ended: either it was told, or this worker was silent for so long "
                "that others took it for dead"
            ) from None

    def should_prune(self) -> bool:
        """Whether it is not worth going on, in the opinion of the study's pruner.

        Whoever follows the advice returns None from the objective, or raises `TrialPruned`.
        """
        trial = self._study._storage.get_trial(self._trial_id)
        self.advised = bool(self._study.pruner.prune(self._study, trial))
        return self.advised

    def __reduce__(self) -> tuple[Any, ...]:
        storage = self._study._storage
        if isinstance(storage, optuna.storages.InMemoryStorage):
            raise TypeError(
                "a study in memory cannot be reached from other processes: give it a storage, such as "
                "storage='sqlite:///tuning.db' and a name"
            )
        assert isinstance(storage, _CachedStorage)  # there is no other
        backend = storage._backend
        where = backend.url, tuple(backend.engine_kwargs.items()), self._study.study_name
        return _reopened, (*where, self._study.pruner, self.number, self._trial_id, self.config)


def _reopened(
    url: str, options: tuple[tuple[str, Any], ...], name: str, pruner: BasePruner, number: int, trial_id: int,
    config: Config,
) -> RunningTrial:  # fmt: skip
    if url.startswith("sqlite"):
        check_not_forked()
    key = os.getpid(), url, name
    if key not in _opened:
        backend = RDBStorage(url, dict(options), skip_compatibility_check=True, skip_table_creation=True)
        _opened[key] = _CachedStorage(backend)
    study = optuna.load_study(study_name=name, storage=_opened[key], pruner=pruner)
    return RunningTrial(study, number, trial_id, config)


def checked_report(value: object, step: object) -> tuple[float, int]:
    """A float and an int, whatever numbers they came as.

    Raises:
        TypeError, ValueError: as in `RunningTrial.report`.
    """
    shape = getattr(value, "shape", None)
    if shape is not None and math.prod(shape) == 1:
        value = value.item()  # type: ignore[attr-defined]  # a tensor or an array
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"report expects a number, got {value!r}")
    if isinstance(step, bool) or not isinstance(step, numbers.Integral):
        raise TypeError(f"report expects a step that is a whole number, got {step!r}")
    if step < 0:
        raise ValueError(f"report expects a step >= 0, got {step!r}")
    return float(value), int(step)
