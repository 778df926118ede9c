"""From a configuration to words: nothing that a value holds means anything to anybody."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayesopt.cli.template import Template, Word, text_of

TEXT = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=20)
VALUES = TEXT | st.floats(allow_nan=False, allow_infinity=False) | st.integers() | st.booleans() | st.none()
NAMES = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="{}"), min_size=1, max_size=5)


def literal(text):
    return text.replace("{", "{{").replace("}", "}}")


@given(TEXT)
def test_doubled_braces_are_braces(text):
    word = Word.parse(literal(text))
    assert word.names == () and word.fill({}) == text


@given(TEXT, NAMES, VALUES, TEXT)
def test_a_value_goes_as_it_is_into_its_one_word(before, name, value, after):
    words = Template.parse(["program", f"{literal(before)}{{{name}}}{literal(after)}", "end"])
    assert words.fill({name: value}, 0) == ["program", before + text_of(value) + after, "end"]


@given(st.dictionaries(NAMES, VALUES, min_size=1))
def test_the_whole_configuration_is_one_word_of_json(config):
    config.pop("config", None)
    program, said = Template.parse(["program", "{config}"]).fill(config, 0)
    assert json.loads(said) == config and said.isascii() and program == "program"


@given(VALUES)
def test_what_is_no_text_is_json(value):
    assert isinstance(value, str) or json.loads(text_of(value)) == value


@pytest.mark.parametrize("text", ["{", "}", "a{b", "a}b", "{a}}", "{{a}", "{a{b}}", '{"lr": {lr}}'])
def test_a_lone_brace_is_an_error(text):
    with pytest.raises(ValueError, match="stands alone; write"):
        Word.parse(text)


@pytest.mark.parametrize(
    ("words", "filled"),
    [
        ("--depth {depth} --lr {lr}", "--lr 1"),
        ("--lr {lr} --depth {depth}", "--lr 1"),
        ("-d {depth} x", "x"),
        ("--depth={depth} x", "x"),
        ("x {depth} y", "x y"),
        ("--both {lr} {depth}", "--both 1"),
        ("--range -1 {depth}", "--range -1"),
        ("--fast=yes {depth}", "--fast=yes"),
        ("-- {depth}", "--"),
        ("- {depth}", "-"),
        ("--pair {lr}-{depth}", ""),
        ("--{lr} {depth}", "--1"),
        ("-a -b {depth} {depth} -c", "-a -c"),
    ],
)
def test_an_inactive_parameter_takes_its_option_along(words, filled):
    assert Template.parse(["program", *words.split()]).fill({"lr": 1}, 0) == ["program", *filled.split()]


def test_parameters_come_before_other_placeholders_of_their_name():
    words = Template.parse(["{config}", "{trial}", "{lr}"])
    assert words.fill({"lr": 1}, 7) == ['{"lr": 1}', "7", "1"]
    assert words.fill({"config": "a", "trial": "b", "lr": 2}, 7) == ["a", "b", "2"]


@pytest.mark.parametrize(
    ("words", "parameters", "elsewhere", "says"),
    [
        ("p {lr} {layer}", {"lr": []}, False, "placeholder {layer} is no parameter of the space; it has lr"),
        ("p {}", {"lr": []}, True, "placeholder {} is no parameter"),
        ("p {lr}", {"lr": [], "a": [], "b": []}, False, "the program never gets a, b: write {a}"),
        ("p {config}", {"lr": [], "config": []}, False, "the program never gets lr"),
        ("p {a}", {"a": ["x", "y\0z"]}, False, "holds a NUL"),
        ("p {a}", {"a": ["\ud800"]}, False, "no text that a program can be given"),
    ],
)
def test_what_could_not_reach_the_program_is_found_before(words, parameters, elsewhere, says):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - braces are special in a pattern
        Template.parse(words.split()).check(parameters, elsewhere)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("words", "parameters", "elsewhere"),
    [
        ("p {lr}", {"lr": []}, False),
        ("p {config}", {"lr": [], "b": ["\0"]}, False),
        ("p {trial}", {"lr": []}, True),
        ("p", {"lr": []}, True),
        ("{a} {a}", {"a": ["true", "ü; rm -rf /"]}, False),
    ],
)
def test_what_can_reach_it_is_fine(words, parameters, elsewhere):
    Template.parse(words.split()).check(parameters, elsewhere)


def test_there_must_be_a_program():
    with pytest.raises(ValueError, match="no program to run"):
        Template.parse([])
