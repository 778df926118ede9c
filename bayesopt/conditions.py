"""Conditions between parameters: which values switch one on, in what order to look, how many combinations.

A `Rule` says for which coordinates of one parent one child may be active. Rules form a graph without
cycles; a parameter is active when all its rules hold and all its parents are active.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from bayesopt.beliefs import suggestion
from bayesopt.parameters import Categorical, Float, Int, Parameter
from bayesopt.when import Between, accepted

#: Closed intervals of coordinates: level numbers, or values of a continuous parameter.
Intervals = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Rule:
    """Column `child` needs the coordinate of column `parent` in one of the `intervals`."""

    child: int
    parent: int
    intervals: Intervals
    text: str

    def holds(self, coordinate: float) -> bool:
        """Whether this coordinate of the parent allows the child."""
        return any(low <= coordinate <= high for low, high in self.intervals)


def rules_of(parameters: Mapping[str, Parameter]) -> tuple[Rule, ...]:
    """All rules of a space.

    Raises:
        TypeError, ValueError: a condition names an unknown parent, the parameter itself, or values that
            the parent never takes; the message names the parameter.
    """
    names = list(parameters)
    columns = {name: column for column, name in enumerate(names)}
    rules = []
    for child, parameter in parameters.items():
        for parent, expected in (parameter.when or {}).items():
            if parent == child:
                raise ValueError(f"parameter {child!r}: when= depends on itself; name another parameter")
            if parent not in parameters:
                raise ValueError(
                    f"parameter {child!r}: when= names the unknown parameter {parent!r}"
                    f"{suggestion(parent, names)}; add it to the space or fix the name"
                )
            try:
                intervals = _intervals(parameters[parent], expected)
            except (TypeError, ValueError) as error:
                raise type(error)(f"parameter {child!r}: when= {parent!r} can never match: {error}") from None
            rules.append(Rule(columns[child], columns[parent], intervals, _text(parent, expected)))
    return tuple(rules)


def _text(parent: str, expected: object) -> str:
    """The condition in words, for messages."""
    if not isinstance(expected, Between):
        values = [repr(value) for value in accepted(expected)]
        return f"{parent} to be {values[0] if len(values) == 1 else 'one of ' + ', '.join(values)}"
    if expected.low is None:
        return f"{parent} to be {expected.high!r} or less"
    if expected.high is None:
        return f"{parent} to be {expected.low!r} or more"
    return f"{parent} to be from {expected.low!r} to {expected.high!r}"


def _intervals(parent: Parameter, expected: object) -> Intervals:
    """Coordinates of the parent that match."""
    if isinstance(expected, Between):
        return _range(parent, expected)
    values = [parent.check(value) for value in accepted(expected)]
    if parent.levels is None:
        return tuple((float(value), float(value)) for value in sorted(values))  # type: ignore[arg-type,type-var]
    return _merged(parent.index(value) for value in values)  # type: ignore[arg-type]


def _range(parent: Parameter, between: Between) -> Intervals:
    if isinstance(parent, Categorical):
        if not (parent.ordered and parent.numeric):
            raise TypeError(
                f"{between!r} needs a Float, an Int or ordered numeric choices; list the choices instead"
            )
        found = _merged(k for k, choice in enumerate(parent.choices) if choice in between)  # type: ignore[operator]
    elif parent.levels is None:
        low = parent.low if between.low is None else max(between.low, parent.low)
        high = parent.high if between.high is None else min(between.high, parent.high)
        found = ((low, high),) if low <= high else ()
    else:
        found = _level_range(parent, between)
    if not found:
        raise ValueError(f"{between!r} holds none of its values, {_offer(parent)}; change the range")
    return found


def _level_range(parent: Float | Int, between: Between) -> Intervals:
    levels = parent.levels
    assert levels is not None
    # len(range) must fit an index, which at most 2**51 levels do; level(k) grows with k.
    low = 0 if between.low is None else bisect_left(range(levels), between.low, key=parent.level)
    high = levels if between.high is None else bisect_right(range(levels), between.high, key=parent.level)
    return ((low, high - 1),) if low < high else ()


def _offer(parent: Parameter) -> str:
    if isinstance(parent, Categorical):
        return f"which are {list(parent.choices)!r}"
    return f"which go from {parent.low!r} to {parent.high!r}"


def _merged(numbers: Iterable[int]) -> Intervals:
    """Level numbers as intervals: 1, 2, 3, 7 becomes (1, 3), (7, 7)."""
    intervals: list[tuple[int, int]] = []
    for k in sorted(set(numbers)):
        if intervals and intervals[-1][1] == k - 1:
            intervals[-1] = (intervals[-1][0], k)
        else:
            intervals.append((k, k))
    return tuple(intervals)


def cuts_of(rules: Iterable[Rule]) -> list[float]:
    """Where rules on one continuous parent change their mind: `v >= cut` for each cut decides all of them."""
    cuts = []
    for rule in rules:
        for low, high in rule.intervals:
            cuts += [low, math.nextafter(high, math.inf)]
    return cuts


def parents_first(names: Sequence[str], rules: Iterable[Rule]) -> list[int]:
    """Columns in declaration order, except that parents come before their children.

    Raises:
        ValueError: conditions form a cycle; the message names it.
    """
    parents: dict[int, set[int]] = {column: set() for column in range(len(names))}
    children = defaultdict(list)
    for rule in rules:
        parents[rule.child].add(rule.parent)
        children[rule.parent].append(rule.child)
    ready = [column for column in parents if not parents[column]]
    order = []
    while ready:
        column = heapq.heappop(ready)
        order.append(column)
        for child in children[column]:
            parents[child].discard(column)
            if not parents[child]:
                heapq.heappush(ready, child)
    if len(order) < len(names):
        cycle = [names[column] for column in _cycle({c: p for c, p in parents.items() if p})]
        raise ValueError(
            f"parameter {cycle[0]!r}: the conditions form a cycle, {' needs '.join(map(repr, cycle))}; "
            "drop one of them"
        )
    return order


def _cycle(parents: Mapping[int, set[int]]) -> list[int]:
    """Follow parents until a column comes back; its first and last elements are the same."""
    path = [min(parents)]
    while True:
        step = min(parents[path[-1]])
        if step in path:
            return [*path[path.index(step) :], step]
        path.append(step)


# --- counting ---------------------------------------------------------------------------------------------


def count(levels: Sequence[int | None], rules: Sequence[Rule]) -> int | float:
    """Number of configurations; infinite if a column with `levels` None can be active.

    Walks over the columns, parents first, and keeps for each set of "dead" columns (not yet visited,
    already ruled out by a parent) how many ways lead there. Only children of visited parents can be in
    such a set, so the work grows with the widest bundle of open conditions, not with the number of
    configurations.

    >>> count([3, 10], [Rule(child=1, parent=0, intervals=((2, 2),), text="")])
    12
    """
    below = defaultdict(list)
    for rule in rules:
        below[rule.parent].append(rule)
    ways: dict[frozenset[int], int] = {frozenset(): 1}
    for column in _narrow_order(len(levels), rules):
        outcomes = _outcomes(levels[column], below[column])
        dies = frozenset(rule.child for rule in below[column])
        after: dict[frozenset[int], int] = defaultdict(int)
        for dead, number in ways.items():
            if column in dead:
                after[dead - {column} | dies] += number
            elif outcomes is None:
                return math.inf
            else:
                for fails, size in outcomes.items():
                    after[dead | fails] += number * size
        ways = after
    return sum(ways.values())


def _outcomes(levels: int | None, rules: Sequence[Rule]) -> dict[frozenset[int], int] | None:
    """How many levels of a column rule out which children; None for a continuum."""
    if levels is None:
        return None
    cuts = {0, levels}
    for rule in rules:
        for low, high in rule.intervals:
            cuts |= {int(low), int(high) + 1}
    ordered = sorted(cuts)
    outcomes: dict[frozenset[int], int] = defaultdict(int)
    for start, stop in pairwise(ordered):
        outcomes[frozenset(rule.child for rule in rules if not rule.holds(start))] += stop - start
    return outcomes


def _narrow_order(size: int, rules: Sequence[Rule]) -> list[int]:
    """Columns, parents first, always the one next that leaves the fewest conditions open."""
    parents: dict[int, set[int]] = {column: set() for column in range(size)}
    children = defaultdict(set)
    for rule in rules:
        parents[rule.child].add(rule.parent)
        children[rule.parent].add(rule.child)
    ready, open_, order = {column for column in parents if not parents[column]}, set[int](), list[int]()
    while ready:
        column = min(ready, key=lambda c: (len(children[c] - open_) - (c in open_), c))
        order.append(column)
        ready.discard(column)
        open_ = open_ - {column} | children[column]
        for child in children[column]:
            parents[child].discard(column)
            if not parents[child]:
                ready.add(child)
    return order
