"""`bayesopt tune`: programs as objectives, whatever they do, and whatever happens to the run."""

import json
import os
import signal
import time
from collections import Counter
from pathlib import Path

import optuna
import pytest

from tests.processes import alive, wait_until

URL = "sqlite:///bayesopt.db"
RANDOM = ("--method", "random")

# Notes what it is called with, and prints the loss.
BOWL = """
import json, os, sys
with open("calls", "a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
print(json.dumps({"loss": (float(sys.argv[1]) - 0.3) ** 2}))
"""

# Notes the number of its trial when it begins, and when it has ended.
SLOW = """
import os, sys, time
number = os.environ["BAYESOPT_TRIAL"]
def note(what):
    with open("notes", "a") as file:
        file.write(f"{what} {number} {sys.argv[1]} {os.getpid()}\\n")
note("begin")
time.sleep(float(sys.argv[2]))
note("end")
print((float(sys.argv[1]) - 0.3) ** 2)
"""


def calls():
    return [json.loads(line) for line in Path("calls").read_text().splitlines()]


def notes(what):
    """Number of the trial, x and process of each note of a kind."""
    file = Path("notes")
    lines = [line.split() for line in file.read_text().splitlines()] if file.exists() else []
    return [tuple(words[1:]) for words in lines if words[0] == what]


def stored(name="space"):
    """What is in the storage, by Optuna."""
    return optuna.load_study(study_name=name, storage=URL)


def results(cli):
    return [json.loads(line) for line in cli("trials", "--json").out.splitlines()]


# --- one run ----------------------------------------------------------------------------------------------


def test_a_program_is_tuned_and_the_same_command_goes_on(cli, script):
    words = ["tune", "space.toml", "--", *script(BOWL), "{x}"]
    first = cli(*words[:2], "--trials", 9, *words[2:])
    assert (
        first.code == 0 and first.err == "" and first.out.startswith("9 trials, 0 failed, 0 pruned\ntrial ")
    )
    again = cli(*words[:2], "--trials", 9, *words[2:])
    assert again == first and len(calls()) == 9
    more = cli(*words[:2], "--trials", 12, "--json", "--workers", 2, *words[2:])
    summary = json.loads(more.out)
    assert (summary["study"], summary["trials"], summary["failed"], summary["pruned"]) == ("space", 12, 0, 0)
    assert summary["best"]["value"] < 1e-3 and len(calls()) == len({call[0] for call in calls()}) == 12
    found = results(cli)
    assert [str(each["config"]["x"]) for each in found[:9]] == [call[0] for call in calls()[:9]]
    assert min(each["value"] for each in found) == summary["best"]["value"]


def test_larger_is_better_if_one_says_so(cli, script):
    program = script("import sys; print(1 - float(sys.argv[1]) ** 2)")
    done = cli("tune", "space.toml", "--maximize", "--json", "--trials", 8, "--", *program, "{x}")
    assert json.loads(done.out)["best"]["value"] > 0.99
    # And the study remembers.
    done = cli("tune", "space.toml", "--json", "--trials", 9, "--", *program, "{x}")
    assert json.loads(done.out)["best"]["value"] > 0.99


VALUES = ["two words", "'\"", "$(touch pwned)", "; touch pwned", "a\nb", "é 漢", "-rf", "{x}", "{{", "%s", ""]


def test_values_reach_the_program_as_they_are(cli, folder, script):
    space = {"v": {"type": "categorical", "choices": [*VALUES, 1, 1.5, True, None]}}
    (folder / "space.json").write_text(json.dumps(space))
    program = script(
        "import json, os, sys\n"
        "config = json.loads(os.environ['BAYESOPT_CONFIG'])\n"
        "value = config['v'] if isinstance(config['v'], str) else json.dumps(config['v'])\n"
        "assert json.loads(sys.argv[3]) == config and sys.argv[5] == os.environ['BAYESOPT_TRIAL']\n"
        "assert sys.argv[1:3] == [value, '{<' + value + '>}'], sys.argv\n"
        "print(0)"
    )
    done = cli(
        "tune", "space.json", "--method", "grid", "--trials", 15, "--workers", 3, "--json",
        "--", *program, "{v}", "{{<{v}>}}", "{config}", "x", "{trial}",
    )  # fmt: skip
    assert json.loads(done.out)["failed"] == 0, done.err
    assert not (folder / "pwned").exists() and {each.name for each in folder.iterdir()} == {
        "space.json", "space.toml", "program.py", "space-logs", "bayesopt.db",
    }  # fmt: skip
    exported = cli("export", "--format", "csv").out
    assert "$(touch pwned)" in exported and '"a\nb"' in exported


def test_an_inactive_parameter_takes_its_option_along(cli, folder, script):
    (folder / "space.toml").write_text(
        '[o]\ntype = "categorical"\nchoices = ["adam", "sgd"]\n'
        '[m]\ntype = "int"\nlow = 1\nhigh = 1\nwhen = {o = "sgd"}\n'
    )
    program = script("import sys; print({('adam',): 1, ('sgd', '--m', '1'): 2}[tuple(sys.argv[1:])])")
    done = cli("tune", "space.toml", "--method", "grid", "--trials", 2, "--", *program, "{o}", "--m", "{m}")
    assert done.out.startswith("2 trials, 0 failed") and "\n  o = adam\n" in done.out


FAILURES = {
    "import sys; print('a word'); print('oh no', file=sys.stderr); sys.exit(3)": "ended with exit code 3",
    "import os; print('last words', flush=True); os.kill(os.getpid(), 11)": "was killed by SIGSEGV",
    "raise RuntimeError('out of memory')": "RuntimeError: out of memory",
    "print('{\"loss\": NaN}')": "line 1 of standard output says that the evaluation failed, by nan",
    "print({'loss': 1})": "line 1 of standard output is not JSON: \"{'loss': 1}\"",
    "print('done')": "no line of standard output is a JSON object with 'loss', or a number; the last",
    "print(0.5); raise SystemExit(1)": "ended with exit code 1",
    "import time; print('waiting', flush=True); time.sleep(60)": "took longer than 4 s and was stopped",
}


def test_failures_say_why_and_keep_their_log(cli, folder, script, caplog):
    (folder / "space.json").write_text(
        json.dumps(
            {
                "what": {"type": "categorical", "choices": list(FAILURES)},
                "x": {"type": "int", "low": 1, "high": 2},
            }
        )
    )
    program = script("import sys\nif sys.argv[2] == '2': print(1)\nelse: exec(sys.argv[1])")
    done = cli(
        "tune", "space.json", "--method", "grid", "--trials", 2 * len(FAILURES), "--timeout", 4,
        "--workers", 2, "--logs", "logs", "--json", "--", *program, "{what}", "{x}",
    )  # fmt: skip
    assert done.code == 0 and json.loads(done.out)["failed"] == len(FAILURES)
    for each in results(cli):
        log = folder / "logs" / f"trial-{each['number']:05d}.log"
        assert log.read_text().startswith("$ ")
        if each["config"]["x"] == 2:
            assert each["value"] == 1.0 and each["error"] is None
            continue
        assert each["state"] == "failed" and FAILURES[each["config"]["what"]] in each["error"]
        assert (
            f"log: {Path('logs') / log.name}\n" in each["error"] and "cli/evaluation.py" not in each["error"]
        )
        assert log.read_text().rstrip("\n").endswith(each["error"].splitlines()[-1])
        assert f"trial {each['number']} failed: {each['error'].splitlines()[0]}" in caplog.messages
    assert "a word\n" in (folder / "logs" / "trial-00000.log").read_text()
    assert "oh no\n" in (folder / "logs" / "trial-00000.log").read_text()


def test_if_everything_fails_so_does_the_command(cli, script):
    program = script("print('no luck'); raise SystemExit(5)")
    done = cli("tune", "space.toml", *RANDOM, "--trials", 2, "--", *program, "{x}")
    assert done.code == 1 and done.out == ""
    assert done.err.splitlines()[-1] == (
        "bayesopt tune: error: none of 2 trials has succeeded; the last one: the program ended with "
        "exit code 5, log: space-logs/trial-00001.log"
    )
    assert (
        json.loads(cli("tune", "space.toml", "--trials", 2, "--json", "--", *program, "{x}").out)["best"]
        is None
    )


def test_a_log_keeps_everything_and_the_error_only_the_end(cli, folder, script):
    program = script("for i in range(5000): print(i, 'x' * 40)\nraise SystemExit(1)")
    cli("tune", "space.toml", *RANDOM, "--trials", 1, "--", *program, "{x}")
    error = results(cli)[0]["error"]
    assert len(error) < 5000 and error.splitlines()[-1].startswith("4999 ") and "\n4985 " in error
    assert (folder / "space-logs" / "trial-00000.log").read_text().count("\n") == 5001


def test_output_is_shown_if_one_wants_to_see_it(cli, script):
    program = script("import sys; print('to out'); print('to err', file=sys.stderr); print(1)")
    words = [*RANDOM, "--", *program, "{x}"]
    assert "to out" not in str(cli("tune", "space.toml", "--trials", 1, *words))
    shown = cli("tune", "space.toml", "--trials", 2, "--verbose", "--json", *words)
    assert "to out\n" in shown.err and "to err\n" in shown.err and json.loads(shown.out)["trials"] == 2


def test_a_pattern_finds_the_metric(cli, script):
    program = script("import sys; print('acc: 0.5'); print('acc:', sys.argv[1], '(best)')")
    pattern = r"acc: (?P<accuracy>\S+)"
    done = cli(
        "tune", "space.toml", *RANDOM, "--trials", 3, "--regex", pattern, "--json", "--", *program, "{x}"
    )
    assert json.loads(done.out)["failed"] == 0
    assert all(each["value"] == each["config"]["x"] for each in results(cli))


def test_another_metric(cli, script):
    program = script('print(\'{"loss": 1, "error": 2}\')')
    done = cli("tune", "space.toml", "--trials", 1, "--metric", "error", "--json", "--", *program, "{x}")
    assert json.loads(done.out)["best"]["value"] == 2.0


def test_the_environment_is_another_way_to_the_program(cli, script):
    program = script("import json, os; print(json.loads(os.environ['BAYESOPT_CONFIG'])['x'])")
    assert "never gets x" in cli("tune", "space.toml", "--", *program).err
    cli("tune", "space.toml", *RANDOM, "--trials", 2, "--env", "--", *program)
    assert all(each["value"] == each["config"]["x"] for each in results(cli))


STEPS = """
import json, os, signal, sys, time
number = int(os.environ["BAYESOPT_TRIAL"])
signal.signal(signal.SIGTERM, signal.SIG_IGN if number % 2 else signal.SIG_DFL)
for step in range(1, 40):
    print(json.dumps({"step": step, "loss": 0.0 if number < 5 else 1.0 + number}), flush=True)
    if number >= 5:
        time.sleep(0.5)
"""


def test_what_goes_badly_is_stopped_early(cli, script):
    begin = time.monotonic()
    done = cli(
        "tune", "space.toml", *RANDOM, "--trials", 8, "--pruner", "median", "--grace", 0.3, "--json",
        "--", *script(STEPS), "{x}",
    )  # fmt: skip
    assert time.monotonic() - begin < 40
    summary = json.loads(done.out)
    assert (summary["pruned"], summary["failed"], summary["best"]["value"]) == (3, 0, 0.0)
    states = [(each["state"], each["value"]) for each in results(cli)]
    assert states == [("complete", 0.0)] * 5 + [("pruned", float(n + 1)) for n in (5, 6, 7)]
    trials = stored().trials
    assert [len(t.intermediate_values) for t in trials[:5]] == [39] * 5
    assert all(0 < len(t.intermediate_values) < 39 for t in trials[5:])


def test_a_step_that_is_none_is_noted_in_the_log(cli, folder, script):
    program = script('print(\'{"step": "first", "loss": 1}\'); print(2)')
    done = cli("tune", "space.toml", "--trials", 1, "--json", "--", *program, "{x}")
    assert json.loads(done.out)["best"]["value"] == 2.0
    log = (folder / "space-logs" / "trial-00000.log").read_text()
    assert "bayesopt: line 1 of standard output must have a whole number" in log


# --- mistakes ---------------------------------------------------------------------------------------------

MISTAKES = [
    (["tune"], "the following arguments are required: SPACE"),
    (["tune", "space.toml"], "no program to run; write it after --"),
    (["tune", "space.toml", "--"], "no program to run"),
    (["tune", "space.toml", "--", "no-such-program", "{x}"], "there is no program 'no-such-program'"),
    (["tune", "space.toml", "--", "true", "{y}"], "placeholder {y} is no parameter of the space; it has x"),
    (["tune", "space.toml", "--", "true"], "the program never gets x"),
    (["tune", "space.toml", "--", "true", "{x"], "'{' stands alone"),
    (["tune", "missing.toml", "--", "true", "{x}"], "missing.toml: No such file"),
    (
        ["tune", "space.toml", "--trials", "0", "--", "true", "{x}"],
        "argument --trials: expected a whole number",
    ),
    (
        ["tune", "space.toml", "--workers", "x", "--", "true", "{x}"],
        "argument --workers: expected a whole number",
    ),
    (
        ["tune", "space.toml", "--timeout", "-1", "--", "true", "{x}"],
        "argument --timeout: expected a number of",
    ),
    (["tune", "space.toml", "--regex", "loss", "--", "true", "{x}"], "must have one named group"),
    (
        ["tune", "space.toml", "--metric", "a", "--regex", "b", "--", "true", "{x}"],
        "not allowed with argument",
    ),
    (["tune", "space.toml", "--pruner", "hasty", "--", "true", "{x}"], "pruner must be one of"),
    (["tune", "space.toml", "--method", "magic", "--", "true", "{x}"], "method must be one of"),
    (["tune", "space.toml", "--storage", "tuning.db", "--", "true", "{x}"], "write 'sqlite:///tuning.db'"),
    (["tune", "space.toml", "--name", "a\nb", "--", "true", "{x}"], "name must be a printable text"),
]


@pytest.mark.parametrize(("words", "says"), MISTAKES)
def test_mistakes_are_found_before_anything_runs(cli, folder, words, says):
    done = cli(*words)
    assert done.code == 2 and done.out == "" and says in done.err and done.err.count("\n") == 1
    assert done.err.startswith("bayesopt tune: error: ")
    assert [each.name for each in folder.iterdir()] == ["space.toml"]


def test_another_space_is_an_error_that_names_the_change_and_can_extend(cli, folder, script):
    program = script(BOWL)
    words = ["--trials", 2, *RANDOM, "--json", "--", *program, "{x}"]
    cli("tune", "space.toml", *words)
    before = stored().trials
    (folder / "space.toml").write_text('[x]\ntype = "float"\nlow = -1.0\nhigh = 2.0\n')
    done = cli("tune", "space.toml", *words)
    assert done.code == 2 and "'x' was Float(-1.0, 1.0) and is now Float(-1.0, 2.0)" in done.err
    assert "--on-space-change extend" in done.err and stored().trials == before
    done = cli("tune", "space.toml", "--on-space-change", "extend", *words)
    assert done.code == 0 and json.loads(done.out)["trials"] == 2
    done = cli("tune", "space.toml", "--seed", 5, *words)
    assert done.code == 2 and "has seed 0" in done.err


# --- several runs, and their deaths -----------------------------------------------------------------------


def test_two_at_once_share_the_work(start, script, cli):
    words = [
        "tune",
        "space.toml",
        "--trials",
        14,
        "--workers",
        2,
        *RANDOM,
        "--json",
        "--",
        *script(SLOW),
        "{x}",
        0.2,
    ]
    for process in [start(*words), start(*words)]:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        assert json.loads(out)["trials"] == 14
    begun = notes("begin")
    assert len(begun) == len({x for _, x, _ in begun}) == len(notes("end")) == 14
    assert sorted(int(number) for number, _, _ in begun) == list(range(14))


def test_after_kill_9_the_same_command_finishes_and_nothing_is_done_twice(start, script, cli):
    words = [
        "tune",
        "space.toml",
        "--trials",
        10,
        "--workers",
        2,
        *RANDOM,
        "--json",
        "--",
        *script(SLOW),
        "{x}",
        0.5,
    ]
    first = start(*words)
    wait_until(lambda: len(notes("end")) >= 3 and len(notes("begin")) > len(notes("end")), seconds=60.0)
    first.kill()
    first.communicate()
    pids = [int(pid) for *_, pid in notes("begin")]
    wait_until(lambda: not any(map(alive, pids)), 10)  # its programs die with it
    second = start(*words)
    out, err = second.communicate(timeout=120)
    assert second.returncode == 0, err
    assert json.loads(out)["trials"] == 10 and json.loads(out)["failed"] == 0
    ended = Counter(x for _, x, _ in notes("end"))
    complete = [t.params["x"] for t in stored().trials if t.state.name == "COMPLETE"]
    assert len(complete) == len(set(complete)) == 10
    # A program may have ended in the moment of the kill, its result not yet stored; nothing else ran twice.
    assert set(map(str, complete)) == set(ended) and sum(ended.values()) <= 12


@pytest.mark.parametrize(
    ("number", "code", "says"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "ended by SIGTERM")],
)
def test_signals_end_the_run_and_its_programs(start, script, cli, number, code, says):
    words = [
        "tune",
        "space.toml",
        "--trials",
        6,
        "--workers",
        2,
        *RANDOM,
        "--json",
        "--",
        *script(SLOW),
        "{x}",
    ]
    process = start(*words, 60)
    wait_until(lambda: len(notes("begin")) == 2, seconds=60.0)
    pids = [int(pid) for *_, pid in notes("begin")]
    assert all(map(alive, pids))
    os.killpg(process.pid, number)  # as a terminal does
    out, err = process.communicate(timeout=30)
    assert process.returncode == code and out == ""
    assert err == f"bayesopt tune: {says}; 0 of 6 trials are done, the same command goes on\n"
    assert not any(map(alive, pids)) and results(cli) == []  # what was interrupted is no trial
    if number == signal.SIGTERM:
        return
    process = start(*words, 0)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0 and json.loads(out)["trials"] == 6 and json.loads(out)["failed"] == 0


STUBBORN = "import signal, time; signal.signal(15, signal.SIG_IGN); open('ready', 'w'); time.sleep(100)"


def test_a_second_signal_has_no_patience(start, script):
    process = start("tune", "space.toml", "--grace", 600, "--", *script(STUBBORN), "{x}")
    wait_until(lambda: Path("ready").exists(), seconds=60.0)
    process.send_signal(signal.SIGINT)
    time.sleep(1.0)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert (
        process.returncode == 130
        and err.startswith("bayesopt tune: interrupted; 0 of 50")
        and err.count("\n") == 1
    )
