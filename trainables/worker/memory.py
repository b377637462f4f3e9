"""How much memory this process has used, and freeing what a trial leaves. Light to import: it uses torch only if that is loaded already."""

import gc
import resource
import sys


def free_memory() -> None:
    """Release the memory of networks that are no longer referenced, on the GPU as well."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def reset_peak_memory() -> None:
    """Start the measurement of the GPU's peak memory again, so that it leaves out earlier trials of this process."""
    torch = sys.modules["torch"]
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_memory() -> int:
    """Return the most memory that this process has held, bytes: GPU memory where it has a GPU, else main memory."""
    torch = sys.modules["torch"]
    return int(torch.cuda.max_memory_allocated()) if torch.cuda.is_available() else peak_main_memory()


def peak_main_memory() -> int:
    """Return the most main memory that this process has held, bytes. getrusage(2) counts in KiB on Linux, in bytes on macOS."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
