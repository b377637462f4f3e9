"""Renders a cluster as a Slurm job: one batch script that starts Ray on the job's nodes, runs the search, and stops Ray."""

import re
import shlex
from importlib.resources import files

from cluster.render.cluster_config import ClusterConfig, reject_unused

PORTS = 20000
"""First port of Ray's heads; a job adds its number modulo 10000, so that two jobs on a node use different ports."""


def render(config: ClusterConfig) -> dict[str, str]:
    """Return file name → text, for one file: the batch script.

    Raises ``ConfigError`` if `min_workers` or `max_workers` differs from `workers`, or if `spot` or `image` is set: none has an effect.
    """
    reject_unused("Slurm", config.bounds != (config.workers,) * 2, "min_workers or max_workers", "a job keeps its nodes; set workers alone")
    reject_unused("Slurm", config.spot, "spot", "name a preemptible partition in slurm.partition; the job is queued again by slurm.requeue")
    reject_unused("Slurm", config.image is not None, "image", "trials run in `environment` there")
    template = files("cluster.render").joinpath("templates", "slurm.sh").read_text(encoding="utf-8")
    return {f"{config.name}.sbatch": fill_template(template, {"options": _options(config), **_values(config)})}


def fill_template(template: str, values: dict[str, str]) -> str:
    """Return a template with every ``@name@`` replaced by its value; those in values stay. Raises ``KeyError`` if a value is missing."""
    return re.sub(r"@([a-z_]+)@", lambda match: values[match[1]], template)


def _values(config: ClusterConfig) -> dict[str, str]:
    """Return the script's variables (marker's name → value), quoted for the shell."""
    values = {
        "shared": config.shared,
        "settings": config.settings,
        "study": config.study_name,
        "storage": config.storage_url,
        "environment": config.environment or "",
        "cpus": config.cpus,
        "gpus": config.gpu.count,
        "ports": PORTS,
        "join": config.slurm.join,
        "requeue": int(config.slurm.requeue),
    }
    return {name: shlex.quote(str(value)) for name, value in values.items()}


def _options(config: ClusterConfig) -> str:
    """Return the ``#SBATCH`` lines as one text. Their values are checked names and numbers that need no quoting."""
    slurm, gpu = config.slurm, config.gpu
    options = {
        "job-name": config.name,
        "output": "%x-%j.log",
        "open-mode": "append",
        "nodes": config.workers,
        "ntasks-per-node": 1,
        "cpus-per-task": config.cpus,
        "mem": f"{config.memory}G",
        "gres": ":".join(["gpu", *([gpu.type] if gpu.type else []), str(gpu.count)]) if gpu.count else None,
        "partition": slurm.partition,
        "account": slurm.account,
        "qos": slurm.qos,
        "time": slurm.time,
        "signal": f"B:TERM@{slurm.pause}",
    }
    lines = [f"#SBATCH --{name}={value}" for name, value in options.items() if value is not None]
    return "\n".join([*lines, "#SBATCH --requeue" if slurm.requeue else "#SBATCH --no-requeue"])
