"""Which model `method="auto"` uses."""

from typing import NamedTuple

#: Results past which an ask has to be quick. The Gaussian process then looks at no more than 2,048 of them,
#: takes about a second, and still finds better configurations than TPE does in ten milliseconds; but whoever
#: has made so many evaluations is making cheap ones. See docs/decisions.md.
MANY_RESULTS = 10_000


class Choice(NamedTuple):
    """A method, and why it, in words."""

    method: str
    reason: str


def choose(told: int) -> Choice:
    """The model for a history of so many results: "gp" or "tpe".

    >>> choose(100).method, choose(1_000_000).method
    ('gp', 'tpe')
    """
    if told > MANY_RESULTS:
        return Choice("tpe", f"more than {MANY_RESULTS:,} results: an estimator whose asks take milliseconds")
    return Choice("gp", "a Gaussian process that also looks near the best result, every other time")
