"""Where trials run: a Ray of this machine's own unless told to join one."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

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
}
"""What Ray and the workers read from the environment; a user's own values stand."""


@dataclass(frozen=True)
class Capacity:
    """What the cluster can run at once."""

    cpus: float
    gpus: float

    def slots(self, cpus_per_trial: float, gpus_per_trial: float) -> int:
        """Return how many trials fit."""
        by_gpu = self.gpus / gpus_per_trial if gpus_per_trial else float("inf")
        return int(min(self.cpus / cpus_per_trial, by_gpu) + 1e-9)


def processors() -> int:
    """Return the processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def connect(address: str | None = None) -> Iterator[Capacity]:
    """Start a Ray on loopback, or join the one at `address` or ``RAY_ADDRESS``, and leave it at the end; use one that this process has."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import ray

    address = address or os.environ.get("RAY_ADDRESS")
    own = not ray.is_initialized()
    if own and address:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    elif own:
        ray.init(
            address="local",
            num_cpus=processors(),
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _node_ip_address="127.0.0.1",
        )
    try:
        total = ray.cluster_resources()
        yield Capacity(total.get("CPU", 0.0), total.get("GPU", 0.0))
    finally:
        if own:
            ray.shutdown()
