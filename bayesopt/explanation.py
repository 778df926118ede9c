"""What an optimiser says about its proposals and about configurations, for people to read."""

from collections.abc import Mapping
from dataclasses import dataclass

from bayesopt.trials import Config

#: Where a proposal can come from, in words.
ARMS: dict[str, str] = {
    "enqueued": "somebody has chosen it",
    "retry": "its worker died before it was told",
    "design": "part of the design that covers the space before there is enough to learn from",
    "acquisition": "the best acquisition in the whole space",
    "trust region": "the best acquisition within a trust region around the best result",
    "quadratic": "the minimiser of a quadratic model near the best result, or what teaches that model most",
    "finite difference": "right beside the best result: the outcome tells a descent from there the slope",
    "quasi-Newton step": "a descent's step, by a quadratic model of outcomes and slopes",
    "gradient-enhanced step": "a descent's step, by a Gaussian process of outcomes and slopes: along bends",
    "confidence bound": "the most promising by its confidence bound, beside what is under way",
    "exploration": "where the most is to be learnt beside what is under way",
    "draw": "the minimiser of a function drawn from the posterior",
    "density ratio": "where good results are dense and bad ones are not",
    "random": "an independent draw",
    "sobol": "the next point of a quasi-random sequence",
    "grid": "the next configuration in turn",
    "genetic": "a child of good results",
    "cmaes": "a draw from the distribution that moves towards good results",
    "again": "tried before: outcomes are noisy, and another one there tells more than one elsewhere",
    "repeat": "every configuration has been tried: the best one again",
    "fallback": "quasi-random, because the model broke down",
}


@dataclass(frozen=True)
class Prediction:
    """What the model expects of one configuration, in the units of the outcomes.

    It is about the objective without the noise of an evaluation and, but for `success`, supposes that the
    evaluation succeeds.

    Attributes:
        median: as likely too high as too low.
        low, high: the 16 % and 84 % quantiles; low is the smaller number.
        improvement: expected gain over the best that the model believes to have been seen, at least 0.
        better: the probability of any gain.
        success: the probability that the evaluation succeeds, 1 while none has failed.
    """

    median: float
    low: float
    high: float
    improvement: float
    better: float
    success: float


@dataclass(frozen=True)
class Fit:
    """What the model has learnt in all.

    Attributes:
        kernel: its covariance function, by what the field calls it.
        best: the objective at the best configuration tried, noise aside, as the model sees it.
        noise: standard deviation of the noise of one evaluation, where outcomes are good, besides what was
            told of it.
        lengthscales: how far one has to go along a parameter until outcomes are unrelated, by name, in
            shares of its range (of two different choices, in multiples of their distance).
    """

    kernel: str
    best: float
    noise: float
    lengthscales: Mapping[str, float]


@dataclass(frozen=True)
class Regret:
    """What is still to be gained over the best result, as the model sees it, in the units of the outcomes.

    The first three are about the best configuration of all: the difference between it and the best result is
    what functions drawn from the posterior say it is.

    Attributes:
        median, mean: of that difference.
        bound: the difference is at most this with 95 %.
        improvement: expected gain of the one evaluation that promises the most.
    """

    median: float
    mean: float
    bound: float
    improvement: float

    def within(self, tolerance: float) -> bool:
        """Whether neither the bound nor the mean, which heavier tails can move, is above a tolerance."""
        return max(self.bound, self.mean) <= tolerance


@dataclass(frozen=True)
class Explanation:
    """Where the next proposal comes from, and what is expected of it.

    Attributes:
        method: that makes it, one of those that `Optimizer` takes.
        reason: why this method, in words.
        arm: which part of the method, a key of `ARMS`.
        config: the proposal; None if there is none.
        prediction, fit: of the Gaussian process that proposes, as soon as two outcomes differ.
        density_ratio: of the tree-structured Parzen estimator: how many times denser good results are there
            than bad ones.
        device, device_reason: where a model was asked, as torch calls it, and why there, in words.
    """

    method: str
    reason: str
    arm: str = ""
    config: Config | None = None
    prediction: Prediction | None = None
    fit: Fit | None = None
    density_ratio: float | None = None
    device: str = ""
    device_reason: str = ""

    def describe(self) -> str:
        """Everything as lines of text."""
        lines = [f"next: {self.method}" + (f", {self.arm}" if self.arm not in ("", self.method) else "")]
        lines += [f"  {text}" for text in (self.reason, ARMS.get(self.arm)) if text]
        lines += [f"  on {self.device}: {self.device_reason}"] if self.device else []
        if self.config is not None:
            lines += ["configuration", *_table({name: _text(value) for name, value in self.config.items()})]
        if self.prediction is not None and self.fit is not None:
            lines += ["expected of it", *_table(_expected(self.prediction, self.fit))]
            lines += ["model", *_table(_model(self.fit))]
        if self.density_ratio is not None:
            lines += [f"good results are {self.density_ratio:.3g} times as dense there as bad ones"]
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.describe()


def _expected(prediction: Prediction, fit: Fit) -> dict[str, str]:
    p = prediction
    return {
        "outcome": f"{p.median:.6g}, with 68 % between {p.low:.6g} and {p.high:.6g}",
        "best so far": f"{fit.best:.6g}, as the model sees it",
        "improvement": f"{p.improvement:.3g} on average; any at all with {percent(p.better)}",
        "success": f"with {percent(p.success)}",
    }


def _model(fit: Fit) -> dict[str, str]:
    scales = {f"lengthscale {name}": f"{scale:.3g}" for name, scale in fit.lengthscales.items()}
    return {"kernel": fit.kernel, "noise": f"{fit.noise:.3g} (standard deviation)", **scales}


def _table(rows: Mapping[str, str]) -> list[str]:
    width = max(map(len, rows), default=0)
    return [f"  {name:<{width}}  {text}" for name, text in rows.items()]


def _text(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def percent(probability: float) -> str:
    """A probability, with digits where it is small or nearly 1.

    >>> percent(0.5), percent(0.0123), percent(1e-9), percent(0.9999)
    ('50 %', '1.2 %', '< 0.1 %', '> 99.9 %')
    """
    if probability < 0.001:
        return "< 0.1 %" if probability > 0 else "0 %"
    if probability > 0.999:
        return "> 99.9 %" if probability < 1 else "100 %"
    share = 100 * probability
    return f"{share:.1f} %" if share < 9.95 or share > 90.05 else f"{share:.0f} %"
