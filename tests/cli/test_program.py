"""A program that runs: its output, its end, what it leaves behind, and the death of whoever started it."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from bayesopt.cli.program import STDERR, STDOUT, Program
from tests.processes import alive, wait_until

ROOT = Path(__file__).parents[2]
PYTHON = [sys.executable, "-I", "-S", "-c"]


def program(words, timeout=None, grace=5.0, environment=None):
    return Program(words, os.environ if environment is None else environment, timeout, grace)


def heard(running):
    """All of its output, by source."""
    said = {STDOUT: b"", STDERR: b""}
    for source, chunk in running.output():
        said[source] += chunk
    return said


def run(words, **how):
    with program(words, **how) as running:
        return heard(running), running


EVIL = [
    "two words", "", "'", '"', "$(touch pwned)", "`touch pwned`", "; touch pwned", "&& touch pwned", "| cat",
    "> pwned", "*", "~", "a\nb", "\t", "\\", "%s", "--flag", "-", "--", "é 漢 🎉", "\x01\x7f", "$HOME",
    "!!", "#",
]  # fmt: skip


def test_words_arrive_as_they_are_and_no_shell_sees_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said, _ = run([*PYTHON, "import sys; sys.stdout.write(ascii(sys.argv[1:]))", *EVIL])
    assert said[STDOUT].decode() == ascii(EVIL)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("code", [0, 1, 77, 255])
def test_exit_codes(code):
    said, done = run([*PYTHON, f"import sys; print('a'); print('b', file=sys.stderr); sys.exit({code})"])
    assert said == {STDOUT: b"a\n", STDERR: b"b\n"}
    assert (done.code, done.problem, done.timed_out) == (code, "", False)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGINT])
def test_death_by_a_signal(number):
    _, done = run([*PYTHON, f"import os; os.kill(os.getpid(), {int(number)})"])
    assert done.code == -number


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_program_that_kills_its_group(number):
    _, done = run([*PYTHON, f"import os, time; os.kill(0, {int(number)}); time.sleep(60)"])
    assert done.code == -number


def test_signals_mean_to_the_program_what_they_always_mean():
    text = "import signal; print(*[signal.getsignal(n) for n in (1, 15)], signal.pthread_sigmask(0, []))"
    said, _ = run([*PYTHON, text])
    assert said[STDOUT] == b"0 0 set()\n"
    text = "yes | head -n 1; echo ${PIPESTATUS[0]}"
    said, _ = run(["bash", "-c", text])
    assert said[STDOUT].split() == [b"y", b"141"]  # as in a terminal: yes dies of SIGPIPE


@pytest.mark.parametrize("words", [["./is-not-there"], ["is-not-there", "1"], ["/"], [""]])
def test_what_cannot_be_run_says_so(words):
    said, done = run(words)
    assert done.code == 127 and done.problem.startswith(f"{words[0]!r} cannot be run: ")
    assert said == {STDOUT: b"", STDERR: b""}


def test_large_output_comes_whole_and_a_silent_program_without_input_ends():
    said, done = run(
        [*PYTHON, "import sys; sys.stdout.write('x' * 3_000_000); sys.stderr.write('y' * 200_000)"]
    )
    assert said == {STDOUT: b"x" * 3_000_000, STDERR: b"y" * 200_000} and done.code == 0
    assert run(["cat"])[0][STDOUT] == b""


def test_output_comes_while_it_runs():
    text = "import time; print('a', flush=True); time.sleep(60)"
    with program([*PYTHON, text]) as running:
        assert next(running.output()) == (STDOUT, b"a\n")
        assert running.code is None


def test_it_has_the_given_environment_and_nothing_else():
    said, _ = run(
        [*PYTHON, "import os; print(sorted(os.environ.items()))"],
        environment={"A": "ü\n=", "LC_ALL": "C.UTF-8"},
    )
    assert said[STDOUT].decode() == "[('A', 'ü\\n='), ('LC_ALL', 'C.UTF-8')]\n"


def test_a_timeout_is_a_request_and_after_the_grace_an_end():
    begin = time.monotonic()
    polite = "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(3)); time.sleep(60)"
    _, done = run([*PYTHON, polite], timeout=2.0)
    assert done.timed_out and done.code == 3
    stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(60)"
    _, done = run([*PYTHON, stubborn], timeout=1.0, grace=0.3)
    assert done.timed_out and done.code == -signal.SIGKILL
    assert 3.3 < time.monotonic() - begin < 20


def test_another_thread_can_stop_it():
    with program([*PYTHON, "import time; time.sleep(60)"]) as running:
        threading.Timer(0.5, running.stop).start()
        heard(running)
    assert running.code == -signal.SIGTERM and not running.timed_out
    running.stop()  # too late, and no harm
    running.kill()


def test_what_it_leaves_behind_ends_with_it():
    text = "sleep 600 & echo $!; yes > /dev/null & echo $!"
    said, done = run(["bash", "-c", text])
    assert done.code == 0
    wait_until(lambda: not any(map(alive, map(int, said[STDOUT].split()))))


def test_output_of_what_it_leaves_behind_does_not_keep_it():
    _, done = run(["bash", "-c", "yes & exit 4"])
    assert done.code == 4


PARENT = """
import os, sys, time
from bayesopt.cli.program import Program
words = ["bash", "-c", "echo $$; sleep 600 & echo $!; trap '' TERM; wait; sleep 600"]
with Program(words, os.environ, None, 60) as it:
    for _, chunk in it.output():
        sys.stdout.buffer.write(chunk)
        sys.stdout.flush()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_dies_with_whoever_started_it(number):
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    with parent:
        pids = [int(parent.stdout.readline()) for _ in range(2)]
        assert all(map(alive, pids))
        parent.send_signal(number)
    wait_until(lambda: not any(map(alive, pids)))
