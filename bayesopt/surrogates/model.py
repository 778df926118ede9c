"""The surrogate of a space: how configurations become features, the covariance, the priors."""

from dataclasses import dataclass
from functools import lru_cache

import torch

from bayesopt.kernels import Embedding, Kernel, Stationary
from bayesopt.space import Space
from bayesopt.surrogates.priors import Priors, default_priors


@dataclass(frozen=True, eq=False)
class Model:
    """What is fitted to a history."""

    space: Space
    embedding: Embedding
    kernel: Kernel
    priors: Priors

    @classmethod
    @lru_cache(maxsize=64)
    def of(cls, space: Space, device: torch.device, warp: bool = False, exact: bool = False) -> "Model":
        """Matern 5/2 with one lengthscale a parameter, and one for each activity indicator.

        If `warp`, each parameter is warped on its way to the kernel, as the data ask for: tuning problems
        often change fastest near a bound. Cowen-Rivers et al. (2022), HEBO. If `exact`, outcomes are
        without noise, and none is fitted.
        """
        embedding = Embedding.of(space)
        kernel = Stationary(groups=embedding.groups, warp=warp)
        priors = default_priors(kernel, space.dim).to(device)
        return cls(space, embedding, kernel, priors.without_noise() if exact else priors)
