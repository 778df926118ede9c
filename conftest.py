"""Where Optuna is not installed the engine works without studies; so do its tests without theirs.

Nor can what is written in Triton be looked through where that is not.
"""

from importlib.util import find_spec
from pathlib import Path

_ROOT = Path(__file__).parent

#: What needs Optuna, or runs benchmarks beside it.
_STUDIES = [
    _ROOT / path
    for path in (
        "bayesopt/interop/inferred.py",
        "bayesopt/interop/optuna.py",
        "bayesopt/pruning/pruner.py",
        "bayesopt/storage",
        "tests/benchmarks",
        "tests/cli/test_commands.py",
        "tests/cli/test_tune.py",
        "tests/interop/test_optuna.py",
        "tests/interop/test_torchrun.py",
        "tests/pruning/test_benchmark.py",
        "tests/pruning/test_pruner.py",
        "tests/report",
        "tests/storage",
        "tests/test_explanation.py",
        "tests/test_noise.py",
        "tests/test_readme.py",
        "tests/test_stopping.py",
        "tests/test_versus.py",
    )
]

_TRITON = [_ROOT / "bayesopt/kernels/fused_triton.py"]


def _has_optuna() -> bool:
    return find_spec("optuna") is not None


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out what cannot be imported."""
    needs_optuna, needs_triton = collection_path in _STUDIES, collection_path in _TRITON
    missing = (needs_optuna and not _has_optuna()) or (needs_triton and find_spec("triton") is None)
    return True if missing else None


def pytest_report_header() -> str | None:
    """Say so."""
    return None if _has_optuna() else "Optuna is not installed: tests of studies are left out"
