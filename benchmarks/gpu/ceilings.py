"""`ceilings`: what this card can do in float64; and how near the factorisations of a fit come to it."""

import torch

from bayesopt import linalg
from bayesopt.kernels import Stationary
from bayesopt.surrogates.gp import negative_log_posterior
from bayesopt.surrogates.priors import default_priors
from benchmarks.gpu.book import Book, Setup, Values, at_least, peak_bytes, randn, seconds_of
from benchmarks.report import Table, percent, progress

PART, FACTORS = "ceilings", "factorisations"

SHARE_TARGET = 0.5


def rates(book: Book, setup: Setup) -> Values | None:
    """The ceilings, measured if need be; None if there is no time left to."""
    for key in setup.due([{}], book, PART):
        progress("gpu: ceilings")
        book.put(PART, key, ceilings(setup.device, *((256, 20) if setup.quick else (8192, 28))))
    return book.find(PART, {})


def measure(book: Book, setup: Setup) -> None:
    """The ceilings, and the likelihood at growing n."""
    rates(book, setup)
    sizes = [64] if setup.quick else [n for n in (2000, 5000, 10_000, 20_000) if n <= max(setup.sizes)]
    for key in setup.due([{"n": n} for n in sizes], book, FACTORS):
        progress(f"gpu: factorisations, n = {key['n']}")
        book.put(FACTORS, key, factorisations(key["n"], setup.device))
        if setup.is_cuda:
            torch.cuda.empty_cache()


def ceilings(device: torch.device, n: int, log2_bytes: int) -> Values:
    """Rates of n x n matrices, of a copy of `2^log2_bytes` numbers, and of calls that do nothing else.

    Returns:
        matmul, cholesky: float64 operations a second; bandwidth: bytes a second, read and written.
        launch: seconds that one more small operation costs; round_trip: those of one that is waited for.
    """
    A = randn(n, n, device=device)
    K = A @ A.mT + n * torch.eye(n, dtype=A.dtype, device=device)
    source = torch.zeros(2**log2_bytes, dtype=torch.float64, device=device)
    target, one = torch.empty_like(source), torch.zeros(1, dtype=torch.float64, device=device)
    calls = 1000

    def many() -> None:
        for _ in range(calls):
            one.add_(1.0)

    return {
        "matmul": 2 * n**3 / seconds_of(lambda: A @ A, device),
        "cholesky": n**3 / 3 / seconds_of(lambda: torch.linalg.cholesky_ex(K), device),
        "bandwidth": 16 * 2**log2_bytes / seconds_of(lambda: target.copy_(source), device),
        "launch": seconds_of(many, device) / calls,
        "round_trip": seconds_of(lambda: one.add_(1.0).item(), device, 50),
    }


def factorisations(n: int, device: torch.device, d: int = 20) -> Values:
    """Seconds of the likelihood with its gradient at n observations, and of what factorises in it.

    The times in place include a copy. `peak` is that of the likelihood, in n x n matrices; nan on the CPU.
    """
    kernel = Stationary(groups=tuple(range(d)))
    priors = default_priors(kernel, d).to(device)
    X = randn(1, n, d, device=device).sigmoid()
    y, theta = X.sum(-1).sin(), priors.mode[None]
    K = kernel.gram_and_pullback(theta[:, :-1], X)[0]
    K.diagonal(dim1=-2, dim2=-1).add_(0.01)
    L = linalg.cholesky(K)[0]
    return {
        "cholesky": seconds_of(lambda: linalg.cholesky(K), device, 3),
        "inverse": seconds_of(lambda: linalg.inverse(L), device, 3),
        "lower_inverse": seconds_of(lambda: linalg.lower_inverse(L), device, 3),
        "lower_inverse_": seconds_of(lambda: linalg.lower_inverse_(L.clone()), device, 3),
        "inverse_": seconds_of(lambda: linalg.inverse_(L.clone()), device, 3),
        "likelihood": seconds_of(lambda: negative_log_posterior(theta, X, y, kernel, priors), device, 3),
        "peak": peak_bytes(lambda: negative_log_posterior(theta, X, y, kernel, priors), device) / (8 * n**2),
    }


def tables(book: Book) -> list[Table]:
    """Ceilings, and shares of them."""
    found = book.find(PART, {})
    if found is None:
        return []
    rows = [
        ["float64 matrix product, TFLOP/s", found["matmul"] / 1e12],
        ["float64 Cholesky, TFLOP/s", found["cholesky"] / 1e12],
        ["copy, TB/s read and written", found["bandwidth"] / 1e12],
        ["one more small operation, us", found["launch"] * 1e6],
        ["one that is waited for, us", found["round_trip"] * 1e6],
    ]
    return [Table(["ceiling", "measured"], rows, "What this card does."), *_factors(book, found["matmul"])]


def _factors(book: Book, matmul: float) -> list[Table]:
    rows, shares = [], {}
    for row in book.rows(FACTORS):
        n = row["n"]
        # In n^3: what L and L^-1 need, what K^-1 needs beyond L; the likelihood has L and K^-1.
        rates = {
            "cholesky": 1 / 3, "lower_inverse": 1 / 3, "lower_inverse_": 1 / 3, "inverse": 2 / 3,
            "inverse_": 2 / 3, "likelihood": 1.0,
        }  # fmt: skip
        share = {name: count * n**3 / row[name] / matmul for name, count in rates.items()}
        shares[n] = share["likelihood"]
        rows.append([n, *(f"{1e3 * row[k]:.3g} ms, {percent(share[k])}" for k in rates), row["peak"]])
    if not rows:
        return []
    verdicts = ", ".join(f"n = {n:,}: {at_least(shares.get(n), SHARE_TARGET)}" for n in (5000, 20_000))
    caption = (
        "Time, and share of the rate of matrix products. Target: the likelihood with its gradient, Cholesky "
        f"factor, inverse and kernel included, at {percent(SHARE_TARGET)} or more. {verdicts}."
    )
    inverses = ["L^-1", "L^-1 in place", "K^-1", "K^-1 in place"]
    return [Table(["n", "L", *inverses, "likelihood", "peak of it, n x n"], rows, caption)]
