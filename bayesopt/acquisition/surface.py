"""The surface that the maximiser climbs: a sum of terms over encoded configurations."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property, partial

import torch
from torch import Tensor
from torch.nn.functional import pad

from bayesopt import graphs
from bayesopt.acquisition.base import Acquisition
from bayesopt.device import entries, stalls
from bayesopt.kernels import Embedding, Kernel, Stationary
from bayesopt.space import Space
from bayesopt.surrogates.gp import GaussianProcess

#: Covariance entries evaluated at once; more candidates are taken in chunks to bound the memory.
_CHUNK_ENTRIES = 2_000_000

#: On a CPU those whose intermediate results stay in its cache; the fewest candidates for which that is tried,
#: because every chunk reads the factors of the covariance again.
_CACHED_ENTRIES, _FEWEST = 130_000, 64

#: Where the log of a belief enters: its weight is this over n (Hvarfner et al. 2022, piBO, eq. (6)).
BELIEF_STRENGTH = 10.0

#: Bounds of the maximiser's unit along a parameter.
_SCALES = (0.02, 1.0)


class Term(ABC):
    """A function of features F `(b, m, D)`, for b independent studies."""

    @property
    @abstractmethod
    def width(self) -> int:
        """Numbers that one candidate of every study takes: how `Surface` chooses its chunks."""

    @abstractmethod
    def value(self, F: Tensor) -> Tensor:
        """Values `(b, m)`."""

    @abstractmethod
    def value_and_gradient(self, F: Tensor) -> tuple[Tensor, Tensor]:
        """Values `(b, m)` and their gradient in F `(b, m, D)`."""

    @abstractmethod
    def rows(self, keep: Tensor) -> "Term":
        """The term of some of the studies."""

    def beside(self, F: Tensor) -> "Term":
        """The term where points F `(b, k, D)` are under way, too; itself if that makes no difference."""
        return self


@dataclass(frozen=True, eq=False)
class Pointwise(Term):
    """`a(mu(x), var(x))`: an acquisition of the posterior at each point alone.

    Attributes:
        gp: the surrogates, one batch dimension b.
        acquisition: elementwise, maximised.
        best: value of the incumbent on the surrogate's scale, `(b, 1)`.
    """

    gp: GaussianProcess
    acquisition: Acquisition
    best: Tensor

    @property
    def width(self) -> int:
        return self.gp.y.numel()

    def value(self, F: Tensor) -> Tensor:
        return self.acquisition(*self.gp.marginals(F), self.best)

    def value_and_gradient(self, F: Tensor) -> tuple[Tensor, Tensor]:
        if not graphs.serves(F, self.gp.y.shape[-1]):
            return _evaluated(self.gp, self.acquisition, self.best, F)
        value, dF = graphs.replayed(
            ("acquisition", self.gp.kernel, self.acquisition),
            partial(_evaluated_anew, self.gp.kernel, self.acquisition),
            *self._padded, self.best, F,
        )  # fmt: skip
        return value, dF

    @cached_property
    def _padded(self) -> tuple[Tensor, ...]:
        """theta, X, W and alpha of shapes that stay: a point with zeros in W and alpha has no weight."""
        k = graphs.padding(self.gp.y.shape[-1])
        W, alpha = pad(self.gp.W, (0, k, 0, k)), pad(self.gp.alpha, (0, k))
        return self.gp.theta, pad(self.gp.X, (0, 0, 0, k), value=0.5), W, alpha

    def rows(self, keep: Tensor) -> "Pointwise":
        return Pointwise(self.gp.select(keep), self.acquisition, self.best[keep])


def _evaluated(
    gp: GaussianProcess, acquisition: Acquisition, best: Tensor, F: Tensor
) -> tuple[Tensor, Tensor]:
    mu, var, pullback = gp.marginals_and_pullback(F)
    value, dmu, dvar = acquisition.partials(mu, var, best)
    return value, pullback(dmu, dvar)


def _evaluated_anew(
    kernel: Kernel, acquisition: Acquisition,
    theta: Tensor, X: Tensor, W: Tensor, alpha: Tensor, best: Tensor, F: Tensor,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """A function of tensors alone, for a record; no moment of the posterior needs y or L."""
    return _evaluated(GaussianProcess(kernel, theta, X, alpha, W, W, alpha), acquisition, best, F)


@dataclass(frozen=True, eq=False)
class Surface:
    """`sum of terms(x) + w log belief(x)` over encoded X `(b, m, d)`, for b independent studies.

    Attributes:
        space, embedding: how X becomes features.
        terms: what is added up; the acquisition comes first.
        scale: length on which the surface varies along each parameter `(b, d)`, the maximiser's unit.
        belief_weight: w.
    """

    space: Space
    embedding: Embedding
    terms: tuple[Term, ...]
    scale: Tensor
    belief_weight: float

    @classmethod
    def over(cls, space: Space, embedding: Embedding, gp: GaussianProcess, *terms: Term) -> "Surface":
        """Terms on a surrogate: its lengthscales are the scale, its n observations weaken the beliefs."""
        scale = lengthscales(gp, space.dim).clamp(*_SCALES)
        return cls(space, embedding, terms, scale, BELIEF_STRENGTH / gp.y.shape[-1])

    def of(self, *terms: Term) -> "Surface":
        """The surface of other terms."""
        return replace(self, terms=terms)

    def beside(self, F: Tensor) -> "Surface":
        """The surface where points F `(b, k, D)` are under way, too; itself if that makes no difference."""
        terms = tuple(term.beside(F) for term in self.terms)
        return self if terms == self.terms else replace(self, terms=terms)

    @property
    def flat(self) -> bool:
        """Whether there is nothing to add up."""
        return not self.terms and not self.space.has_belief

    def value(self, X: Tensor, active: Tensor) -> Tensor:
        """Values `(b, m)` at snapped X with its activity mask; -inf instead of nan."""
        F = self.embedding(X, active)
        value = F.new_zeros(F.shape[:-1])
        for term in self.terms:
            value = value + _in_chunks(term, F)
        if self.space.has_belief:
            value = value + self.belief_weight * self.space.belief(X)[0]
        return value.nan_to_num(nan=-torch.inf, posinf=-torch.inf)

    def value_and_gradient(self, X: Tensor, active: Tensor) -> tuple[Tensor, Tensor]:
        """Values `(b, m)` and gradient `(b, m, d)`, zero for discrete levels and inactive entries."""
        F = self.embedding(X, active)
        value, dF = self.terms[0].value_and_gradient(F)
        for term in self.terms[1:]:
            more, d_more = term.value_and_gradient(F)
            value, dF = value + more, dF + d_more
        gradient = self.embedding.pullback(dF)
        if self.space.has_conditions:
            gradient = gradient.masked_fill(~active, 0.0)
        if self.space.has_belief:
            log_belief, slope = self.space.belief(X)
            value, gradient = value + self.belief_weight * log_belief, gradient + self.belief_weight * slope
        return value, gradient

    def rows(self, keep: Tensor | None) -> "Surface":
        """The surface of some of the studies."""
        if keep is None:
            return self
        terms = tuple(term.rows(keep) for term in self.terms)
        return replace(self, terms=terms, scale=self.scale[keep])


def lengthscales(gp: GaussianProcess, d: int) -> Tensor:
    """Lengthscale of each parameter `(b, d)`, 1 where the kernel has no single one."""
    if isinstance(gp.kernel, Stationary) and gp.kernel.columns is None:
        return gp.theta[:, :d].exp()
    return gp.theta.new_ones(gp.theta.shape[0], d)


def _in_chunks(term: Term, F: Tensor) -> Tensor:
    chunk = max(1, entries(_CHUNK_ENTRIES, F) // term.width)
    if not stalls(F):
        chunk = min(chunk, max(_FEWEST, _CACHED_ENTRIES // term.width))
    if F.shape[-2] <= chunk:
        return term.value(F)
    return torch.cat([term.value(part) for part in F.split(chunk, -2)], -1)
