"""Tune a real network in front of your eyes: a perceptron that reads scikit-learn's handwritten digits.

Run it with `make demo` or `python -m bayesopt.demo`. A program of your own needs three things from this file:
the space, a function from a configuration to a number, and one call of `minimize`.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from bayesopt import Categorical, Float, Int, Result, minimize
from bayesopt.plots import plot_progress

if TYPE_CHECKING:
    from collections.abc import Sequence

Config = dict[str, Any]
TUNING_SEEDS = range(3)
TEST_SEEDS = range(3, 8)
CONSOLE = Console()
TABLE_STYLE: dict[str, Any] = {"title_justify": "left", "box": SIMPLE_HEAD, "show_edge": False, "padding": 0}

SPACE = {
    "lr": Float(1e-5, 1.0, log=True),
    "weight_decay": Float(1e-6, 1.0, log=True),
    "layers": Int(1, 5),
    "width": Int(8, 256, log=True),
    "dropout": Float(0.0, 0.6),
    "batch_size": Categorical([32, 64, 128, 256], ordered=True),
    "optimizer": Categorical(["adamw", "sgd"]),
    "momentum": Float(0.0, 0.99, when={"optimizer": "sgd"}),  # exists only for sgd
}


@dataclass(frozen=True)
class Split:
    """Images `(n, 64)` with pixels in [0, 1] and their digits `(n,)`."""

    images: Tensor
    digits: Tensor


class Splits(NamedTuple):
    """The data of the three stages: fitting weights, choosing a configuration, the final judgement."""

    training: Split
    validation: Split
    test: Split


def load_splits() -> Splits:
    """The 1797 digits, always split in the same way: 60 % to train, 20 % to validate, 20 % to test."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, digits = load_digits(return_X_y=True)
    training, rest = train_test_split(range(len(digits)), test_size=0.4, stratify=digits, random_state=0)
    validation, test = train_test_split(rest, test_size=0.5, stratify=digits[rest], random_state=0)

    def split(rows: list[int]) -> Split:
        return Split(torch.as_tensor(images[rows] / 16, dtype=torch.float32), torch.as_tensor(digits[rows]))

    return Splits(split(training), split(validation), split(test))


def build(config: Config) -> tuple[nn.Module, torch.optim.Optimizer]:
    """The network and its optimiser."""
    layers: list[nn.Module] = []
    inputs = 64
    for _ in range(config["layers"]):
        layers += [nn.Linear(inputs, config["width"]), nn.ReLU(), nn.Dropout(config["dropout"])]
        inputs = config["width"]
    network = nn.Sequential(*layers, nn.Linear(inputs, 10))

    rates = {"lr": config["lr"], "weight_decay": config["weight_decay"]}
    if config["optimizer"] == "sgd":
        return network, torch.optim.SGD(network.parameters(), momentum=config["momentum"], **rates)
    return network, torch.optim.AdamW(network.parameters(), **rates)


def train(config: Config, data: Split, *, epochs: int, seed: int) -> nn.Module:
    """The trained network; the seed decides the first weights, the dropout and the order of the images."""
    torch.manual_seed(seed)
    network, optimizer = build(config)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for _ in range(epochs):
        for batch in torch.randperm(len(data.digits)).split(config["batch_size"]):
            loss = nn.functional.cross_entropy(network(data.images[batch]), data.digits[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
    return network.eval()


@torch.inference_mode()
def evaluate(network: nn.Module, data: Split) -> tuple[float, float]:
    """Mean cross-entropy and accuracy."""
    logits = network(data.images)
    correct = logits.argmax(-1) == data.digits
    return nn.functional.cross_entropy(logits, data.digits).item(), correct.float().mean().item()


def tune(method: str, trials: int, seed: int, epochs: int, splits: Splits) -> Result:
    """One run of `minimize`, with its live line: how far it is, and the best so far."""

    def objective(config: Config) -> float:
        # The mean of three trainings: a single one depends too much on its first weights.
        # If one diverges the mean is nan, which tells the engine that this evaluation has failed.
        networks = [train(config, splits.training, epochs=epochs, seed=seed) for seed in TUNING_SEEDS]
        return statistics.mean(evaluate(network, splits.validation)[0] for network in networks)

    return minimize(objective, SPACE, trials, seed=seed, method=method, progress=True)


def show_leaderboard(result: Result, rows: int = 10) -> None:
    """The best trials with all that they tried."""
    title = f"The {rows} best of {len(result.trials)} trials"
    table = Table(title=title, **TABLE_STYLE)
    for heading in ("trial", "loss", *SPACE, "time"):
        table.add_column(heading.replace("_", "\n"), justify="right")
    ranked = sorted((trial.value, trial.number, trial) for trial in result.trials if trial.value is not None)
    for loss, number, trial in ranked[:rows]:
        settings = [show_value(trial.config.get(name)) for name in SPACE]
        table.add_row(str(number), f"{loss:.4f}", *settings, f"{trial.seconds:.1f} s")
    CONSOLE.print(table)


def show_value(value: Any) -> str:
    """A short form of a parameter's value; a dash where the parameter does not exist."""
    if value is None:
        return "-"
    return f"{value:.2g}" if isinstance(value, float) else str(value)


def show_comparison(results: dict[str, Result], epochs: int, splits: Splits) -> None:
    """Both best configurations, trained afresh from other seeds, judged on images that no trial saw."""
    title = f"The best of each, trained again from {len(TEST_SEEDS)} other seeds"
    table = Table(title=title, **TABLE_STYLE)
    for heading in ("", "validation loss", "test loss", "test accuracy", "failed"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, result in results.items():
        config = result.best_config
        networks = [train(config, splits.training, epochs=epochs, seed=seed) for seed in TEST_SEEDS]
        losses, accuracies = zip(*(evaluate(network, splits.test) for network in networks), strict=True)
        table.add_row(
            name,
            f"{result.best_value:.4f}",
            f"{statistics.mean(losses):.4f} ± {statistics.stdev(losses):.4f}",
            f"{100 * statistics.mean(accuracies):.2f} % ± {100 * statistics.stdev(accuracies):.2f}",
            f"{sum(value is None for value in result.values)} of {len(result.values)}",
        )
    CONSOLE.print(table)
    CONSOLE.print(f"No trial saw the {len(splits.test.digits)} test images. ±: deviation over the seeds.")
    CONSOLE.print("This was one run of each method; --seed makes others.")


def main(arguments: Sequence[str] | None = None, prog: str = "python -m bayesopt.demo") -> None:
    """Tune, compare with random search, show."""
    parser = argparse.ArgumentParser(prog=prog, description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=30, help="evaluations for each of the two methods (30)")
    # Of the seeds 0 to 4, random search finds its middling best with 3; with 0 it is out of luck.
    parser.add_argument("--seed", type=int, default=3, help="seed of the search (3)")
    parser.add_argument("--output", default="demo.png", help="where to save the picture (demo.png)")
    parser.add_argument("--quick", action="store_true", help="8 trials of 3 epochs, to see that it runs")
    options = parser.parse_args(arguments)
    trials, epochs = (8, 3) if options.quick else (options.trials, 15)

    torch.set_num_threads(1)  # these networks are so small that a second thread makes them slower
    started = time.perf_counter()
    splits = load_splits()
    sizes = "{} to train, {} to validate, {} to test".format(*(len(split.digits) for split in splits))
    CONSOLE.print(f"Handwritten digits: {sizes}. {trials} trials for each method.\n")

    methods = {"Bayesian optimisation": "auto", "random search": "random"}
    results = {}
    for name, method in methods.items():
        CONSOLE.print(f"{name}, validation loss:")
        results[name] = tune(method, trials, options.seed, epochs, splits)
    ours = results["Bayesian optimisation"]
    CONSOLE.print()
    show_leaderboard(ours)
    CONSOLE.print("\nBest configuration:", ours.best_config, "\n")
    show_comparison(results, epochs, splits)

    plot_progress(results, options.output, ylabel="validation loss")
    CONSOLE.print(f"\nPicture: {options.output}. It all took {time.perf_counter() - started:.0f} s.")


if __name__ == "__main__":
    main()
