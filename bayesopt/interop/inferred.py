"""The space that an Optuna objective defines while it runs, read off its trials.

A parameter that only some trials have is conditional on one that they all said before it: the first whose
values tell the trials with it from those without. `layers >= 2` and `optimizer in ("sgd", "rmsprop")` are
found like that, nested ones too. What nothing explains stays out, until the last trials all have it.
"""

from collections.abc import Mapping, Sequence

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial

from bayesopt.parameters import Categorical, Float, Int, Parameter
from bayesopt.space import Space
from bayesopt.storage.distributions import from_optuna
from bayesopt.when import Between, Choice, choice_key

#: Of so many trials with a parameter, the last ones, the distributions count: a program that now asks for
#: another range is believed after as many trials, one whose ranges vary gets all of them.
WINDOW = 10


def infer_space(trials: Sequence[FrozenTrial]) -> Space | None:
    """The space of finished trials, in the order of their numbers; None if they have no parameters.

    >>> import optuna
    >>> kind, momentum = CategoricalDistribution(["adam", "sgd"]), FloatDistribution(0.0, 0.9)
    >>> adam = optuna.create_trial(params={"kind": "adam"}, distributions={"kind": kind}, value=1.0)
    >>> both = {"kind": kind, "momentum": momentum}
    >>> sgd = optuna.create_trial(params={"kind": "sgd", "momentum": 0.5}, distributions=both, value=1.0)
    >>> infer_space([adam, sgd])
    Space({'kind': Categorical(['adam', 'sgd']), 'momentum': Float(0.0, 0.9, when={'kind': 'sgd'})})
    """
    names = list(dict.fromkeys(name for trial in trials for name in trial.params))
    said = {name: {i for i, t in enumerate(trials) if name in t.params} for name in names}
    found: dict[str, Parameter] = {}
    for name in _by_place(trials, names):
        parameter = _merged([t.distributions[name] for t in trials if name in t.distributions][-WINDOW:])
        if parameter is None or parameter.levels == 1:
            continue  # nothing to choose
        if len(said[name]) == len(trials):
            found[name] = parameter
            continue
        when = _condition(name, trials, said, found)
        if when is not None:
            found[name] = _with_condition(parameter, when)
        elif all(name in trial.params for trial in trials[-WINDOW:]):
            found[name] = parameter
    return Space(found) if found else None


def fits(space: Space, trial: FrozenTrial) -> bool:
    """Whether a finished trial tells nothing new: it has the parameters and ranges that the space expects."""
    chosen = {name: d for name, d in trial.distributions.items() if not d.single()}
    try:
        config = space.validate({name: trial.params[name] for name in chosen})
        return all(_values(from_optuna(chosen[name])) == _values(space[name]) for name in config)
    except (ValueError, TypeError):
        return False


def _by_place(trials: Sequence[FrozenTrial], names: Sequence[str]) -> list[str]:
    """Names by the earliest place that they have in any trial: what is said first can decide on the rest."""
    place = {name: len(names) for name in names}
    for trial in trials:
        for i, name in enumerate(trial.params):
            place[name] = min(place[name], i)
    return sorted(names, key=lambda name: (place[name], names.index(name)))


def _merged(distributions: Sequence[BaseDistribution]) -> Parameter | None:
    """One parameter with the values of all; None if they do not go together."""
    last = distributions[-1]
    if all(each == last for each in distributions):
        return _known(last)
    if any(type(each) is not type(last) for each in distributions):
        return None
    if isinstance(last, CategoricalDistribution):
        choices = {choice_key(c): c for each in distributions for c in each.choices}  # type: ignore[attr-defined]
        return _known(CategoricalDistribution(tuple(choices.values())))
    if isinstance(last, FloatDistribution | IntDistribution):
        if any((each.log, each.step) != (last.log, last.step) for each in distributions):  # type: ignore[attr-defined]
            return None
        low = min(each.low for each in distributions)  # type: ignore[attr-defined]
        high = max(each.high for each in distributions)  # type: ignore[attr-defined]
        if isinstance(last, IntDistribution):
            return _known(IntDistribution(low, high, log=last.log, step=last.step))
        return _known(FloatDistribution(low, high, log=last.log, step=last.step))
    return None


def _known(distribution: BaseDistribution) -> Parameter | None:
    """None for what is no parameter of ours, such as a choice between objects."""
    try:
        return from_optuna(distribution)
    except (ValueError, TypeError):
        return None


def _condition(
    name: str, trials: Sequence[FrozenTrial], said: Mapping[str, set[int]], found: Mapping[str, Parameter]
) -> dict[str, object] | None:
    """On which of the parameters found before `name` it depends, and how."""
    for parent, parameter in found.items():
        if not said[name] < said[parent]:
            continue
        values = [(t.params[parent], name in t.params) for t in trials if parent in t.params]
        rule = _rule(parameter, [v for v, on in values if on], [v for v, on in values if not on])
        if rule is not None:
            return {parent: rule}
    return None


def _rule(parameter: Parameter, on: Sequence[Choice], off: Sequence[Choice]) -> object | None:
    """A `when` for a parent with these values where the child is, and those where it is not."""
    if isinstance(parameter, Categorical):
        keys = {choice_key(value) for value in off}
        if any(choice_key(value) in keys for value in on):
            return None
        chosen = [choice for choice in parameter.choices if choice in on]
        return chosen if len(chosen) > 1 else chosen[0] if chosen else None
    low, high = min(on), max(on)  # type: ignore[type-var]  # numbers
    if low > max(off):  # type: ignore[type-var, operator]
        return Between(low, parameter.high)  # type: ignore[arg-type]
    if high < min(off):  # type: ignore[type-var, operator]
        return Between(parameter.low, high)  # type: ignore[arg-type]
    return None


def _with_condition(parameter: Parameter, when: Mapping[str, object]) -> Parameter:
    if isinstance(parameter, Categorical):
        return Categorical(parameter.choices, when=when)
    if isinstance(parameter, Int):
        return Int(parameter.low, parameter.high, log=parameter.log, step=parameter.step, when=when)
    return Float(parameter.low, parameter.high, log=parameter.log, step=parameter.step, when=when)


def _values(parameter: Parameter) -> tuple[object, ...]:
    """What a parameter can be, without its conditions."""
    if isinstance(parameter, Categorical):
        return tuple(map(choice_key, parameter.choices))
    return type(parameter), parameter.low, parameter.high, parameter.log, parameter.step
