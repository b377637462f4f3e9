"""`thread_map`, which applies a function to many items with threads, and the numbers of threads to use."""

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import cv2

OnProgress = Callable[[int, int, str], None]
"""Callback (done, total, what): the number of items done, the number of all items, and what is done to them ("decoding")."""
Item = TypeVar("Item")
Result = TypeVar("Result")

CHUNK = 256  # items handed to the threads at a time: results that wait for their turn stay few
REPORT_EVERY = 16  # items between two calls of the progress callback
REMOTE_THREADS = 16  # the fewest for requests to a server, where threads wait most of the time


def usable_cpus() -> int:
    """Return the number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def remote_threads() -> int:
    """Return the number of threads for requests to a server: one for each usable CPU, but at least `REMOTE_THREADS`."""
    return max(REMOTE_THREADS, usable_cpus())


def thread_map(
    work: Callable[[Item], Result], items: Sequence[Item], on_progress: OnProgress | None, what: str, workers: int | None = None
) -> Iterator[Result]:
    """Yield ``work(item)`` for each item, in the order of the items; raises what `work` raises.

    `workers` threads do the work, one for each usable CPU by default. `what` is the third argument of `on_progress`. OpenCV's
    own threads are switched off in this process, and Python's warnings are hidden meanwhile.
    Threads suffice: reading, hashing, decoding and resizing all release the interpreter's lock.
    """
    cv2.setNumThreads(1)
    executor = ThreadPoolExecutor(workers or usable_cpus())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PIL warns of odd metadata, once a file
            for start in range(0, len(items), CHUNK):
                for done, result in enumerate(executor.map(work, items[start : start + CHUNK]), start + 1):
                    yield result
                    if on_progress and (done % REPORT_EVERY == 0 or done == len(items)):
                        on_progress(done, len(items), what)
    finally:
        executor.shutdown(cancel_futures=True)
