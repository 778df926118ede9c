"""The processes of a benchmark."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import alive, wait_until

ROOT = Path(__file__).parents[1]

SCRIPT = """
import os, time
from pathlib import Path
from benchmarks.processes import in_processes

def work(folder):
    Path(folder, str(os.getpid())).touch()
    time.sleep(600)

if __name__ == "__main__":
    import sys
    list(in_processes(work, [sys.argv[1]] * 2, 2))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_who_is_killed_leaves_nobody_behind_to_write_into_the_file_of_the_next_run(tmp_path):
    (script := tmp_path / "script.py").write_text(SCRIPT)
    (folder := tmp_path / "running").mkdir()
    process = subprocess.Popen([sys.executable, script, folder], env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        wait_until(lambda: len(os.listdir(folder)) == 2, 120)
        workers = [int(name) for name in os.listdir(folder)]
        assert all(alive(pid) for pid in workers)
    finally:
        process.kill()
        process.wait()
    wait_until(lambda: not any(alive(pid) for pid in workers))
