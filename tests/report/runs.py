"""Runs of every kind, for the tests of the report."""

import math
import random
from functools import cache

from bayesopt import Categorical, Float, Int, Optimizer, Study, minimize

HOSTILE = "</title><script>alert('x')</script><img src=x onerror=alert(1)>\"'&\x00\ud800"

SPACE = {
    "lr": Float(1e-5, 1e-1, log=True),
    "layers": Int(1, 6),
    "optimizer": Categorical(["adam", "sgd"]),
    "momentum": Float(0.0, 0.99, when={"optimizer": "sgd"}),
}


def loss(config):
    value = (math.log10(config["lr"]) + 3) ** 2 + 0.1 * abs(config["layers"] - 3)
    return value + (0.2 * (config["momentum"] - 0.9) ** 2 - 0.05 if "momentum" in config else 0.0)


def told(space, n, value, **settings):
    """An optimiser that was told n random configurations."""
    opt = Optimizer(space, **settings)
    configs = Optimizer(space, method="random", seed=1).ask(n)
    opt.tell(configs, [value(config) for config in configs])
    return opt


def _trained(config, trial):
    if config["lr"] > 2e-2:
        raise RuntimeError("loss exploded")
    for epoch in range(12):
        trial.report(loss(config) + math.exp(-epoch / 3), epoch)
        if trial.should_prune():
            return None
    return loss(config)


@cache
def trained():
    """A result with failures, trials stopped early, and learning curves."""
    return minimize(_trained, SPACE, trials=45, pruner="median", progress=False, seed=1)


def hostile():
    """Names, choices and errors that are HTML."""
    space = {
        HOSTILE: Float(0.0, 1.0),
        "<b>": Categorical([HOSTILE, "<i>", "nan", "None", "", None, True]),
        "c": Float(0.0, 1.0, when={"<b>": "nan"}),
    }

    def fails(config):
        if config[HOSTILE] > 0.5:
            raise RuntimeError(f"line\n{HOSTILE}")
        return config[HOSTILE]

    return minimize(fails, space, trials=25, progress=False)


def _noisy(seed):
    source = random.Random(seed)
    return lambda config: sum((v - 0.4) ** 2 for v in list(config.values())[:3]) + source.gauss(0.0, 0.05)


def _running():
    study = Study(SPACE)
    for _ in range(14):
        trial = study.ask()
        study.tell(trial, loss(trial.config))
    study.ask(2)[0].report(1.0, 3)
    return study


WIDE = {f"p{i}": Float(0.0, 1.0) for i in range(50)}
LINE = {"x": Float(0.0, 1.0), "y": Float(1.0, 1000.0, log=True)}

KINDS = {
    "nothing": lambda: Optimizer(SPACE),
    "one": lambda: told(SPACE, 1, loss),
    "two": lambda: told(SPACE, 2, loss),
    "all failed": lambda: told(SPACE, 8, lambda config: None),
    "one success": lambda: told(SPACE, 8, lambda config: 1.0 if config["layers"] == 3 else None),
    "constant": lambda: told(SPACE, 15, lambda config: 2.0),
    "trained": trained,
    "hostile": hostile,
    "running": _running,
    "tpe": lambda: told(SPACE, 40, loss, method="tpe"),
    "maximised": lambda: told(SPACE, 25, lambda config: -loss(config), maximize=True),
    "manual": lambda: Optimizer(SPACE, method="manual"),
    "huge": lambda: told(LINE, 12, lambda config: 1e300 * (config["x"] - 0.5)),
    "tiny": lambda: told(LINE, 12, lambda config: 1e-300 * config["x"]),
    "one choice": lambda: told({"c": Categorical(["only"]), "k": Int(3, 3)}, 1, lambda config: 1.0),
    "many magnitudes": lambda: told(LINE, 30, lambda config: 10 ** (40 * config["x"] - 20)),
    "fifty parameters": lambda: told(WIDE, 60, _noisy(0)),
}
