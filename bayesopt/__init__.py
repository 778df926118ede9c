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

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bayesopt.books import Result
    from bayesopt.optimizer import Optimizer
    from bayesopt.pruning.pruner import CurvePruner
    from bayesopt.replicates import Replicates
    from bayesopt.space import Between, Categorical, Float, Int, Space
    from bayesopt.storage.study import Study
    from bayesopt.study import maximize, minimize
    from bayesopt.trials import Recommendation, Trial
    from bayesopt.workers.worker import TrialPruned

__version__ = "0.1.0"

__all__ = [
    "Between",
    "Categorical",
    "CurvePruner",
    "Float",
    "Int",
    "Optimizer",
    "Recommendation",
    "Replicates",
    "Result",
    "Space",
    "Study",
    "Trial",
    "TrialPruned",
    "maximize",
    "minimize",
]

_HOMES = {
    "books": ["Result"],
    "optimizer": ["Optimizer"],
    "pruning.pruner": ["CurvePruner"],
    "replicates": ["Replicates"],
    "space": ["Between", "Categorical", "Float", "Int", "Space"],
    "storage.study": ["Study"],
    "study": ["maximize", "minimize"],
    "trials": ["Recommendation", "Trial"],
    "workers.worker": ["TrialPruned"],
}


def __getattr__(name: str) -> object:
    """Load what somebody asks for: PyTorch takes seconds, which `bayesopt --help` has no use for."""
    for module, names in _HOMES.items():
        if name in names:
            return globals().setdefault(name, getattr(import_module(f"bayesopt.{module}"), name))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
