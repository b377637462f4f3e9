"""The environment variables that Ray and the trials' processes read, set before any of them starts."""

import os
import sys
from collections.abc import MutableMapping

from cluster.proxies import add_direct_hosts, worker_exemptions

LOOPBACK = "127.0.0.2" if sys.platform == "linux" else "127.0.0.1"  # on Linux Ray replaces 127.0.0.1 by the machine's outer address

ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 31),
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}
"""Lets the C library of Linux keep the memory of freed tensors, in huge pages, for the next ones.

By default it returns every large block to the kernel, and a training step on the CPU spends up to a quarter of its time on new pages.
Other C libraries ignore these variables.
"""

ENVIRONMENT = {
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # else `uv run` makes Ray build a second environment on every node
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_RESULT_BUFFER_LENGTH": "1",
    "NO_ALBUMENTATIONS_UPDATE": "1",
    **ALLOCATOR,
}
"""Defaults of what Ray and the workers read; a value that the user has set has priority."""
WORKER_VARIABLES = (
    "NO_ALBUMENTATIONS_UPDATE",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO",
    "RAY_CHDIR_TO_TRIAL_DIR",
    "RAY_USAGE_STATS_ENABLED",
    *ALLOCATOR,
)
"""Those that a driver must send to the workers of a cluster that it has joined: their nodes were started without them."""
REPORT_URL, NO_URL = "RAY_USAGE_STATS_REPORT_URL", "disabled:"


def set_environment(*hosts: str, environment: MutableMapping[str, str] | None = None) -> None:
    """Set the variables of ``ENVIRONMENT`` that are not set, and exempt this machine and `hosts` from proxies.

    `environment` is changed in place; it is this process's environment by default.
    A cluster whose usage statistics are off would still report, once, that they are off: that report gets no address.
    """
    environment = os.environ if environment is None else environment
    for name, value in ENVIRONMENT.items():
        environment.setdefault(name, value)
    environment["RAY_USAGE_STATS_ENABLED"] = _zero_or_one(environment["RAY_USAGE_STATS_ENABLED"])
    if environment["RAY_USAGE_STATS_ENABLED"] == "0":
        environment.setdefault(REPORT_URL, NO_URL)
    add_direct_hosts(*hosts, environment=environment)


def _zero_or_one(value: str) -> str:
    """Return the only spellings that `ray start` accepts. What does not plainly say yes, such as "" or "off", is 0: no statistics."""
    return "1" if value.strip().lower() in ("1", "true", "yes", "on") else "0"


def worker_environment(*hosts: str) -> dict[str, str]:
    """Return the variables (name → value) for Ray's ``env_vars`` that workers need on a cluster that this process did not start.

    They include exemptions from proxies for the workers' own machine and for `hosts`, if this process has a proxy.
    """
    return {name: os.environ.get(name, ENVIRONMENT[name]) for name in WORKER_VARIABLES} | worker_exemptions(*hosts)
