"""Models and batches on random histories: GPyTorch's is ours, and a batch is scored by what chose it."""

import numpy as np
import torch

from bayesopt import Float, Space
from bayesopt.surrogates.gp import negative_log_posterior
from bayesopt.surrogates.model import Model
from bayesopt.surrogates.outcomes import half_rank
from benchmarks import histories, quality


def test_histories_are_reproducible_and_in_the_box():
    first, again = histories.random_history(4), histories.random_history(4)
    assert np.array_equal(first.X, again.X)
    assert np.array_equal(first.y, again.y)
    several = [histories.random_history(seed, (10, 30)) for seed in range(20)]
    assert all(h.X.min() >= 0 and h.X.max() <= 1 and np.isfinite(h.y).all() for h in several)
    assert {h.layout.split(",")[0] for h in several} == {"uniform", "clustered"}


def test_gpytorch_model_is_ours_up_to_a_constant():
    history = histories.random_history(3, (20, 30))
    n, d = history.X.shape
    model = Model.of(Space({f"x{j}": Float(0.0, 1.0) for j in range(d)}), torch.device("cpu"))
    X, z = torch.from_numpy(history.X), half_rank(torch.from_numpy(history.y))
    mll = quality.gpytorch_model(X, z, model.priors)
    assert torch.allclose(quality.gpytorch_theta(mll), model.priors.mode, atol=1e-6)

    mll.train()
    generator = torch.Generator().manual_seed(0)
    differences = []
    for _ in range(4):
        theta = 0.5 * torch.randn(d + 2, generator=generator, dtype=torch.float64)
        theta[-1] -= 5.0
        mll.model.covar_module.base_kernel.lengthscale = theta[:d].exp()
        mll.model.covar_module.outputscale = theta[-2].exp()
        mll.likelihood.noise = theta[-1:].exp()
        theirs = -n * mll(mll.model(*mll.model.train_inputs), mll.model.train_targets).item()
        ours = negative_log_posterior(theta[None], X[None], z[None], model.kernel, model.priors)[0]
        differences.append(theirs - float(ours))
    assert np.ptp(differences) < 1e-5


def test_our_batch_is_scored_on_the_posterior_that_it_was_chosen_by():
    from benchmarks.batch import our_batch, our_posterior, qei
    from benchmarks.histories import history_of

    history = history_of(0, 20, 3)
    X, seconds, again = our_batch(history, 3, "qlogei")
    assert X.shape == (3, 3) and seconds > 0 and again > 0
    gp = our_posterior(history)
    assert qei(gp, X) > max(qei(gp, torch.rand(3, 3, dtype=torch.float64)) for _ in range(5))
    assert qei(gp, X) >= qei(gp, X[:2]) - 1e-9
