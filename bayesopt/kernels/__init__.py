"""Covariance functions: radial profiles, distances, warping and sums."""

from bayesopt.kernels.base import Kernel, Sum
from bayesopt.kernels.distances import Embedding
from bayesopt.kernels.profiles import (
    PROFILES,
    RBF,
    Matern12,
    Matern32,
    Matern52,
    Profile,
    RationalQuadratic,
)
from bayesopt.kernels.stationary import Stationary

__all__ = [
    "PROFILES",
    "RBF",
    "Embedding",
    "Kernel",
    "Matern12",
    "Matern32",
    "Matern52",
    "Profile",
    "RationalQuadratic",
    "Stationary",
    "Sum",
]
