"""Kernels and data for the tests of Gaussian processes."""

import pytest
import torch

from bayesopt.kernels import RBF, Stationary
from bayesopt.surrogates.priors import default_priors

D = 3
KERNELS = {
    "ard": Stationary(groups=(0, 1, 2)),
    "warped": Stationary(groups=(0, 1, 1), warp=True),
    "sum": Stationary(groups=(0, 1, 2)) + Stationary(groups=(0,), columns=(1,), profile=RBF()),
}
kernels = pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS.keys())


def data(device, *batch, n=12, seed=0):
    """Points `(*batch, n, D)` and standardised outcomes."""
    generator = torch.Generator().manual_seed(seed)
    X = torch.rand(*batch, n, D, generator=generator, dtype=torch.float64)
    y = torch.sin(5 * X[..., 0]) + X[..., 1] ** 2 + 0.05 * torch.randn(*batch, n, generator=generator)
    y = (y - y.mean(-1, keepdim=True)) / y.std(-1, keepdim=True)
    return X.to(device), y.to(device)


def hyper(kernel, device, *batch):
    """Priors, and hyper-parameters `(*batch, p)` about their first start."""
    priors = default_priors(kernel, D).to(device)
    noise = torch.randn(
        *batch, len(priors.mode), generator=torch.Generator().manual_seed(5), dtype=torch.float64
    )
    return priors, priors.starts[0] + 0.3 * noise.to(device)
