from pathlib import Path

import pytest
import torch

from bayesopt import demo
from bayesopt.demo import Split, build, evaluate, load_splits, main, train

CONFIG = {"weight_decay": 1e-4, "layers": 2, "width": 32, "dropout": 0.1, "batch_size": 64}
ADAMW = {"optimizer": "adamw", "lr": 1e-2}
SGD = {"optimizer": "sgd", "lr": 1e-1, "momentum": 0.9}


def test_splits_cover_the_digits_without_overlap() -> None:
    splits = load_splits()
    assert [len(split.digits) for split in splits] == [1078, 359, 360]
    images = torch.cat([split.images for split in splits])
    assert len(images.unique(dim=0)) == len(images) == 1797
    for split in splits:
        assert split.digits.bincount().min() > 0.08 * len(split.digits)


@pytest.mark.parametrize("optimizer", [ADAMW, SGD])
def test_training_is_repeatable_and_learns(optimizer: dict[str, object]) -> None:
    training, validation, _ = load_splits()
    config = CONFIG | optimizer
    once, again = (evaluate(train(config, training, epochs=5, seed=0), validation) for _ in range(2))
    assert once == again
    untrained, _ = build(config)
    assert once[0] < 0.8 * evaluate(untrained.eval(), validation)[0]


def test_evaluate_of_a_perfect_network() -> None:
    data = Split(images=100 * torch.eye(10), digits=torch.arange(10))
    loss, accuracy = evaluate(torch.nn.Identity(), data)
    assert loss < 1e-6
    assert accuracy == 1.0


def test_quick_demo_shows_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    threads = torch.get_num_threads()
    try:
        main(["--quick", "--output", str(tmp_path / "progress.png")])
    finally:
        torch.set_num_threads(threads)
    shown = capsys.readouterr().out
    for expected in (
        "validation loss",
        "best of 8 trials",
        "Best configuration",
        "test accuracy",
        "random search",
    ):
        assert expected in shown
    assert all(name.replace("_", " ").split()[0][:4] in shown for name in demo.SPACE)
    assert (tmp_path / "progress.png").read_bytes().startswith(b"\x89PNG")
