"""Starts the dashboard: Streamlit on this machine only, with a theme of its own."""

import errno
import os
import socket
from pathlib import Path
from typing import Any

from dashboard.auth import LOOPBACK, permit
from trainables.errors import ConfigError

REFRESH = (0.5, 3600.0)
APP = Path(__file__).with_name("app.py")
THEME = {
    "baseRadius": "0.6rem",
    "headingFontSizes": ["2rem", "1.5rem", "1.2rem", "1.1rem", "1rem", "1rem"],
    "chartCategoricalColors": ["#2a7fbf", "#12a37a", "#e69f00", "#cc79a7", "#d55e00", "#56b4e9"],
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
    """Serve the studies of a storage until interrupted. Live panels refresh every `refresh` seconds.

    Raises ``ConfigError`` if the address and port cannot be had, or others could open the page unasked; see `access.permit`.
    """
    if not REFRESH[0] <= refresh <= REFRESH[1]:
        raise ConfigError(f"--refresh must be {REFRESH[0]:g} to {REFRESH[1]:g} seconds but got {refresh:g}")
    permit(address, insecure=insecure, allow_actions=allow_actions)
    require_free(port, address)
    os.environ |= {"INJERTO_STORAGE": url, "INJERTO_DASHBOARD_REFRESH": str(refresh)}
    from streamlit.web import bootstrap

    settings = {name.replace(".", "_"): value for name, value in options(port, address).items()}
    bootstrap.load_config_options(settings)
    print(f"dashboard: http://{address}:{port} (Ctrl-C ends it)", flush=True)
    if insecure:
        print("anybody who can reach this address can look at the studies, their images among them", flush=True)
    bootstrap.run(str(APP), False, [], settings)


def options(port: int, address: str = LOOPBACK) -> dict[str, Any]:
    """Return Streamlit's options: no statistics, no watcher, our theme."""
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
    """Raise ``ConfigError`` unless `port` is a number that this process may listen on and nobody does."""
    if not 1 <= port <= 65535:
        raise ConfigError(f"a port is a number from 1 to 65535, but got {port}; try --port 8501")
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            why = "is taken, perhaps by another dashboard" if taken else f"cannot be used: {error.strerror}"
            raise ConfigError(f"port {port} of {address} {why}; choose another with --port or --address") from None
