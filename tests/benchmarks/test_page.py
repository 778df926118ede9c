"""The page of a comparison: its pictures and tables, and what got worse since an earlier run."""

import itertools
import json
import math

import numpy as np
import pytest

from benchmarks import figures, page, scores, storage
from benchmarks.__main__ import main
from benchmarks.scores import Scores
from benchmarks.storage import About, Job, Runs, Trial


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "small.jsonl"
    arguments = ["run", "--problems", "branin", "cond/jenatton", "hartmann6+fail=0.3", "--seeds", "6"]
    methods = ["bayesopt:method=sobol", "random", "bayesopt"]
    assert main([*arguments, "--methods", *methods, "--evaluations", "16", "--out", str(path)]) == 0
    return path


def test_page_is_self_contained_and_has_every_picture(small, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    assert main(["report", str(small), "--against", str(small), "--out", str(tmp_path / "r")]) == 0
    text = (tmp_path / "r.html").read_text()
    assert text.count("<img") == text.count('src="data:image/svg+xml;base64,') == 7
    assert "http" not in text.replace("http://www.w3.org", "") or 'src="http' not in text
    assert "<script" not in text and "<link" not in text
    for title in ("Scores", "Targets reached", "Ranks", "Problems: conditional", "Time of a proposal"):
        assert f"<h2>{title}</h2>" in text
    markdown = (tmp_path / "r.md").read_text()
    assert markdown in capsys.readouterr().out
    assert "Since the earlier run" in markdown and "WORSE" not in markdown
    assert "python -m benchmarks" in markdown and "torch" in markdown and str(tmp_path) not in markdown


def test_regressions_are_found_and_only_those(small, tmp_path):
    worse = tmp_path / "worse.jsonl"
    records = [json.loads(line) for line in small.read_text().splitlines()]
    for r in records:
        if r.get("method") == "bayesopt" and r["problem"] == "branin":
            r["value"] = abs(r["value"]) * 1000 + 1000 + r["seed"]
    worse.write_text("".join(json.dumps(r) + "\n" for r in records))
    table, count = page.regressions(storage.load(worse), storage.load(small))
    assert table.rows[0][:2] == ["branin", "bayesopt"]  # six seeds cannot pass Holm's correction for 9 rows
    assert count == 0 and [row[5] for row in table.rows] == ["level"] * 9
    assert all(row[3].startswith("+0.00") for row in table.rows[1:])
    alone = [storage.load(p) for p in (worse, small)]
    for runs in alone:
        kept = {
            j: t
            for j, t in runs.trials.items()
            if j.problem == "branin" and j.method != "bayesopt:method=sobol"
        }
        runs.trials = dict(kept)
        for j, t in list(kept.items()):
            runs.trials.update({Job(j.problem, j.method, 6 + j.seed): t})
    table, count = page.regressions(*alone)
    assert count == 1 and table.rows[0][5] == "WORSE"


def test_ranks_are_told_at_every_checkpoint(tmp_path):
    about = {p: About(p, "made", 2, 0.0, 1e-3) for p in ("one", "two")}
    trials = {}
    for problem, (name, early, late) in itertools.product(
        about, [("fast", 1.0, 0.5), ("slow", 2.0, 0.1), ("random", 3.0, 3.0)]
    ):
        trials[Job(problem, name, 0, 1, 1)] = [
            Trial(n, {}, 10.0 * early if n < 40 else late, None, 0.0) for n in range(60)
        ]
    table = {title: tables for title, tables, _ in page.sections_of(Scores.of(Runs(trials, about)), "fast")}
    ranks = table["Ranks"][0]
    assert ranks.header == ["method", "after 30", "after 50", "after 60"]
    assert ranks.rows == [["slow", 2.0, 1.0, 1.0], ["fast", 1.0, 2.0, 2.0], ["random", 3.0, 3.0, 3.0]]


def test_a_picture_shows_medians_and_leaves_out_what_failed_at_first():
    pytest.importorskip("matplotlib")
    late = {("p", "a"): [[math.inf, 3.0], [4.0, 1.0]], ("p", "random"): [[9.0, 8.0]] * 2}
    values = {key: np.pad(rows, ((0, 0), (0, 8)), mode="edge") for key, rows in late.items()}
    cells = {key: scores.Cell([0, 1], rows, np.zeros((2, 10))) for key, rows in values.items()}
    found = Scores(cells, {"p": About("p", "training", 1, math.nan, 1e-3)})
    (axes,) = figures.best_values(found, "loss").axes
    ours, random = (line.get_ydata() for line in axes.lines)
    assert ours[0] > axes.get_ylim()[1] > max(*ours[1:], *random[1:]) - 1e-9
    assert ours[1:].tolist() == [2.0] * 9 and random.tolist() == [9.0] + [8.0] * 9
