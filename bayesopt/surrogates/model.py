"""The surrogate of a space: how configurations become features, the covariance, the priors."""

from dataclasses import dataclass
from functools import lru_cache

import torch

from bayesopt.kernels import Embedding, Matern52, RationalQuadratic, Stationary
from bayesopt.space import Space
from bayesopt.surrogates.priors import Priors, default_priors

#: Most observations of an exact fit on the CPU, and for which hyper-parameters are fitted at every ask: the
#: cost grows with n^3.
LARGEST_FIT = 2048


@dataclass(frozen=True, eq=False)
class Model:
    """What is fitted to a history.

    `largest` is the most observations that a proposal conditions on. Of a longer history it takes the best
    and some others, with the hyper-parameters of the longest prefix.
    """

    space: Space
    embedding: Embedding
    kernel: Stationary
    priors: Priors
    largest: int = LARGEST_FIT

    @classmethod
    @lru_cache(maxsize=64)
    def of(
        cls,
        space: Space,
        device: torch.device,
        warp: bool = False,
        exact: bool = False,
        largest: int = LARGEST_FIT,
        broad: bool = False,
    ) -> "Model":
        """Matern 5/2 with one lengthscale a parameter, and one for each activity indicator.

        If `broad`, the rational quadratic instead, whose correlations reach further: it knows more of the
        trend of the whole space, and less of what may be beside a result.

        If `warp`, each parameter is warped on its way to the kernel, as the data ask for: tuning problems
        often change fastest near a bound. Cowen-Rivers et al. (2022), HEBO. If `exact`, outcomes are
        without noise, and none is fitted.
        """
        embedding = Embedding.of(space)
        profile = RationalQuadratic() if broad else Matern52()
        kernel = Stationary(groups=embedding.groups, profile=profile, warp=warp)
        priors = default_priors(kernel, space.dim).to(device)
        return cls(space, embedding, kernel, priors.without_noise() if exact else priors, largest)
