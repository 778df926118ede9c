"""Acquisition functions and their maximiser."""

from bayesopt.acquisition.base import Acquisition, Partials
from bayesopt.acquisition.confidence import UpperConfidenceBound, upper_confidence_bound
from bayesopt.acquisition.improvement import (
    ExpectedImprovement,
    LogExpectedImprovement,
    LogNoisyExpectedImprovement,
    LogProbabilityOfImprovement,
    ProbabilityOfImprovement,
    expected_improvement,
    log_expected_improvement,
    log_probability_of_improvement,
    probability_of_improvement,
)
from bayesopt.acquisition.maximizer import Effort, maximize
from bayesopt.acquisition.surface import Pointwise, Surface

#: Acquisitions by the name that `Optimizer(acquisition=...)` takes.
ACQUISITIONS: dict[str, Acquisition] = {
    "log_ei": LogExpectedImprovement(),
    "ei": ExpectedImprovement(),
    "log_nei": LogNoisyExpectedImprovement(),
    "log_pi": LogProbabilityOfImprovement(),
    "pi": ProbabilityOfImprovement(),
    "ucb": UpperConfidenceBound(),
}

__all__ = [
    "ACQUISITIONS",
    "Acquisition",
    "Effort",
    "ExpectedImprovement",
    "LogExpectedImprovement",
    "LogNoisyExpectedImprovement",
    "LogProbabilityOfImprovement",
    "Partials",
    "Pointwise",
    "ProbabilityOfImprovement",
    "Surface",
    "UpperConfidenceBound",
    "expected_improvement",
    "log_expected_improvement",
    "log_probability_of_improvement",
    "maximize",
    "probability_of_improvement",
    "upper_confidence_bound",
]
