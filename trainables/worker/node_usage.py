"""How busy this node is, and the name of this worker process."""

import os
import platform
import sys
from typing import Any

import psutil

psutil.cpu_percent()  # the first call returns 0, as there is no earlier one to compare with


def worker_name() -> str:
    """Return a name of this process that is unique among the workers of all nodes: ``host:process id``."""
    return f"{platform.node()}:{os.getpid()}"


def node_usage() -> dict[str, Any]:
    """Return this node's CPU use since the last call (share of all CPUs), and its memory and GPU memory (bytes used, total bytes)."""
    memory = psutil.virtual_memory()
    usage = {"cpu": psutil.cpu_percent() / 100, "memory": memory.total - memory.available, "memory_total": memory.total}
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        usage |= {"gpu_memory": total - free, "gpu_memory_total": total, "gpu": torch.cuda.get_device_name()}
    return usage
