"""Local proposals: what the arms say, where they look, and what comes of it."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import bayesopt.methods.gp
import bayesopt.methods.local
from bayesopt import Float, Int, Optimizer, Replicates, Space
from bayesopt.acquisition.maximizer import climbed_columns
from bayesopt.acquisition.resolution import resolution
from bayesopt.methods.arms import Arms, is_local, is_spare, takes_quadratic
from bayesopt.methods.history import History, generator
from bayesopt.methods.local import Advice, Council, Local, trust_region
from bayesopt.methods.quasi_random import design_size
from tests.methods.histories import CONDITIONAL, MIXED, SMOOTH, history, one, places


def look(space, history, scales, asked, resolution=None):
    """Where the local arms look after so many proposals."""
    (advice,) = Council.of(space, replace(history, asked=asked)).advice()
    return None if advice is None else advice.nearby(space, history, scales, resolution)


# --------------------------------------------------------------------------------------- where they look


def test_a_trust_region_is_shaped_by_the_lengthscales(device):
    incumbent = torch.full((2, 3), 0.5, dtype=torch.float64, device=device)
    scales = torch.tensor([[1.0, 1.0, 1.0], [0.1, 0.2, 0.4]], dtype=torch.float64, device=device)
    side = torch.tensor([0.4, 0.1], dtype=torch.float64, device=device)
    region = trust_region(SMOOTH, incumbent, scales, side)
    expected = [[0.4, 0.4, 0.4], [0.05, 0.1, 0.2]]
    torch.testing.assert_close((region.upper - region.lower).tolist(), expected)
    torch.testing.assert_close(0.5 * (region.upper + region.lower), incumbent)
    scales[:, 0] = 1e9  # a column that does not matter
    region = trust_region(SMOOTH, incumbent, scales, side)
    assert float((region.upper - region.lower)[1, 0]) == pytest.approx(5.0 * 0.1)
    middle = torch.full((1, 5), 0.5, dtype=torch.float64, device=device)
    mixed = trust_region(MIXED, middle, torch.ones_like(middle), side[:1])
    free = torch.tensor([not climbed for climbed in climbed_columns(MIXED)])
    assert (((mixed.upper - mixed.lower)[0].cpu() == 1.0) == free).all()


@pytest.mark.parametrize("space", [SMOOTH, MIXED, CONDITIONAL], ids=["smooth", "mixed", "conditional"])
@pytest.mark.parametrize("foreign", [0, 5])
@pytest.mark.parametrize("failures", [(), (3, 17)])
@pytest.mark.parametrize("asked", [31, 34])
def test_a_batch_of_studies_is_its_studies(space, foreign, failures, asked, device):
    h = history(space, device, n=30, pending=0, foreign=foreign, failures=failures)
    scales = torch.rand(3, space.dim, generator=generator(0), dtype=torch.float64).to(device) + 0.1
    together = look(space, h, scales, asked)
    assert (together is None) == (asked == 34 and space is not SMOOTH)
    assert together is None or together.first.shape == (3, int(space is SMOOTH), space.dim)
    for i in range(3):
        alone = look(space, one(h, i), scales[i : i + 1], asked)
        if together is None:
            assert alone is None
            continue
        for name in ("lower", "upper"):
            a, b = (getattr(nearby.region, name) for nearby in (together, alone))
            torch.testing.assert_close(a[i : i + 1], b)
        torch.testing.assert_close(together.first[i : i + 1], alone.first, rtol=0, atol=1e-6)
        torch.testing.assert_close(together.preference[i : i + 1], alone.preference, rtol=0, atol=0)


@pytest.mark.parametrize("asked", [30, 37])
def test_in_a_batch_a_study_that_descends_leaves_the_others_as_they_would_be(asked, device):
    """Its turns are theirs to look everywhere, unless they are local ones anyway."""
    h = replace(history(SMOOTH, device, n=30, pending=0), asked=asked)
    falling = torch.arange(30, 0, -1, dtype=h.y.dtype, device=device)
    h = replace(h, y=torch.stack([h.y[0].sort().values, falling, h.y[2]]))  # the second one finds better ones
    together = Council.of(SMOOTH, h, 8).advice()
    for i, arms in ((0, {"finite difference"}), (1, set()), (2, {"finite difference"})):
        alone, said = Council.of(SMOOTH, one(h, i), 8).advice(), set()
        for at, (ours, theirs) in enumerate(zip(together, alone, strict=True), asked):
            if ours is None or theirs is None:
                assert theirs is None and not is_local(at)
                assert ours is None or not (ours.make[i] or (ours.preference[i] > 0.0).any())
                continue
            speaks = bool((theirs.preference[0] > 0.0).any())
            assert bool(ours.make[i]) == bool(theirs.make[0])
            assert bool((ours.preference[i] > 0.0).any()) == speaks
            if speaks:
                torch.testing.assert_close(ours.first[i], theirs.first[0], rtol=0, atol=1e-6)
                said.add(theirs.names[0])
        assert said - {"quadratic"} == arms
    assert any(one is not None and not is_local(at) for at, one in enumerate(together, asked))


def test_the_quadratic_is_believed_where_the_function_is_one(device):
    """And not on noise, nor after it has failed."""
    X = torch.rand(1, 30, 3, generator=generator(0), dtype=torch.float64).to(device)
    active, scales = torch.ones_like(X, dtype=torch.bool), torch.ones(1, 3, dtype=X.dtype, device=device)

    def nearby(y, at):
        h = History(X, active, y, X[:, :0], active[:, :0], (0,), 31, at, noisy=True)  # no descent
        return look(SMOOTH, h, scales, 31)

    bowl = (X - 0.4).square().sum(-1)
    found = nearby(bowl, places(30, 30))
    reach = 0.25
    incumbent = X[0, bowl.argmin()]
    expected = (incumbent + (0.4 - incumbent).clamp(-reach, reach)).clamp(0, 1)
    torch.testing.assert_close(found.first[0, 0], expected, rtol=0, atol=1e-4)
    assert float(found.preference) > 1e200
    noise = torch.randn(1, 30, generator=generator(3), dtype=X.dtype).to(device)
    assert float(nearby(noise, places(30, 30)).preference) == -math.inf
    X[:, -1] = incumbent + (incumbent - 0.4).sign() * 0.01  # the last one is worse than the best, and near
    y = (X - 0.4).square().sum(-1)
    for last, believed in ((6, True), (7, False)):  # the one after an odd number of others was a local one
        at = torch.cat([torch.full((29,), -1), torch.tensor([last])])[None]
        assert float(nearby(y, at).preference) == (1e300 if believed else -math.inf)


def test_an_extra_proposal_is_the_quadratics_while_it_thrives(device):
    """Else it is as free as any."""
    X = torch.rand(1, 40, 3, generator=generator(0), dtype=torch.float64)
    X = (0.4 + 0.9 ** torch.arange(40.0)[:, None] * (0.2 * (X - 0.5) + 0.1)).to(device)  # ever nearer to 0.4
    y = 0.9 ** torch.arange(40.0, dtype=torch.float64)[None]
    active, scales = torch.ones_like(X, dtype=torch.bool), torch.ones(1, 3, dtype=X.dtype, device=device)
    for values, thrives in ((y, True), (y.flip(-1), False)):
        h = History(
            X, active, values.to(device), X[:, :0], active[:, :0], (0,), 42, places(40, 0), noisy=True
        )  # no descent
        arms = Arms.after(X[0].cpu().numpy(), values[0].numpy(), h.at[0].numpy(), True)
        extra = look(SMOOTH, h, scales, 42)
        assert (extra.region.lower == 0.0).all() and (extra.region.upper == 1.0).all()
        assert arms.quadratic_thrives == thrives
        assert thrives or not extra.first.shape[1]
        local = look(SMOOTH, h, scales, 41)
        assert not thrives or torch.equal(extra.preference, local.preference)


def test_a_trust_region_reaches_as_far_as_the_objective_resolves():
    space = Space({name: Float(0.0, 1.0) for name in "ab"})
    h, scales = history(space, n=3, pending=0), torch.ones(3, 2, dtype=torch.float64)
    radius = torch.tensor([0.0, 0.3, 0.45], dtype=torch.float64)
    found = look(space, h, scales, 3, resolution=radius).region
    incumbent = h.X[torch.arange(3), h.y.argmin(-1)]
    half = torch.tensor([0.4, 0.4, 0.45], dtype=torch.float64)[:, None]  # 0.4 at first
    torch.testing.assert_close(found.lower, (incumbent - half).clamp_min(0.0))
    torch.testing.assert_close(found.upper, (incumbent + half).clamp_max(1.0))


def test_descents_are_for_continuous_columns():
    """A whole number cannot be changed a little."""
    for k, expected in ((Float(0.0, 1.0), True), (Int(0, 10**6), False)):
        space = Space({"x": Float(0.0, 1.0), "k": k})
        h = history(space, n=21, pending=0)
        h = replace(h, y=h.y.sort(-1).values)  # the first is the best
        (advice,) = Council.of(space, replace(h, asked=21)).advice()
        assert (advice.names == ("finite difference",) * 3) is expected


# ---------------------------------------------------------------------------------------- what is proposed


def loss(config):
    return sum(
        (j + 1) * ("abcpq".index(v) if isinstance(v, str) else 0.1 * v - 0.03) ** 2
        for j, v in enumerate(config.values())
    )


@pytest.fixture
def seen(monkeypatch):
    """What the local arms said at each ask, and where they looked if it came to that."""
    seen, advise, nearby = [], Council.advise, Advice.nearby

    def advised(*arguments):
        advice = advise(*arguments)
        if advice is not None:
            seen.append(SimpleNamespace(first=advice.first, preference=advice.preference, region=None))
        return advice

    def looked(*arguments):
        found = nearby(*arguments)
        next(one for one in seen if one.region is None).region = found.region
        return found

    monkeypatch.setattr(Council, "advise", advised)
    monkeypatch.setattr(Advice, "nearby", looked)
    return seen


@pytest.mark.parametrize("space", [SMOOTH, MIXED, CONDITIONAL], ids=["smooth", "mixed", "conditional"])
def test_every_other_proposal_is_a_local_one(space, seen):
    opt = Optimizer(space, seed=1)
    kinds = []
    for i in range(30):
        seen.clear()
        config = opt.ask()
        spare = is_spare(i) and takes_quadratic(space)
        assert bool(seen) == ((is_local(i) or spare) and i >= design_size(space))
        for nearby in seen:
            x = space.encode([config])[0][None]
            kinds.append(bool(nearby.first.shape[1]) and bool(nearby.preference[0, 0] > 0))
            if kinds[-1]:
                torch.testing.assert_close(x, nearby.first, rtol=0, atol=1e-9)
            else:  # the level of an integer reaches beyond the box in which its value is
                torch.testing.assert_close(x, space.snap(nearby.region.clamp(x))[0], rtol=0, atol=1e-9)
        opt.tell(config, loss(config))
    assert len(kinds) >= 10 and any(kinds) == takes_quadratic(space) and not all(kinds)


@pytest.mark.parametrize("rounded", [False, True])
def test_what_is_chosen_without_a_fit_is_what_the_fit_would_have_let_pass(rounded, monkeypatch):
    """Quadratics and descents go first whatever the surrogate says: it is not asked."""

    def proposals():
        opt, fits = Optimizer(SMOOTH, seed=2), []
        for _ in range(50):
            config = opt.ask()
            value = sum((j + 1) * (0.1 * v - 0.03) ** 2 for j, v in enumerate(config.values()))
            opt.tell(config, round(value, 3) if rounded else value)
            fits.append(len(fitted))
            fitted.clear()
        return [trial.config for trial in opt.trials], fits

    fitted, fit = [], bayesopt.methods.gp.fit_surrogate
    monkeypatch.setattr(bayesopt.methods.gp, "fit_surrogate", lambda *a: fitted.append(1) or fit(*a))
    quick, fits = proposals()
    monkeypatch.setattr(Local, "chosen", lambda self, history: None)
    slow, all_fits = proposals()
    assert quick == slow and sum(fits) < sum(all_fits)


def test_the_quadratic_keeps_out_of_plateaus(seen):
    """Where its point is nearer to a result than the objective resolves, somebody else has its turn."""
    space = Space({name: Float(0.0, 1.0) for name in "ab"})
    opt = Optimizer(space, seed=0)
    spoke = []
    for _ in range(60):
        seen.clear()
        config = opt.ask()
        x = space.encode([config])[0]
        if seen and bool((seen[0].preference > 0.0).any()):
            X = space.encode([trial.config for trial in opt.trials])[0]
            radius = resolution(X[None], torch.tensor([[trial.value for trial in opt.trials]]))
            spoke.append(bool((x - seen[0].first[0]).abs().max() < 1e-9))
            assert spoke[-1] == bool(torch.cdist(seen[0].first[0], X).min() >= radius)
        opt.tell(config, sum((round(40.0 * value) / 40.0 - 0.3) ** 2 for value in config.values()))
    assert any(spoke) and not all(spoke)


def test_in_company_the_quadratic_speaks_once(seen):
    """The local proposals of a batch, and those beside pending ones: the minimiser, then the region."""
    space = Space({name: Int(0, 1000) for name in "abc"})
    opt = Optimizer(space, seed=1)

    def bowl(config):
        return sum((j + 1) * (value - 300) ** 2 for j, value in enumerate(config.values()))

    def speaks(nearby):
        return bool((nearby.preference > 0).any())

    while not seen or not any(map(speaks, seen)):  # until the model is believed
        seen.clear()
        for config in opt.ask(2):
            opt.tell(config, bowl(config))
    opt.forget(opt.pending)
    for q in (4, 1, 1, 2):
        seen.clear()
        configs = opt.ask(q)
        local = [c for i, c in enumerate(configs, opt.state_dict()["asked"] - q) if is_local(i)]
        assert len(seen) == len(local)
        for i, (config, nearby) in enumerate(zip(local, seen, strict=True)):
            x = space.encode([config])[0][None]
            assert speaks(nearby) == (q == 4 and i == 0)
            expected = nearby.first if speaks(nearby) else space.snap(nearby.region.clamp(x))[0]
            torch.testing.assert_close(x, expected, rtol=0, atol=1e-9)


def ellipsoid(d, seed):
    """`(x - m)' Q diag(1 ... 100) Q' (x - m)`: smooth, ill-conditioned, not aligned with the coordinates."""
    source = np.random.default_rng(seed)
    Q = np.linalg.qr(source.standard_normal((d, d)))[0]
    m = source.uniform(-0.6, 0.6, d)
    scale = np.geomspace(1.0, 100.0, d)
    return lambda config: float(scale @ (Q.T @ (np.array(list(config.values())) - m)) ** 2)


def regret(method, trials, d, seeds):
    """Of each study after so many evaluations of functions whose minimum is zero."""
    studies = Replicates({f"x{j}": Float(-1.0, 1.0) for j in range(d)}, seeds, method=method)
    functions = [ellipsoid(d, seed) for seed in seeds]
    for _ in range(trials):
        configs = studies.ask()
        studies.tell(configs, [f(config) for f, config in zip(functions, configs, strict=True)])
    return [best.value for best in studies.best]


@pytest.mark.slow
def test_the_last_digits_of_a_smooth_function_are_found():
    seeds = [0, 1, 2]
    auto, gp = (regret(method, 60, 5, seeds) for method in ("auto", "gp"))
    assert np.median(auto) < 1e-8 < min(gp)


@pytest.mark.parametrize(("q", "n"), [(1, 36), (4, 48)])
def test_at_the_bottom_of_a_valley_all_proposals_look_elsewhere(q, n):
    opt, bottom = Optimizer(Space({"x": Float(0, 1), "y": Float(0, 1)}), seed=1), np.array([0.3, 0.6])
    kinds, away = [], []
    for _ in range(n // q):
        kinds.append(opt.explain().arm)
        for config in opt.ask(q):
            x = np.array([config["x"], config["y"]])
            opt.tell(config, float(np.cosh(3.0 * (x - bottom)).sum()))
            away.append(float(np.abs(x - bottom).max()))
    assert min(away) < 1e-6
    assert set(kinds[-8 // q :]) == {"acquisition"} and min(away[-4:]) > 0.03
