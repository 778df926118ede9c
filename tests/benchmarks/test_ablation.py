"""Variants of one setting from a file, and files that are wrong."""

import numpy as np
import pytest

from benchmarks import ablation, storage
from benchmarks.__main__ import main
from benchmarks.scores import Scores


def test_ablation_of_a_file(tmp_path, capsys):
    file = tmp_path / "a.toml"
    file.write_text(
        'setting = "method"\nvalues = ["sobol", "random"]\nproblems = ["branin", "cond/jenatton"]\n'
        "seeds = 4\nevaluations = 10\n"
    )
    assert main(["ablate", str(file)]) == 0
    printed = capsys.readouterr().out
    assert "minus that of `bayesopt:method=sobol`" in printed
    found = Scores.of(storage.load(tmp_path / "a.jsonl"))
    names = ["bayesopt:method=sobol", "bayesopt:method=random"]
    expected = np.mean(
        [
            np.mean(np.subtract(*(found.log_regret(p, v)[:, 9] for v in reversed(names))))
            for p in found.problems
        ]
    )
    result = ablation.difference(found, found.problems, names[1], names[0], 10)
    assert result.value == pytest.approx(expected)
    assert f"{expected:+.2f}" in printed
    assert (tmp_path / "a.md").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('problems = ["branin"]', "missing keys"),
        ('variants = ["bayesopt"]\nproblems = ["branin"]', "at least two variants"),
        ('variants = ["a", "b"]\nproblems = ["branin"]\nbudget = 3', "unknown keys"),
    ],
)
def test_a_wrong_ablation_says_what_is_wrong(tmp_path, text, message):
    file = tmp_path / "a.toml"
    file.write_text(text)
    with pytest.raises(SystemExit, match=message):
        main(["ablate", str(file)])
