"""`CurvePruner`: stops a trial that will hardly beat the best final value."""

import math
import numbers
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from optuna.pruners import BasePruner
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState
from torch import Tensor

from bayesopt.pruning import process
from bayesopt.pruning.curves import Array, Scale, grid_of, on_grid

#: System attribute of a trial that was advised to stop: an `Outlook`, as a list.
OUTLOOK = "bayesopt:outlook"


class Outlook(NamedTuple):
    """Where a curve was expected to end when it was stopped.

    Attributes:
        step: the last one reported until then.
        value: the median of its final value; std: its standard deviation, to first order.
    """

    step: int
    value: float
    std: float


def stopped_value(trial: FrozenTrial) -> float | None:
    """What a pruned trial teaches: where it was expected to end, or else the last value that it reported.

    None without a report. A function of what the storage has of the trial, and of nothing else.
    """
    if trial.last_step is None:
        return None
    outlook = trial.system_attrs.get(OUTLOOK)
    if outlook is not None and Outlook(*outlook).step == trial.last_step:
        return Outlook(*outlook).value
    return trial.intermediate_values[trial.last_step]


class CurvePruner(BasePruner):
    """Stops a trial when its probability of beating the best final value falls under a threshold.

    The probability is that of a Student-t process over the learning curves of all trials that have ended, see
    `bayesopt.pruning.process`. It is the same for any unit and sign of the losses and any unit of the steps.
    A trial is judged at up to about twenty steps, in growing distances; a report of nan or an infinity stops
    it at once. The longest curve among the completed trials tells how long an evaluation is.

    Works as `pruner=` of `minimize` and `Study`, and in any Optuna study with one objective. A trial that
    stops on its advice enters the proposals with the value at which it was expected to end.

    Args:
        threshold: of the probability, in (0, 1). A smaller one stops less, and rarely what would have been
            the best.
        min_finished: how many trials have to complete before any is stopped, >= 2.
        min_steps: at how many of the steps a trial has to have been seen before it is stopped, >= 1.
        warmup: share of a full evaluation, in [0, 1), before which no trial is stopped.

    Raises:
        ValueError: an argument is out of its range.

    >>> import optuna
    >>> optuna.logging.set_verbosity(optuna.logging.WARNING)
    >>> study = optuna.create_study(pruner=CurvePruner())
    >>> def objective(trial):
    ...     floor = trial.number % 10
    ...     for step in range(1, 21):
    ...         trial.report(floor + 10 / step, step)
    ...         if trial.should_prune():
    ...             raise optuna.TrialPruned
    ...     return floor + 0.5
    >>> study.optimize(objective, n_trials=20)
    >>> [trial.last_step for trial in study.trials if trial.number >= 17]
    [6, 6, 6]
    """

    def __init__(
        self, threshold: float = 0.005, *, min_finished: int = 5, min_steps: int = 4, warmup: float = 0.25
    ) -> None:
        if not isinstance(threshold, numbers.Real) or not 0.0 < threshold < 1.0:
            raise ValueError(f"threshold must be a probability between 0 and 1, got {threshold!r}")
        if not isinstance(warmup, numbers.Real) or not 0.0 <= warmup < 1.0:
            raise ValueError(f"warmup must be a share >= 0 and < 1, got {warmup!r}")
        for name, value, least in (("min_finished", min_finished, 2), ("min_steps", min_steps, 1)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name} must be an integer >= {least}, got {value!r}")
        self._threshold: float = float(threshold)
        self._min_finished: int = min_finished
        self._min_steps: int = min_steps
        self._warmup: float = float(warmup)
        self._fits: _Fits = weakref.WeakKeyDictionary()

    def __repr__(self) -> str:
        rest = f"min_finished={self._min_finished}, min_steps={self._min_steps}, warmup={self._warmup:g}"
        return f"CurvePruner({self._threshold:g}, {rest})"

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_fits"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _fits=weakref.WeakKeyDictionary())

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Whether to stop; notes on the trial where it was expected to end."""
        if trial.last_step is None:
            return False
        if not math.isfinite(trial.intermediate_values[trial.last_step]):
            return True
        fit = self._fit(study)
        outlook = None if fit is None else self._outlook(fit, trial)
        if outlook is None:
            return False
        study._storage.set_trial_system_attr(trial._trial_id, OUTLOOK, list(outlook))
        return True

    def _outlook(self, fit: "_Fit", trial: FrozenTrial) -> Outlook | None:
        """Where a trial that is to be stopped would end."""
        losses, reached = fit.curve(trial)
        if not self._min_steps <= reached < len(fit.grid) or _unit(fit.grid)[reached - 1] < self._warmup:
            return None
        end = fit.final(losses, reached)
        if fit.probability(end) >= self._threshold:
            return None
        assert trial.last_step is not None  # it has reached a step
        return Outlook(trial.last_step, *fit.told(end))

    def _fit(self, study: Study) -> "_Fit | None":
        """The process as the ended trials have it; kept until another one ends."""
        ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        key = tuple(trial.number for trial in ended)
        known = self._fits.get(study)
        if known is None or known[0] != key:
            sign = -1.0 if study.direction == StudyDirection.MAXIMIZE else 1.0
            known = self._fits[study] = key, _fitted(ended, sign, self._min_finished)
        return known[1]


@dataclass(frozen=True, eq=False)
class _Fit:
    """The process over the curves of a study; losses are `sign` times values."""

    sign: float
    grid: Array  # (T,)
    scale: Scale
    best: float  # loss
    theta: Tensor  # (p,)

    def curve(self, trial: FrozenTrial) -> tuple[Array, int]:
        """Losses of a trial at the steps of the grid `(T,)`, and how many of them it has reached."""
        values, reached = on_grid(trial.intermediate_values, self.grid)
        return self.sign * values, reached

    def final(self, losses: Array, reached: int) -> process.Final:
        """The final value of a curve, scaled."""
        Z, known = _table(self.scale, losses[None], np.array([reached]))
        return process.final(self.theta, _unit(self.grid), Z, known)

    def probability(self, end: process.Final) -> float:
        """Of beating the best final value."""
        return end.below(torch.from_numpy(self.scale.scaled(np.array([self.best])))).item()

    def told(self, end: process.Final) -> tuple[float, float]:
        """Median and standard deviation of a final value, in the unit of the objective."""
        z = end.loc.item()
        return self.sign * self.scale.value(z), self.scale.slope(z) * end.std.item()


_Fits = weakref.WeakKeyDictionary[Study, tuple[tuple[int, ...], _Fit | None]]


def _fitted(ended: Sequence[FrozenTrial], sign: float, min_finished: int) -> _Fit | None:
    """None while there is too little to learn from."""
    complete = [trial for trial in ended if trial.state == TrialState.COMPLETE]
    told = [trial for trial in ended if trial.last_step is not None]
    steps = [list(trial.intermediate_values) for trial in complete if trial.last_step is not None]
    if len(steps) < min_finished:
        return None
    grid = grid_of(np.unique(np.concatenate(steps)).astype(float))
    values, reached = (np.array(part) for part in zip(*(_curve(trial, grid) for trial in told), strict=True))
    scale = Scale.of(sign * np.array([_ending(trial) for trial in told]))
    if len(grid) < 2 or scale is None:
        return None
    Z, known = _table(scale, sign * values, reached)
    best = min(sign * _ending(trial) for trial in complete)
    return _Fit(sign, grid, scale, best, process.fit(_unit(grid), Z, known))


def _curve(trial: FrozenTrial, grid: Array) -> tuple[Array, int]:
    """The curve of an ended trial and how much of it is known: all, with its final value, if it completed."""
    values, reached = on_grid(trial.intermediate_values, grid)
    if trial.state == TrialState.COMPLETE:
        values[-1], reached = _ending(trial), len(grid)
    return values, reached


def _ending(trial: FrozenTrial) -> float:
    """The value with which an ended trial ended, or would have."""
    value = trial.value if trial.state == TrialState.COMPLETE else stopped_value(trial)
    assert value is not None  # a completed trial has one, and a pruned one is asked only if it has reported
    return value


def _table(scale: Scale, losses: Array, reached: Array) -> tuple[Tensor, Tensor]:
    """`Z` and `known (n, T)` of the process, of losses `(n, T)`."""
    known = (np.arange(losses.shape[-1]) < reached[:, None]).astype(float)
    return torch.from_numpy(scale.scaled(losses) * known), torch.from_numpy(known)


def _unit(grid: Array) -> Tensor:
    return torch.from_numpy((grid - grid[0]) / (grid[-1] - grid[0]))
