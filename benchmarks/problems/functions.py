"""Test functions with known optima, as problems over named parameters.

A function takes an array `(d,)` in its natural units and returns a float to minimise. Problems whose
optimum sits at the centre of the box flatter a design that starts there, so the centred ones are shifted.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bayesopt import Float

Array = NDArray[np.float64]
Function = Callable[[Array], float]


@dataclass(frozen=True, eq=False)
class Problem:
    """A function over a box, parameters `x0`, `x1`, ...

    Attributes:
        name: for tables; function: of an array `(d,)` in natural units.
        bounds: `(low, high)` of each parameter.
        optimum: smallest value, nan where nobody knows it; minimiser: where it is taken.
    """

    name: str
    function: Function
    bounds: tuple[tuple[float, float], ...]
    optimum: float = math.nan
    minimiser: tuple[float, ...] | None = None

    @property
    def dim(self) -> int:
        """Number of parameters."""
        return len(self.bounds)

    def space(self) -> dict[str, Float]:
        """The search space."""
        return {f"x{j}": Float(low, high) for j, (low, high) in enumerate(self.bounds)}

    def config(self, u: Array) -> dict[str, float]:
        """The configuration at the point `u (d,)` of the unit box."""
        values = (low + (high - low) * float(t) for (low, high), t in zip(self.bounds, u, strict=True))
        return {f"x{j}": value for j, value in enumerate(values)}

    def __call__(self, config: Mapping[str, float]) -> float:
        return self.function(np.array([config[f"x{j}"] for j in range(self.dim)]))

    def at_unit(self, u: Array) -> float:
        """Value at a point of the unit box."""
        return self(self.config(u))


# ------------------------------------------------------------------------------------------- functions


def branin(x: Array) -> float:
    """Branin, three equal minima 0.397887; Dixon & Szego (1978)."""
    a, b = x
    valley = b - 5.1 / (4 * math.pi**2) * a * a + 5 / math.pi * a - 6
    return float(valley**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(a) + 10)


_HARTMANN_ALPHA = np.array([1.0, 1.2, 3.0, 3.2])
_HARTMANN_A = np.array(
    [
        [10, 3, 17, 3.5, 1.7, 8],
        [0.05, 10, 17, 0.1, 8, 14],
        [3, 3.5, 1.7, 10, 17, 8],
        [17, 8, 0.05, 10, 0.1, 14],
    ]
)
_HARTMANN_P = 1e-4 * np.array(
    [
        [1312, 1696, 5569, 124, 8283, 5886],
        [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650],
        [4047, 8828, 8732, 5743, 1091, 381],
    ]
)
HARTMANN6_OPTIMUM = -3.3223680114155147
HARTMANN6_MINIMISER = (0.2016895135, 0.1500106927, 0.4768739701, 0.2753324297, 0.3116516168, 0.6573005364)


def hartmann6(x: Array) -> float:
    """Hartmann in six dimensions; Dixon & Szego (1978)."""
    inner = (_HARTMANN_A * (x - _HARTMANN_P) ** 2).sum(-1)
    return float(-(_HARTMANN_ALPHA * np.exp(-inner)).sum())


def ackley(x: Array) -> float:
    """Ackley (1987), 0 at the origin."""
    ripple = math.exp(float(np.cos(2 * math.pi * x).mean()))
    return float(-20 * math.exp(-0.2 * math.sqrt(float((x * x).mean()))) - ripple + 20 + math.e)


def rastrigin(x: Array) -> float:
    """Rastrigin, 0 at the origin."""
    return float((x * x - 10 * np.cos(2 * math.pi * x) + 10).sum())


def rosenbrock(x: Array) -> float:
    """Rosenbrock's curved valley, moved so that its optimum 0 is at the origin."""
    z = x + 1.0
    return float((100 * (z[1:] - z[:-1] ** 2) ** 2 + (1 - z[:-1]) ** 2).sum())


def levy(x: Array) -> float:
    """Levy, moved so that its optimum 0 is at the origin."""
    w = 1 + x / 4
    body = ((w[:-1] - 1) ** 2 * (1 + 10 * np.sin(math.pi * w[:-1] + 1) ** 2)).sum()
    tail = (w[-1] - 1) ** 2 * (1 + np.sin(2 * math.pi * w[-1]) ** 2)
    return float(np.sin(math.pi * w[0]) ** 2 + body + tail)


def ellipsoid(x: Array) -> float:
    """A bowl whose axes differ by a factor of 1000 in curvature, 0 at the origin."""
    return float((np.logspace(0, 3, len(x)) * x * x).sum())


# -------------------------------------------------------------------------------------------- problems

#: Centred functions and the half-width of their usual box.
CENTRED: dict[str, tuple[Function, float]] = {
    "ackley": (ackley, 32.768),
    "rastrigin": (rastrigin, 5.12),
    "rosenbrock": (rosenbrock, 5.0),
    "levy": (levy, 10.0),
    "ellipsoid": (ellipsoid, 5.0),
}


def branin_problem() -> Problem:
    """Branin on its usual box."""
    return Problem("branin", branin, ((-5.0, 10.0), (0.0, 15.0)), 0.39788735772973816, (math.pi, 2.275))


def hartmann6_problem() -> Problem:
    """Hartmann6 on the unit box."""
    return Problem("hartmann6", hartmann6, ((0.0, 1.0),) * 6, HARTMANN6_OPTIMUM, HARTMANN6_MINIMISER)


def hartmann_bowl(d: int) -> Problem:
    """Hartmann6 on the first six parameters, a smooth bowl with its optimum at 0.3 on the others."""
    if d < 6:
        raise ValueError(f"hartmann_bowl needs d >= 6, got {d}")

    def function(x: Array) -> float:
        return hartmann6(x[:6]) + float(((x[6:] - 0.3) ** 2).sum())

    minimiser = HARTMANN6_MINIMISER + (0.3,) * (d - 6)
    return Problem(f"hartmann6 + bowl {d}", function, ((0.0, 1.0),) * d, HARTMANN6_OPTIMUM, minimiser)


def shifted(name: str, d: int, rng: np.random.Generator) -> Problem:
    """A centred function with its optimum at a random place, up to 60 % of the half-width off the centre."""
    function, half = CENTRED[name]
    shift = 0.6 * half * rng.uniform(-1.0, 1.0, d)
    return Problem(
        f"{name}{d}", lambda x: function(x - shift), ((-half, half),) * d, 0.0, tuple(float(s) for s in shift)
    )


def matern_sample(
    d: int, rng: np.random.Generator, lengthscale: Array | None = None, features: int = 1024
) -> Problem:
    """A draw from a GP prior, Matern 5/2; lengthscales log-normal around 0.5 sqrt(d) unless given.

    Random Fourier features (Rahimi & Recht 2007): the spectral density of Matern nu is a multivariate t
    distribution with 2 nu degrees of freedom.
    """
    if lengthscale is None:
        lengthscale = 0.5 * math.sqrt(d) * np.exp(0.7 * rng.standard_normal(d))
    mixing = np.sqrt(rng.chisquare(5.0, features) / 5.0)
    W = rng.standard_normal((features, d)) / mixing[:, None] / lengthscale
    phase = rng.uniform(0.0, 2 * math.pi, features)

    def function(x: Array) -> float:
        return float(math.sqrt(2.0 / features) * np.cos(W @ x + phase).sum())

    return Problem(f"matern{d}", function, ((0.0, 1.0),) * d)


#: Functions whose optimum is moved off the centre, differently for each seed: which, and in how many
#: dimensions.
SHIFTED: dict[str, tuple[str, int]] = {"ackley10": ("ackley", 10), "levy20": ("levy", 20)}


def seeded_problem(name: str, seed: int) -> Problem:
    """A function by its name; the shift of those that are shifted is the seed's, the same for all methods."""
    if name == "branin":
        return branin_problem()
    if name == "hartmann6":
        return hartmann6_problem()
    if name in SHIFTED:
        function, d = SHIFTED[name]
        return shifted(function, d, np.random.default_rng([seed, d]))
    raise ValueError(f"problem must be branin, hartmann6 or one of {', '.join(SHIFTED)}, got {name!r}")


WORKERS = ("hartmann6", "ackley10", "levy20")
