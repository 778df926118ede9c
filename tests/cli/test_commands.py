"""The other commands: what they print, what they store, how they fail; and thousands of malformed inputs."""

import csv
import io
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

import bayesopt
from bayesopt import Categorical, Float, Int, Space, Study
from bayesopt.cli.command import load_space
from bayesopt.cli.main import COMMANDS, main

ROOT = Path(__file__).parents[2]
URL = "sqlite:///bayesopt.db"
EXAMPLES = int(os.environ.get("BAYESOPT_EXAMPLES", "200"))

MIXED = Space(
    {
        "lr": Float(1e-5, 0.1, log=True),
        "opt": Categorical(["adam", 'a "quoted", \nthing', None, True, ""]),
        "k": Int(1, 5, when={"opt": "adam"}),
    }
)


def lines(done):
    assert done.code == 0, done.err
    return [json.loads(line) for line in done.out.splitlines()]


@pytest.fixture
def mixed(folder, cli):
    """A study with a trial in each state."""
    (folder / "mixed.toml").write_text(MIXED.to_toml())
    configs = [
        each["config"] for each in lines(cli("ask", "mixed.toml", "-q", 4, "--method", "random", "--json"))
    ]
    cli("tell", 0, 0.5)
    cli("tell", 1, "--failed", "--error", "Traceback (most recent call last):\n ...\nOSError: disk\nfull")
    cli("tell", 2, -1e-5)
    odd = {"lr": 0.001, "opt": 'a "quoted", \nthing'}
    cli("tell", "--config", json.dumps(odd), 3)
    return [*configs, odd]


# --- ask, tell, best, trials, export ----------------------------------------------------------------------


def test_ask_and_tell_are_the_optimiser(cli, folder):
    told = []
    for number in range(8):
        asked = lines(cli("ask", *["space.toml"] * (number == 0), "--json"))
        assert asked[0]["number"] == number
        told.append((asked[0]["config"], (asked[0]["config"]["x"] - 0.3) ** 2))
        (said,) = lines(cli("tell", number, repr(told[-1][1]), "--seconds", 2, "--json"))
        assert said == {
            "number": number, "state": "complete", "value": told[-1][1], "std": None, "seconds": 2.0,
            "error": None, "config": told[-1][0],
        }  # fmt: skip
    alone = bayesopt.minimize(lambda c: (c["x"] - 0.3) ** 2, load_space("space.toml"), trials=8)
    assert told == [(trial.config, trial.value) for trial in alone.trials]


def test_noise_is_told_with_a_value(cli, folder):
    cli("ask", "space.toml", "-q", 2)
    cli("tell", 0, 0.5, "--std", 0.125)
    cli("tell", 1, 0.5)
    with bayesopt.Study(storage="sqlite:///bayesopt.db", name="space") as study:
        assert [trial.std for trial in study.trials] == [0.125, None]
    assert [each["std"] for each in json.loads(cli("export", "--json").out)] == [0.125, None]


def test_every_trial_is_listed(cli, mixed):
    found = lines(cli("trials", "--json"))
    assert [(each["number"], each["state"], each["value"]) for each in found] == [
        (0, "complete", 0.5), (1, "failed", None), (2, "complete", -1e-5), (3, "running", None),
        (4, "complete", 3.0),
    ]  # fmt: skip
    assert [each["config"] for each in found] == mixed
    by_value = lines(cli("trials", "--json", "--sort", "value"))
    assert [each["number"] for each in by_value] == [2, 0, 4, 1, 3]
    table = cli("trials").out.splitlines()
    assert len(table) == 6 and table[0].split() == [
        "number",
        "state",
        "value",
        "seconds",
        "lr",
        "opt",
        "k",
        "error",
    ]
    assert table[1].split()[:3] == ["0", "complete", "0.5"] and table[2].endswith("full")
    assert "\\n" in table[5] and "3" in table[5]


def test_the_best_is_shown(cli, mixed):
    (best,) = lines(cli("best", "--json"))
    assert best["number"] == 2 and best["config"] == mixed[2]
    shown = cli("best").out.splitlines()
    assert shown[0] == "trial 2: -1e-05" and f"  lr = {mixed[2]['lr']!r}" in shown


def test_a_report_is_the_page_of_the_study(cli, folder, mixed):
    """Under the study's name, or where one says; the page itself is tested elsewhere."""
    (said,) = lines(cli("report", "--json"))
    page = (folder / said["report"]).read_text()
    assert said["report"] == "mixed.html" and page.startswith("<!doctype html>") and "mixed" in page
    done = cli("report", "-o", "here.html")
    assert done == (0, "here.html\n", "") and (folder / "here.html").stat().st_size > 1000
    done = cli("report", "-o", "no/such/folder.html")
    assert done.code == 1 and "no/such/folder.html" in done.err and done.err.count("\n") == 1


def test_exports_hold_what_the_study_holds(cli, folder, mixed):
    found = lines(cli("trials", "--json"))
    assert (
        json.loads(cli("export", "--json").out) == json.loads(cli("export", "--format", "json").out) == found
    )
    assert lines(cli("export", "--format", "jsonl")) == found
    for name in ("trials.csv", "trials.json", "trials.jsonl"):
        assert cli("export", "-o", name) == (0, "", "")
        assert (folder / name).read_text() == cli("export", "--format", name.partition(".")[2]).out
    rows = list(csv.DictReader(io.StringIO((folder / "trials.csv").read_bytes().decode(), newline="")))
    assert rows[0].keys() == {*found[0]} - {"config"} | {"config.lr", "config.opt", "config.k"}
    for row, each in zip(rows, found, strict=True):
        config = each["config"]
        assert (row["number"], row["state"]) == (str(each["number"]), each["state"])
        assert row["value"] == ("" if each["value"] is None else repr(each["value"]))
        assert float(row["config.lr"]) == config["lr"] and row["config.k"] == str(config.get("k", ""))
        assert row["config.opt"] == (
            config["opt"] if isinstance(config["opt"], str) else json.dumps(config["opt"])
        )


def test_numbers_of_every_form_are_values(cli):
    values = ["1", "-1", "-1e-3", "-.5", "+2", "1E5", "-0"]
    failures = ["nan", "-nan", "inf", "-inf", "Infinity"]
    cli("ask", "space.toml", "-q", 12, "--method", "random")
    for number, text in enumerate([*values, *failures]):
        (told,) = lines(cli("tell", number, text, "--json"))
        assert told["value"] == (float(text) if text in values else None)
    assert "trial 3: -0.5" not in cli("best").out and cli("best").out.startswith("trial 1: -1.0")


def test_a_table_is_exact_where_it_is_copied_from(cli):
    out = cli("ask", "space.toml", "-q", 3, "--method", "random").out.splitlines()
    assert out[0].split() == ["number", "x"]
    assert [float(line.split()[1]) for line in out[1:]] == [
        e["config"]["x"] for e in lines(cli("trials", "--json"))
    ]


def test_the_only_study_needs_no_name_and_several_do(cli):
    cli("ask", "space.toml")
    assert len(lines(cli("trials", "--json"))) == 1
    cli("ask", "space.toml", "--name", "another")
    done = cli("trials")
    assert done.code == 2 and "Pass --name; there are 'another', 'space'" in done.err
    assert len(lines(cli("trials", "--name", "another", "--json"))) == 1


def test_without_a_success_there_is_no_best(cli):
    cli("ask", "space.toml")
    assert cli("best") == (
        1,
        "",
        "bayesopt best: error: study 'space' has no best trial: none of its 0 trials has succeeded\n",
    )
    cli("tell", 0, "--failed")
    assert cli("best", "--json").code == 1


MISTAKES = [
    (["tell"], "expected NUMBER VALUE, got nothing"),
    (["tell", 0], "expected NUMBER VALUE, got 0"),
    (["tell", 0, 1, 2], "got 0 1 2"),
    (["tell", 0, 1, "--failed"], "expected NUMBER, got 0 1"),
    (["tell", "x", 1], "expected the number of a trial"),
    (["tell", -1, 1], "expected the number of a trial"),
    (["tell", 0, "0,5"], "expected a number as the value, got '0,5'"),
    (["tell", 0, 1, "--error", "x"], "--error goes with --failed"),
    (["tell", 0, 1, "--seconds", -1], "--seconds must be"),
    (["tell", 0, 1, "--std", 0], "std must be positive"),
    (["tell", 0, "--failed", "--std", 1], "--std goes with a value"),
    (["tell", 7, 1], "trial 7 is not running; `bayesopt trials` lists what is"),
    (["tell", 1, 1], "trial 1 has ended"),
    (["tell", "--config", "{", 1], "--config is not JSON"),
    (["tell", "--config", "[]", 1], "--config must be a JSON object"),
    (["tell", "--config", '{"y": 1}', 1], "unknown parameter 'y'"),
    (["tell", "--config", '{"x": 7}', 1], "parameter 'x'"),
    (["ask", "-q", 0], "argument -q: expected a whole number >= 1"),
    (["ask", "missing.toml"], "missing.toml: No such file"),
    (["ask", "space.txt"], "space.txt: a space file ends in .toml or .json"),
    (["ask", "--name", "unknown"], "there is no study 'unknown', only 'space'"),
    (["best", "--storage", "sqlite:///missing.db"], "there is no SQLite file 'missing.db'"),
    (["trials", "--sort", "age"], "invalid choice"),
    (["export", "--json", "--format", "csv"], "contradict each other"),
    (["fly"], "invalid choice: 'fly'"),
    (["best", "--fast"], "unrecognized arguments: --fast"),
]


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A folder with a study whose first trial runs and whose second has ended."""
    folder = tmp_path_factory.mktemp("kept")
    (folder / "space.toml").write_text('[x]\ntype = "float"\nlow = -1.0\nhigh = 1.0\n')
    with Study({"x": Float(-1.0, 1.0)}, storage=f"sqlite:///{folder / 'bayesopt.db'}", name="space") as study:
        study.ask(2, watched=False)
        study.tell(1, 0.5)
        yield (
            folder,
            lambda: repr(study.optuna.trials) + repr(study.optuna._storage.get_study_system_attrs(1)),
        )


@pytest.mark.parametrize(("words", "says"), MISTAKES)
def test_a_mistake_is_one_line_and_changes_nothing(kept, words, says, monkeypatch, capsys):
    folder, state = kept
    monkeypatch.chdir(folder)
    before, files = state(), sorted(folder.iterdir())
    with pytest.raises(SystemExit) as end:
        raise SystemExit(main([str(word) for word in words]))
    out, err = capsys.readouterr()
    assert end.value.code == 2 and out == "" and says in err and err.count("\n") == 1
    assert err.startswith("bayesopt") and ": error: " in err and "Traceback" not in err
    assert state() == before and sorted(folder.iterdir()) == files


def test_debug_shows_where(cli):
    done = cli("ask", "missing.toml", "--debug")
    assert (
        done.code == 2
        and "Traceback" in done.err
        and done.err.endswith("missing.toml: No such file or directory\n")
    )


def test_a_storage_that_cannot_be_reached_is_a_failure(cli, folder):
    (folder / "broken.db").write_bytes(b"SQLite format 3\0" + bytes(200))
    done = cli("trials", "--name", "a", "--storage", "sqlite:///broken.db")
    assert done.code == 1 and "cannot be used" in done.err and done.err.count("\n") == 1
    done = cli("export", "--storage", "sqlite:///broken.db")
    assert done.code == 1


def test_what_cannot_be_written_is_a_failure(cli):
    cli("ask", "space.toml")
    done = cli("export", "-o", "no/such/folder.csv")
    assert done.code == 1 and "no/such/folder.csv" in done.err and done.err.count("\n") == 1


# --- help, and the process --------------------------------------------------------------------------------


def process(*words, **how):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "bayesopt", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        **how,
    )


def test_help_loads_nothing_heavy():
    text = (
        "import sys\nfrom bayesopt.cli.main import main\n"
        "try: main(sys.argv[1:])\nexcept SystemExit as end: assert not end.code\n"
        "print([n for n in ('torch', 'numpy', 'optuna', 'sqlalchemy', 'rich', 'scipy') if n in sys.modules])"
    )
    for words in (["--help"], ["tune", "--help"], ["--version"]):
        done = subprocess.run(
            [sys.executable, "-c", text, *words],
            capture_output=True,
            text=True,
            cwd=ROOT,
            check=True,
            timeout=60,
        )
        assert done.stdout.endswith("\n[]\n") and len(done.stdout) > 10


def test_every_command_helps_with_an_example(cli):
    overview = cli("--help")
    assert overview.code == 0 and "exit codes: 0" in overview.out
    for command in COMMANDS:
        assert f"    {command.name} " in overview.out and command.summary in overview.out
        said = cli(command.name, "--help")
        assert said.code == 0 and f"bayesopt {command.name}" in said.out
        assert all(len(line) <= 110 for line in said.out.splitlines())
        assert command.takes_rest or f"bayesopt {command.name} " in command.details
    assert cli("--version").out == f"bayesopt {bayesopt.__version__}\n"
    assert cli().code == 2


def test_the_example_of_the_help_is_a_space(cli):
    text = cli("--help").out.partition("space.toml:\n\n")[2].partition("then let")[0]
    assert Space.from_dict(tomllib.loads(text)) == Space(
        {"lr": Float(1e-5, 0.1, log=True), "layers": Int(1, 6)}
    )


def test_whoever_reads_may_have_seen_enough(folder):
    long = Categorical(["a" * 3000, "b" * 3000])
    with Study({"x": long}, storage=URL, name="space", method="random") as study:
        study.ask(60, watched=False)  # more than a pipe holds
    with process("trials", cwd=folder) as running:
        assert running.stdout.readline().split() == [
            b"number",
            b"state",
            b"value",
            b"seconds",
            b"x",
            b"error",
        ]
        running.stdout.close()
        assert running.wait(60) == 141 and running.stderr.read() == b""


def test_text_of_any_kind_can_be_printed_anywhere(folder):
    (folder / "space.toml").write_text('["é漢"]\ntype = "categorical"\nchoices = ["ü\\u0007🎉"]\n')
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"}
    for words in (["ask", "space.toml"], ["trials"]):
        done = subprocess.run(
            [sys.executable, "-m", "bayesopt", *words],
            capture_output=True,
            cwd=folder,
            env=environment,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr


# --- malformed space files --------------------------------------------------------------------------------

TOML, JSON = MIXED.to_toml(), MIXED.to_json()
CUTS = st.tuples(st.integers(0, len(JSON)), st.integers(0, 8), st.text(max_size=4))
WORDS = st.sampled_from(
    [
        "float",
        "int",
        "null",
        "nan",
        "inf",
        "-1",
        "1e999",
        "9" * 400,
        "[",
        "]",
        "{",
        "}",
        '"',
        "=",
        "low",
        "when",
        "true",
    ]
)
PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["float", "int", "lr"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
FIELDS = st.sampled_from(
    ["type", "low", "high", "log", "step", "choices", "ordered", "belief", "when", "weights", "x"]
)
TABLES = st.dictionaries(
    st.sampled_from(["lr", "a", ""]), st.dictionaries(FIELDS, PLAIN, max_size=4) | PLAIN, max_size=3
)


def spliced(text, cuts):
    """A text with pieces taken out and others put in."""
    for place, length, piece in cuts:
        text = text[:place] + piece + text[place + length :]
    return text


def mended(entry):
    """A table that has a type and its fields more often than chance would."""
    kinds = {"type": "float", "low": 0.0, "high": 1.0}
    return {**kinds, **entry} if isinstance(entry, dict) else entry


FILES = (
    st.tuples(st.just(".toml"), st.builds(spliced, st.just(TOML), st.lists(CUTS, min_size=1, max_size=3)))
    | st.tuples(st.just(".json"), st.builds(spliced, st.just(JSON), st.lists(CUTS, min_size=1, max_size=3)))
    | st.tuples(
        st.just(".toml"),
        st.builds(
            lambda c: spliced(TOML, c), st.lists(st.tuples(st.integers(0, 200), st.integers(0, 9), WORDS))
        ),
    )
    | st.tuples(st.just(".json"), TABLES.map(json.dumps))
    | st.tuples(
        st.just(".json"), TABLES.map(lambda t: json.dumps({name: mended(e) for name, e in t.items()}))
    )
    | st.tuples(st.sampled_from([".toml", ".json"]), st.text(max_size=40))
    | st.tuples(st.sampled_from([".toml", ".json"]), st.integers(1, 20000).map(lambda n: "[" * n))
    | st.tuples(st.just(".toml"), st.integers(1, 3000).map(lambda n: "x = " + "{a = " * n))
)


@settings(
    max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(file=FILES)
def test_a_malformed_space_file_is_one_line_and_changes_nothing(kept, file, capsys):
    folder, _ = kept
    suffix, text = file
    path = folder / f"malformed{suffix}"
    path.write_bytes(text.encode(errors="surrogatepass"))
    try:
        try:
            load_space(str(path))
        except (ValueError, TypeError):
            pass
        else:
            return  # it is a space after all
        database = folder / "bayesopt.db"
        before = database.stat().st_mtime_ns, database.stat().st_size
        assert main(["ask", str(path), "--storage", f"sqlite:///{database}", "--name", "space"]) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.startswith(f"bayesopt ask: error: {path}: ") and err.count("\n") == 1
        assert len(err) > len(f"bayesopt ask: error: {path}: ") + 10
        assert (database.stat().st_mtime_ns, database.stat().st_size) == before
    finally:
        path.unlink()


@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(number=st.text(max_size=5) | st.integers().map(str), value=st.text(max_size=10))
@example(number="", value="-\n")
def test_a_malformed_result_is_one_line_and_changes_nothing(kept, number, value, capsys):
    folder, state = kept
    assume(not {"--debug", "--failed"} & {number, value})
    try:
        if number == "0" and float(value) is not None:
            return  # the trial that runs, and a number
    except ValueError:
        pass
    before = state()
    try:
        code = main(
            ["tell", "--storage", f"sqlite:///{folder / 'bayesopt.db'}", "--name", "space", number, value]
        )
    except SystemExit as end:
        code = end.code
    assert state() == before
    out, err = capsys.readouterr()
    asked_for_help = "-" in number + value and out.startswith("usage: ")
    assert code == 0 if asked_for_help else code == 2 and err.count("\n") == 1 and out == ""
