"""The fused kernels against their definition, pair by pair, and against the torch version.

On the CPU Triton interprets them (`TRITON_INTERPRET=1`, which has to be there before triton is imported: see
`tests/conftest.py`), with `--device cuda` they are compiled and run there.
"""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bayesopt.kernels import PROFILES, RBF, Matern12, Matern32, Matern52, Stationary, fused
from bayesopt.surrogates.gp import GaussianProcess, negative_log_posterior
from bayesopt.surrogates.priors import default_priors

pytest.importorskip("triton", reason="needs: pip install triton")

ROOT = Path(__file__).parents[2]
profiles = pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)

#: Batch dimensions, m, n, D: around the tiles of 32 and 64, and what is left of them.
SHAPES = [
    ((), 1, 1, 1),
    ((), 7, 3, 2),
    ((), 32, 64, 6),
    ((), 33, 65, 16),
    ((), 5, 130, 17),
    ((), 33, 34, 70),
    ((3,), 9, 34, 4),
    ((2, 2), 3, 5, 1),
]


@pytest.fixture(autouse=True)
def _loops_are_interpreted(monkeypatch):
    """Triton 3.6's interpreter makes an int of an array `(1,)` for a `range`, which NumPy 2.4 refuses."""
    from triton.runtime import interpreter

    patch = interpreter._patch_lang_tensor

    def patch_lang_tensor(tensor, scope):
        patch(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: self.handle.data.item())

    monkeypatch.setattr(interpreter, "_patch_lang_tensor", patch_lang_tensor)
    fused._compiles.cache_clear()


@pytest.fixture(autouse=True)
def _switched_on(device, _loops_are_interpreted):
    if device.type == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
        pytest.skip("triton was imported before its interpreter was asked for")
    with fused.switched(True), torch.no_grad():
        yield


def randn(*shape, device, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(device)


def by_pairs(profile, A, Z1, Z2, s2):
    """K, P and sum(A * K) as they are defined, with an m x n x D tensor."""
    difference = Z1[..., :, None, :] - Z2[..., None, :, :]
    g, slope = profile.g_and_slope(difference.square().sum(-1))
    K = s2[..., None, None] * g
    pull = (A * s2[..., None, None] * slope)[..., None] * difference
    return K, pull.sum(-2), (A * K).sum((-2, -1))


@profiles
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_kernels_are_what_they_are_defined_as(profile, shape, device):
    batch, m, n, D = shape
    Z1, Z2, A = (randn(*batch, *s, device=device, seed=i) for i, s in enumerate([(m, D), (n, D), (m, n)]))
    Z2[..., 0, :] = Z1[..., 0, :]  # a coincident pair
    s2 = randn(*batch, device=device, seed=3).exp()
    K, P, total = by_pairs(profile, A, Z1, Z2, s2)
    assert fused.serves(Z1, profile)
    torch.testing.assert_close(fused.covariance(Z1, Z2, s2, profile), K, rtol=1e-13, atol=1e-15)
    found = fused.contraction(A, Z1, Z2, s2, profile)
    torch.testing.assert_close(found[0], P, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(found[1], total, rtol=1e-11, atol=1e-11)


@profiles
def test_coincident_points_pull_nowhere(profile, device):
    Z = randn(1, 4, device=device).expand(40, 4)
    P, _ = fused.contraction(randn(40, 40, device=device), Z, Z, Z.new_tensor(2.0), profile)
    assert (P == 0.0).all()


@profiles
def test_contraction_equals_autograd(profile, device):
    Z1, Z2, A = (randn(*s, device=device, seed=i) for i, s in enumerate([(20, 5), (45, 5), (20, 45)]))
    log_s2 = randn(device=device, seed=4)
    P, total = fused.contraction(A, Z1, Z2, log_s2.exp(), profile)
    with torch.enable_grad():
        z, s = Z1.requires_grad_(), log_s2.requires_grad_()
        r2 = (z[:, None, :] - Z2).square().sum(-1)
        dz, ds = torch.autograd.grad((A * s.exp() * profile.g(r2)).sum(), (z, s))
    torch.testing.assert_close(2.0 * P, dz)
    torch.testing.assert_close(total, ds)


@pytest.mark.parametrize("programs", [1, 4, 9])
def test_rows_may_be_split_into_any_number_of_parts(programs, device, monkeypatch):
    Z1, Z2, A = (randn(*s, device=device, seed=i) for i, s in enumerate([(40, 3), (150, 3), (40, 150)]))
    s2 = Z1.new_tensor(1.5)
    _, P, total = by_pairs(Matern52(), A, Z1, Z2, s2)
    monkeypatch.setattr(fused, "_PROGRAMS", programs)  # of two tiles of rows: 1, 2 and 4 parts of five tiles
    torch.testing.assert_close(fused.contraction(A, Z1, Z2, s2, Matern52()), (P, total))


def test_batch_dimensions_broadcast(device):
    Z1, Z2 = randn(3, 1, 4, 2, device=device), randn(2, 6, 2, device=device, seed=1)
    A, s2 = randn(3, 2, 4, 6, device=device, seed=2), randn(1, 2, device=device, seed=3).exp()
    K, P, total = by_pairs(Matern52(), A, Z1, Z2, s2)
    torch.testing.assert_close(fused.covariance(Z1, Z2, s2, Matern52()), K)
    found = fused.contraction(A, Z1, Z2, s2, Matern52())
    torch.testing.assert_close(found, (P, total))


def test_weights_need_not_be_contiguous(device):
    Z, A, s2 = randn(8, 3, device=device), randn(8, 8, device=device, seed=1), randn(device=device).exp()
    P, _ = fused.contraction(A.mT, Z, Z, s2, RBF())
    torch.testing.assert_close(P, fused.contraction(A.mT.contiguous(), Z, Z, s2, RBF())[0])


KERNELS = {
    **{name: Stationary(groups=(0, 1, 2, 3), profile=profile) for name, profile in PROFILES.items()},
    "tied": Stationary(groups=(0, 1, 1, 0)),
    "columns": Stationary(groups=(0, 1), columns=(3, 1)),
    "warped": Stationary(groups=(0, 1, 2, 2), warp=True, profile=Matern32()),
    "sum": Stationary(groups=(0, 1, 2, 3)) + Stationary(groups=(0,), columns=(2,), profile=RBF()),
}


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
def test_kernels_do_the_same_with_them_as_without(kernel, device):
    theta = 0.4 * randn(2, kernel.num_hyper, device=device)
    F, Z = randn(2, 40, 4, device=device).sigmoid(), randn(2, 5, 4, device=device, seed=1).sigmoid()
    G = randn(2, 40, 40, device=device, seed=2)
    G, A = G + G.mT, G[:, :5]

    def everything():
        K, pull = kernel.gram_and_pullback(theta, F)
        k, pull_k = kernel.towards(theta, F)(Z)
        return K, pull(G.clone()), k, pull_k(A.clone())

    fast = everything()
    with fused.switched(False):
        torch.testing.assert_close(fast, everything(), rtol=1e-6, atol=1e-7)


def test_a_likelihood_and_a_posterior_are_the_same_with_them_as_without(device):
    X, kernel = randn(2, 37, 3, device=device).sigmoid(), Stationary(groups=(0, 1, 2), warp=True)
    X[:, 1] = X[:, 0]  # evaluated twice
    y = X.sum(-1).sin()
    priors = default_priors(kernel, 3).to(device)
    theta = priors.mode.expand(2, -1).clone()

    def everything():
        gp = GaussianProcess.of(kernel, theta, X, y)
        mu, var, pullback = gp.marginals_and_pullback(X[:, :4] * 0.9)
        fit = negative_log_posterior(theta, X, y, kernel, priors)
        return fit, mu, var, pullback(torch.ones_like(mu), torch.ones_like(var))

    fast = everything()
    with fused.switched(False):
        torch.testing.assert_close(fast, everything(), rtol=1e-5, atol=1e-6)


def test_they_serve_what_they_can_and_only_when_asked(device):
    Z = randn(4, 3, device=device)
    assert fused.serves(Z, Matern52()) and fused.serves(Z, Matern12())
    assert not fused.serves(Z.float(), Matern52())
    assert not fused.serves(randn(4, fused.LARGEST_DIM + 1, device=device), Matern52())
    assert not fused.serves(Z[:0], Matern52())
    with torch.enable_grad():
        assert not fused.serves(Z, Matern52())
    with fused.switched(False):
        assert not fused.serves(Z, Matern52())


def test_where_they_do_not_compile_the_torch_version_serves_after_one_warning(device, monkeypatch, caplog):
    def broken(*args):
        raise RuntimeError("no compiler")

    monkeypatch.setattr(fused, "_covariance", broken)
    fused._compiles.cache_clear()
    kernel, theta, F = KERNELS["matern52"], randn(5, device=device), randn(6, 4, device=device)
    with caplog.at_level(logging.WARNING):
        K, _ = kernel.gram_and_pullback(theta, F)
        kernel.gram_and_pullback(theta, F)
    fused._compiles.cache_clear()
    torch.testing.assert_close(K, kernel.gram(theta, F))
    assert [record.getMessage() for record in caplog.records] == [
        "fused kernels do not compile here (no compiler); using the torch version"
    ]


COMPILE = """
from triton import compile
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from bayesopt.kernels import fused, fused_triton

def compiled(kernel, pointers, **constants):
    types = {**dict.fromkeys(pointers, "*fp64"), **dict.fromkeys("mnD", "i32")}
    source = ASTSource(kernel, types | dict.fromkeys(constants, "constexpr"), constants)
    return compile(source, target=GPUTarget("cuda", 90, 32))

compiled(
    fused_triton.covariance, ["Z1", "Z2", "scale", "K"], PROFILE="matern12", **fused._COVARIANCE_TILE
)
dot = compiled(
    fused_triton.contraction, ["A", "Z1", "Z2", "scale", "out"],
    PROFILE="matern52", DP=128, **fused._CONTRACTION_TILE,
)
print("mma.sync" in dot.asm["ptx"], dot.metadata.shared)
"""


def test_they_compile_for_a_card_that_need_not_be_there(tmp_path):
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path), "TRITON_INTERPRET": "0"}
    done = subprocess.run(
        [sys.executable, "-c", COMPILE],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    matrix_units, shared = done.stdout.split()
    assert matrix_units == "True" and int(shared) <= 48 * 1024
