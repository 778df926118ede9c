"""The GPU benchmark: it runs with the CPU for a GPU, counts right, resumes, and judges its targets."""

import argparse
import doctest
import importlib
import json
import time
from dataclasses import replace

import pytest
import torch

from bayesopt.surrogates import prefixes
from benchmarks.__main__ import build_parser, main
from benchmarks.gpu import PARTS, agreement, asks, book, ceilings, kernels, records, replicates, roofline, run
from benchmarks.gpu.book import Book, Setup
from benchmarks.report import RESULTS

CPU = torch.device("cpu")
RATES = {"matmul": 1e9, "cholesky": 1e8, "bandwidth": 1e6, "launch": 1e-5}


@pytest.fixture
def empty(tmp_path):
    return Book(tmp_path / "gpu.jsonl", "a card")


def test_examples_in_docstrings():
    assert doctest.testmod(book).failed == 0


@pytest.mark.slow
def test_the_whole_program_runs_and_a_second_run_measures_nothing(tmp_path, capsys):
    command = ["gpu", "--quick", "--device", "cpu", "--threads", "1", "--out", str(tmp_path)]
    assert main(command) == 0
    lines, text = (tmp_path / "gpu-quick.jsonl").read_text(), (tmp_path / "gpu-quick.md").read_text()
    assert text.startswith("# A rehearsal") and text in capsys.readouterr().out
    found = json.loads((tmp_path / "gpu-quick.json").read_text())["results"]
    assert {*PARTS, "factorisations", "fused ask", "regret"} == found.keys()
    assert not any(row["trouble"] for row in found["asks"])
    assert all(gap == 0.0 for row in found["agreement"] for gap in row["differences"])  # the CPU twice
    assert main(command) == 0
    assert (tmp_path / "gpu-quick.jsonl").read_text() == lines


def test_a_rehearsal_does_not_pass_for_results():
    with pytest.raises(SystemExit, match="rehearsal"):
        run(argparse.Namespace(device="cpu", out=RESULTS))
    if not torch.cuda.is_available():
        with pytest.raises(SystemExit, match="no GPU here"):
            run(argparse.Namespace(device="cuda", out=RESULTS))


def test_the_other_commands_are_there_where_one_cannot_be(monkeypatch):
    honest = importlib.import_module

    def without_optuna(name):
        if name == "benchmarks.durability":
            raise ModuleNotFoundError("No module named 'optuna'")
        return honest(name)

    monkeypatch.setattr(importlib, "import_module", without_optuna)
    assert build_parser().parse_args(["gpu", "--sizes", "20"]).sizes == [20]


# ------------------------------------------------------------------------------------------- roofline


def test_work_is_what_can_be_counted_by_hand():
    A, B = torch.rand(4, 30, 20, dtype=torch.float64), torch.rand(4, 20, 10, dtype=torch.float64)
    K = torch.eye(30, dtype=torch.float64).expand(2, 30, 30).clone()
    L = K.clone()
    with roofline.Count(RATES) as count:
        A.bmm(B)
    assert dict(count.arithmetic) == {"products": 2 * 4 * 30 * 20 * 10}
    assert count.moved == 8 * 4 * (30 * 20 + 20 * 10 + 30 * 10)
    assert count.floor == pytest.approx(count.moved / 1e6)
    with roofline.Count({**RATES, "bandwidth": 1e30}) as count:
        torch.linalg.cholesky_ex(K)
        torch.cholesky_inverse(L)
        torch.linalg.solve_triangular(L, K, upper=False)
    # n^3 / 3, 2 n^3 / 3 and n^2 k with k = n, twice each
    assert count.arithmetic["factorisations"] == pytest.approx(2 * (1 + 2 + 3) / 3 * 30**3)
    assert count.floor >= count.arithmetic["factorisations"] / 1e8


def test_views_are_free_expanded_tensors_small_and_reading_a_number_is_a_wait():
    x = torch.rand(100, dtype=torch.float64)
    with roofline.Count(RATES) as count:
        y = x.reshape(10, 10).mT[:5].expand(3, 5, 10)
    assert (count.operations, count.moved, count.waits) == (0, 0, 0)
    with roofline.Count(RATES) as count:
        total = (y + 1.0).sum()
        float(total)
    assert count.waits == 1
    assert count.moved == (800 + 1200) + (1200 + 8) + 8  # the sum, its sum, the number that is read


def test_the_slower_of_the_two_floors_is_the_floor():
    row = {
        "n": 1,
        "d": 1,
        "q": 1,
        "seconds": 1.0,
        "operations": 50_000,
        "waits": 0,
        "moved": 0,
        "floor": 0.25,
    }
    assert roofline._row({**row, "arithmetic": {}}, RATES)[-1] == "2x"  # 50,000 launches of 10 us
    assert roofline._row({**row, "arithmetic": {}, "kernels": 9, "calls": 9, "busy": 0.1}, RATES)[-1] == "4x"


# ----------------------------------------------------------------------------------------------- book


def test_a_book_goes_on_after_a_torn_line_and_keeps_cards_apart(empty):
    empty.put("part", {"n": 100}, {"seconds": 1.0})
    empty.put("part", {"n": 20}, {"seconds": 2.0})
    with empty.path.open("a") as file:
        file.write('{"card": "a card", "par')
    again, other = Book(empty.path, "a card"), Book(empty.path, "another")
    assert again.rows("part") == [{"n": 20, "seconds": 2.0}, {"n": 100, "seconds": 1.0}]
    assert other.rows("part") == []
    setup = Setup(CPU)
    assert list(setup.due([{"n": 20}, {"n": 30}], again, "part")) == [{"n": 30}]
    assert list(replace(setup, deadline=time.monotonic()).due([{"n": 30}], again, "part")) == []


# ----------------------------------------------------------------------------------------------- asks


class Fake:
    """An arm that takes so long, or fails."""

    def __init__(self, first, seconds):
        self.first, self.seconds, self.asked = first, seconds, 0

    def prepare(self, n):
        return self.first

    def ask(self, q):
        self.asked += 1
        if self.seconds is None:
            raise RuntimeError("out of memory\nand more")
        return self.seconds


def test_arms_that_fail_or_are_slow_sit_out_and_the_others_go_on(empty):
    arms = {
        "cpu": Fake(1.0, 6.0),
        "gpu": Fake(0.1, 0.01),
        "auto": Fake(99.0, 1.0),
        "botorch": Fake(0.0, None),
    }
    cell = {"n": 20, "d": 6, "q": 1}
    found = asks._race(arms, cell, Setup(CPU, limit=60.0))
    assert {name: arm.asked for name, arm in arms.items()} == {"cpu": 2, "gpu": 6, "auto": 1, "botorch": 1}
    assert found["trouble"] == {"botorch": "RuntimeError: out of memory"}
    empty.put(asks.PART, cell, found)
    assert asks._too_slow(empty, {"n": 20, "d": 6, "q": 8}, limit=60.0) == {"auto", "botorch"}
    assert asks._too_slow(empty, {"n": 10, "d": 10, "q": 8}, limit=60.0) == set()
    assert asks.auto_ratio(found) == pytest.approx(100.0)


def test_asks_begin_at_their_size_and_after_one_more_result_each():
    setup = Setup(CPU, method="random")
    arm = asks.Ours(asks.Results(6, seed=0), "cpu", setup)
    for n in (20, 20, 25):
        arm.prepare(n)
        assert len(arm._study.trials) == n - 1
        arm.ask(2)
        arm.ask(1)
        assert len(arm._study.trials) == n + 1 and not arm._study.pending


def test_asks_do_not_fit_shorter_histories_again(monkeypatch):
    arm = asks.Ours(asks.Results(6, seed=0), "cpu", Setup(CPU))
    arm.prepare(17)
    fitted = []
    honest = prefixes._fit_prefix
    monkeypatch.setattr(prefixes, "_fit_prefix", lambda *args: fitted.append(1) or honest(*args))
    for _ in range(2):
        arm.ask(1)  # after 17 and 18 results
    assert len(fitted) == 1  # the first 16 have become a prefix


def ask_row(cell, **seconds):
    n, d, q = cell
    times = {arm: [9.0, s] for arm, s in seconds.items()}
    return {"n": n, "d": d, "q": q, "first": {}, "seconds": times, "trouble": {}, "peak_bytes": 0}


def test_targets_of_the_asks_are_judged():
    rows = [
        ask_row((100, 10, 1), cpu=0.02, gpu=0.008, auto=0.0085, botorch=0.5),
        ask_row((5000, 20, 1), cpu=9.0, gpu=0.6, auto=0.6),
    ]
    reached = [line[1] for line in asks._targets(rows).rows]
    assert reached == [
        "yes (8 ms)", "no (600 ms)", "not measured", "not measured", "not measured", "yes (62.5 x)",
        "yes (1.06 x)",
    ]  # fmt: skip
    for matrices, word in ((3, "yes (3)"), (9, "no (9)")):
        rows[1]["peak_bytes"] = matrices * 8 * 5000**2
        assert asks._targets(rows).rows[4][1] == word
    rows.append(ask_row((20, 6, 1), cpu=0.010, gpu=0.030, auto=0.012))
    assert asks._targets(rows).rows[-1][1] == "no (1.2 x)"


# --------------------------------------------------------------------------------------- other targets


def caption(tables, index=0):
    return tables[index].caption


@pytest.mark.parametrize(("gap", "word"), [(1e-7, "yes (100 %)"), (1e-5, "no (90 %)")])
def test_agreement_is_judged(empty, gap, word):
    for i in range(10):
        empty.put(agreement.AGREEMENT, {"history": i}, {"differences": [gap if i == 0 else 0.0, 0.0]})
    assert caption(agreement.tables(empty)).endswith(f": {word}.")


@pytest.mark.parametrize(("factor", "word"), [(1.0, "yes"), (3.0, "no")])
def test_regrets_are_compared(empty, factor, word):
    cpu = torch.logspace(-3, -1, 30).tolist()
    found = {"cpu": cpu, "gpu": [factor * r for r in cpu]}
    empty.put(agreement.REGRET, {"studies": 30, "evaluations": 50}, found)
    assert caption(agreement.tables(empty)).endswith(f": {word}.")


def test_replicates_are_judged_by_whole_runs(empty):
    key = {"studies": 1000, "evaluations": 100, "arm": "gpu"}
    empty.put(replicates.PART, key, {"rounds": [0.5 * i for i in range(100)]})
    assert caption(replicates.tables(empty)).endswith("yes (49.5 s).")
    empty.put(replicates.PART, key, {"rounds": [1.0, 61.0]})
    assert caption(replicates.tables(empty)).endswith("no (inf s).")


def test_the_share_of_the_matrix_rate_is_judged(empty):
    empty.put(ceilings.PART, {}, {**RATES, "matmul": 1e12, "round_trip": 1e-5})
    names = ("cholesky", "lower_inverse", "lower_inverse_", "inverse", "inverse_")
    empty.put(ceilings.FACTORS, {"n": 5000}, {**dict.fromkeys(names, 0.1), "likelihood": 0.2, "peak": 1.1})
    assert "n = 5,000: yes (0.625), n = 20,000: not measured" in caption(ceilings.tables(empty), 1)


def test_fused_kernels_are_kept_only_if_no_ask_is_slower(empty):
    times = dict.fromkeys(kernels.OPERATIONS, 2.0)
    fast = dict.fromkeys(kernels.OPERATIONS, 1.0)
    empty.put(kernels.PART, {"n": 9, "d": 6}, {"seconds": {"torch": times, "fused": fast}, "difference": 0.0})
    empty.put(kernels.ASK, {"n": 9, "d": 6}, {"seconds": {"torch": [2.0, 2.0], "fused": [1.0, 2.0]}})
    assert "faster: yes (2x)" in caption(kernels.tables(empty)) and "yes." in caption(
        kernels.tables(empty), 1
    )
    empty.put(kernels.ASK, {"n": 20, "d": 6}, {"seconds": {"torch": [1.0], "fused": [1.1]}})
    assert "no." in caption(kernels.tables(empty), 1)


def test_graphs_are_kept_only_if_no_ask_is_slower(empty):
    empty.put(records.PART, {"n": 9, "d": 6}, {"seconds": {"launched": [2.0, 2.0], "recorded": [1.0, 2.0]}})
    assert "no ask is slower: yes." in caption(records.tables(empty))
    empty.put(records.PART, {"n": 20, "d": 6}, {"seconds": {"launched": [1.0], "recorded": [1.1]}})
    assert "no ask is slower: no." in caption(records.tables(empty))
