"""Where evaluations fail."""

import torch
from torch import Tensor

from bayesopt.surrogates.gp import GaussianProcess, Optimum, fit_hyperparameters
from bayesopt.surrogates.model import Model
from bayesopt.surrogates.prefixes import LARGEST_FIT, NO_CACHE, Cache, rungs


def fit_feasibility(
    model: Model, F: Tensor, failed: Tensor, cache: Cache = NO_CACHE
) -> tuple[GaussianProcess, Tensor]:
    """A GP g and a threshold t `(b, 1)` with `P(an evaluation at x succeeds) = P(g(x) < t)`.

    A GP on labels, +1 for a failure and -1 for a success, standardised (least-squares classification,
    Rasmussen & Williams, section 6.5); the threshold is zero, standardised too.
    Far from everything tried it is close to the share of successes so far, so that few failures change
    little; failures that no region explains end as label noise, and change nothing.

    Args: F: features `(b, n, D)`; failed: mask `(b, n)`, both values in every row.
    """
    n = F.shape[1]
    labels = torch.where(failed, 1.0, -1.0).to(F.dtype)
    mean, std = labels.mean(-1, keepdim=True), labels.std(-1, keepdim=True)
    if n > LARGEST_FIT:  # the failures teach most
        keep = (
            (failed.to(F.dtype) + torch.linspace(0.5, 0.0, n, device=F.device)).topk(LARGEST_FIT, -1).indices
        )
        F = F.gather(1, keep[..., None].expand(-1, -1, F.shape[-1]))
        labels = labels.gather(1, keep)
    length = max((length for length, _ in rungs(n)), default=n)
    optimum = cache.get("failures", length)
    if optimum is None:
        each = [_fit_labels(model, F[i : i + 1], (labels[i : i + 1]), length) for i in range(len(F))]
        optimum = Optimum(*map(torch.cat, zip(*each, strict=True)))
        cache.put("failures", length, optimum)
    gp = GaussianProcess.of(model.kernel, optimum.theta, F, (labels - mean) / std)
    return gp, -mean / std


def _fit_labels(model: Model, F: Tensor, labels: Tensor, length: int) -> Optimum:
    """From the prior, to the prefix; to everything while the prefix has one kind only."""
    part = labels[:, :length]
    if part.amin() < part.amax():
        F, labels = F[:, :length], part
    labels = (labels - labels.mean(-1, keepdim=True)) / labels.std(-1, keepdim=True)
    return fit_hyperparameters(F, labels, model.kernel, model.priors)
