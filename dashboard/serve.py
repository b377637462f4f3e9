"""Starts Streamlit's server with the dashboard, by default on the loopback address only; also its options and theme."""

import errno
import os
import socket
from pathlib import Path
from typing import Any

from dashboard.auth import LOOPBACK, set_permissions
from dashboard.charts.palette import COLOR_CYCLE
from trainables.errors import ConfigError

REFRESH_SECONDS = (0.5, 3600.0)
APP = Path(__file__).with_name("app.py")
THEME = {
    "baseRadius": "0.6rem",
    "headingFontSizes": ["2rem", "1.5rem", "1.2rem", "1.1rem", "1rem", "1rem"],
    "chartCategoricalColors": list(COLOR_CYCLE),
    "light.primaryColor": "#0f7a5a",
    "light.backgroundColor": "#ffffff",
    "light.secondaryBackgroundColor": "#f2f6f3",
    "light.textColor": "#1b2a23",
    "light.borderColor": "#d9e2dc",
    "dark.primaryColor": "#4cc38a",
    "dark.backgroundColor": "#111815",
    "dark.secondaryBackgroundColor": "#1b2521",
    "dark.textColor": "#e4ece7",
    "dark.borderColor": "#33413a",
}


def serve(
    url: str,
    port: int,
    address: str = LOOPBACK,
    *,
    insecure: bool = False,
    allow_actions: bool = False,
    refresh: float = 2.0,
) -> None:
    """Serve the studies of a storage in the browser; returns when the server is interrupted. Sets environment variables of this process.

    `url` is the storage's. Live screens refresh every `refresh` seconds. `insecure` shows the studies on any address without a login.
    `allow_actions` lets viewers send commands and write notes. Raises ``ConfigError`` for a `refresh` out of `REFRESH_SECONDS`, for an
    address or a port on which this process cannot listen, and what `auth.set_permissions` raises.
    """
    if not REFRESH_SECONDS[0] <= refresh <= REFRESH_SECONDS[1]:
        raise ConfigError(f"--refresh must be {REFRESH_SECONDS[0]:g} to {REFRESH_SECONDS[1]:g} seconds but got {refresh:g}")
    set_permissions(address, insecure=insecure, allow_actions=allow_actions)
    require_free(port, address)
    os.environ |= {"INJERTO_STORAGE": url, "INJERTO_DASHBOARD_REFRESH": str(refresh)}
    from streamlit.web import bootstrap

    settings = {name.replace(".", "_"): value for name, value in streamlit_options(port, address).items()}
    bootstrap.load_config_options(settings)
    print(f"dashboard: http://{address}:{port} (Ctrl-C ends it)", flush=True)
    if insecure:
        print("anybody who can reach this address can see the studies, including their images", flush=True)
    bootstrap.run(str(APP), False, [], settings)


def streamlit_options(port: int, address: str = LOOPBACK) -> dict[str, Any]:
    """Return Streamlit's options by name, such as ``server.port``: no usage statistics, no file watcher, the theme of the dashboard."""
    return {
        "server.address": address,
        "server.port": port,
        "server.headless": True,
        "server.fileWatcherType": "none",
        "runner.magicEnabled": False,
        "browser.gatherUsageStats": False,
        "client.toolbarMode": "viewer",
        "logger.hideWelcomeMessage": True,
        "logger.level": "warning",
        **{f"theme.{name}": value for name, value in THEME.items()},
    }


def require_free(port: int, address: str = LOOPBACK) -> None:
    """Raise ``ConfigError`` unless the port is from 1 to 65535 and this process can listen on it at the address now."""
    if not 1 <= port <= 65535:
        raise ConfigError(f"--port must be from 1 to 65535 but got {port}; try --port 8501")
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            in_use = error.errno == errno.EADDRINUSE
            why = "is in use, perhaps by another dashboard" if in_use else f"cannot be used: {error.strerror}"
            raise ConfigError(f"port {port} of {address} {why}; choose another with --port or --address") from None
