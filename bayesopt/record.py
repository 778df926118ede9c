"""What one study has been asked for and told: `Record`. Bookkeeping, which nothing is concluded from here."""

import math
import numbers
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from bayesopt.checks import checked_std, checked_value, several, several_stds
from bayesopt.setting import Setting
from bayesopt.space import Space
from bayesopt.trials import FOREIGN, Config, Results, Rows, Trial

#: Encoded configurations `(n, d)` and their activity mask.
Encoded = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class Asked:
    """A configuration that is pending; `at` counts the configurations asked for before it, as in `Rows`.

    `source` says who has proposed it, see `explanation.ARMS`; "" for what others have asked for.
    """

    config: Config
    key: Hashable
    row: np.ndarray
    active: np.ndarray
    at: int
    source: str = ""


class Told(NamedTuple):
    """A result that has been checked."""

    config: Config
    value: float | None
    std: float | None


class Record:
    """What has happened in a study.

    Attributes:
        trials: everything told, in the order of telling; to look at.
        results: the same, encoded, in canonical order.
        pending: asked for and not yet told, oldest first.
        enqueued: to be asked for before anything is proposed.
        asked: how many configurations have been asked for.
    """

    def __init__(self, space: Space, setting: Setting) -> None:
        self.space, self.setting = space, setting
        self.trials: list[Trial] = []
        self.results = Results(space.dim)
        self.pending: list[Asked] = []
        self.enqueued: list[Config] = []
        self.asked = 0
        self._known: Counter[Hashable] = Counter()  # keys of what was told or is pending

    def copy(self) -> "Record":
        """Another one, that can be asked without consequences here."""
        twin = copy(self)
        twin.pending, twin.enqueued, twin._known = list(self.pending), list(self.enqueued), copy(self._known)
        return twin

    # ---------------------------------------------------------------------------------------- what it says

    @property
    def best(self) -> Trial | None:
        """The trial with the best value, the earliest of equals."""
        rows = self.results.rows
        y = np.full(len(rows), np.inf)
        y[rows.number] = np.nan_to_num(self.results.rank_keys, nan=np.inf, posinf=np.inf)
        return self.trials[int(y.argmin())] if np.isfinite(y).any() else None

    def outcomes_differ(self, told: int | None = None) -> bool:
        """Whether those of the first so many results, or of all, are not all the same."""
        y = self.results.rows.y[:told]
        finite = y[np.isfinite(y)]
        return len(finite) > 0 and bool(finite.min() < finite.max())

    def has_std(self) -> bool:
        """Whether the noise of any outcome was told."""
        return self.results.with_std > 0

    def is_noisy(self) -> bool:
        """Whether outcomes are known to be noisy: declared, told, or seen."""
        if self.setting.deterministic is not None:
            return not self.setting.deterministic
        repeats = len(self._known) < len(self.trials) + len(self.pending)
        return self.has_std() or (repeats and self.results.rows.differ())

    def untried(self, q: int, may_repeat: bool) -> int:
        """How many of the next q proposals can be configurations that are neither pending nor told.

        Those that were told do not matter where a method may repeat them.
        """
        size = self.space.size
        if math.isinf(size):
            return q
        taken = {asked.key for asked in self.pending} if may_repeat else self._known.keys()
        return min(q, max(0, int(size) - len(taken)))

    # ----------------------------------------------------------------------------------------------- asking

    def issue(self, configs: Sequence[Config], source: str, encoded: Encoded | None = None) -> list[Config]:
        """Register proposals as pending; what the caller gets is a copy, theirs to change."""
        self._await(configs, range(self.asked, self.asked + len(configs)), source, encoded)
        self.asked += len(configs)
        return [dict(config) for config in configs]

    def next_enqueued(self, q: int) -> list[Config]:
        """Up to q of the enqueued configurations, now pending."""
        chosen, self.enqueued = self.enqueued[:q], self.enqueued[q:]
        return self.issue(chosen, "enqueued") if chosen else []

    def _await(
        self,
        configs: Sequence[Config],
        places: Sequence[int],
        source: str = "",
        encoded: Encoded | None = None,
    ) -> None:
        """Configurations that are pending from now on; encoded, if somebody has done that.

        A decoded float encodes to within rounding of where it came from; keeping the encoding of what the
        caller sees makes a study restored from its configurations equal to the last bit.
        """
        rows = zip(configs, *(encoded or encode(self.space, configs)), places, strict=True)
        awaited = [Asked(config, self.space.key(config), x, on, at, source) for config, x, on, at in rows]
        self.pending += awaited
        self._known.update(asked.key for asked in awaited)

    def forget(self, configs: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> None:
        """Wait no longer for these configurations; see `Optimizer.forget`."""
        rest = list(self.pending)
        dropped = []
        for config in several("forget", configs):
            key = self.space.key(config)
            place = next((i for i, asked in enumerate(rest) if asked.key == key), None)
            if place is None:
                raise ValueError(f"{dict(config)} is not pending; opt.pending lists what is")
            dropped.append(rest.pop(place))
        self._drop(dropped)

    def drop_old(self) -> None:
        """Forget what has been pending for too long."""
        if self.setting.max_pending_age is not None:
            limit = self.asked - 1 - self.setting.max_pending_age
            self._drop([asked for asked in self.pending if FOREIGN < asked.at <= limit])

    def _drop(self, dropped: Sequence[Asked]) -> None:
        self.pending = [asked for asked in self.pending if asked not in dropped]
        self._known -= Counter(asked.key for asked in dropped)

    # ---------------------------------------------------------------------------------------------- telling

    def checked(self, configs: object, values: object, std: object = None) -> list[Told]:
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
        return [Told(self.space.validate(c), v, self.checked_std(v, s)) for c, v, s in told]

    def checked_std(self, value: float | None, std: object) -> float | None:
        """The std of a value; None for one that is not known or does not matter."""
        known = None if value is None else checked_std(std)
        if known is not None and self.setting.deterministic:
            raise ValueError(
                f"std={known!r} says that outcomes are noisy, deterministic=True that they are not; "
                "drop one of the two"
            )
        return known

    def commit(self, results: Sequence[Told], seconds: float | None = None, error: str | None = None) -> None:
        """Results of what is pending, the oldest first of equal ones, or of what nobody has asked for."""
        claimed = [self._claim(told.config) for told in results]
        places = [FOREIGN if asked is None else asked.at for asked in claimed]
        pairs = enumerate(results, len(self.trials))
        trials = [Trial(i, r.config, r.value, seconds, error, std=r.std) for i, r in pairs]
        self._keep(trials, places, _rows_of(claimed))
        self._known.update(
            self.space.key(r.config) for r, at in zip(results, places, strict=True) if at == FOREIGN
        )

    def _claim(self, config: Config) -> Asked | None:
        """The pending proposal of this configuration, no longer pending."""
        key = self.space.key(config) if self.pending else None
        for i, asked in enumerate(self.pending):
            if asked.key == key:
                return self.pending.pop(i)
        return None

    def _keep(self, trials: Sequence[Trial], places: Sequence[int], encoded: Encoded | None = None) -> None:
        """More trials, with their configurations encoded, if somebody has done that."""
        if not trials:
            return
        number = np.arange(len(self.trials), len(self.trials) + len(trials))
        X, active = encoded or encode(self.space, [trial.config for trial in trials])
        y = np.array([math.nan if trial.value is None else trial.value for trial in trials])
        y = -y if self.setting.maximize else y
        std = np.array([math.nan if trial.std is None else trial.std for trial in trials])
        at = np.array(places, dtype=np.int64)
        pruned = np.array([trial.pruned for trial in trials], dtype=bool)
        self.results.add(Rows(X, active, y, at, number, std, pruned))
        self.trials += trials

    # ------------------------------------------------------------------ a history that is kept elsewhere
    # Others replay what a storage holds: `at` is the place in the order of asking, None for a configuration
    # that was never proposed.

    def expect(self, config: Config, at: int | None) -> None:
        """Somebody has asked for this configuration: it is pending."""
        self._await([config], [_place(at)])
        self.asked = max(self.asked, _place(at) + 1)

    def settle(self, trial: Trial, at: int | None) -> None:
        """A trial has ended, here or elsewhere; whether it was pending or not. It keeps its number."""
        self.withdraw(trial.config, at)
        self._known[self.space.key(trial.config)] += 1
        self.asked = max(self.asked, _place(at) + 1)
        self._keep([trial], [_place(at)])

    def withdraw(self, config: Config, at: int | None) -> None:
        """No longer pending, if it was, without an outcome."""
        key, place = self.space.key(config), _place(at)
        found = next((asked for asked in self.pending if asked.at == place and asked.key == key), None)
        if found is not None:
            self._drop([found])

    def rewind(self, asked: int) -> None:
        """As if nothing had been asked for since `asked` configurations had been."""
        self._drop([each for each in self.pending if each.at >= asked])
        self.asked = asked

    # ------------------------------------------------------------------------------------- saved and loaded

    def to_dict(self) -> dict[str, Any]:
        """All of it, as plain JSON values."""
        return {
            "asked": self.asked,
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
                for trial, at in zip(self.trials, self.results.asked_at().tolist(), strict=True)
            ],
            "pending": [
                {"config": dict(asked.config), "asked_at": _asked_at(asked.at)} for asked in self.pending
            ],
            "enqueued": [dict(config) for config in self.enqueued],
        }

    @classmethod
    def from_dict(cls, space: Space, setting: Setting, saved: Mapping[str, Any]) -> "Record":
        """The inverse of `to_dict`.

        Raises:
            ValueError, TypeError: it is damaged.
        """
        record = cls(space, setting)
        try:
            trials = [
                Trial(
                    number,
                    space.validate(entry["config"]),
                    checked_value(entry["value"]),
                    entry["seconds"],
                    entry["error"],
                    bool(entry.get("pruned", False)),
                    checked_std(entry.get("std")),
                )
                for number, entry in enumerate(saved["trials"])
            ]
            record._keep(trials, [_place(entry["asked_at"]) for entry in saved["trials"]])
            record._known.update(space.key(trial.config) for trial in trials)
            record._await(
                [space.validate(entry["config"]) for entry in saved["pending"]],
                [_place(entry["asked_at"]) for entry in saved["pending"]],
            )
            record.enqueued = [space.validate(config) for config in saved["enqueued"]]
            record.asked = int(saved["asked"])
        except KeyError as error:
            raise ValueError(f"state is damaged: a trial or pending entry lacks {error}") from error
        return record


def encode(space: Space, configs: Sequence[Config]) -> Encoded:
    """Configurations as arrays."""
    X, active = space.encode(configs)
    return X.numpy(), active.numpy()


def _rows_of(claimed: Sequence[Asked | None]) -> Encoded | None:
    """What was pending, encoded; None if anything was not."""
    known = [asked for asked in claimed if asked is not None]
    if not known or len(known) < len(claimed):
        return None
    return np.stack([asked.row for asked in known]), np.stack([asked.active for asked in known])


def _place(asked_at: int | None) -> int:
    """`Rows.at` of what was asked for at a place, None for what was never proposed."""
    return FOREIGN if asked_at is None else int(asked_at)


def _asked_at(place: int) -> int | None:
    """The inverse of `_place`."""
    return None if place == FOREIGN else place
