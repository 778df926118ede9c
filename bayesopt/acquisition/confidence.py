"""Confidence-bound acquisitions."""

from dataclasses import dataclass

import torch
from torch import Tensor

from bayesopt.acquisition.base import Acquisition, Partials


def upper_confidence_bound(mu: Tensor, var: Tensor, beta: float) -> Tensor:
    """`beta sigma - mu`: the upper bound of -f, f being minimised. Srinivas et al. (2010), eq. (6)."""
    return beta * var.sqrt() - mu


@dataclass(frozen=True)
class UpperConfidenceBound(Acquisition):
    """Optimism in the face of uncertainty; `beta` is the number of standard deviations."""

    beta: float = 1.8

    def __post_init__(self) -> None:
        if not self.beta >= 0:
            raise ValueError(f"beta must be >= 0, got {self.beta}")

    def __call__(self, mu: Tensor, var: Tensor, best: Tensor) -> Tensor:
        return upper_confidence_bound(mu, var, self.beta)

    def partials(self, mu: Tensor, var: Tensor, best: Tensor) -> Partials:
        value = upper_confidence_bound(mu, var, self.beta)
        return Partials(value, -torch.ones_like(mu), 0.5 * self.beta / var.sqrt())
