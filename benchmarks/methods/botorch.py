"""BoTorch as documented: a fresh SingleTaskGP for each ask, then log EI, or qLogEI beside what is unfinished.

Ten restarts out of 512 raw points. The first `design` configurations are scrambled Sobol points. Whole
numbers and ordered choices are relaxed and rounded; it knows no choices without an order, no failures.
"""

import warnings
from collections.abc import Mapping
from typing import Any

import torch

from benchmarks.methods.axes import Config, at_unit, axes_of, place_of
from benchmarks.methods.protocol import Space, Waiting, need_numbers


class BoTorch:
    """The loop of BoTorch's tutorial."""

    def __init__(self, space: Space, seed: int, budget: int, *, design: int = 10) -> None:
        self._axes = axes_of(space)
        need_numbers(self._axes, "botorch")
        self._sobol = torch.quasirandom.SobolEngine(len(self._axes), scramble=True, seed=seed)
        self._generator = torch.Generator().manual_seed(seed)
        self._design = design
        self._drawn = 0
        self._X: list[list[float]] = []
        self._y: list[float] = []
        self._waiting = Waiting()
        self._pending: list[list[float]] = []

    def tell(self, config: Mapping[str, Any], value: float | None, /) -> None:
        place = self._waiting.pop(config)
        if place is not None:
            self._pending.remove(place)
        if value is not None:  # the model of the tutorial knows no failures
            self._X.append(place_of(self._axes, config))
            self._y.append(value)

    def ask(self, q: int) -> list[Config]:
        designed = min(q, max(0, self._design - len(self._y) - len(self._pending)))
        if not self._y:
            designed = q
        points = self._sobol.draw(designed, dtype=torch.float64).tolist() if designed else []
        if designed < q:
            points += self._propose(q - designed, points).tolist()
        configs = [at_unit(self._axes, point) for point in points]
        for config in configs:
            place = place_of(self._axes, config)
            self._pending.append(place)
            self._waiting.add(config, place)
        return [dict(config) for config in configs]

    def _propose(self, q: int, chosen: list[list[float]]) -> torch.Tensor:
        X, Y = torch.tensor(self._X, dtype=torch.float64), -torch.tensor(self._y, dtype=torch.float64)
        unfinished = torch.tensor([*self._pending, *chosen], dtype=torch.float64).reshape(-1, X.shape[1])
        seed = int(torch.randint(2**31, (), generator=self._generator))
        return propose(X, Y[:, None], q, unfinished, seed)


def propose(X: torch.Tensor, Y: torch.Tensor, q: int, unfinished: torch.Tensor, seed: int) -> torch.Tensor:
    """q points `(q, d)` of the unit box after outcomes Y `(n, 1)`, larger is better, at X `(n, d)`.

    On the device of these tensors. `unfinished (k, d)` is what is being evaluated.
    """
    from botorch.acquisition import LogExpectedImprovement, qLogExpectedImprovement
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import SingleTaskGP
    from botorch.optim import optimize_acqf
    from botorch.utils.sampling import manual_seed
    from gpytorch.mlls import ExactMarginalLogLikelihood

    unit = torch.tensor([[0.0], [1.0]], dtype=X.dtype, device=X.device).expand(2, X.shape[1])
    with warnings.catch_warnings(), manual_seed(seed):
        warnings.simplefilter("ignore")
        model = SingleTaskGP(X, Y)
        fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
        if q == 1 and len(unfinished) == 0:
            acquisition = LogExpectedImprovement(model, best_f=Y.max())
        else:
            pending = unfinished if len(unfinished) else None
            acquisition = qLogExpectedImprovement(model, best_f=Y.max(), X_pending=pending)
        options = {"q": q, "num_restarts": 10, "raw_samples": 512, "sequential": q > 1}
        return optimize_acqf(acquisition, unit, **options)[0]
