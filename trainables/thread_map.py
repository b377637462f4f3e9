"""One thing done to many items at a time, in order, with progress told."""

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import cv2

Progress = Callable[[int, int, str], None]  # done, total, what
Item = TypeVar("Item")
Result = TypeVar("Result")

BATCH = 256
TOLD = 16  # items between two calls of progress
REMOTE = 16  # threads at least where each waits for a server


def processors() -> int:
    """Return the number of processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_parallel(
    work: Callable[[Item], Result], items: Sequence[Item], progress: Progress | None, what: str, workers: int | None = None
) -> Iterator[Result]:
    """Yield ``work(item)`` in order. Threads suffice: reading, hashing, decoding and resizing all release the interpreter's lock."""
    cv2.setNumThreads(1)
    executor = ThreadPoolExecutor(workers or processors())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PIL's remarks on odd metadata, one a file
            for start in range(0, len(items), BATCH):  # so that results waiting to be written stay few
                for done, result in enumerate(executor.map(work, items[start : start + BATCH]), start + 1):
                    yield result
                    if progress and (done % TOLD == 0 or done == len(items)):
                        progress(done, len(items), what)
    finally:
        executor.shutdown(cancel_futures=True)
