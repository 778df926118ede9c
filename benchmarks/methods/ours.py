"""The engine: many studies in lockstep, one for each seed, that can be taken up where they stopped."""

from collections.abc import Mapping, Sequence
from typing import Any

from bayesopt import Replicates
from benchmarks.methods.axes import Config
from benchmarks.methods.protocol import Space


class Ours:
    """S studies of one space.

    Args:
        space: as `bayesopt.Space.to_dict`.
        seeds: of the studies.
        budget: unused: nothing proposed depends on it.
        settings: any keyword of `bayesopt.Optimizer`.
    """

    def __init__(self, space: Space, seeds: Sequence[int], budget: int, **settings: Any) -> None:
        from bayesopt import Space as Parameters

        self._studies = Replicates(Parameters.from_dict(space), seeds, **settings)

    def ask(self, q: int) -> list[list[Config]]:
        """q proposals for each study."""
        return self._studies.ask(q)

    def tell(self, configs: Sequence[Sequence[Config]], values: Sequence[Sequence[float | None]], /) -> None:
        """Outcomes of each study."""
        self._studies.tell(configs, values)

    def restore(self, histories: Sequence[Sequence[Mapping[str, Any]]]) -> None:
        """Take up studies that had told these trials and had nothing under way.

        Args:
            histories: for each study its trials in the order of telling: `config`, `value`, and `asked`,
                how many configurations had been asked for before it.
        """
        for study, history in zip(self._studies.studies, histories, strict=True):
            trials = [
                {
                    "config": t["config"],
                    "value": t["value"],
                    "asked_at": t["asked"],
                    "seconds": None,
                    "error": None,
                }
                for t in history
            ]
            state = {"trials": trials, "pending": [], "asked": len(trials)}
            study.load_state_dict({**study.state_dict(), **state})
