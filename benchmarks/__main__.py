"""`python -m benchmarks <command>`.

`run`, `report`, `ablate`, `efficiency`, `standing` and `list` compare methods on problems. The other commands
each measure one thing, print their tables and keep them under `benchmarks/results/`.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

COMMANDS = (
    "speed",
    "quality",
    "scaling",
    "replicates",
    "batch",
    "workers",
    "failures",
    "tpe",
    "durability",
    "stopping",
    "curves",
    "gpu",
)

#: Commands with arguments of their own, and their modules.
TOOLS = {
    "run": "run",
    "report": "page",
    "ablate": "ablation",
    "efficiency": "efficiency",
    "standing": "standing",
    "job": "job",
    "list": "list",
}

#: Where the libraries below PyTorch read their number of threads, once, when they are loaded.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def _limit_threads(argv: Sequence[str]) -> None:
    """Pass `--threads` on to BLAS and OpenMP, which works only before anything has loaded them."""
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--threads")
    threads = early.parse_known_args(argv)[0].threads
    if threads is not None and "torch" not in sys.modules:
        os.environ.update(dict.fromkeys(_THREAD_VARIABLES, threads))


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a number >= 1, got {value}")
    return value


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    from benchmarks.report import RESULTS

    results = RESULTS.relative_to(Path.cwd()) if RESULTS.is_relative_to(Path.cwd()) else RESULTS
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for name, file in TOOLS.items():
        module = importlib.import_module(f"benchmarks.{file}")
        module.add_arguments(commands.add_parser(name, help=module.DESCRIPTION, description=module.__doc__))
    for name in COMMANDS:
        try:
            module = importlib.import_module(f"benchmarks.{name}")
        except ModuleNotFoundError as error:  # the engine, and some commands, do without Optuna
            commands.add_parser(name, help=f"cannot run here: {error}")
            continue
        sub = commands.add_parser(name, help=module.DESCRIPTION, description=module.__doc__)
        sub.add_argument("--quick", action="store_true", help="a small version; its results are kept apart")
        sub.add_argument("--threads", type=_positive, help="CPU threads (default: what PyTorch takes)")
        sub.add_argument(
            "--out", type=Path, default=results, help="folder of the results (default: %(default)s)"
        )
        module.add_arguments(sub)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command."""
    argv = sys.argv[1:] if argv is None else argv
    _limit_threads(argv)
    args = build_parser().parse_args(argv)
    if args.command in TOOLS:
        return int(importlib.import_module(f"benchmarks.{TOOLS[args.command]}").main(args))

    from benchmarks.report import save, torch_threads

    with torch_threads(args.threads):
        report = importlib.import_module(f"benchmarks.{args.command}").run(args)
        print(save(args.command + "-quick" * args.quick, report, args.out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
