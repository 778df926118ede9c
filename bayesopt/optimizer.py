"""Ask and tell: `Optimizer` for one study, `Replicates` for many in lockstep.

An `Optimizer` is its history; everything else is derived. What it proposes is a pure function of the seed,
the number of configurations asked for and the set of trials told: not of the order in which they were
told, nor of the process, nor of whether the state was saved and loaded in between.
"""

import logging
import math
import numbers
from bisect import insort
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from bayesopt import linalg
from bayesopt.acquisition import ACQUISITIONS
from bayesopt.proposals import (
    SHORTEST_PREFIX,
    History,
    Model,
    design_size,
    generator,
    is_tried,
    propose_gp,
    random_point,
    sobol_point,
    untried,
)
from bayesopt.space import Space
from bayesopt.surrogates.gp import Optimum

log = logging.getLogger("bayesopt")

Config = dict[str, Any]

METHODS = ("auto", "gp", "random", "sobol")
_STATE_FORMAT = 1


@dataclass(frozen=True)
class Trial:
    """One evaluation: its place in the order of telling, what was tried, what came out.

    `value` is None where the evaluation failed; `seconds` and `error` (a traceback) are known when
    `minimize` ran the objective.
    """

    number: int
    config: Config
    value: float | None
    seconds: float | None = None
    error: str | None = None


@dataclass(frozen=True, eq=False)
class _Asked:
    """A proposal: `at` counts the configurations asked for before it, None if it was told unasked."""

    config: Config
    row: np.ndarray
    active: np.ndarray
    at: int | None


@dataclass(frozen=True, eq=False)
class _Told:
    asked: _Asked
    trial: Trial
    y: float  # to minimise, nan for a failure

    def order(self) -> tuple[int, tuple[float, ...], float]:
        """Canonical place: results brought along first, by content; then by the order of asking."""
        if self.asked.at is None:
            return -1, tuple(self.asked.row), self.y if math.isfinite(self.y) else math.inf
        return self.asked.at, (), 0.0


@dataclass(eq=False)
class _WarmStarts:
    """Hyper-parameters fitted to prefixes of the history; a cache, dropped when a prefix changes."""

    entries: dict[int, tuple[list[int], Optimum]] = field(default_factory=dict)

    def get(self, length: int, numbers: list[int]) -> Optimum | None:
        prefix, optimum = self.entries.get(length, (None, None))
        return optimum if prefix == numbers[:length] else None

    def put(self, length: int, numbers: list[int], optimum: Optimum) -> None:
        self.entries[length] = numbers[:length], optimum


class Optimizer:
    """Proposes configurations of a space and learns from their outcomes.

    Args:
        space: a `Space`, or a dict of parameters.
        seed: of everything random.
        method: "gp" (Gaussian process), "random", "sobol", or "auto", which is "gp" today.
        acquisition: for "gp": "log_ei", "ei", "log_pi", "pi" or "ucb".
        device: "auto", "cpu", "cuda", "cuda:1"; "auto" is the CPU until a measured crossover says otherwise.
        maximize: whether larger outcomes are better.

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
        device: str | torch.device = "auto",
        maximize: bool = False,
    ) -> None:
        self.space = Space(space)
        self._seed = _checked_seed(seed)
        self._method = _one_of("method", method, METHODS)
        self._acquisition = _one_of("acquisition", acquisition, tuple(ACQUISITIONS))
        self._device = _resolve_device(device)
        self._maximize = bool(maximize)
        self._told: list[_Told] = []  # in the order of telling
        self._canonical: list[_Told] = []  # the same, sorted by `_Told.order`
        self._pending: list[_Asked] = []
        self._asked = 0
        self._warm = _WarmStarts()

    def __repr__(self) -> str:
        return (
            f"Optimizer({self.space.dim} parameters, method={self._method!r}, seed={self._seed}, "
            f"{len(self._told)} trials, {len(self._pending)} pending)"
        )

    @property
    def trials(self) -> list[Trial]:
        """All trials in the order they were told."""
        return [told.trial for told in self._told]

    @property
    def pending(self) -> list[Config]:
        """Configurations asked for and not yet told, oldest first."""
        return [dict(asked.config) for asked in self._pending]

    @property
    def best(self) -> Trial | None:
        """The successful trial with the best value, the earliest of equals; None before the first success."""
        succeeded = [told for told in self._told if math.isfinite(told.y)]
        return min(succeeded, key=lambda told: told.y).trial if succeeded else None

    @overload
    def ask(self) -> Config: ...
    @overload
    def ask(self, q: int) -> list[Config]: ...
    def ask(self, q: int | None = None) -> Config | list[Config]:
        """The next configuration, or a list of the next q; they stay pending until told.

        Never fails for numerical reasons, and never repeats a configuration that was told or is pending
        while untried ones remain.
        """
        proposals = _ask([self], 1 if q is None else _checked_count(q))[0]
        return proposals[0] if q is None else proposals

    def tell(self, configs: Mapping[str, Any] | Sequence[Mapping[str, Any]], values: object) -> None:
        """Report outcomes: one configuration and its value, or equally long lists of them.

        A value of None, nan or plus or minus infinity says that the evaluation failed. Configurations need
        not have been proposed: earlier results and hand-made trials are welcome.

        Raises:
            ValueError, TypeError: a configuration or value is not valid; nothing is told then.
        """
        self._commit(self._checked(configs, values))

    def _checked(self, configs: object, values: object) -> list[tuple[Config, float | None]]:
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
        return [(self.space.validate(c), _checked_value(v)) for c, v in zip(configs, values, strict=True)]

    def _commit(
        self,
        results: Sequence[tuple[Config, float | None]],
        seconds: float | None = None,
        error: str | None = None,
    ) -> None:
        for config, value in results:
            self._append(self._claim(config), value, seconds, error)

    def _append(self, asked: _Asked, value: float | None, seconds: float | None, error: str | None) -> None:
        trial = Trial(len(self._told), asked.config, value, seconds, error)
        y = math.nan if value is None else -value if self._maximize else value
        told = _Told(asked, trial, y)
        self._told.append(told)
        insort(self._canonical, told, key=_Told.order)

    def _claim(self, config: Config) -> _Asked:
        """The pending proposal of this configuration, no longer pending, or a new entry for a foreign one."""
        key = self.space.key(config)
        for i, asked in enumerate(self._pending):
            if self.space.key(asked.config) == key:
                return self._pending.pop(i)
        X, active = self.space.encode([config])
        return _Asked(config, X[0].numpy(), active[0].numpy(), None)

    # -------------------------------------------------------------------------------------------- state

    def state_dict(self) -> dict[str, Any]:
        """Everything the proposals depend on, as plain JSON values."""
        return {
            "format": _STATE_FORMAT,
            "space": self.space.to_dict(),
            "seed": self._seed,
            "method": self._method,
            "acquisition": self._acquisition,
            "maximize": self._maximize,
            "asked": self._asked,
            "trials": [
                {
                    "config": dict(told.trial.config),
                    "value": told.trial.value,
                    "asked_at": told.asked.at,
                    "seconds": told.trial.seconds,
                    "error": told.trial.error,
                }
                for told in self._told
            ],
            "pending": [{"config": dict(asked.config), "asked_at": asked.at} for asked in self._pending],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Replace the history and the settings by saved ones; the space must be the same.

        Raises:
            ValueError, TypeError: the state is of another format or space, or damaged; nothing changes then.
        """
        if not isinstance(state, Mapping) or state.get("format") != _STATE_FORMAT:
            raise ValueError(f"state must be a dict made by state_dict() with format {_STATE_FORMAT}")
        missing = self.state_dict().keys() - state.keys()
        if missing:
            raise ValueError(f"state lacks {sorted(missing)}; it must be a dict made by state_dict()")
        if Space.from_dict(state["space"]) != self.space:
            raise ValueError(
                "state belongs to another space; build the Optimizer with the space it was saved with"
            )
        loaded = Optimizer(
            self.space, seed=state["seed"], method=state["method"], acquisition=state["acquisition"],
            device=self._device, maximize=state["maximize"],
        )  # fmt: skip
        try:
            for entry in state["trials"]:
                asked, value = loaded._restored(entry), _checked_value(entry["value"])
                loaded._append(asked, value, entry["seconds"], entry["error"])
            loaded._pending = [loaded._restored(entry) for entry in state["pending"]]
            loaded._asked = int(state["asked"])
        except KeyError as error:
            raise ValueError(f"state is damaged: a trial or pending entry lacks {error}") from error
        self.__dict__.update(loaded.__dict__)

    def _restored(self, entry: Mapping[str, Any]) -> _Asked:
        config = self.space.validate(entry["config"])
        X, active = self.space.encode([config])
        return _Asked(config, X[0].numpy(), active[0].numpy(), entry["asked_at"])

    # ------------------------------------------------------------------------------------------ history

    def _history(self) -> History:
        told = self._canonical
        X, active = self._tensors([t.asked for t in told])
        X_pending, active_pending = self._tensors(sorted(self._pending, key=lambda asked: asked.at or 0))
        y = torch.tensor([t.y for t in told], dtype=torch.float64, device=self._device)
        return History(X, active, y[None], X_pending, active_pending, (self._seed,), self._asked)

    def _tensors(self, asked: Sequence[_Asked]) -> tuple[Tensor, Tensor]:
        d = self.space.dim
        X = np.array([a.row for a in asked], dtype=np.float64).reshape(1, -1, d)
        active = np.array([a.active for a in asked], dtype=bool).reshape(1, -1, d)
        return torch.from_numpy(X).to(self._device), torch.from_numpy(active).to(self._device)

    def _first_success(self) -> int:
        """Place of the first success, where it decides which prefixes have something to fit, else 0."""
        place = next(i for i, told in enumerate(self._canonical) if math.isfinite(told.y))
        return place if place >= SHORTEST_PREFIX else 0

    def _quasi_random_slots(self, q: int) -> int:
        """How many of the next q proposals come from the initial design."""
        if self._method in ("random", "sobol") or not any(math.isfinite(told.y) for told in self._told):
            return q
        return min(q, max(0, design_size(self.space) - len(self._told) - len(self._pending)))

    def _issue(self, configs: Sequence[Config], rows: np.ndarray, active: np.ndarray) -> list[Config]:
        """Register proposals as pending; what the caller gets is a copy, theirs to change."""
        for config, row, on in zip(configs, rows, active, strict=True):
            self._pending.append(_Asked(config, row, on, self._asked))
            self._asked += 1
        return [dict(config) for config in configs]


def _ask(studies: Sequence[Optimizer], q: int) -> list[list[Config]]:
    """q proposals for each study; those in the same situation advance as one tensor program."""
    configs: list[list[Config]] = [[] for _ in studies]
    for study, out in zip(studies, configs, strict=True):
        for _ in range(study._quasi_random_slots(q)):
            out += _ask_quasi_random(study)

    def situation(i: int) -> tuple[int, ...]:
        s = studies[i]
        return q - len(configs[i]), len(s._told), len(s._pending), s._asked, s._first_success()

    modelled = sorted((i for i in range(len(studies)) if len(configs[i]) < q), key=situation)
    for (slots, *_), members in groupby(modelled, key=situation):
        index = list(members)
        for i, proposals in zip(index, _ask_modelled([studies[i] for i in index], slots), strict=True):
            configs[i] += proposals
    return configs


def _ask_quasi_random(study: Optimizer) -> list[Config]:
    """The next point of the design, or another untried one if it has been tried."""
    space, seed, asked = study.space, study._seed, study._asked
    x = (random_point if study._method == "random" else sobol_point)(space, seed, asked)
    if not math.isinf(space.size) or study._told:
        known = study._history().known()[0].cpu()
        if bool(is_tried(x[None, None], known[None])):
            x = untried(space, known, generator(seed, asked), x)
    return study._issue(*_decoded(space, x[None]))


def _decoded(space: Space, X: Tensor) -> tuple[list[Config], np.ndarray, np.ndarray]:
    """Configurations of encoded points, with their own encoding.

    A decoded float encodes to within rounding of where it came from; keeping the encoding of what the
    caller sees makes a study restored from its configurations equal to the last bit.
    """
    configs = space.decode(X.cpu())
    rows, active = space.encode(configs)
    return configs, rows.numpy(), active.numpy()


def _ask_modelled(studies: Sequence[Optimizer], q: int) -> list[list[Config]]:
    """Proposals of the GP for studies with equally long histories; quasi-random ones if it breaks down."""
    first = studies[0]
    model = Model.of(first.space, first._device)
    numbers = [[told.trial.number for told in study._canonical] for study in studies]
    histories = [study._history() for study in studies]
    history = histories[0] if len(histories) == 1 else _stack(histories)

    def cached(length: int) -> Optimum | None:
        found = [s._warm.get(length, order) for s, order in zip(studies, numbers, strict=True)]
        known = [optimum for optimum in found if optimum is not None]
        return Optimum(*map(torch.stack, zip(*known, strict=True))) if len(known) == len(studies) else None

    def store(length: int, optimum: Optimum) -> None:
        for study, order, *row in zip(studies, numbers, *optimum, strict=True):
            study._warm.put(length, order, Optimum(*row))

    try:
        X = propose_gp(model, history, q, ACQUISITIONS[first._acquisition], cached, store)
    except linalg.LinAlgError as error:
        log.warning("Gaussian process failed (%s); proposing quasi-random configurations instead", error)
        return [[config for _ in range(q) for config in _ask_quasi_random(study)] for study in studies]
    configs, rows, active = _decoded(first.space, X.flatten(0, 1))
    parts = [slice(i * q, (i + 1) * q) for i in range(len(studies))]
    return [s._issue(configs[p], rows[p], active[p]) for s, p in zip(studies, parts, strict=True)]


def _stack(histories: Sequence[History]) -> History:
    return History(
        X=torch.cat([h.X for h in histories]),
        active=torch.cat([h.active for h in histories]),
        y=torch.cat([h.y for h in histories]),
        X_pending=torch.cat([h.X_pending for h in histories]),
        active_pending=torch.cat([h.active_pending for h in histories]),
        seeds=tuple(seed for h in histories for seed in h.seeds),
        asked=histories[0].asked,
    )


class Replicates:
    """S independent studies of one space, advanced in lockstep as one tensor program.

    Each study proposes what its own `Optimizer` with its seed would, to rounding; S of them cost far less
    than S times one, because the engine's small tensor operations are dominated by their overhead.

    Args:
        space, method, acquisition, device, maximize: as for `Optimizer`.
        seeds: one for each study.

    >>> from bayesopt import Float
    >>> studies = Replicates({"x": Float(0.0, 1.0)}, seeds=[0, 1, 2])
    >>> configs = studies.ask()
    >>> studies.tell(configs, [config["x"] for config in configs])
    >>> len(studies), len(configs)
    (3, 3)
    """

    def __init__(
        self,
        space: Space | Mapping[str, Any],
        seeds: Iterable[int],
        *,
        method: str = "auto",
        acquisition: str = "log_ei",
        device: str | torch.device = "auto",
        maximize: bool = False,
    ) -> None:
        shared = Space(space)
        self.studies = tuple(
            Optimizer(
                shared, seed=seed, method=method, acquisition=acquisition, device=device, maximize=maximize
            )
            for seed in seeds
        )
        if not self.studies:
            raise ValueError("Replicates needs at least one seed, got none")

    def __len__(self) -> int:
        return len(self.studies)

    def ask(self) -> list[Config]:
        """The next configuration of each study."""
        return [proposals[0] for proposals in _ask(self.studies, 1)]

    def tell(self, configs: Sequence[Mapping[str, Any]], values: Sequence[object]) -> None:
        """Report one outcome to each study, as `Optimizer.tell`; nothing is told if any is invalid."""
        configs, values = list(configs), list(values)
        if not len(configs) == len(values) == len(self):
            raise ValueError(
                f"tell expects {len(self)} configurations and values, one for each study, "
                f"got {len(configs)} configurations and {len(values)} values"
            )
        checked = [s._checked(c, v) for s, c, v in zip(self.studies, configs, values, strict=True)]
        for study, results in zip(self.studies, checked, strict=True):
            study._commit(results)

    @property
    def best(self) -> list[Trial | None]:
        """Best trial of each study."""
        return [study.best for study in self.studies]


def _checked_value(value: object) -> float | None:
    """A finite float, or None for a failed evaluation."""
    if value is None:
        return None
    if isinstance(value, torch.Tensor | np.ndarray | np.generic):
        if math.prod(value.shape) != 1:
            raise TypeError(f"a value must be one number, got an array of shape {tuple(value.shape)}")
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"a value must be a number, or None for a failed evaluation, got {value!r}")
    try:
        number = float(value)
    except OverflowError:  # an int beyond the largest float is as infinite as inf
        return None
    return number if math.isfinite(number) else None


def _checked_seed(seed: object) -> int:
    if isinstance(seed, bool) or not isinstance(seed, numbers.Integral) or int(seed) < 0:
        raise ValueError(f"seed must be an integer >= 0, got {seed!r}")
    return int(seed)


def _checked_count(q: object) -> int:
    if isinstance(q, bool) or not isinstance(q, numbers.Integral) or int(q) < 1:
        raise ValueError(f"ask expects a number of configurations >= 1, got {q!r}")
    return int(q)


def _one_of(name: str, value: object, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r}")
    return str(value)


def _resolve_device(device: str | torch.device) -> torch.device:
    if device == "auto":
        return torch.device("cpu")
    try:
        resolved = torch.device(device)
        torch.zeros(1, device=resolved)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ValueError(f"device {device!r} cannot be used here ({error}); try 'cpu' or 'auto'") from error
    return resolved
