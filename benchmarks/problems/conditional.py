"""Problems where a parameter exists only for some values of others."""

from bayesopt import Between, Categorical, Float, Int
from benchmarks.problems.base import Config, Problem

NAMES = ("cond/jenatton", "cond/layers")


def jenatton(config: Config) -> float:
    """The tree of Jenatton et al. (2017): four leaves, of which the best is 0.1."""
    if config["x1"] == 0:
        leaf = config["x4"] ** 2 + 0.1 if config["x2"] == 0 else config["x5"] ** 2 + 0.2
        return leaf + config["r8"]
    leaf = config["x6"] ** 2 + 0.3 if config["x3"] == 0 else config["x7"] ** 2 + 0.4
    return leaf + config["r9"]


def _jenatton() -> Problem:
    parameters = {
        "x1": Categorical([0, 1]),
        "x2": Categorical([0, 1], when={"x1": 0}),
        "x3": Categorical([0, 1], when={"x1": 1}),
        "x4": Float(0.0, 1.0, when={"x2": 0}),
        "x5": Float(0.0, 1.0, when={"x2": 1}),
        "x6": Float(0.0, 1.0, when={"x3": 0}),
        "x7": Float(0.0, 1.0, when={"x3": 1}),
        "r8": Float(0.0, 1.0, when={"x1": 0}),
        "r9": Float(0.0, 1.0, when={"x1": 1}),
    }
    return Problem("cond/jenatton", "conditional", parameters, jenatton, 0.1)


_WIDTHS = (96, 48, 24, 12)  # best width of each layer


def layers(config: Config) -> float:
    """A network of 1 to 4 layers, each with its width: the third is worth having, the fourth is not.

    A bowl in the logarithm of each width around its best, 0 at the optimum.
    """
    depth = config["layers"]
    misfit = sum(
        (config[f"width{j}"] / _WIDTHS[j]) ** 0.5 + (_WIDTHS[j] / config[f"width{j}"]) ** 0.5 - 2
        for j in range(depth)
    )
    optimizer = 0.0 if config["optimizer"] == "sgd" else 0.05
    momentum = (config["momentum"] - 0.9) ** 2 if config["optimizer"] == "sgd" else 0.0
    return 0.3 * abs(depth - 3) + misfit / depth + optimizer + momentum


def _layers() -> Problem:
    parameters = {
        "layers": Int(1, 4),
        **{
            f"width{j}": Int(4, 512, log=True, when={"layers": Between(j + 1, None)} if j else None)
            for j in range(4)
        },
        "optimizer": Categorical(["adam", "sgd"]),
        "momentum": Float(0.0, 0.99, when={"optimizer": "sgd"}),
    }
    return Problem("cond/layers", "conditional", parameters, layers, 0.0)


def get(name: str, seed: int) -> Problem:
    """One of `NAMES`; KeyError if there is none."""
    return {"cond/jenatton": _jenatton, "cond/layers": _layers}[name]()
