"""Many studies in lockstep: `Replicates`."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, overload

import torch

from bayesopt.asking import ask
from bayesopt.checks import checked_count, several_stds
from bayesopt.optimizer import Optimizer
from bayesopt.space import Space
from bayesopt.trials import Config, Trial


class Replicates:
    """S independent studies of one space, advanced in lockstep as one tensor program.

    Each study proposes what its own `Optimizer` with its seed would, to rounding; S of them cost far less
    than S times one, because the engine's small tensor operations are dominated by their overhead.

    Args:
        space, method, acquisition, batch, device, maximize, deterministic: as for `Optimizer`.
        seeds: one for each study.

    >>> from bayesopt import Float
    >>> studies = Replicates({"x": Float(0.0, 1.0)}, seeds=[0, 1, 2])
    >>> configs = studies.ask()
    >>> studies.tell(configs, [config["x"] for config in configs])
    >>> len(studies), len(configs)
    (3, 3)
    """

    def __init__(
        self,
        space: Space | Mapping[str, Any],
        seeds: Iterable[int],
        *,
        method: str = "auto",
        acquisition: str = "log_ei",
        batch: str = "auto",
        device: str | torch.device = "auto",
        maximize: bool = False,
        deterministic: bool | None = None,
    ) -> None:
        shared = Space(space)
        self.studies = tuple(
            Optimizer(
                shared, seed=seed, method=method, acquisition=acquisition, batch=batch, device=device,
                maximize=maximize, deterministic=deterministic,
            )
            for seed in seeds
        )  # fmt: skip
        if not self.studies:
            raise ValueError("Replicates needs at least one seed, got none")

    def __len__(self) -> int:
        return len(self.studies)

    @overload
    def ask(self) -> list[Config]: ...
    @overload
    def ask(self, q: int) -> list[list[Config]]: ...
    def ask(self, q: int | None = None) -> list[Config] | list[list[Config]]:
        """The next configuration of each study, or lists of the next q of each."""
        count = 1 if q is None else checked_count(q)
        with self._locked():
            proposals = ask([study._learner for study in self.studies], count)
        return [each[0] for each in proposals] if q is None else proposals

    def tell(self, configs: Sequence[Any], values: Sequence[Any], *, std: object = None) -> None:
        """Report to each study one outcome, or a list of them, as `Optimizer.tell`; all or nothing.

        `std` is None, a number for all, or what `Optimizer.tell` takes, one for each study.
        """
        configs, values = list(configs), list(values)
        if not len(configs) == len(values) == len(self):
            raise ValueError(
                f"tell expects {len(self)} configurations and values, one for each study, "
                f"got {len(configs)} configurations and {len(values)} values"
            )
        told = zip(self.studies, configs, values, several_stds(std, len(self)), strict=True)
        checked = [study._record.checked(c, v, s) for study, c, v, s in told]
        with self._locked():
            for study, results in zip(self.studies, checked, strict=True):
                study._record.commit(results)

    def _locked(self) -> ExitStack:
        stack = ExitStack()
        for study in self.studies:
            stack.enter_context(study._lock)
        return stack

    @property
    def best(self) -> list[Trial | None]:
        """Best trial of each study."""
        return [study.best for study in self.studies]
