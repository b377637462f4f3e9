"""Starts the dashboard: Streamlit on this machine only, with a theme of its own."""

import errno
import os
import socket
from pathlib import Path
from typing import Any

from trainables.errors import ConfigError

ADDRESS = "127.0.0.1"
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


def serve(url: str, port: int) -> None:
    """Serve the studies of a storage until interrupted. Raises ``ConfigError`` if the port cannot be had."""
    require_free(port)
    os.environ["INJERTO_STORAGE"] = url
    from streamlit.web import bootstrap

    settings = {name.replace(".", "_"): value for name, value in options(port).items()}
    bootstrap.load_config_options(settings)
    print(f"dashboard: http://{ADDRESS}:{port} (Ctrl-C ends it)", flush=True)
    bootstrap.run(str(APP), False, [], settings)


def options(port: int) -> dict[str, Any]:
    """Return Streamlit's options: loopback, no statistics, no watcher, our theme."""
    return {
        "server.address": ADDRESS,
        "server.port": port,
        "server.headless": True,
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": False,
        "client.toolbarMode": "viewer",
        "logger.hideWelcomeMessage": True,
        "logger.level": "warning",
        **{f"theme.{name}": value for name, value in THEME.items()},
    }


def require_free(port: int) -> None:
    """Raise ``ConfigError`` unless `port` is a number that this process may listen on and nobody does."""
    if not 1 <= port <= 65535:
        raise ConfigError(f"a port is a number from 1 to 65535, but got {port}; try --port 8501")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ADDRESS, port))
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            why = "is taken, perhaps by another dashboard" if taken else f"cannot be used: {error.strerror}"
            raise ConfigError(f"port {port} of {ADDRESS} {why}; choose another with --port") from None
