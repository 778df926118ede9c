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
    def of(cls, space: Space, device: torch.device) -> "Model":
        """Matern 5/2 with one lengthscale a parameter, and one for each activity indicator."""
        embedding = Embedding.of(space)
        kernel = Stationary(groups=embedding.groups)
        return cls(space, embedding, kernel, default_priors(kernel, space.dim).to(device))
