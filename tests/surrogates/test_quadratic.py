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
    V = (Z - model.centre.unsqueeze(1)) @ model.B.mT
    value, gradient = quadratic._value_and_gradient(V, model.g, model.H)
    expected = values(Z, H, m) + 7.0 - y.amin(-1, keepdim=True)
    unit = (expected / value).median(-1, keepdim=True).values
    torch.testing.assert_close(unit * value, expected, rtol=1e-4, atol=1e-6)
    slope = unit.unsqueeze(-1) * gradient @ model.B
    torch.testing.assert_close(slope, (Z - m.unsqueeze(1)) @ H, rtol=1e-4, atol=1e-5)
    curvature = model.B.mT @ model.H @ model.B * unit.unsqueeze(-1)
    torch.testing.assert_close(curvature, H, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.score, torch.ones_like(model.score), rtol=0, atol=1e-8)


@CASES
def test_the_minimiser_of_a_convex_quadratic_is_found(d, full, device):
    H, m = truth(d, full, device)
    X = points(3, enough(d, full), d, device)
    found = Quadratic.fit(X, values(X, H, m)).lowest_in_box(width(1.0, 3, device))
    torch.testing.assert_close(found, m, rtol=0, atol=5e-6)  # the ridge pulls a little


@CASES
@pytest.mark.parametrize("half_width", [0.3, 0.05, 1e-4])
def test_the_minimiser_in_a_box_is_that_of_scipy(d, full, half_width, device):
    H, m = truth(d, full, device)
    m = m + torch.tensor([0.0, 0.6, -0.6], dtype=m.dtype, device=device).unsqueeze(-1)  # some outside [0, 1]
    X = points(3, enough(d, full), d, device)
    y = values(X, H, m)
    model = Quadratic.fit(X, y)
    found = model.lowest_in_box(width(half_width, 3, device))
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
    found = model.lowest_in_box(width(0.25, 3, device))
    V = ((found - model.centre).unsqueeze(1)) @ model.B.mT
    value, gradient = (t[:, 0] for t in quadratic._value_and_gradient(V, model.g, model.H))
    gradient = (gradient.unsqueeze(1) @ model.B)[:, 0]
    low, high = (model.centre - 0.25).clamp_min(0.0), (model.centre + 0.25).clamp_max(1.0)
    projected = torch.maximum(torch.minimum(found - 0.1 * gradient, high), low) - found
    assert projected.abs().max() < 1e-5 and (value <= 0.0).all()


@KINDS
def test_left_out_residuals_are_those_of_refits(full, device):
    """The shortcut by leverages against as many fits as there are points."""
    d, m = 3, 2 * coefficients(3, full)
    A = quadratic._monomials(points(2, m, d, device) - 0.5, full)
    t = torch.randn(2, m, generator=generator(1), dtype=torch.float64).to(device)
    c, left_out, W = quadratic._least_squares(A, t)
    gram = A.mT @ A + quadratic._RIDGE * torch.eye(A.shape[-1], dtype=A.dtype, device=device)
    torch.testing.assert_close(W.mT @ W, torch.linalg.inv(gram), rtol=1e-6, atol=1e-9)
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
    found = model.lowest_in_box(half)
    for i in range(4):
        alone = Quadratic.fit(X[i : i + 1], y[i : i + 1])
        for name in ("centre", "A", "g", "H", "score"):
            together = getattr(model, name)[i : i + 1]
            torch.testing.assert_close(together, getattr(alone, name), rtol=1e-6, atol=1e-9)
        minimiser = alone.lowest_in_box(half[i : i + 1])
        torch.testing.assert_close(found[i : i + 1], minimiser, rtol=0, atol=1e-5 * float(half[i]) + 1e-7)


@KINDS
def test_the_unit_and_the_zero_of_outcomes_do_not_matter(full, device):
    X = points(2, enough(3, full), 3, device)
    y = torch.sin(4.0 * X).sum(-1)
    model, scaled = Quadratic.fit(X, y), Quadratic.fit(X, 1024.0 * y - 3.0)
    torch.testing.assert_close(scaled.score, model.score, rtol=1e-6, atol=1e-9)
    half = width(0.25, 2, device)
    torch.testing.assert_close(scaled.lowest_in_box(half), model.lowest_in_box(half), rtol=0, atol=1e-6)


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
    found = model.lowest_in_box(half)
    assert ((found >= 0) & (found <= 1) & ((found - model.centre).abs() <= 0.25 + 1e-12)).all()
    again = Quadratic.fit(X, y(X.cpu()).to(device), rounds=2)
    for point in (again.lowest_in_ball(half), again.least_known(half)):
        assert ((point >= 0) & (point <= 1)).all()


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
    eye = torch.eye(d, dtype=g.dtype, device=device).expand(b, -1, -1)
    model = Quadratic(torch.full_like(g, 0.5), eye, eye, g, H, eye, torch.ones_like(g[:, 0]))
    ends = []
    real = quadratic.bfgs.minimize
    monkeypatch.setattr(quadratic.bfgs, "minimize", lambda *a: ends.append(real(*a)) or ends[-1])
    V = (model.lowest_in_box(width(0.5, b, device)) - 0.5).unsqueeze(1)
    value = quadratic._value_and_gradient(V, model.g, model.H)[0][:, 0]
    torch.testing.assert_close(value, ends[0].value.amin(-1))
    assert ends[0].value.shape == (b, 2) and (ends[0].value.diff(dim=-1).abs() > 1e-2).any()


# ------------------------------------------------------------------------------- in the metric of the points


def rotated(d, condition, device, seed=0):
    """`H (1, d, d)` with eigenvalues from 1 to a condition number, in random axes."""
    Q = torch.linalg.qr(torch.randn(d, d, generator=generator(seed, d), dtype=torch.float64))[0]
    return ((Q * torch.logspace(0, np.log10(condition), d, dtype=Q.dtype)) @ Q.T)[None].to(device)


@CASES
def test_in_z_the_points_have_unit_variance(d, full, device):
    """Along principal axes, or each coordinate for itself; A and B are inverse to each other."""
    V = points(2, 20, d, device) - 0.3
    V[..., -1] *= 1e-5
    A, B = quadratic._axes(V, full)
    eye = torch.eye(d, dtype=V.dtype, device=device).expand(2, -1, -1)
    torch.testing.assert_close(A @ B, eye, rtol=0, atol=1e-9)
    second = (V @ B.mT).mT @ (V @ B.mT) / 20
    torch.testing.assert_close(second if full else second * eye, eye, rtol=0, atol=1e-6)
    assert full or (A * eye == A).all()


def test_the_second_round_finds_the_level_sets(device):
    """The neighbours are those of least value then, and in their spread the function is rounder."""
    d, n = 4, 300
    H = rotated(d, 1e4, device)
    X = points(1, n, d, device)
    y = values(X, H, torch.full((1, d), 0.5, dtype=X.dtype, device=device))
    spread = []
    for rounds in (1, 2):
        model = Quadratic.fit(X, y, rounds)
        curvature = torch.linalg.eigvalsh(model.A.mT @ H @ model.A)[0]
        spread.append(float(curvature[-1] / curvature[0]))
    assert spread[1] < 0.3 * spread[0] < 0.3 * 1e4
    torch.testing.assert_close(model.lowest_in_ball(width(9.0, 1, device)), torch.full_like(X[:, 0], 0.5))


@KINDS
@pytest.mark.parametrize("convex", [True, False])
@pytest.mark.parametrize("reach", [0.05, 0.7, 20.0])
def test_the_lowest_in_a_ball_satisfies_the_conditions_of_an_optimum(full, convex, reach, device):
    """`(H + lambda I) z = -g` with H + lambda I convex, and lambda zero or z on the sphere: sufficient for a
    global minimum (More and Sorensen, 1983, lemma 2.3). The unit box is out of the way."""
    d, b = 4, 8
    H, _ = truth(d, full, device, b=b, convex=convex, seed=5)
    g = torch.randn(b, d, generator=generator(6), dtype=torch.float64).to(device)
    A = 1e-3 * torch.eye(d, dtype=g.dtype, device=device).expand(b, -1, -1)
    p = coefficients(d, full)
    W = torch.eye(p, dtype=g.dtype, device=device).expand(b, -1, -1)
    model = Quadratic(torch.full_like(g, 0.5), A, A.inverse(), g, H, W, torch.ones_like(g[:, 0]))
    z = (model.lowest_in_ball(width(reach, b, device)) - 0.5) / 1e-3
    length = z.norm(dim=-1)
    assert (length <= reach * (1 + 1e-6)).all()
    slope = (H @ z.unsqueeze(-1))[..., 0] + g
    shift = -(slope * z).sum(-1) / length.square()
    torch.testing.assert_close(
        slope, -shift.unsqueeze(-1) * z, rtol=0, atol=1e-5 * float(slope.abs().max() + 1)
    )
    assert (torch.linalg.eigvalsh(H)[:, 0] + shift >= -1e-6).all()
    inside = length < reach * (1 - 1e-6)
    assert (shift[inside].abs() < 1e-6).all() and (shift[~inside] >= -1e-6).all()


def test_where_the_box_is_in_the_way_the_ball_keeps_to_it(device):
    """The best of the same convexified objective within it: no point of the box on a grid is lower."""
    H = rotated(2, 50.0, device)
    X = points(1, 40, 2, device)
    m = torch.tensor([[1.2, 0.4]], dtype=X.dtype, device=device)
    model = Quadratic.fit(X, values(X, H, m), rounds=2)
    found = model.lowest_in_ball(width(1e3, 1, device))
    grid = torch.cartesian_prod(*[torch.linspace(0, 1, 201, dtype=X.dtype)] * 2)[None].to(device)
    best = grid[0, values(grid, H, m)[0].argmin()]
    assert float(found[0, 0]) == 1.0
    torch.testing.assert_close(found[0], best, rtol=0, atol=5e-3)


@KINDS
def test_a_lesson_is_the_point_of_the_design_where_the_variance_is_largest(full, device):
    d = 3
    X = points(2, enough(d, full), d, device)
    X[0, :, 0] = 0.5 + 1e-3 * (X[0, :, 0] - 0.5)
    model = Quadratic.fit(X, torch.sin(4.0 * X).sum(-1))
    reach = torch.tensor([0.5, 0.05], dtype=X.dtype, device=device)
    found = model.least_known(reach)
    for i in range(2):
        A, W = model.A[i].cpu().numpy(), model.W[i].cpu().numpy()
        covariance = W.T @ W
        design = [s * np.eye(d)[k] for s in (1, -1) for k in range(d)]
        if full:
            design += [
                (s * np.eye(d)[j] + t * np.eye(d)[k]) / np.sqrt(2)
                for s in (1, -1) for t in (1, -1) for j in range(d) for k in range(j)
            ]  # fmt: skip
        centre = model.centre[i].cpu().numpy()
        allowed = [z * float(reach[i]) for z in design]
        allowed = [z for z in allowed if ((centre + A @ z >= 0) & (centre + A @ z <= 1)).all()]
        phi = quadratic._monomials(torch.tensor(np.array(allowed))[None], full)[0].numpy()
        variance = np.einsum("mp,pq,mq->m", phi, covariance, phi)
        z = np.linalg.solve(A, found[i].cpu().numpy() - centre)
        assert (
            min(np.abs(z - allowed[k]).max() for k in np.flatnonzero(variance >= variance.max() * (1 - 1e-6)))
            < 1e-6
        )
        mine = model.variance(torch.tensor(np.array(allowed)).expand(2, -1, -1).to(device))[i]
        np.testing.assert_allclose(mine.cpu().numpy(), variance, rtol=1e-6)
