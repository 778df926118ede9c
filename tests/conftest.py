"""Options and fixtures for every test: which device, which precision; and every source of chance seeded."""

import os
import random

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

settings.register_profile(
    "repeatable",
    derandomize=True,
    deadline=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("repeatable")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", help="device of the tensors in the tests, e.g. cuda")
    parser.addoption("--dtype", default="float64", choices=["float32", "float64"], help="their precision")


def pytest_configure(config: pytest.Config) -> None:
    """Without a GPU, Triton's kernels are interpreted; it looks at this once, when it is imported."""
    if config.getoption("--device") == "cpu":
        os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """The global generators, which tests and BoTorch's optimiser draw from: no test passes by luck."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 -- it is the global generator that is meant
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> torch.device:
    """The device named by `--device`."""
    return torch.device(request.config.getoption("--device"))


@pytest.fixture(scope="session")
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    """The precision named by `--dtype`."""
    dtype = getattr(torch, request.config.getoption("--dtype"))
    assert isinstance(dtype, torch.dtype)
    return dtype
