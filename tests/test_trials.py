"""Results: canonical order against a sorted list of tuples, however and in whatever portions they come."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayesopt import trials
from bayesopt.trials import FOREIGN, Results, Rows

D = 2
COLUMNS = ("X", "active", "y", "at", "number", "std", "pruned")

#: (x, active, (y, std, pruned?), foreign?): few different values: foreign results tie in some or all columns.
outcomes = st.tuples(
    st.tuples(*[st.sampled_from([0.0, 0.25, 1.0])] * D),
    st.tuples(*[st.booleans()] * D),
    st.tuples(
        st.sampled_from([math.nan, -2.5, 0.0, 1.0]), st.sampled_from([math.nan, 0.1, 0.2]), st.booleans()
    ),
    st.booleans(),
)


def numbered(told):
    """With `at`, by the place in the list, and `number`: entries `(x, active, outcome, at, number)`."""
    return [(x, on, y, FOREIGN if foreign else i, i) for i, (x, on, y, foreign) in enumerate(told)]


def canonical(entry):
    """Foreign results first: by x, y, std, unknown ones last, pruned; equal ones as they came; then asked."""
    x, _, outcome, at, number = entry
    known = [(math.isnan(value), 0.0 if math.isnan(value) else value) for value in outcome]
    return (at, x, *known, number) if at == FOREIGN else (at,)


def rows(entries):
    x, on, outcome, at, number = zip(*entries, strict=True)
    y, std, pruned = np.array(outcome).T
    at, number = np.array(at, dtype=np.int64), np.array(number, dtype=np.int64)
    return Rows(np.array(x), np.array(on), y, at, number, std, pruned > 0)


def results(portions):
    made = Results(D)
    for portion in portions:
        made.add(rows(portion))
    return made


def assert_counted(made):
    """What is kept beside the rows is what they say."""
    y, pruned = made.rows.y, made.rows.pruned
    assert made.succeeded == np.isfinite(y).sum() and made.with_std == np.isfinite(made.rows.std).sum()
    assert made.foreign == (made.rows.at == FOREIGN).sum()
    assert made.pruned == (np.isfinite(y) & pruned).sum()
    y = np.where(pruned & np.isfinite(y), math.inf, y)
    np.testing.assert_array_equal(made.rank_keys, y)
    np.testing.assert_array_equal(made.ranking, np.argsort(y, kind="stable"))


def assert_equal(a, b, columns=COLUMNS):
    for name in columns:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


@given(st.lists(outcomes, min_size=1, max_size=24), st.randoms(use_true_random=False), st.data())
def test_any_order_in_any_portions_is_the_sorted_list(told, random, data):
    entries = numbered(told)
    random.shuffle(entries)  # asked in one order, told in another one
    entries = [(*entry[:4], number) for number, entry in enumerate(entries)]
    cuts = sorted(data.draw(st.sets(st.integers(1, len(entries)))) | {0, len(entries)})
    made = results(entries[i:j] for i, j in pairwise(cuts))
    expected = rows(sorted(entries, key=canonical))
    assert len(made) == len(entries)
    assert_equal(made.rows, expected)
    np.testing.assert_array_equal(made.asked_at(), [entry[3] for entry in entries])
    assert_equal(results([entries]).rows, expected)  # in bulk
    assert_equal(results([entry] for entry in entries).rows, expected)  # one by one


@given(st.lists(outcomes, min_size=1, max_size=24), st.randoms(use_true_random=False), st.data())
def test_ranking_and_counts_are_those_of_the_rows_whenever_they_are_looked_at(told, random, data):
    entries = numbered(told)
    random.shuffle(entries)
    made = Results(D)
    for entry in entries:
        made.add(rows([entry]))
        if data.draw(st.booleans()):
            assert_counted(made)
    assert_counted(made)


@given(st.lists(outcomes, min_size=2, max_size=16), st.randoms(use_true_random=False))
def test_what_is_known_does_not_depend_on_the_order_of_telling(told, random):
    told = [(x, (True,) * D, outcome, foreign) for x, _, outcome, foreign in told]  # activity follows from x
    entries, shuffled = numbered(told), numbered(told)
    random.shuffle(shuffled)
    shuffled = [(*entry[:4], number) for number, entry in enumerate(shuffled)]
    a, b = results([entries]).rows, results([entry] for entry in shuffled).rows
    assert_equal(a, b, ("X", "active", "y", "at", "std"))
    assert sorted(b.number) == list(range(len(told)))


def asked(at):
    return [((0.5, at / 1000), (True, False), (float(-at), math.nan, False), at, at)]


def test_room_grows_by_doubling_and_keeps_what_is_there(monkeypatch):
    """1,000 results one at a time: a number of copies that is logarithmic in them, and the rows of a list."""
    rooms = []
    real = trials._room
    monkeypatch.setattr(trials, "_room", lambda n, d: rooms.append(n) or real(n, d))
    made = Results(D)
    for at in range(1000):
        made.add(rows(asked(at)))
    assert len(rooms) <= 12 and len(made._room) < 2 * 1000 + 2
    assert_equal(made.rows, rows([asked(at)[0] for at in range(1000)]))


def test_a_result_in_the_order_of_asking_moves_no_other(monkeypatch):
    made = results(asked(at) for at in range(9))
    sorted_rows = []
    real = Rows.order
    monkeypatch.setattr(Rows, "order", lambda self: sorted_rows.append(len(self)) or real(self))
    made.add(rows(asked(9)))
    made.add(rows(asked(12)))
    made.add(rows(asked(11)))  # overtakes one
    made.add(rows([((0.5, 0.5), (True, True), (1.0, 0.1, False), FOREIGN, 12)]))  # goes before everything
    assert sorted_rows == [1, 1, 2, 13]
    assert made.rows.at.tolist() == [FOREIGN, *range(10), 11, 12]


@pytest.mark.parametrize("d", [1, 5])
def test_no_results(d):
    made = Results(d)
    assert len(made) == len(made.rows) == len(made.asked_at()) == 0
    assert made.rows.X.shape == made.rows.active.shape == (0, d)
