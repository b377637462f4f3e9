"""Measures this process's memory and frees what a trial leaves. Light to import: it uses torch only if that is loaded already."""

import ctypes
import gc
import resource
import sys
from contextlib import suppress


def free_memory() -> None:
    """Return the memory of networks that are no longer referenced to the system, on the GPU as well."""
    gc.collect()
    with suppress(AttributeError, OSError):  # a C library without it
        ctypes.CDLL(None).malloc_trim(0)
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def reset_peak_memory() -> None:
    """Start the measurement of the GPU's peak memory again, so that it leaves out earlier trials of this process.

    torch must be loaded. Does nothing without a GPU.
    """
    torch = sys.modules["torch"]
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_memory() -> int:
    """Return the most memory that this process has held, bytes. torch must be loaded.

    With a GPU it is the memory of torch's tensors there since `reset_peak_memory`, else main memory since the process started.
    """
    torch = sys.modules["torch"]
    return int(torch.cuda.max_memory_allocated()) if torch.cuda.is_available() else peak_main_memory()


def peak_main_memory() -> int:
    """Return the most main memory that this process has held since it started, bytes.

    getrusage(2) counts in KiB on Linux, in bytes on macOS.
    """
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
