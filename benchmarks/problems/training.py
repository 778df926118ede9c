"""Real training that takes a second or less: scikit-learn and PyTorch on data that come with packages.

The value is an error on held-out data, with fixed splits and seeds: evaluating twice gives the same. The
network has a learning curve, its error after each epoch.
"""

import math
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from bayesopt import Categorical, Float, Int
from benchmarks.problems import images
from benchmarks.problems.base import Config, MissingError, Problem

_EPOCHS = 12


def get(name: str, seed: int) -> Problem:
    """One of `NAMES`; KeyError if there is none."""
    make = _PROBLEMS[name]
    try:
        import sklearn  # noqa: F401
    except ImportError as error:
        raise MissingError("python -m pip install scikit-learn") from error
    return make(name)


@cache
def _data(name: str) -> tuple[Any, Any]:
    from sklearn import datasets
    from sklearn.preprocessing import StandardScaler

    X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(X))
    return StandardScaler().fit_transform(X)[order], y[order]


def _error(model: Any, data: str, metric: str) -> float:
    """Three-fold cross-validation; None of the models draws random numbers that are not seeded."""
    from sklearn.model_selection import cross_val_score

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of models that do not converge: their error says it
        return -float(np.mean(cross_val_score(model, *_data(data), cv=3, scoring=metric)))


def _svm(name: str) -> Problem:
    from sklearn.svm import SVC

    parameters = {"C": Float(1e-3, 1e3, log=True), "gamma": Float(1e-6, 1.0, log=True)}
    parameters |= {"tol": Float(1e-5, 1e-1, log=True)}

    def function(config: Config) -> float:
        return 1.0 + _error(SVC(max_iter=2000, **config), "digits", "accuracy")

    return Problem(name, "training", parameters, function)


def _forest(name: str) -> Problem:
    from sklearn.ensemble import RandomForestClassifier

    parameters = {
        "max_depth": Int(1, 15),
        "min_samples_split": Int(2, 64, log=True),
        "max_features": Float(0.05, 1.0),
        "criterion": Categorical(["gini", "entropy", "log_loss"]),
        "bootstrap": Categorical([False, True]),
        "max_samples": Float(0.1, 1.0, when={"bootstrap": True}),
    }

    def function(config: Config) -> float:
        model = RandomForestClassifier(n_estimators=30, random_state=0, **config)
        return _error(model, "wine", "neg_log_loss")

    return Problem(name, "training", parameters, function)


def _boosting(name: str) -> Problem:
    from sklearn.ensemble import HistGradientBoostingRegressor

    parameters = {
        "learning_rate": Float(1e-3, 1.0, log=True),
        "max_iter": Int(10, 100, log=True),
        "max_leaf_nodes": Int(2, 63, log=True),
        "min_samples_leaf": Int(1, 60, log=True),
        "l2_regularization": Float(1e-6, 100.0, log=True),
        "max_features": Float(0.1, 1.0),
    }

    def function(config: Config) -> float:
        model = HistGradientBoostingRegressor(random_state=0, **config)
        return _error(model, "diabetes", "neg_root_mean_squared_error")

    return Problem(name, "training", parameters, function)


def _boosted_digits(name: str) -> Problem:
    """Log loss on a fixed third of the digits. Trees grow down to a depth, or by their best leaves."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import log_loss

    parameters = {
        "learning_rate": Float(1e-2, 1.0, log=True),
        "max_iter": Int(5, 50, log=True),
        "grow": Categorical(["depth", "leaves"]),
        "max_depth": Int(1, 8, when={"grow": "depth"}),
        "max_leaf_nodes": Int(2, 32, log=True, when={"grow": "leaves"}),
        "min_samples_leaf": Int(1, 100, log=True),
        "l2_regularization": Float(1e-6, 100.0, log=True),
        "max_features": Float(0.05, 1.0),
    }

    def function(config: Config) -> float:
        X, y = _data("digits")
        train = len(X) * 2 // 3
        settings = {"max_leaf_nodes": None} | {key: v for key, v in config.items() if key != "grow"}
        model = HistGradientBoostingClassifier(random_state=0, **settings).fit(X[:train], y[:train])
        return float(log_loss(y[train:], model.predict_proba(X[train:])))

    return Problem(name, "training", parameters, function)


def _network(name: str) -> Problem:
    parameters = {
        "lr": Float(1e-4, 1.0, log=True),
        "batch": Int(16, 256, log=True),
        "width": Int(8, 128, log=True),
        "dropout": Float(0.0, 0.8),
        "optimizer": Categorical(["adam", "sgd"]),
        "momentum": Float(0.0, 0.99, when={"optimizer": "sgd"}),
    }
    return Problem(name, "training", parameters, lambda c: network_curve(c)[-1], curve=network_curve)


def network_curve(config: Config) -> list[float]:
    """Held-out cross-entropy of a two-layer network on the digits after each epoch."""
    import torch
    from torch import nn

    X, y = (torch.from_numpy(part) for part in _data("digits"))
    X, train = X.float(), len(X) * 2 // 3
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        width = config["width"]
        model = nn.Sequential(
            nn.Linear(64, width), nn.ReLU(), nn.Dropout(config["dropout"]), nn.Linear(width, 10)
        )
        optimizer = _optimizer(model, config)
        curve = []
        for _ in range(_EPOCHS):
            model.train()
            for rows in torch.randperm(train, generator=generator).split(config["batch"]):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(X[rows]), y[rows]).backward()
                optimizer.step()
            model.eval()
            with torch.no_grad():
                curve.append(float(nn.functional.cross_entropy(model(X[train:]), y[train:])))
    return [value if math.isfinite(value) else math.inf for value in curve]


def _optimizer(model: Any, config: Config) -> Any:
    import torch

    if config["optimizer"] == "adam":
        return torch.optim.Adam(model.parameters(), lr=config["lr"])
    return torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=config["momentum"])


_PROBLEMS: dict[str, Callable[[str], Problem]] = {
    "train/svm/digits": _svm,
    "train/forest/wine": _forest,
    "train/boosting/diabetes": _boosting,
    "train/boosting/digits": _boosted_digits,
    "train/network/digits": _network,
    "train/cnn/mnist": images.mnist,
}
NAMES = tuple(_PROBLEMS)
