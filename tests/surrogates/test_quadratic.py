"""The local quadratic model: exact where the function is one, against refits, scipy and numpy."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from bayesopt.methods.history import generator
from bayesopt.surrogates import quadratic
from bayesopt.surrogates.quadratic import Quadratic, coefficients, is_determined

KINDS = pytest.mark.parametrize("full", [True, False], ids=["full", "diagonal"])
CASES = pytest.mark.parametrize(
    ("d", "full"), [(1, True), (2, True), (6, True), (3, False), (6, False)]
)  # up to two dimensions whatever determines a model determines a full one


def enough(d, full):
    """Points that determine a model of this kind, and no fuller one."""
    n = 2 * coefficients(d, full) if full else coefficients(d, full=True)
    assert is_determined(n, d) and (n >= quadratic._ENOUGH_FULL * coefficients(d, full=True)) == full
    return n


def truth(d, full, device, b=3, convex=True, seed=0):
    """Random quadratics `(x - m)' H (x - m) / 2`: H `(b, d, d)`, m `(b, d)`."""
    source = generator(seed, d)
    A = torch.randn(b, d, d, generator=source, dtype=torch.float64)
    m = 0.2 + 0.6 * torch.rand(b, d, generator=source, dtype=torch.float64)
    H = A @ A.mT + 0.3 * torch.eye(d) if convex else A + A.mT
    H = H if full else torch.diag_embed(H.diagonal(dim1=-2, dim2=-1))
    return H.to(device), m.to(device)


def values(X, H, m):
    v = X - m.unsqueeze(1)
    return 0.5 * ((v @ H) * v).sum(-1)


def points(b, n, d, device, seed=0):
    return torch.rand(b, n, d, generator=generator(seed, n, d), dtype=torch.float64).to(device)


def width(value, b, device):
    return torch.full((b,), value, dtype=torch.float64, device=device)


@CASES
@pytest.mark.parametrize("convex", [True, False])
def test_a_quadratic_is_recovered(d, full, convex, device):
    """Its differences, gradient and curvature; the unit of the model is one of outcomes and of lengths."""
    H, m = truth(d, full, device, convex=convex)
    X = points(3, enough(d, full), d, device)
    y = values(X, H, m) + 7.0
    model = Quadratic.fit(X, y)
    torch.testing.assert_close(model.centre, X[torch.arange(3), y.argmin(-1)], rtol=0, atol=0)
    Z = points(3, 20, d, device, seed=1)
    V = (Z - model.centre.unsqueeze(1)) / model.radius.unsqueeze(-1)
    value, gradient = model.value_and_gradient(V)
    expected = values(Z, H, m) + 7.0 - y.amin(-1, keepdim=True)
    unit = (expected / value).median(-1, keepdim=True).values
    torch.testing.assert_close(unit * value, expected, rtol=1e-4, atol=1e-6)
    slope = unit.unsqueeze(-1) * gradient / model.radius.unsqueeze(-1)
    torch.testing.assert_close(slope, (Z - m.unsqueeze(1)) @ H, rtol=1e-4, atol=1e-5)
    curvature = model.H * (unit / model.radius.square()).unsqueeze(-1)
    torch.testing.assert_close(curvature, H, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.score, torch.ones_like(model.score), rtol=0, atol=1e-8)


@CASES
def test_the_minimiser_of_a_convex_quadratic_is_found(d, full, device):
    H, m = truth(d, full, device)
    X = points(3, enough(d, full), d, device)
    found = Quadratic.fit(X, values(X, H, m)).minimiser(width(1.0, 3, device))
    torch.testing.assert_close(found, m, rtol=0, atol=5e-6)  # the ridge pulls a little


@CASES
@pytest.mark.parametrize("half_width", [0.3, 0.05, 1e-4])
def test_the_minimiser_in_a_box_is_that_of_scipy(d, full, half_width, device):
    H, m = truth(d, full, device)
    m = m + torch.tensor([0.0, 0.6, -0.6], dtype=m.dtype, device=device).unsqueeze(-1)  # some outside [0, 1]
    X = points(3, enough(d, full), d, device)
    y = values(X, H, m)
    model = Quadratic.fit(X, y)
    found = model.minimiser(width(half_width, 3, device))
    assert ((found >= 0) & (found <= 1)).all()
    assert ((found - model.centre).abs() <= half_width * (1 + 1e-12)).all()
    for i in range(3):
        centre = model.centre[i].cpu().numpy()
        low, high = np.maximum(centre - half_width, 0.0), np.minimum(centre + half_width, 1.0)
        A, o = H[i].cpu().numpy(), m[i].cpu().numpy()
        solution = minimize(
            lambda x, A, o: (0.5 * (x - o) @ A @ (x - o), A @ (x - o)), centre, (A, o), "L-BFGS-B", True,
            bounds=list(zip(low, high, strict=True)), options={"ftol": 1e-15, "gtol": 1e-12},
        )  # fmt: skip
        np.testing.assert_allclose(found[i].cpu().numpy(), solution.x, atol=min(5e-6, 1e-3 * half_width))


@pytest.mark.parametrize("seed", range(4))
def test_on_a_saddle_the_minimiser_is_at_the_wall_and_stationary(seed, device):
    """Without convexity there is no one answer: the projected gradient vanishes, and no start is lower."""
    H, m = truth(3, True, device, convex=False, seed=seed)
    X = points(3, enough(3, True), 3, device)
    model = Quadratic.fit(X, values(X, H, m))
    found = model.minimiser(width(0.25, 3, device))
    V = ((found - model.centre) / model.radius).unsqueeze(1)
    value, gradient = (t[:, 0] for t in model.value_and_gradient(V))
    low, high = (model.centre - 0.25).clamp_min(0.0), (model.centre + 0.25).clamp_max(1.0)
    projected = torch.maximum(torch.minimum(found - gradient * model.radius, high), low) - found
    assert projected.abs().max() < 1e-5 and (value <= 0.0).all()


@KINDS
def test_left_out_residuals_are_those_of_refits(full, device):
    """The shortcut by leverages against as many fits as there are points."""
    d, m = 3, 2 * coefficients(3, full)
    A = quadratic._monomials(points(2, m, d, device) - 0.5, full)
    t = torch.randn(2, m, generator=generator(1), dtype=torch.float64).to(device)
    c, left_out = quadratic._least_squares(A, t)
    for i in range(2):
        Ai, ti = A[i].cpu().numpy(), t[i].cpu().numpy()
        ridge = np.sqrt(quadratic._RIDGE) * np.eye(Ai.shape[1])
        fits = [
            np.linalg.lstsq(
                np.vstack([np.delete(Ai, k, 0), ridge]),
                np.append(np.delete(ti, k), np.zeros(len(ridge))), rcond=None,
            )[0]
            for k in range(m)
        ]  # fmt: skip
        expected = [ti[k] - Ai[k] @ fits[k] for k in range(m)]
        np.testing.assert_allclose(left_out[i].cpu().numpy(), expected, rtol=1e-5, atol=1e-7)
        whole = np.linalg.lstsq(np.vstack([Ai, ridge]), np.append(ti, np.zeros(len(ridge))), rcond=None)[0]
        np.testing.assert_allclose(c[i].cpu().numpy(), whole, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("n", [9, 14, 30])
def test_a_batch_is_its_studies(n, device):
    """Also in the box, where rows end at different times."""
    X = points(4, n, 3, device)
    y = torch.sin(7.0 * X).sum(-1)
    half = torch.tensor([0.5, 0.01, 1e-5, 0.2], dtype=torch.float64, device=device)
    model = Quadratic.fit(X, y)
    found = model.minimiser(half)
    for i in range(4):
        alone = Quadratic.fit(X[i : i + 1], y[i : i + 1])
        for name in ("centre", "radius", "g", "H", "score"):
            together = getattr(model, name)[i : i + 1]
            torch.testing.assert_close(together, getattr(alone, name), rtol=1e-6, atol=1e-9)
        minimiser = alone.minimiser(half[i : i + 1])
        torch.testing.assert_close(found[i : i + 1], minimiser, rtol=0, atol=1e-5 * float(half[i]) + 1e-7)


@KINDS
def test_the_unit_and_the_zero_of_outcomes_do_not_matter(full, device):
    X = points(2, enough(3, full), 3, device)
    y = torch.sin(4.0 * X).sum(-1)
    model, scaled = Quadratic.fit(X, y), Quadratic.fit(X, 1024.0 * y - 3.0)
    torch.testing.assert_close(scaled.score, model.score, rtol=1e-6, atol=1e-9)
    half = width(0.25, 2, device)
    torch.testing.assert_close(scaled.minimiser(half), model.minimiser(half), rtol=0, atol=1e-6)


def test_the_score_tells_smooth_from_noise(device):
    X = points(40, 42, 3, device)
    noise = torch.randn(40, 42, generator=generator(2), dtype=torch.float64).to(device)
    smooth = (X - 0.4).square().sum(-1)
    scores = [Quadratic.fit(X, y).score for y in (smooth, smooth + 1e-3 * noise, noise)]
    assert (scores[0] > 1 - 1e-9).all()
    assert scores[1].median() > 0.9 > scores[1].max() - 0.1
    assert scores[2].median() < 0.3


D = 2


def _fifth(X):
    """1 at the fifth point of each study, 0 elsewhere."""
    return (torch.arange(X.shape[1]) == 4).to(X).expand(X.shape[:2])


AWKWARD = {
    "ties": lambda X: (4.0 * X[..., 0]).round(),
    "constant": lambda X: torch.full_like(X[..., 0], 3.0),
    "all but one equal": lambda X: _fifth(X) - 1.0,
    "all but one worst": lambda X: _fifth(X),
    "huge": lambda X: 1e300 * torch.sin(50 * X[..., 0]),
    "largest": lambda X: 1.7e308 * torch.sin(50 * X[..., 0]).sign(),
    "tiny": lambda X: 1e-300 * torch.sin(50 * X[..., 0]),
    "denormal": lambda X: 5e-324 * (4.0 * X[..., 0]).round(),
    "outlier": lambda X: X.sum(-1) + 1e250 * _fifth(X),
}


@pytest.mark.parametrize("y", AWKWARD.values(), ids=AWKWARD.keys())
@pytest.mark.parametrize(
    "place",
    [lambda X: X, lambda X: X[:, :1].expand_as(X), lambda X: X[:, [0, 1] * (X.shape[1] // 2)],
     lambda X: torch.cat([X[..., :1], torch.ones_like(X[..., 1:])], -1),
     lambda X: 0.5 + 1e-13 * X],
    ids=["scattered", "one point", "two points", "a line", "a speck"],
)  # fmt: skip
@pytest.mark.parametrize("n", [8, 16])
def test_awkward_data_does_not_break_it(y, place, n, device):
    X = place(points(2, n, D, device))
    model = Quadratic.fit(X, y(X.cpu()).to(device))
    assert not model.score.isnan().any() and (model.score <= 1.0).all()
    half = width(0.25, 2, device)
    found = model.minimiser(half)
    assert ((found >= 0) & (found <= 1) & ((found - model.centre).abs() <= 0.25 + 1e-12)).all()


def test_how_many_points_a_model_needs():
    for d in (1, 2, 7):
        i, j = np.triu_indices(d)
        assert coefficients(d, full=True) == 1 + d + len(i)
        assert coefficients(d, full=False) == 1 + d + (i == j).sum()
        assert not is_determined(coefficients(d, full=False), d)
        assert is_determined(2 * coefficients(d, full=False), d)


def test_on_saddles_the_lower_of_two_descents_is_taken(monkeypatch, device):
    d, b = 4, 60
    H, _ = truth(d, True, device, b=b, convex=False, seed=3)
    g = torch.randn(b, d, generator=generator(4), dtype=torch.float64).to(device)
    centre, radius = torch.full_like(g, 0.5), torch.ones_like(g[:, :1])
    model = Quadratic(centre, radius, g, H, torch.ones_like(g[:, 0]))
    ends = []
    real = quadratic.bfgs.minimize
    monkeypatch.setattr(quadratic.bfgs, "minimize", lambda *a: ends.append(real(*a)) or ends[-1])
    V = (model.minimiser(width(0.5, b, device)) - 0.5).unsqueeze(1)
    value = model.value_and_gradient(V)[0][:, 0]
    torch.testing.assert_close(value, ends[0].value.amin(-1))
    assert ends[0].value.shape == (b, 2) and (ends[0].value.diff(dim=-1).abs() > 1e-2).any()
