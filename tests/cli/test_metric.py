"""What programs say: any line is either a number, or a reason, or nothing to do with it."""

import json
import math
import os

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bayesopt.cli import metric
from bayesopt.cli.metric import Output, json_reader, regex_reader

EXAMPLES = int(os.environ.get("BAYESOPT_EXAMPLES", "200"))
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
JUNK = st.text(st.characters(blacklist_characters="\n\r0123456789nif{"), max_size=30)


def read(text, reader=None, sizes=(1 << 16,)):
    """What an output says that comes in pieces of these sizes, again and again."""
    output, data, place, turn, readings = Output(reader or json_reader("loss")), text.encode(), 0, 0, []
    while place < len(data):
        size = sizes[turn % len(sizes)]
        readings += output.feed(data[place : place + size])
        place, turn = place + size, turn + 1
    return output, readings + output.finish()


def value(text, reader=None):
    return read(text, reader)[0].value()


@given(FLOATS, st.lists(JUNK), st.lists(JUNK))
def test_the_metric_survives_its_way_through_json(loss, before, after):
    for line in (json.dumps({"a": 1, "loss": loss}), json.dumps(loss)):
        assert value("\n".join([*before, line, *after])) == loss


@given(FLOATS)
def test_the_metric_survives_its_way_through_a_pattern(loss):
    assert value(f"epoch 1: error={loss}, fine", regex_reader(r"error=(?P<e>[^,]+)")) == loss


@given(st.text(), st.lists(st.integers(1, 9), min_size=1, max_size=5))
@example('{"loss": 1}\n{"step": 1, "loss": ü}\r\n5\r6\n', [1])
def test_it_does_not_matter_in_what_pieces_it_comes(text, sizes):
    text = text.encode(errors="replace").decode()
    whole, pieces = read(text), read(text, sizes=sizes)
    assert whole[1] == pieces[1]
    outcomes = []
    for output, _ in (whole, pieces):
        try:
            outcomes.append(output.value())
        except ValueError as error:
            outcomes.append(str(error))
    assert outcomes[0] == outcomes[1]


LINES = (
    st.text(max_size=40)
    | st.builds(lambda v: json.dumps({"loss": v}), st.recursive(FLOATS | st.text() | st.none(), st.lists))
    | st.builds(
        lambda s, v: json.dumps({"step": s, "loss": v}), st.integers() | st.text() | FLOATS, st.floats()
    )
    | st.builds(lambda cut: '{"step": 3, "loss": 0.25}'[:cut], st.integers(0, 25))
    | st.builds(repr, st.dictionaries(st.just("loss"), st.floats()))
    | st.builds(lambda n: "[" * n, st.integers(0, 5000))
    | st.builds(lambda n: '{"loss": ' + "[" * n, st.integers(0, 5000))
    | st.builds(lambda n: '{"loss": ' + "9" * n + "}", st.integers(1, 6000))
)
READERS = [
    json_reader("loss"),
    regex_reader(r"loss\W*(?P<loss>\S*)"),
    regex_reader("(?P<v>.*?)(?P<step>x)?$"),
]


@settings(max_examples=EXAMPLES)
@given(st.lists(LINES, max_size=4), st.sampled_from(READERS))
def test_any_output_is_a_finite_number_or_a_reason(lines, reader):
    output, readings = read("\n".join(line.encode(errors="replace").decode() for line in lines), reader)
    for reading in readings:
        assert reading.value is not None or reading.problem
        assert reading.step is None or (type(reading.step) is int and 0 <= reading.step < 2**31)
        assert reading.line >= 1 and len(str(reading)) < 500
    if readings and not readings[-1].problem:
        assert math.isfinite(output.value())
    else:
        with pytest.raises(ValueError, match=r"line .*of standard output") as caught:
            output.value()
        assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"loss": 3}', 3.0),
        ('  {"loss": 3}  \n', 3.0),
        ('{"loss": 1}\n{"loss": 2}\ndone', 2.0),
        ('{"loss": 1}\n{"saved": "model.pt"}', 1.0),
        ('{"loss": 1}\n{broken', 1.0),
        ("1e-3", 1e-3),
        ("-.5", -0.5),
        ("0.5\nloss 0.7", 0.5),
        ('10%\r50%\r{"loss": 4}\r\n', 4.0),
        ('{"step": 0, "loss": 9}\n{"step": 1, "loss": 8}', 8.0),
    ],
)
def test_values(text, expected):
    assert value(text) == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no line of standard output is a JSON object with 'loss', or a number; empty"),
        ("a\nbye\n\n", "the last of its 3 lines: 'bye'"),
        ('{"los": 1}', "is a JSON object with 'loss'"),
        ("{'loss': 1}", "line 1 of standard output is not JSON"),
        ('{"loss": nan}', "line 1 of standard output is not JSON"),
        ('\n{"loss": NaN}', "line 2 of standard output says that the evaluation failed, by nan"),
        ("nan", "by nan"),
        ("Infinity", "by inf"),
        ('{"loss": 1e999}', "by inf"),
        ('{"loss": ' + 400 * "9" + "}", "by inf"),
        ('{"loss": null}', "must have a number as 'loss', not None"),
        ('{"loss": "0.3"}', "must have a number as 'loss', not '0.3'"),
        ('{"loss": true}', "not True"),
        ('{"loss": 1, "step": -1}', "must have a whole number >= 0 as 'step', not -1"),
        ('{"loss": 1, "step": "a"}', "not 'a'"),
        ('{"loss": 1, "step": 1.5}', "not 1.5"),
        ('{"loss": 1}\n{"loss": 2, "st', "line 2 of standard output is not JSON"),
    ],
)
def test_reasons(text, says):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the reasons hold what is special in a pattern
        value(text)
    assert says in str(caught.value)


def test_intermediate_results():
    _, readings = read(
        '{"step": 0, "loss": 2}\n{"loss": 1, "step": 3.0}\n{"loss": 5}\n{"step": 4, "loss": NaN}'
    )
    assert [(r.step, r.line) for r in readings] == [(0, 1), (3, 2), (None, 3), (4, 4)]
    assert [r.value for r in readings[:3]] == [2.0, 1.0, 5.0] and math.isnan(readings[3].value)
    reader = regex_reader(r"epoch (?P<step>\d+) loss (?P<loss>\S+)")
    _, readings = read("epoch 1 loss 0.5\nepoch 2 loss nan\nepoch 3 loss ?", reader)
    assert [r.step for r in readings] == [1, 2, None] and readings[2].value is None


@pytest.mark.parametrize(
    "pattern", ["(", "loss=(.*)", "(?P<a>x)(?P<b>y)", "(?P<step>x)", "", "(?P<a>x){9999999999}"]
)
def test_a_pattern_needs_one_named_group(pattern):
    with pytest.raises(ValueError, match="--regex"):
        regex_reader(pattern)


def test_endless_lines_take_no_memory_and_say_nothing(monkeypatch):
    monkeypatch.setattr(metric, "LONGEST", 100)
    output = Output(json_reader("loss"))
    for _ in range(50):
        output.feed(b" " * 30)
        assert len(output._rest) <= 101
    output.feed(b'{"loss": 1}\n{"loss": 2}\n' + b" " * 100 + b'{"loss": 3}\n')
    assert output.value() == 2.0
