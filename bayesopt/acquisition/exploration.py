"""Upper confidence bound with pure exploration, for batches.

Contal, Buffoni, Robicquet & Vayatis (2013): one point of a batch maximises the upper confidence bound, the
others the uncertainty that is left, inside the region that may still hold the optimum.
"""

from dataclasses import dataclass

from torch import Tensor

from bayesopt.acquisition.fantasies import BatchAcquisition, DrawPartials, Moments


@dataclass(frozen=True)
class PureExploration(BatchAcquisition):
    """`sigma(x) - penalty max(lower(x) - best, 0)` with `lower = mu - beta sigma_observed`, of -f.

    sigma is the deviation left after the unfinished evaluations, sigma_observed after the finished ones:
    what may still hold the optimum does not depend on what is under way. The penalty replaces the hard edge
    of the region, as in Song et al. (2024), "The Vizier GP bandit algorithm", section 4.4.
    """

    beta: float = 0.5
    penalty: float = 10.0

    def __post_init__(self) -> None:
        if not (self.beta >= 0 and self.penalty >= 0):
            raise ValueError(f"beta and penalty must be >= 0, got {self.beta} and {self.penalty}")

    def __call__(self, at: Moments, best: Tensor) -> Tensor:
        outside = (at.mu - self.beta * at.var_observed.sqrt() - best).clamp_min(0.0)
        return (at.var.sqrt() - self.penalty * outside).mean(-1)

    def partials(self, at: Moments, best: Tensor) -> DrawPartials:
        sigma, sigma_observed = at.var.sqrt(), at.var_observed.sqrt()
        outside = at.mu - self.beta * sigma_observed - best
        slope = self.penalty * (outside > 0).to(outside.dtype) / outside.shape[-1]
        value = (sigma - self.penalty * outside.clamp_min(0.0)).mean(-1)
        dvar_observed = 0.5 * self.beta * slope.sum(-1, keepdim=True) / sigma_observed
        return DrawPartials(value, -slope, 0.5 / sigma, dvar_observed)
