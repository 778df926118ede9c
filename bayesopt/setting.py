"""What a user has chosen for a study, checked: `Setting`."""

from dataclasses import dataclass

from bayesopt.acquisition import ACQUISITIONS
from bayesopt.checks import checked_age, checked_deterministic, checked_seed, one_of
from bayesopt.methods.cmaes import check_cmaes
from bayesopt.methods.gp import BATCHES
from bayesopt.methods.grid import check_grid
from bayesopt.space import Space

#: Methods that build a model, begin with a design, and propose by themselves once an evaluation succeeded.
MODELS = ("gp", "tpe", "genetic")

METHODS = ("auto", *MODELS, "cmaes", "random", "sobol", "grid", "manual")

#: Methods that are tensor programs; the others are a few small ones, and stay on the CPU.
ON_DEVICE = ("gp", "tpe")


@dataclass(frozen=True)
class Setting:
    """What `Optimizer` takes beside the space and the device; see there."""

    seed: int
    method: str
    acquisition: str
    batch: str
    maximize: bool
    max_pending_age: int | None
    deterministic: bool | None

    def checked(self, space: Space) -> "Setting":
        """The same, each as its own type.

        Raises:
            ValueError, TypeError: one of them is not valid, or not for this space.
        """
        seed, method = checked_seed(self.seed), one_of("method", self.method, METHODS)
        if method == "grid":
            check_grid(space)
        if method == "cmaes":
            check_cmaes()
        acquisition = one_of("acquisition", self.acquisition, tuple(ACQUISITIONS))
        batch = one_of("batch", self.batch, BATCHES)
        if batch == "qlogei" and not ACQUISITIONS[acquisition].log_form().is_log:
            raise ValueError(
                f"batch='qlogei' averages an improvement over what is unfinished; with "
                f"acquisition={acquisition!r} use batch='ucb_pe', 'thompson' or 'auto'"
            )
        age = None if self.max_pending_age is None else checked_age(self.max_pending_age)
        deterministic = checked_deterministic(self.deterministic)
        return Setting(seed, method, acquisition, batch, bool(self.maximize), age, deterministic)
