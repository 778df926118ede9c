"""`gpu`: the GPU beside the CPU and BoTorch, and against what the card can do.

Every measurement is a line of `gpu.jsonl`, made once for each card: a run that was stopped, or that ran out
of `--minutes`, goes on where it was. Delete the file to measure anew. With `--device cpu` the CPU stands in
for the GPU, which shows that the program works and nothing else.
"""

import argparse
import shutil
import subprocess
import time
from importlib import metadata

import torch

from benchmarks.gpu import agreement, asks, ceilings, kernels, records, replicates, roofline
from benchmarks.gpu.book import Book, Setup
from benchmarks.report import RESULTS, Report

DESCRIPTION = "the GPU beside the CPU and BoTorch, and an account against the card's ceilings"

#: What can be measured, the cheapest first.
PARTS = {
    "ceilings": ceilings,
    "fused": kernels,
    "graphs": records,
    "roofline": roofline,
    "replicates": replicates,
    "agreement": agreement,
    "asks": asks,
}

SIZES = (20, 100, 500, 1000, 2000, 5000, 10_000, 20_000)
DIMS, BATCHES = (10, 20, 6), (1, 8, 64, 1000)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--parts", nargs="+", default=list(PARTS), choices=PARTS, help="(default: %(default)s)"
    )
    parser.add_argument("--device", default="cuda", help="cpu for a rehearsal (default: %(default)s)")
    parser.add_argument("--method", default="gp", help="of our optimiser (default: %(default)s)")
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES, help="n of the asks")
    parser.add_argument("--dims", nargs="+", type=int, default=DIMS, help="d of the asks, at least 6")
    parser.add_argument("--batches", nargs="+", type=int, default=BATCHES, help="q of the asks")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds an ask may take before its like "
                        "at larger sizes are left out (default: %(default)s)")  # fmt: skip
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin nothing new after so many")
    parser.add_argument("--seed", type=int, default=0, help="of histories and studies (default: %(default)s)")


def run(args: argparse.Namespace) -> Report:
    """Measure what is due; a report of all that is known about this card."""
    device = torch.device(args.device)
    if device.type == "cpu" and args.out == RESULTS:
        raise SystemExit("gpu: --device cpu is a rehearsal, its results are no GPU's: name a folder by --out")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("gpu: there is no GPU here; --device cpu --out FOLDER rehearses on the CPU")
    facts = _facts(device)
    book = Book(args.out / f"gpu{'-quick' * args.quick}.jsonl", facts["card"])
    setup = Setup(
        device=device,
        method=args.method,
        seed=args.seed,
        sizes=(20,) if args.quick else args.sizes,
        dims=(6,) if args.quick else args.dims,
        batches=(1,) if args.quick else args.batches,
        limit=args.limit,
        deadline=time.monotonic() + 60.0 * args.minutes,
        quick=args.quick,
    )
    for part in args.parts:
        PARTS[part].measure(book, setup)
    tables = [table for part in PARTS.values() for table in part.tables(book)]
    title = "The GPU" if setup.is_cuda else "A rehearsal of the GPU benchmark on the CPU"
    return Report(title, tables, book.lines(), {**facts, "method": args.method, "seed": args.seed})


def _facts(device: torch.device) -> dict[str, str]:
    """The card, its driver, and the versions that matter on it."""
    if device.type == "cpu":
        return {"card": "none, the CPU"}
    return {
        "card": torch.cuda.get_device_name(device),
        "driver": _driver(),
        "CUDA": str(torch.version.cuda),
        "triton": _version("triton"),
    }


def _driver() -> str:
    program = shutil.which("nvidia-smi")
    if program is None:
        return "unknown"
    query = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, check=False, timeout=60)
    return done.stdout.split()[0] if done.returncode == 0 and done.stdout.strip() else "unknown"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"
