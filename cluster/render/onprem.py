"""A cluster of machines reached by ssh, as `ray up` takes it: provider `local`, every machine named."""

import shlex
from typing import Any

from cluster.render.cluster_config import ClusterConfig, need, refuse

HEADER = """\
Machines that are there already; `ray up` starts Ray on them through ssh. They need this package in the environment, the shared
folder, and nobody else's Ray: `ray stop` ends every Ray of the user there.
Nobody without the token can use the cluster: make it once, where this file is, with
  ray get-auth-token --generate && chmod 600 ~/.ray/auth_token
  ray up -y onprem.yaml
  ray exec --tmux onprem.yaml {search}
  ray down -y onprem.yaml
"""
TOKEN = "~/.ray/auth_token"
"""Where Ray looks for its token on its own."""


def render(config: ClusterConfig) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return file names → what a comment at their top says, and their content. Raises ``ConfigError`` for what `ray up` cannot do."""
    return {"onprem.yaml": (HEADER.format(search=shlex.quote(search(config))), machines(config))}


def machines(config: ClusterConfig) -> dict[str, Any]:
    """Return the configuration of `ray up`."""
    kind, here = "machines reached by ssh", config.onprem
    head = need(kind, here.head_ip, "onprem.head_ip", "the machine that runs the search")
    user = need(kind, here.ssh_user, "onprem.ssh_user", "who logs in there")
    count = 1 + len(here.worker_ips)
    refuse(kind, config.workers not in (1, count), f"workers: {config.workers}", f"onprem names {count}, the head among them; leave it out")
    refuse(kind, config.bounds != (config.workers,) * 2, "min_workers or max_workers", "all that are named take part; leave them out")
    refuse(kind, config.spot, "spot", "nobody takes those away; leave it out")
    refuse(kind, config.image is not None, "image", "trials run in `environment` there")
    key = {"ssh_private_key": here.ssh_private_key} if here.ssh_private_key else {}
    start = _prefix(config) + "ulimit -n 65536 2>/dev/null; ray start --disable-usage-stats"
    return {
        "cluster_name": config.name,
        "max_workers": len(here.worker_ips),
        "provider": {"type": "local", "head_ip": head, "worker_ips": list(here.worker_ips)},
        "auth": {"ssh_user": user, **key},
        "file_mounts": {TOKEN: here.token_file},
        "setup_commands": [f"chmod 600 {TOKEN}"],
        "head_start_ray_commands": [
            _prefix(config) + "ray stop",
            f"{start} --head --port=6379 --dashboard-host=127.0.0.1 --autoscaling-config=~/ray_bootstrap_config.yaml",
        ],
        "worker_start_ray_commands": [_prefix(config) + "ray stop", f"{start} --address=$RAY_HEAD_IP:6379"],
    }


def search(config: ClusterConfig) -> str:
    """Return the command that searches, for the head's shell."""
    words = ["injerto", "search", config.settings, "--name", config.study_name, "--address", f"{config.onprem.head_ip}:6379"]
    return f"{_prefix(config)}cd {shlex.quote(config.shared)} && INJERTO_STORAGE={shlex.quote(config.storage_url)} {shlex.join(words)}"


def _prefix(config: ClusterConfig) -> str:
    path = f'PATH={shlex.quote(f"{config.environment}/bin")}:"$PATH" ' if config.environment else ""
    return f"export {path}RAY_AUTH_MODE=token; "
