"""`optuna-dashboard` on a study of ours: the server starts, and serves the study with its trials."""

import json
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from bayesopt import Categorical, Float, minimize

pytest.importorskip("optuna_dashboard", reason="needs: pip install optuna-dashboard")

SPACE = {
    "x": Float(-1.0, 1.0),
    "c": Categorical(["a", "b"]),
    "u": Float(0.0, 1.0, when={"c": "b"}),
}


def objective(config, trial):
    for step in range(3):
        trial.report(config["x"] ** 2 + 1 / (step + 1), step)
    return None if config["x"] > 0.8 else config["x"] ** 2 + config.get("u", 0.0)


@contextmanager
def serving(url, log):
    """The address of a dashboard on a storage."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = shutil.which("optuna-dashboard", path=Path(sys.executable).parent) or "optuna-dashboard"
    with log.open("w") as out:
        server = subprocess.Popen(
            [program, url, "--host", "127.0.0.1", "--port", str(port)], stdout=out, stderr=subprocess.STDOUT
        )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(20)


def fetch(address, patience=60.0):
    end = time.monotonic() + patience
    while True:
        try:
            with urlopen(address, timeout=20) as answer:
                return answer.read().decode()
        except URLError as error:
            if isinstance(error.reason, ConnectionRefusedError) and time.monotonic() < end:
                time.sleep(0.2)  # it is starting
                continue
            raise


def test_the_dashboard_serves_a_study_with_its_trials(tmp_path):
    url = f"sqlite:///{tmp_path / 'tuning.db'}"
    result = minimize(objective, SPACE, trials=14, storage=url, name="ours", progress=False)
    with serving(url, tmp_path / "log") as address:
        assert "<html" in fetch(f"{address}/dashboard/").lower()
        (study,) = json.loads(fetch(f"{address}/api/studies"))["study_summaries"]
        assert study["study_name"] == "ours"
        found = json.loads(fetch(f"{address}/api/studies/{study['study_id']}?after=0"))
    assert [trial["number"] for trial in found["trials"]] == [trial.number for trial in result.trials]
    for theirs, ours in zip(found["trials"], result.trials, strict=True):
        assert theirs["state"] == ("Complete" if ours.value is not None else "Fail")
        assert {p["name"] for p in theirs["params"]} == set(ours.config)
        assert len(theirs["intermediate_values"]) == 3
        if ours.value is not None:
            assert [float(v) for v in theirs["values"]] == [ours.value]
