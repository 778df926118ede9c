"""BoTorch's acquisition functions on our Gaussian process."""

import pytest
import torch
from botorch.acquisition import (
    LogExpectedImprovement,
    UpperConfidenceBound,
    qLogExpectedImprovement,
    qLogNoisyExpectedImprovement,
    qUpperConfidenceBound,
)
from botorch.optim import optimize_acqf

from bayesopt import Categorical, Float, Space
from bayesopt.acquisition import log_expected_improvement
from bayesopt.interop.botorch import BoTorchModel, encoded_features
from bayesopt.kernels import Embedding, Stationary
from bayesopt.surrogates.gp import fit
from bayesopt.surrogates.priors import default_priors

pytestmark = pytest.mark.filterwarnings("ignore")  # BoTorch warns about itself


@pytest.fixture
def gp(device):
    X = torch.rand(15, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(device)
    y = (X - 0.4).square().sum(-1)
    kernel = Stationary(groups=(0, 1))
    return fit(X, (y - y.mean()) / y.std(), kernel, default_priors(kernel, 2).to(device))


def test_posterior_has_our_moments_negated_and_noise_on_request(gp, device):
    X = torch.rand(4, 3, 2, dtype=torch.float64, device=device)
    mean, covariance = gp.posterior(X)
    for negate, sign in ((True, -1), (False, 1)):
        posterior = BoTorchModel(gp, negate=negate).posterior(X)
        torch.testing.assert_close(posterior.mean[..., 0], sign * mean)
        torch.testing.assert_close(posterior.distribution.covariance_matrix, covariance)
    noisy = BoTorchModel(gp).posterior(X, observation_noise=True)
    torch.testing.assert_close(noisy.variance[..., 0], covariance.diagonal(dim1=-2, dim2=-1) + gp.noise)


def test_log_ei_is_ours(gp, device):
    X = torch.rand(20, 1, 2, dtype=torch.float64, device=device)
    best = gp.fitted().min()
    theirs = LogExpectedImprovement(BoTorchModel(gp), best_f=-best)(X)
    mu, var = gp.marginals(X[:, 0])
    torch.testing.assert_close(theirs, log_expected_improvement(mu, var, best), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("build", "q"),
    [
        (lambda m: LogExpectedImprovement(m, best_f=m.gp.y.neg().max()), 1),
        (lambda m: UpperConfidenceBound(m, beta=2.0), 1),
        (lambda m: qLogExpectedImprovement(m, best_f=m.gp.y.neg().max()), 2),
        (lambda m: qUpperConfidenceBound(m, beta=2.0), 2),
        (lambda m: qLogNoisyExpectedImprovement(m, X_baseline=m.gp.X, prune_baseline=True), 2),
    ],
    ids=["LogEI", "UCB", "qLogEI", "qUCB", "qLogNEI"],
)
def test_botorch_optimises_its_acquisitions_on_our_model(build, q, gp, device):
    bounds = torch.tensor([[0.0, 0.0], [1.0, 1.0]], dtype=torch.float64, device=device)
    X, value = optimize_acqf(build(BoTorchModel(gp)), bounds, q=q, num_restarts=8, raw_samples=256)
    assert torch.isfinite(value)
    assert (X - 0.4).abs().amax(-1).min() < 0.3  # at least one of a batch goes for the bottom of the bowl


def test_conditioning_equals_ours(gp, device):
    X, Y = torch.rand(2, 2, dtype=torch.float64, device=device), torch.tensor([[0.3], [-0.2]], device=device)
    conditioned = BoTorchModel(gp).condition_on_observations(X, Y.double())
    expected = gp.condition_on(X, -Y[:, 0].double()).posterior(X)[0]
    torch.testing.assert_close(conditioned.posterior(X).mean[..., 0], -expected)


def test_mixed_spaces_go_through_the_embedding(device):
    space = Space(
        {"x": Float(0.0, 1.0), "c": Categorical(["p", "q", "r"]), "u": Float(0.0, 1.0, when={"c": "p"})}
    )
    embedding = Embedding.of(space)
    kernel = Stationary(groups=embedding.groups)
    X, active = space.snap(space.sample(12, torch.Generator().manual_seed(0)).to(device))
    y = X.sum(-1)
    gp = fit(embedding(X, active), y - y.mean(), kernel, default_priors(kernel, 3).to(device))
    model = BoTorchModel(gp, features=encoded_features(space))
    torch.testing.assert_close(model.posterior(X).mean[..., 0], -gp.posterior(embedding(X, active))[0])
    assert model.num_outputs == 1 and model.batch_shape == torch.Size([])


def test_a_batch_of_gps_is_refused(gp):
    kernel = gp.kernel
    batch = fit(gp.X.expand(2, -1, -1), gp.y.expand(2, -1), kernel, default_priors(kernel, 2))
    with pytest.raises(ValueError, match="single one"):
        BoTorchModel(batch)
