"""Renders a cluster of machines reached by SSH as a configuration for `ray up` with provider `local`, which names every machine."""

import shlex
from typing import Any

from cluster.environment import NO_URL, REPORT_URL
from cluster.render.cluster_config import ClusterConfig, reject_unused, require

HEADER = """\
Existing machines; `ray up` starts Ray on them by SSH. They need this package in the environment, the shared folder, and no
other Ray of the same user: `ray stop` ends all of them.
The cluster can be used only with the token. Create it once, on the machine where this file is:
  ray get-auth-token --generate && chmod 600 ~/.ray/auth_token
  ray up -y onprem.yaml
  ray exec --tmux onprem.yaml {search}
  ray down -y onprem.yaml
"""
TOKEN = "~/.ray/auth_token"
"""Ray's default path of its token; the token is copied to it on every machine."""


def render(config: ClusterConfig) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return file name → (comment for its top, the mapping of `machines`), for one file. Raises ``ConfigError`` as `machines` does."""
    return {"onprem.yaml": (HEADER.format(search=shlex.quote(search(config))), machines(config))}


def machines(config: ClusterConfig) -> dict[str, Any]:
    """Return the mapping for `ray up`'s YAML file.

    Raises ``ConfigError`` if `onprem.head_ip` or `onprem.ssh_user` is not set, if `workers` is neither 1 nor the number of machines, if
    `min_workers` or `max_workers` differs from `workers`, or if `spot` or `image` is set: they have no effect here.
    """
    kind, onprem = "machines reached by SSH", config.onprem
    head = require(kind, onprem.head_ip, "onprem.head_ip", "the machine that runs the search")
    user = require(kind, onprem.ssh_user, "onprem.ssh_user", "the user who logs in there")
    count = 1 + len(onprem.worker_ips)
    reject_unused(
        kind, config.workers not in (1, count), f"workers: {config.workers}", f"onprem names {count}, the head among them; leave it out"
    )
    reject_unused(
        kind, config.bounds != (config.workers,) * 2, "min_workers or max_workers", "all named machines take part; leave them out"
    )
    reject_unused(kind, config.spot, "spot", "these machines are not taken away; leave it out")
    reject_unused(kind, config.image is not None, "image", "trials run in `environment` there")
    key = {"ssh_private_key": onprem.ssh_private_key} if onprem.ssh_private_key else {}
    start = _prefix(config) + "ulimit -n 65536 2>/dev/null; ray start --disable-usage-stats"
    return {
        "cluster_name": config.name,
        "max_workers": len(onprem.worker_ips),
        "provider": {"type": "local", "head_ip": head, "worker_ips": list(onprem.worker_ips)},
        "auth": {"ssh_user": user, **key},
        "file_mounts": {TOKEN: onprem.token_file},
        "setup_commands": [f"chmod 600 {TOKEN}"],
        "head_start_ray_commands": [
            _prefix(config) + "ray stop",
            f"{start} --head --port=6379 --dashboard-host=127.0.0.1 --autoscaling-config=~/ray_bootstrap_config.yaml",
        ],
        "worker_start_ray_commands": [_prefix(config) + "ray stop", f"{start} --address=$RAY_HEAD_IP:6379"],
    }


def search(config: ClusterConfig) -> str:
    """Return the command that starts the search, as one line quoted for the shell of the head."""
    words = ["injerto", "search", config.settings, "--name", config.study_name, "--address", f"{config.onprem.head_ip}:6379"]
    return f"{_prefix(config)}cd {shlex.quote(config.shared)} && INJERTO_STORAGE={shlex.quote(config.storage_url)} {shlex.join(words)}"


def _prefix(config: ClusterConfig) -> str:
    path = f'PATH={shlex.quote(f"{config.environment}/bin")}:"$PATH" ' if config.environment else ""
    return f"export {path}RAY_AUTH_MODE=token {REPORT_URL}={NO_URL}; "
