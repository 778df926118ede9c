"""`list`: the names of problems, suites and methods, and what is not installed."""

import argparse

from benchmarks.methods import METHODS
from benchmarks.problems import SUITES, names

DESCRIPTION = "names of problems, suites and methods"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", nargs="?", choices=["problems", "suites", "methods"], help="(default: all)")


def main(args: argparse.Namespace) -> int:
    found = {
        "methods": [
            f"{name}{'' if entry.installed else f'   # install it with: {entry.command}'}"
            for name, entry in METHODS.items()
        ],
        "suites": sorted(path.stem for path in SUITES.glob("*.txt")),
        "problems": names(),
    }
    for what in [args.what] if args.what else found:
        print(f"# {what}", *found[what], sep="\n")
    return 0
