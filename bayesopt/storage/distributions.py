"""Parameters as Optuna's distributions, and back."""

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from bayesopt.parameters import Categorical, Float, Int, Parameter
from bayesopt.space import Space
from bayesopt.when import Choice

#: Whole numbers up to this are exact in double precision, which is what a storage keeps.
_EXACT = 2**53


def to_optuna(parameter: Parameter) -> BaseDistribution:
    """The distribution that holds the same values; conditions and beliefs are not its affair.

    Raises:
        ValueError: integers that double precision, in which Optuna stores them, cannot hold.

    >>> to_optuna(Int(1, 6))
    IntDistribution(high=6, log=False, low=1, step=1)
    """
    if isinstance(parameter, Categorical):
        return CategoricalDistribution(parameter.choices)
    if isinstance(parameter, Int):
        if max(abs(parameter.low), abs(parameter.high)) > _EXACT:
            raise ValueError(
                f"{parameter!r} cannot be stored: storages keep numbers in double precision, which is exact "
                "for integers up to 2**53; use a smaller range and scale it in the objective"
            )
        return IntDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)
    return FloatDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)


def from_optuna(distribution: BaseDistribution) -> Parameter:
    """The parameter that holds the same values.

    Raises:
        ValueError, TypeError: there is none, such as for choices that are neither text nor numbers.

    >>> from_optuna(FloatDistribution(1e-5, 1e-1, log=True))
    Float(1e-05, 0.1, log=True)
    """
    if isinstance(distribution, CategoricalDistribution):
        return Categorical(distribution.choices)
    if isinstance(distribution, IntDistribution):
        return Int(distribution.low, distribution.high, log=distribution.log, step=distribution.step)
    if isinstance(distribution, FloatDistribution):
        return Float(distribution.low, distribution.high, log=distribution.log, step=distribution.step)
    raise TypeError(f"expected a float, int or categorical distribution, got {distribution!r}")


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """One for each parameter.

    Raises:
        ValueError: as in `to_optuna`; the message names the parameter.
    """
    found = {}
    for name, parameter in space.items():
        try:
            found[name] = to_optuna(parameter)
        except ValueError as error:
            raise ValueError(f"parameter {name!r}: {error}") from None
    return found


def internal(parameter: Parameter, value: Choice) -> float:
    """What Optuna stores for a value; unlike its own conversion, 1, 1.0 and True are different choices."""
    if isinstance(parameter, Categorical):
        return float(parameter.index(value))
    return float(value)  # type: ignore[arg-type]  # a number, or it would not belong to the parameter
