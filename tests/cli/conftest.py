"""The command line, called in this process or started as users start it."""

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from bayesopt.cli.main import main

ROOT = Path(__file__).parents[2]

SPACE = """
[x]
type = "float"
low = -1.0
high = 1.0
"""


class Done(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of its own to work in, with a space file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "space.toml").write_text(SPACE)
    return tmp_path


@pytest.fixture
def cli(folder, capfd):
    """Calls the command line; its exit code and what it wrote."""

    def call(*words):
        capfd.readouterr()
        try:
            code = main([str(word) for word in words])
        except SystemExit as end:
            code = end.code
        sys.stdout.flush()
        return Done(code, *capfd.readouterr())

    return call


@pytest.fixture
def start(folder):
    """Starts the command line in a process of its own."""
    started = []

    def begin(*words):
        process = subprocess.Popen(
            [sys.executable, "-m", "bayesopt", *map(str, words)], stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, cwd=folder, start_new_session=True,
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def script(folder):
    """Writes a program in Python that starts quickly; the words that run it."""

    def write(text, name="program.py"):
        (folder / name).write_text(text)
        return [sys.executable, "-I", "-S", str(folder / name)]

    return write
