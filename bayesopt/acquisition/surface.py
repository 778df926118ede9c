"""The acquisition as a function of encoded configurations: the surface that the maximiser climbs."""

from dataclasses import dataclass

import torch
from torch import Tensor

from bayesopt.acquisition.base import Acquisition
from bayesopt.kernels import Embedding, Stationary
from bayesopt.space import Space
from bayesopt.surrogates.gp import GaussianProcess

#: Covariance entries evaluated at once; more candidates are taken in chunks to bound the memory.
_CHUNK_ENTRIES = 2_000_000

#: Where the log of a belief enters: its weight is this over n (Hvarfner et al. 2022, piBO, eq. (6)).
BELIEF_STRENGTH = 10.0


@dataclass(frozen=True, eq=False)
class Surface:
    """`a(mu(x), var(x)) + w log belief(x)` over encoded X `(b, m, d)`, for b independent studies.

    Attributes:
        space, embedding: how X becomes features.
        gp: the surrogates, one batch dimension b.
        acquisition: elementwise, maximised.
        best: value of the incumbent on the surrogate's scale, `(b, 1)`.
    """

    space: Space
    embedding: Embedding
    gp: GaussianProcess
    acquisition: Acquisition
    best: Tensor

    @property
    def _belief_weight(self) -> float:
        return BELIEF_STRENGTH / self.gp.y.shape[-1]

    def value(self, X: Tensor, active: Tensor) -> Tensor:
        """Values `(b, m)` at snapped X with its activity mask; -inf instead of nan."""
        chunk = max(1, _CHUNK_ENTRIES // self.gp.y.numel())
        F = self.embedding(X, active)
        parts = [self.acquisition(*self.gp.marginals(part), self.best) for part in F.split(chunk, -2)]
        value = parts[0] if len(parts) == 1 else torch.cat(parts, -1)
        if self.space.has_belief:
            value = value + self._belief_weight * self.space.belief(X)[0]
        return value.nan_to_num(nan=-torch.inf, posinf=-torch.inf)

    def value_and_gradient(self, X: Tensor, active: Tensor) -> tuple[Tensor, Tensor]:
        """Values `(b, m)` and gradient `(b, m, d)`, zero for discrete levels and inactive entries."""
        mu, var, pullback = self.gp.marginals_and_pullback(self.embedding(X, active))
        value, dmu, dvar = self.acquisition.partials(mu, var, self.best)
        gradient = self.embedding.pullback(pullback(dmu, dvar))
        if self.space.has_conditions:
            gradient = gradient.masked_fill(~active, 0.0)
        if self.space.has_belief:
            log_belief, slope = self.space.belief(X)
            value, gradient = value + self._belief_weight * log_belief, gradient + self._belief_weight * slope
        return value, gradient

    def rows(self, keep: Tensor | None) -> "Surface":
        """The surface of some of the studies."""
        if keep is None:
            return self
        return Surface(self.space, self.embedding, self.gp.select(keep), self.acquisition, self.best[keep])

    def lengthscales(self) -> Tensor:
        """Lengthscale of each parameter `(b, d)`, 1 where the kernel has no single one."""
        kernel, d = self.gp.kernel, self.space.dim
        if isinstance(kernel, Stationary) and kernel.columns is None:
            return self.gp.theta[:, :d].exp()
        return self.gp.theta.new_ones(self.gp.theta.shape[0], d)
