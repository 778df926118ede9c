"""Bayesian optimisation: Gaussian processes and their acquisition functions as batched tensor programs.

Notation, everywhere in the package; `*b` stands for any leading batch dimensions, each element independent:

    X       inputs encoded in [0, 1]                    (*b, n, d)
    F       features: X as the kernel sees it           (*b, n, D)
    y       outcomes, smaller is better                 (*b, n)
    z       outcomes, transformed and standardised      (*b, n)
    theta   log hyper-parameters                        (*b, p)
    K       covariance of the observations              (*b, n, n)
    L, W    its Cholesky factor, and W = L^-1           (*b, n, n)
    alpha   K^-1 y                                      (*b, n)
    mu, var posterior mean and variance                 (*b, m)
    n       observations     d  parameters     m  test points     q  batch size
"""

from typing import TYPE_CHECKING

from bayesopt.optimizer import Optimizer
from bayesopt.replicates import Replicates
from bayesopt.space import Between, Categorical, Float, Int, Space
from bayesopt.study import Result, maximize, minimize
from bayesopt.trials import Trial
from bayesopt.workers.worker import TrialPruned

if TYPE_CHECKING:
    from bayesopt.storage.study import Study

__version__ = "0.1.0"

__all__ = [
    "Between",
    "Categorical",
    "Float",
    "Int",
    "Optimizer",
    "Replicates",
    "Result",
    "Space",
    "Study",
    "Trial",
    "TrialPruned",
    "maximize",
    "minimize",
]


def __getattr__(name: str) -> object:
    """Load `Study`, and Optuna with it, when somebody asks for it."""
    if name == "Study":
        from bayesopt.storage.study import Study

        return Study
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
