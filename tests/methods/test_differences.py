"""Which points are differences of others, against plain Python."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bayesopt.methods.differences import WIDTHS, Differences


@given(st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_differences_are_told_from_bases(d, seed):
    """Against a loop over pairs; with differences of differences, small steps, and roundings."""
    source = np.random.default_rng(seed)
    widths = [times * width for width in WIDTHS for times in range(1, 17)]
    X = [source.random(d)]
    for _ in range(30):
        x = X[source.integers(len(X))].copy()
        kind = source.integers(5)
        if kind == 0:
            x = source.random(d)
        elif kind == 1:
            x += 1e-8 * source.standard_normal(d)
        else:
            v = source.uniform(-1.0, 1.0, d)
            x += v / abs(v).max() * source.choice([*WIDTHS, 3.0 * WIDTHS[0], 0.5 * WIDTHS[0], 1e-6])
            x *= 1.0 + 1e-16 * source.integers(-1, 2, d)
        X.append(x)
    X = np.array(X)
    of = []
    for i, x in enumerate(X):
        of.append(-1)
        for j in range(i):
            change = abs(x - X[j]).max()
            is_one = any(abs(change - width) < 1e-3 * WIDTHS[0] for width in widths)
            if of[i] < 0 and of[j] < 0 and is_one:
                of[i] = j
    assert Differences.among(X).of.tolist() == of
