"""What an acquisition function is: a frozen function of posterior moments with closed-form partials."""

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor


class Partials(NamedTuple):
    """Value of an acquisition and its derivatives with respect to the mean and the variance, one shape."""

    value: Tensor
    dmu: Tensor
    dvar: Tensor


class Acquisition(ABC):
    """How much an evaluation is worth, from the posterior `mu`, `var` of a minimised f; larger is better.

    `best` is the incumbent's value, broadcastable to `mu`; all functions are elementwise.

    Attributes:
        is_log: the logarithm of an expectation, so that its mean over draws of unfinished outcomes is
            again an expectation.
        is_noisy: the incumbent is drawn too, because the outcomes that it was found by are noisy.
    """

    is_log = False
    is_noisy = False

    @abstractmethod
    def __call__(self, mu: Tensor, var: Tensor, best: Tensor) -> Tensor:
        """Value, of the shape of mu; differentiable by autograd."""

    @abstractmethod
    def partials(self, mu: Tensor, var: Tensor, best: Tensor) -> Partials:
        """Value and closed-form partial derivatives."""

    def log_form(self) -> "Acquisition":
        """An increasing transform of this acquisition that gradients can climb: its logarithm, or itself.

        It has the same maximiser; EI and PI themselves underflow to flat zeros away from the incumbent.
        """
        return self
