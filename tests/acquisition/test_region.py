"""Trust regions: the box itself, and a maximiser that keeps to it."""

import pytest
import torch

from bayesopt import Categorical, Float, Int, Space
from bayesopt.acquisition import ACQUISITIONS, Pointwise, Surface, maximize
from bayesopt.acquisition.candidates import Draws
from bayesopt.acquisition.maximizer import DEFAULT_EFFORT, candidates, climbed_columns
from bayesopt.acquisition.region import Region
from bayesopt.methods.history import generator
from tests.acquisition.situations import MIXED, SMOOTH, posterior

LONG = Space({"n": Int(1, 200), "m": Int(0, 4), "x": Float(0.0, 1.0), "c": Categorical(["a", "b", "c", "d"])})
SPACES = {"smooth": SMOOTH, "mixed": MIXED, "long": LONG}
spaces = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES.keys())
SEEDS = (0, 1, 2)


def situation(space, device, acquisition="log_ei"):
    """A surface over b studies, and their observed points."""
    embedding, gp, X, best = posterior(space, device, b=len(SEEDS))
    return Surface.over(space, embedding, gp, Pointwise(gp, ACQUISITIONS[acquisition], best)), X


def propose(surface, X, region, seeds=SEEDS):
    return maximize(surface, X, surface.terms[0].gp.y, draws(X, seeds), DEFAULT_EFFORT, region)


def draws(X, seeds):
    effort = DEFAULT_EFFORT
    return Draws.of([generator(s) for s in seeds], X.shape[-1], effort.sobol, effort.local, X.device)


def around_best(space, surface, X, half_width):
    z = surface.terms[0].gp.y
    centre = X[torch.arange(len(X)), z.argmin(-1)]
    free = torch.tensor([not climbed for climbed in climbed_columns(space)], device=X.device)
    return Region.around(centre, torch.full_like(centre, half_width), free)


def test_a_box_around_a_centre_ends_at_the_walls_and_leaves_free_columns_alone(device):
    centre = torch.tensor([[0.1, 0.5, 0.5], [0.95, 0.2, 0.0]], dtype=torch.float64, device=device)
    half = torch.tensor([[0.2, 0.1, 0.1], [0.1, 0.3, 0.1]], dtype=torch.float64, device=device)
    region = Region.around(centre, half, torch.tensor([False, False, True], device=device))
    expected = [[[0.0, 0.4, 0.0], [0.85, 0.0, 0.0]], [[0.3, 0.6, 1.0], [1.0, 0.5, 1.0]]]
    torch.testing.assert_close(torch.stack([region.lower, region.upper]).tolist(), expected)


def test_placing_and_clamping(device):
    """Places are affine and fill the box; a clamped point is the nearest one, and stays where it is."""
    centre, U = (torch.rand(2, m, 3, generator=generator(m), dtype=torch.float64).to(device) for m in (1, 50))
    free = torch.zeros(3, dtype=torch.bool, device=device)
    region = Region.around(centre[:, 0], torch.full_like(centre[:, 0], 0.2), free)
    corners = region.place(torch.stack([torch.zeros_like(U[:, 0]), torch.ones_like(U[:, 0])], 1))
    torch.testing.assert_close(corners, torch.stack([region.lower, region.upper], 1))
    placed = region.place(U)
    torch.testing.assert_close(region.clamp(placed), placed, rtol=0, atol=1e-15)
    middle = region.place(0.5 * (U + U.roll(1, 1)))
    torch.testing.assert_close(middle, 0.5 * (placed + placed.roll(1, 1)))
    nearest = region.clamp(U)
    distance = torch.cdist(U, torch.cat([placed, nearest], 1))
    torch.testing.assert_close(distance.amin(-1), (U - nearest).norm(dim=-1))
    some = region.rows(torch.tensor([1], device=device))
    torch.testing.assert_close(some.clamp(U[1:]), nearest[1:], rtol=0, atol=0)


@spaces
def test_the_whole_box_is_no_restriction(space, device):
    surface, X = situation(space, device)
    whole = Region(torch.zeros_like(X[:, 0]), torch.ones_like(X[:, 0]))
    for a, b in zip(propose(surface, X, whole), propose(surface, X, None), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


@spaces
@pytest.mark.parametrize("acquisition", ["log_ei", "ucb"])
@pytest.mark.parametrize("half_width", [0.3, 0.05, 1e-3])
def test_numbers_stay_inside_and_choices_are_free(space, acquisition, half_width, device):
    surface, X = situation(space, device, acquisition)
    region = around_best(space, surface, X, half_width)
    points, value = propose(surface, X, region)
    snapped, active = space.snap(points)
    torch.testing.assert_close(points, snapped, rtol=0, atol=0)
    torch.testing.assert_close(value[:, :5], surface.value(points, active)[:, :5], rtol=1e-6, atol=1e-6)
    # Inside, but for an integer's level, which reaches beyond the box in which its value is.
    torch.testing.assert_close(points, space.snap(region.clamp(points))[0], rtol=0, atol=1e-12)
    raw, _ = candidates(space, X, surface.terms[0].gp.y, draws(X, SEEDS), DEFAULT_EFFORT, region)
    for j in (j for j, climbed in enumerate(climbed_columns(space)) if not climbed):
        assert all(len(raw[i, :, j].unique()) >= space.levels[j] for i in range(len(SEEDS)))


@spaces
def test_within_the_region_nothing_is_better(space, device):
    surface, X = situation(space, device)
    region = around_best(space, surface, X, 0.15)
    _, value = propose(surface, X, region)
    U = torch.stack([space.sample(20_000, generator(5, s)) for s in SEEDS]).to(device)
    dense, active = space.snap(region.place(U))
    assert (value[:, 0] >= surface.value(dense, active).amax(-1) - 0.05).all()


def test_a_region_around_the_maximiser_finds_it_and_one_beside_it_does_not(device):
    surface, X = situation(SMOOTH, device)
    best, value = propose(surface, X, None)
    free = torch.zeros(3, dtype=torch.bool, device=device)
    near = Region.around(best[:, 0], torch.full_like(best[:, 0], 0.1), free)
    torch.testing.assert_close(propose(surface, X, near)[0][:, 0], best[:, 0], rtol=0, atol=5e-3)
    beside = Region.around((best[:, 0] + 0.5) % 1.0, torch.full_like(best[:, 0], 0.1), free)
    assert (propose(surface, X, beside)[1][:, 0] < value[:, 0] - 0.1).all()


@spaces
def test_a_batch_keeps_to_the_regions_of_its_studies(space, device):
    surface, X = situation(space, device)
    region = around_best(space, surface, X, 0.1)
    together, _ = propose(surface, X, region)
    for i, seed in enumerate(SEEDS):
        keep = torch.tensor([i], device=device)
        alone, _ = propose(surface.rows(keep), X[keep], region.rows(keep), (seed,))
        torch.testing.assert_close(together[i, 0], alone[0, 0], rtol=0, atol=1e-6)
