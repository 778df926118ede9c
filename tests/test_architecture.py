"""The shape of the house: imports point one way and have no side effects, the links resolve."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import bayesopt

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "bayesopt"

# Lowest first. A part may import its own layer and those above it in this list, never one below.
LAYERS = (
    (
        "checks",
        "device",
        "graphs",
        "linalg",
        "bfgs",
        "rows",
        "when",
        "parameters",
        "beliefs",
        "axes",
        "conditions",
        "spacefile",
        "spaceplan",
        "space",
    ),
    ("kernels",),
    ("surrogates",),
    ("acquisition",),
    ("methods",),
    ("trials",),
    ("explanation", "calibration", "reach"),
    ("setting",),
    ("record",),
    ("learner",),
    ("asking", "explaining", "stopping"),
    ("optimizer",),
    ("replicates",),
    ("workers",),
    ("pruning",),
    ("storage",),
    ("books",),
    ("running",),
    ("study",),
    ("report",),
    ("interop", "cli", "demo", "plots"),
)
RANK = {part: rank for rank, layer in enumerate(LAYERS) for part in layer}
TOP = len(LAYERS) - 1

# Heavy, or somebody else's choice: loaded only by the code that needs it.
LAZY = (
    "botorch",
    "cmaes",
    "gpytorch",
    "linear_operator",
    "matplotlib",
    "optuna",
    "pandas",
    "ray",
    "rich",
    "sklearn",
    "sqlalchemy",
    "triton",
)


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def part_of(module: str) -> str:
    """The second name of `bayesopt.kernels.distances`: kernels; empty for the package itself."""
    return module.partition(".")[2].partition(".")[0]


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports(module: str) -> Iterator[str]:
    """Every module of the package that `module` imports anywhere, inside functions too."""
    path = MODULES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "bayesopt")
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                anchor = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*anchor, base] if base else anchor)
            if base.split(".")[0] == "bayesopt":
                # `from . import kernel` names a module, `from .kernel import Kernel` names something in one.
                yield from ({f"{base}.{alias.name}" for alias in node.names} & MODULES.keys()) or {base}


@pytest.mark.parametrize("module", sorted(MODULES.keys() - {"bayesopt"}))
def test_imports_point_one_way(module: str) -> None:
    part = part_of(module)
    assert part in RANK or part == "__main__", f"{module} has no place yet: give {part!r} one in LAYERS"
    rank = RANK.get(part, TOP)
    for target in imports(module):
        # The package itself gathers the names of all parts: only what stands on top of it may use them.
        target_rank = RANK[part_of(target)] if part_of(target) else TOP
        assert target_rank <= rank, f"{module} imports {target}, which belongs to a layer above it"


def test_imports_have_no_cycle() -> None:
    graph = {module: set(imports(module)) - {module} for module in MODULES if module != "bayesopt"}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the cycle


IMPORT_AND_REPORT = f"""
import json, random, sys
import numpy, torch

def state():
    return [
        torch.get_num_threads(),
        torch.get_num_interop_threads(),
        str(torch.get_default_dtype()),
        str(torch.get_default_device()),
        torch.get_rng_state().tolist(),
        torch.is_grad_enabled(),
        torch.are_deterministic_algorithms_enabled(),
        torch.get_float32_matmul_precision(),
        repr(random.getstate()),
        repr(numpy.random.get_state()),
        repr(numpy.geterr()),
    ]

before = state()
import bayesopt
engine = [getattr(bayesopt, name) for name in bayesopt.__all__ if name not in ("CurvePruner", "Study")]
print(json.dumps({{
    "changed": [i for i, (a, b) in enumerate(zip(before, state())) if a != b],
    "loaded": [name for name in {LAZY!r} if name in sys.modules],
}}))
"""


def test_import_is_light_and_changes_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:bayesopt", "-c", IMPORT_AND_REPORT],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"changed": [], "loaded": []}


def test_the_names_of_the_package_are_where_it_says() -> None:
    homes = [name for names in bayesopt._HOMES.values() for name in names]
    assert sorted(homes) == sorted(bayesopt.__all__)
    pytest.importorskip("optuna")
    assert all(getattr(bayesopt, name).__name__ == name for name in homes)
    assert {*homes, "__version__"} <= {*dir(bayesopt)}
    with pytest.raises(AttributeError, match="has no attribute 'optimise'"):
        _ = bayesopt.optimise


@pytest.mark.parametrize("name", ["kernels", "acquisition"])
def test_links_for_the_reader_lead_into_the_package(name: str) -> None:
    link = ROOT / name
    assert link.is_symlink()
    assert not link.readlink().is_absolute()
    assert link.resolve() == (PACKAGE / name).resolve()
    assert link.is_dir()
