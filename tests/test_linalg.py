"""Factorisations against dense algebra."""

import logging

import numpy as np
import pytest
import torch

from bayesopt import linalg


def spd(*batch: int, n: int, device: torch.device) -> torch.Tensor:
    A = torch.randn(*batch, n, n, generator=torch.Generator().manual_seed(n), dtype=torch.float64).to(device)
    return A @ A.mT + n * torch.eye(n, device=device)


@pytest.mark.parametrize("n", [1, 7, 300])
@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_factor_inverse_and_determinant(n, batch, device):
    K = spd(*batch, n=n, device=device)
    L, ok = linalg.cholesky(K)
    assert ok.all() and ok.shape == batch
    torch.testing.assert_close(L @ L.mT, K)
    torch.testing.assert_close(
        linalg.lower_inverse(L) @ L, torch.eye(n, dtype=K.dtype, device=device).expand_as(K)
    )
    # NumPy as the oracle: torch's own batched LU fails inside MKL at n = 300 with two threads.
    for inverse in (linalg.inverse, linalg.inverse_by_product):
        np.testing.assert_allclose(inverse(L).cpu(), np.linalg.inv(K.cpu()), rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(linalg.log_det(L).cpu(), np.linalg.slogdet(K.cpu()).logabsdet)


@pytest.mark.parametrize("n", [1, 7, 300, 1100])
@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_in_place_they_are_the_same(n, batch, device):
    batch = batch if n < 1000 else batch[:0]
    K = spd(*batch, n=n, device=device)
    expected = np.linalg.inv(K.cpu())
    memory = K.clone()
    L, ok = linalg.cholesky_(memory)
    assert ok.all() and ok.shape == batch
    torch.testing.assert_close(L, torch.linalg.cholesky(K))
    found = linalg.inverse_(L)
    np.testing.assert_allclose(found.cpu(), expected, rtol=1e-8, atol=1e-12)
    assert found.data_ptr() == L.data_ptr() == memory.data_ptr()
    L = torch.linalg.cholesky(K)
    torch.testing.assert_close(
        linalg.lower_inverse_(L.clone()), linalg.lower_inverse(L), rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("k", [1, 3])
def test_append_equals_a_fresh_factorisation(k, device):
    K = spd(4, n=9 + k, device=device)
    L = torch.linalg.cholesky(K[:, :9, :9])
    L_new, W_new = linalg.append(L, linalg.lower_inverse(L), K[:, :9, 9:], K[:, 9:, 9:])
    torch.testing.assert_close(L_new, torch.linalg.cholesky(K))
    torch.testing.assert_close(W_new, linalg.lower_inverse(torch.linalg.cholesky(K)))


def test_cholesky_reports_the_bad_element_only(device):
    K = spd(2, n=4, device=device)
    K[1] = -K[1]
    L, ok = linalg.cholesky(K)
    assert ok.tolist() == [True, False]
    torch.testing.assert_close(L[0] @ L[0].mT, K[0])
    L_, ok = linalg.cholesky_(K.clone())
    assert ok.tolist() == [True, False]
    torch.testing.assert_close(L_, L)


def test_jitter_is_only_as_large_as_needed_and_only_where_needed(device, caplog):
    healthy, singular = spd(n=5, device=device), torch.ones(5, 5, dtype=torch.float64, device=device)
    singular = singular - 1e-9 * torch.eye(5, device=device)
    with caplog.at_level(logging.INFO, "bayesopt"):
        L = linalg.robust_cholesky(torch.stack([healthy, singular]))
    torch.testing.assert_close(L[0], torch.linalg.cholesky(healthy), rtol=0, atol=0)
    assert (L[1] @ L[1].mT - singular).abs().max() < 2e-8
    assert "jitter 1e-08" in caplog.text


def test_nan_is_an_error_not_a_result(device):
    with pytest.raises(torch.linalg.LinAlgError, match="nan"):
        linalg.robust_cholesky(torch.full((3, 3), torch.nan, dtype=torch.float64, device=device))
