"""What a report is about: a study, an optimiser or a result, seen the same way."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from bayesopt.books import Result
from bayesopt.explaining import predict
from bayesopt.explanation import Explanation, Prediction
from bayesopt.methods.gp import Learnt
from bayesopt.optimizer import Optimizer
from bayesopt.report.importance import Importance, importance
from bayesopt.space import Space
from bayesopt.trials import Config, Trial

#: Reports of trials under way: the values by step, by the trial's number.
Curves = Mapping[int, Mapping[int, float]]

#: Most finished trials that a model made only for the report is fitted to.
STAND_IN = 400


def spread(best_first: list[Trial], most: int) -> list[Trial]:
    """The better half of so many outright, the rest evenly over the others."""
    if len(best_first) <= most:
        return best_first
    half = most // 2
    rest = best_first[half:]
    return best_first[:half] + [rest[k * len(rest) // (most - half)] for k in range(most - half)]


@dataclass(frozen=True, eq=False)
class Run:
    """A run as the report sees it.

    Attributes:
        title: its name.
        optimizer: with everything that was told.
        trials: every result, in order; running: what is under way.
        curves: what trials have reported.
        explanation: of the next proposal.
    """

    title: str
    optimizer: Optimizer
    trials: list[Trial]
    running: list[Config]
    curves: Curves
    explanation: Explanation

    @classmethod
    def of(cls, source: object) -> "Run":
        """From a `Study`, an `Optimizer` or a `Result`.

        Raises:
            TypeError: it is none of these.
        """
        if isinstance(source, Optimizer):
            return cls("Optimizer", source, source.trials, source.pending, {}, source.explain())
        if isinstance(source, Result):
            opt = source.optimizer
            return cls("Result", opt, source.trials, opt.pending, source.curves, opt.explain())
        from bayesopt.storage.study import Study  # loads Optuna

        if not isinstance(source, Study):
            raise TypeError(
                f"a report is about a Study, an Optimizer or a Result, got {type(source).__name__}"
            )
        running = list(source.running.values())
        return cls(source.name, source.optimizer, source.trials, running, source.curves, source.explain())

    @property
    def space(self) -> Space:
        return self.optimizer.space

    @property
    def maximize(self) -> bool:
        return self.optimizer._setting.maximize

    @property
    def best(self) -> Trial | None:
        return self.optimizer.best

    @cached_property
    def finished(self) -> list[Trial]:
        """Trials with a value that were not stopped early, the best first, the earliest of equals."""
        done = [trial for trial in self.trials if trial.state == "complete"]
        return sorted(done, key=lambda t: (-t.value if self.maximize else t.value, t.number))  # type: ignore[operator]

    @cached_property
    def failed(self) -> list[Trial]:
        return [trial for trial in self.trials if trial.state == "failed"]

    @cached_property
    def seer(self) -> Optimizer:
        """The optimiser whose model is shown: a stand-in if the method in use has none."""
        if self.optimizer._learner.method == "gp":
            return self.optimizer
        stand_in = Optimizer(
            self.space,
            method="gp",
            maximize=self.maximize,
            deterministic=self.optimizer._setting.deterministic,
        )
        told = [*spread(self.finished, STAND_IN), *self.failed[-STAND_IN // 4 :]]
        stds = [trial.std for trial in told]
        stand_in.tell([trial.config for trial in told], [trial.value for trial in told], std=stds)
        return stand_in

    @cached_property
    def learnt(self) -> Learnt | None:
        """The Gaussian process; None before two outcomes differ, or where it breaks down."""
        return self.seer._learner.learnt() if self.seer._record.outcomes_differ() else None

    def predictions(self, X: Tensor) -> list[Prediction]:
        """What the model expects at snapped points `(m, d)`."""
        assert self.learnt is not None
        X, active = (part[None].to(self.learnt.F.device) for part in self.space.snap(X))
        return predict(self.seer._learner, self.learnt, X, active)

    @cached_property
    def importance(self) -> Importance | None:
        return None if self.learnt is None else importance(self.learnt)

    @cached_property
    def order(self) -> list[int]:
        """Columns, the most important first; as declared where that is not known."""
        return list(range(self.space.dim)) if self.importance is None else self.importance.order()

    def encoded(self, trials: list[Trial]) -> tuple[Tensor, Tensor]:
        """Their configurations and what of them is active `(n, d)`."""
        return self.space.encode([trial.config for trial in trials])
