"""Our Gaussian process as a BoTorch `Model`, for any BoTorch acquisition function."""

from collections.abc import Callable
from typing import Any

from botorch.acquisition.objective import PosteriorTransform
from botorch.models.model import Model
from botorch.posteriors.gpytorch import GPyTorchPosterior
from gpytorch.distributions import MultivariateNormal
from linear_operator import to_linear_operator
from torch import Tensor

from bayesopt.surrogates.gp import GaussianProcess


class BoTorchModel(Model):
    """A fitted `GaussianProcess` behind BoTorch's interface; autograd passes through the posterior.

    BoTorch maximises while this engine minimises, so the model is of `-y` unless `negate=False`.

    Args:
        gp: a fitted GP without batch dimensions, or with BoTorch-style leading ones.
        negate: model `-y`, larger is better.
        features: maps BoTorch's inputs `(*b, q, d)` to the features of the GP `(*b, q, D)`; the identity for
            a purely numeric space, else made by `encoded_features`.

    Raises:
        ValueError: the GP has batch dimensions.
    """

    def __init__(
        self, gp: GaussianProcess, *, negate: bool = True, features: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        super().__init__()
        if gp.X.dim() != 2:
            raise ValueError(
                f"the GP must be a single one, X of shape (n, D); got X of shape {tuple(gp.X.shape)}"
            )
        self.gp = gp
        self._sign = -1.0 if negate else 1.0
        self._features = features

    @property
    def num_outputs(self) -> int:
        """One."""
        return 1

    @property
    def batch_shape(self) -> Any:
        """Empty: a single model."""
        return self.gp.theta.shape[:-1]

    def posterior(
        self,
        X: Tensor,
        output_indices: list[int] | None = None,
        observation_noise: bool | Tensor = False,
        posterior_transform: PosteriorTransform | None = None,
    ) -> Any:
        """Joint posterior of the q points in each `(*b, q, d)`; with the noise if asked for."""
        F = X if self._features is None else self._features(X)
        mean, covariance = self.gp.posterior(F)
        noise = (
            observation_noise if isinstance(observation_noise, Tensor) else self.gp.noise * observation_noise
        )
        covariance = covariance + noise * _eye_like(covariance)
        # As an operator it is factorised on demand, with jitter: joint points of a batch may coincide.
        posterior = GPyTorchPosterior(MultivariateNormal(self._sign * mean, to_linear_operator(covariance)))
        return posterior if posterior_transform is None else posterior_transform(posterior)

    def condition_on_observations(self, X: Tensor, Y: Tensor, **kwargs: Any) -> "BoTorchModel":
        """The model after more observations X `(k, d)`, Y `(k, 1)` in BoTorch's sign: a rank-k append."""
        F = X if self._features is None else self._features(X)
        gp = self.gp.condition_on(F, self._sign * Y[..., 0])
        return BoTorchModel(gp, negate=self._sign < 0, features=self._features)


def _eye_like(covariance: Tensor) -> Tensor:
    eye = covariance.new_zeros(covariance.shape[-2:])
    eye.fill_diagonal_(1.0)
    return eye


def encoded_features(space: Any) -> Callable[[Tensor], Tensor]:
    """Features of encoded inputs of a `Space`: what `BoTorchModel(features=...)` takes for mixed spaces."""
    from bayesopt.kernels import Embedding

    embedding = Embedding.of(space)

    def features(X: Tensor) -> Tensor:
        return embedding(X, space.activity(X))

    return features
