"""Opening a study: finding it in a storage, and agreeing on its space and settings with what is there."""

from collections.abc import Mapping
from typing import Any

import optuna
from optuna.pruners import BasePruner
from optuna.study import Study as OptunaStudy
from optuna.study import StudyDirection

from bayesopt.space import Space
from bayesopt.storage.changes import differences
from bayesopt.storage.database import ledger_of
from bayesopt.storage.ledger import ABANDONED
from bayesopt.storage.opening import Storage

#: System attribute of a study: its space and what else the proposals depend on.
SETTINGS = "bayesopt:study"

_FORMAT = 1
_LONGEST_NAME = 512  # of what Optuna's tables can hold
_DEFAULTS = {"seed": 0, "method": "auto", "acquisition": "log_ei", "batch": "auto", "deterministic": None}
_ON_CHANGE = ("error", "extend")


def check_options(storage: object, name: object, on_change: str, heartbeat: object, retries: object) -> None:
    """Those that are the same wherever the study is kept."""
    if name is None and storage is not None:
        raise ValueError("a study in a storage needs a name: pass name='...'")
    if name is not None and (not isinstance(name, str) or not name.strip() or not name.isprintable()):
        raise ValueError(f"name must be a printable text, got {name!r}")
    if isinstance(name, str) and len(name) > _LONGEST_NAME:
        raise ValueError(f"name must have at most {_LONGEST_NAME} characters, got {len(name)}")
    if on_change not in _ON_CHANGE:
        raise ValueError(
            f"on_space_change must be one of {', '.join(map(repr, _ON_CHANGE))}, got {on_change!r}"
        )
    if isinstance(heartbeat, bool) or not isinstance(heartbeat, int) or heartbeat < 1:
        raise ValueError(f"heartbeat must be a whole number of seconds >= 1, got {heartbeat!r}")
    if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
        raise ValueError(f"max_retries must be an integer >= 0, got {retries!r}")


def find(
    storage: Storage, name: str | None, create: bool, maximize: bool | None, pruner: BasePruner
) -> OptunaStudy:
    """The Optuna study of that name, a new one if there is none and it may be created."""
    try:
        study = None if name is None else optuna.load_study(study_name=name, storage=storage, pruner=pruner)
    except KeyError:
        study = None
    if study is None:
        if not create:
            there = ", ".join(repr(each.study_name) for each in storage.get_all_studies()) or "none"
            raise ValueError(f"there is no study {name!r}, only {there}; pass a space to begin it")
        direction = StudyDirection.MAXIMIZE if maximize else StudyDirection.MINIMIZE
        study = optuna.create_study(
            study_name=name, storage=storage, direction=direction, load_if_exists=True, pruner=pruner
        )
    if len(study.directions) > 1:
        raise ValueError(
            f"study {study.study_name!r} has {len(study.directions)} objectives; one is supported"
        )
    maximizes = study.direction == StudyDirection.MAXIMIZE
    if maximize is not None and maximize != maximizes:
        was, wanted = ("maximize", "minimize") if maximizes else ("minimize", "maximize")
        raise ValueError(f"study {study.study_name!r} was made to {was}, not to {wanted}; take another name")
    return study


def agree(
    study: OptunaStudy, storage: Storage, wanted: Space | None, given: Mapping[str, Any], on_change: str
) -> dict[str, Any]:
    """The settings of the study, those in the storage and those given, which are stored by now."""
    key, name = study._study_id, study.study_name
    stored = storage.get_study_system_attrs(key).get(SETTINGS)
    if wanted is not None:
        space = wanted
    elif stored is not None:
        space = Space.from_dict(stored["space"])
    else:
        raise ValueError(f"study {name!r} was not made by bayesopt: pass the space of its trials")
    with ledger_of(storage, key, space).turn():
        stored = storage.get_study_system_attrs(key).get(SETTINGS)
        if stored is not None and stored.get("format") != _FORMAT:
            raise ValueError(f"study {name!r} was written by another version of bayesopt")
        if stored is None:
            _check_fit(study, storage, space, f"study {name!r} has trials of another space")
            agreed = filled(given)
        else:
            _check_change(study, storage, Space.from_dict(stored["space"]), space, on_change)
            agreed = filled(given, {**_DEFAULTS, **_settings(stored)})
            if agreed["seed"] != stored["seed"]:
                raise ValueError(
                    f"study {name!r} has seed {stored['seed']}, got seed={agreed['seed']}: leave it "
                    "out or give the same, or take another name for a new study"
                )
        settings = {"space": space.to_dict(), **agreed}
        if stored != {"format": _FORMAT, **settings}:
            storage.set_study_system_attr(key, SETTINGS, {"format": _FORMAT, **settings})
    return settings


def _check_change(study: OptunaStudy, storage: Storage, old: Space, new: Space, on_change: str) -> None:
    lines = differences(old, new)
    if lines and on_change != "extend":
        raise ValueError(
            f"study {study.study_name!r} has another space: {'; '.join(lines)}. Take another name for a new "
            "study, or on_space_change='extend' if all old trials still fit"
        )
    if lines:
        _check_fit(study, storage, new, f"study {study.study_name!r} cannot be extended ({'; '.join(lines)})")


def _check_fit(study: OptunaStudy, storage: Storage, space: Space, complaint: str) -> None:
    for trial in storage.get_all_trials(study._study_id, deepcopy=False):
        if trial.params and ABANDONED not in trial.system_attrs:
            try:
                space.validate(trial.params)
            except (ValueError, TypeError) as error:
                raise ValueError(f"{complaint}: trial {trial.number} does not fit: {error}") from None


def _settings(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Those that a study has; one from before a setting came up lacks it."""
    return {name: stored[name] for name in _DEFAULTS if name in stored}


def filled(given: Mapping[str, Any], defaults: Mapping[str, Any] = _DEFAULTS) -> dict[str, Any]:
    """The given settings, and the defaults of those that are None."""
    return {name: default if given[name] is None else given[name] for name, default in defaults.items()}
