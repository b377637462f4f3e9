"""How much CPU and memory this node uses, and the name of this worker process."""

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
    """Return this node's use of its CPUs and memory.

    ``cpu`` is the share of all CPUs since the last call, 0 to 1. ``memory`` and ``memory_total`` are bytes. With a GPU, and if torch is
    loaded, there are also ``gpu_memory`` and ``gpu_memory_total`` (bytes) and ``gpu`` (its name).
    """
    memory = psutil.virtual_memory()
    usage = {"cpu": psutil.cpu_percent() / 100, "memory": memory.total - memory.available, "memory_total": memory.total}
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        usage |= {"gpu_memory": total - free, "gpu_memory_total": total, "gpu": torch.cuda.get_device_name()}
    return usage
