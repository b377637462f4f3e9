"""How busy this node is, and who works on it."""

import os
import platform
import sys
from typing import Any

import psutil

psutil.cpu_percent()  # the first call has nothing to compare with


def worker() -> str:
    """Return the name of this process among all nodes' workers."""
    return f"{platform.node()}:{os.getpid()}"


def usage() -> dict[str, Any]:
    """Return this node's processor use since the last call (share of all), and its memory and GPU memory (bytes used, bytes there)."""
    memory = psutil.virtual_memory()
    found = {"cpu": psutil.cpu_percent() / 100, "memory": memory.total - memory.available, "memory_total": memory.total}
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        found |= {"gpu_memory": total - free, "gpu_memory_total": total, "gpu": torch.cuda.get_device_name()}
    return found
