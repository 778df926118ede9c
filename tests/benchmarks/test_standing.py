"""Commands whose results are kept and shown: `efficiency`, `standing`, `job`."""

import json
import re

import numpy as np
import pytest

from benchmarks import standing, storage
from benchmarks.__main__ import main
from benchmarks.scores import Scores
from benchmarks.storage import Job

TINY = ["--problems", "branin", "cond/jenatton", "--methods", "bayesopt:method=sobol", "random"]


def test_efficiency_adds_to_what_it_has_and_reports_all_of_it(tmp_path, capsys):
    out = tmp_path / "efficiency.jsonl"
    base = ["efficiency", "--problems", "branin", "cond/jenatton", "--evaluations", "6", "--out", str(out)]
    assert main([*base, "--methods", "random", "bayesopt:method=sobol", "--seeds", "2"]) == 0
    lines = out.read_text().splitlines()
    assert main([*base, "--methods", "bayesopt:method=genetic", "--seeds", "3"]) == 0
    assert out.read_text().splitlines()[: len(lines)] == lines
    printed = capsys.readouterr().out
    assert "| bayesopt:method=sobol " in printed and "| bayesopt:method=genetic " in printed
    packed = storage.load(tmp_path / "efficiency.jsonl.gz")
    assert {len(trials) for trials in packed.trials.values()} == {6} and len(packed.trials) == 14
    assert "config" not in json.dumps([str(t) for t in packed.trials]) and str(tmp_path) not in printed
    assert (tmp_path / "efficiency.png").stat().st_size > 10_000


def test_standing_set_refreshes_the_readme_and_compares_with_the_run_before(tmp_path, capsys):
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- standing: begin -->\nold\n<!-- standing: end -->\nafter\n")
    arguments = ["standing", *TINY]
    arguments += ["--seeds", "3", "--evaluations", "8", "--processes", "1"]
    arguments += ["--folder", str(tmp_path), "--readme", str(readme)]
    for again in (False, True):
        assert main(arguments) == 0
        printed = capsys.readouterr().out
        assert ("Since the earlier run" in printed) == again
        assert {path.name for path in tmp_path.iterdir()} >= {"standing.jsonl.gz", "standing.md"}
        assert not (tmp_path / "standing.part.jsonl").exists()
    text = readme.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert "python -m benchmarks" in text and str(tmp_path) not in text
    packed = Scores.of(storage.load(tmp_path / "standing.jsonl.gz"))
    score = np.mean([packed.log_regret(p, "bayesopt:method=sobol")[:, 7].mean() for p in packed.problems])
    assert f"all, 2 problems | {score:.2f} (" in re.sub(" +", " ", text)
    with pytest.raises(ValueError, match="standing: begin"):
        standing.refreshed("no marks", "standing", "x")


def test_the_job_is_run_kept_drawn_and_shown_again(tmp_path):
    pytest.importorskip("matplotlib")
    readme = tmp_path / "README.md"
    marks = "before\n<!-- job: begin -->\nold\n<!-- job: end -->\nafter\n"
    readme.write_text(marks)
    folder = ["--folder", str(tmp_path), "--readme", str(readme)]
    arguments = ["job", *TINY]
    assert main([*arguments, "--seeds", "5", "--evaluations", "9", "--processes", "1", *folder]) == 0
    assert {p.name for p in tmp_path.iterdir()} >= {"job.jsonl.gz", "job.md", "job.png"}
    assert not (tmp_path / "job.part.jsonl").exists()
    first, rows = readme.read_text(), table_rows(readme.read_text())
    readme.write_text(marks)
    (tmp_path / "job.png").unlink()
    assert main(["job", "--stored", *folder]) == 0
    assert readme.read_text() == first and (tmp_path / "job.png").exists()
    assert first.startswith("before\n") and first.endswith("after\n") and "old" not in first

    trials = storage.load(tmp_path / "job.jsonl.gz").trials
    for (problem, method), row in rows.items():
        best = {m: np.array([[min(t.value for t in trials[Job(problem, m, seed)][: n + 1]) for n in range(9)]
                             for seed in range(5)]) for m in (method, "bayesopt:method=sobol")}  # fmt: skip
        median = np.median(best[method][:, -1])
        assert float(row[2]) == pytest.approx(median, rel=5e-3)
        if method == "random":
            reached = np.flatnonzero(np.median(best["bayesopt:method=sobol"], axis=0) <= median)
            assert row[5] == (str(reached[0] + 1) if len(reached) else "never")


def table_rows(text):
    """Cells of a Markdown table by the first two."""
    rows = [[c.strip() for c in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return {(row[0], row[1]): row for row in rows[2:]}
