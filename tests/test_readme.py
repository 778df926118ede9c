"""The examples of the README run as they stand, in order and in one namespace."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = README.read_text(encoding="utf-8")
    blocks = list(BLOCKS.finditer(text))
    assert len(blocks) >= 5, "the README has lost its examples, or they are not marked as python any more"
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "readme"}
    for block in blocks:
        # Empty lines in front make a traceback show the README's own line numbers.
        source = "\n" * text.count("\n", 0, block.start(1)) + block[1]
        exec(compile(source, str(README), "exec"), namespace)


def test_the_command_line_runs(tmp_path: Path) -> None:
    """The section's space file, program and commands, typed with `bayesopt` installed."""
    text = README.read_text(encoding="utf-8")
    section = text.partition("## From the command line")[2].partition("\n## ")[0]
    blocks = re.findall(r"^```(toml|py|sh)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    assert [kind for kind, _ in blocks] == ["toml", "py", "sh", "sh"]
    (tmp_path / "space.toml").write_text(blocks[0][1])
    (tmp_path / "train.py").write_text(blocks[1][1])
    python = shlex.quote(sys.executable)
    for name, words in [("bayesopt", f"{python} -m bayesopt"), ("python", python)]:
        (tmp_path / name).write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        (tmp_path / name).chmod(0o755)
    said = subprocess.run(
        ["bash", "-e", "-c", blocks[2][1] + blocks[3][1]],
        env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(README.parent)},
        cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    assert said.stdout.startswith("20 trials, 0 failed, 0 pruned\ntrial ")
    best, asked = (json.loads(line) for line in said.stdout.splitlines() if line.startswith("{"))
    assert best["value"] < 0.5 and best["config"]["optimizer"] == "sgd" and asked["number"] == 2
    assert (tmp_path / "trials.csv").read_text().count("\n") == 21
    assert len(list((tmp_path / "cli-logs").iterdir())) == 20
