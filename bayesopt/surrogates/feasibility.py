"""Where evaluations fail."""

import torch
from torch import Tensor

from bayesopt.device import put
from bayesopt.rows import take
from bayesopt.surrogates.gp import GaussianProcess, Optimum, fit_hyperparameters
from bayesopt.surrogates.model import LARGEST_FIT, Model
from bayesopt.surrogates.prefixes import NO_CACHE, Cache, rungs


def fit_feasibility(
    model: Model, F: Tensor, failed: Tensor, cache: Cache = NO_CACHE
) -> tuple[GaussianProcess, Tensor]:
    """A GP g and a threshold t `(b, 1)` with `P(an evaluation at x succeeds) = P(g(x) < t)`.

    A GP on labels, +1 for a failure and -1 for a success, standardised (least-squares classification,
    Rasmussen & Williams, section 6.5); the threshold is zero, standardised too. Far from everything tried
    P is close to the share of successes so far, so that few failures change little; failures that no region
    explains end as label noise, and change nothing.

    Args: F: features `(b, n, D)`; failed: mask `(b, n)` on the CPU, both values in every row.
    """
    labels = put(torch.where(failed, 1.0, -1.0).to(F.dtype), F.device)
    mean, std = labels.mean(-1, keepdim=True), labels.std(-1, keepdim=True)
    optimum = _fit_prefix(model, F, labels, failed, cache)
    if labels.shape[1] > LARGEST_FIT:
        F, labels = _most_telling(F, labels)
    gp = GaussianProcess.of(model.kernel, optimum.theta, F, (labels - mean) / std)
    return gp, -mean / std


def _fit_prefix(model: Model, F: Tensor, labels: Tensor, failed: Tensor, cache: Cache) -> Optimum:
    """Fitted to the longest prefix of a fixed length; to everything where that is of one kind only.

    From the prior, so never to more than `LARGEST_FIT`.
    """
    length = max((length for length, _ in rungs(F.shape[1], LARGEST_FIT)), default=0)
    mixed = _is_mixed(failed[:, :length])
    all_mixed = bool(mixed.all())
    optimum = cache.get("failures", length) if all_mixed else None
    if optimum is None:
        lengths = [length if part else F.shape[1] for part in mixed.tolist()]
        each = [_fit_labels(model, F[i : i + 1, :k], labels[i : i + 1, :k]) for i, k in enumerate(lengths)]
        optimum = Optimum(*map(torch.cat, zip(*each, strict=True)))
        if all_mixed:  # else it depends on more than the prefix
            cache.put("failures", length, optimum)
    return optimum


def _is_mixed(failed: Tensor) -> Tensor:
    """Whether rows of `(b, n)` have both values, `(b,)`."""
    return failed.any(-1) & ~failed.all(-1)


def _fit_labels(model: Model, F: Tensor, labels: Tensor) -> Optimum:
    z = (labels - labels.mean(-1, keepdim=True)) / labels.std(-1, keepdim=True)
    return fit_hyperparameters(F, z, model.kernel, model.priors)


def _most_telling(F: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """`LARGEST_FIT` evaluations: the failures first, then the earliest successes, spread the widest."""
    earlier = torch.linspace(0.5, 0.0, labels.shape[1], dtype=F.dtype, device=F.device)
    keep = (labels + earlier).topk(LARGEST_FIT, -1).indices
    return take(F, keep), take(labels, keep)
