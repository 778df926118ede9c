"""Tables, and results that name the versions they were measured with."""

import json
import platform

import pytest

from benchmarks import report


def test_table_refuses_ragged_rows():
    with pytest.raises(ValueError, match="every row needs 2 cells"):
        report.markdown_table(["a", "b"], [[1, 2], [3]])


def test_table_has_a_caption_and_aligned_columns():
    lines = (
        report.Table(["name", "ms"], [["x", 0.125], ["longer", 3.0]], "What it is.").markdown().splitlines()
    )
    assert lines[:2] == ["What it is.", ""]
    assert lines[2:] == [
        "| name   | ms    |",
        "|--------|-------|",
        "| x      | 0.125 |",
        "| longer | 3     |",
    ]


def test_saved_results_name_the_versions_but_not_the_machine(tmp_path):
    text = report.save("name", report.Report("Title", [report.Table(["a"], [[1]])], [1, 2]), tmp_path)
    record = json.loads((tmp_path / "name.json").read_text())
    assert record["results"] == [1, 2]
    assert {"cpu", "cores", "threads", "torch", "date"} <= record["machine"].keys()
    assert (tmp_path / "name.md").read_text() == text
    assert str(tmp_path) not in text
    if node := platform.node():
        assert node not in json.dumps(record)
