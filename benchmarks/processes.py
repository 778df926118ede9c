"""Work in several processes, none of which outlives the one that began them."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

from benchmarks.report import torch_threads

Task = TypeVar("Task")
Result = TypeVar("Result")


def in_processes(work: Callable[[Task], Result], tasks: Sequence[Task], processes: int) -> Iterator[Result]:
    """Results as they come, from so many processes with one thread each; a single one is this process."""
    if processes == 1 or len(tasks) < 2:
        with torch_threads(1):
            yield from map(work, tasks)
        return
    context = multiprocessing.get_context("spawn")  # a fork would inherit the locks of PyTorch's threads
    with context.Pool(processes, initializer=_begin) as pool:
        yield from pool.imap_unordered(work, tasks)


def _begin() -> None:
    torch.set_num_threads(1)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    """Who goes on after a parent that was killed writes into the file of the next run."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # a worker process has one
    parent.join()
    os._exit(1)
