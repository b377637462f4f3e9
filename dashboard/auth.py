"""Who may see the dashboard and who may act: only users of this machine, unless the options of `injerto dashboard` say otherwise."""

import os
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import streamlit as st

from trainables.errors import ConfigError

LOOPBACK = "127.0.0.1"
ACTIONS_VARIABLE, LOGIN_VARIABLE = "INJERTO_DASHBOARD_ACTIONS", "INJERTO_DASHBOARD_LOGIN"
"""Environment variables that tell the app whether it offers actions, and whether viewers must log in: "1" for yes, "0" for no."""
SECRETS_FILES = (Path.home() / ".streamlit" / "secrets.toml", Path(".streamlit") / "secrets.toml")
REQUIRED_SECRETS = ("redirect_uri", "cookie_secret", "client_id", "client_secret", "server_metadata_url")


def set_permissions(address: str, *, insecure: bool, allow_actions: bool) -> None:
    """Set, in this process's environment variables, whether viewers must log in and whether the app offers actions.

    `address` is the one that the server will listen on. On any but loopback, viewers must log in with the OpenID provider of Streamlit's
    secrets, unless `insecure`. Raises ``ConfigError`` for `insecure` with `allow_actions`, and what `require_provider` raises.
    """
    if insecure and allow_actions:
        raise ConfigError("--allow-actions and --insecure cannot be combined: anybody who can reach the page could stop the search")
    login = address not in (LOOPBACK, "localhost", "::1") and not insecure
    if login:
        require_provider(address)
    os.environ[ACTIONS_VARIABLE], os.environ[LOGIN_VARIABLE] = str(int(allow_actions)), str(int(login))


def require_provider(address: str) -> None:
    """Raise ``ConfigError`` unless Streamlit's secrets configure an OpenID provider completely, and Authlib is installed.

    `address` is only named in the message.
    """
    auth = _auth()
    missing = [name for name in REQUIRED_SECRETS if name not in auth]
    if missing:
        raise ConfigError(
            f"on {address} other people can open the page, so they must log in, but the section [auth] of {SECRETS_FILES[0]} lacks "
            f"{', '.join(missing)}; add what your OpenID provider gives you, or show the page to everybody with --insecure"
        )
    if find_spec("authlib") is None:
        raise ConfigError("the login needs the package Authlib; install it: pip install 'streamlit[auth]'")


def _auth() -> dict[str, Any]:
    """Return the section [auth] of Streamlit's secrets as Streamlit reads it; empty if there is none.

    The section of a later file of `SECRETS_FILES` replaces that of an earlier one. Raises ``ConfigError`` for a file that is not TOML.
    """
    auth: dict[str, Any] = {}
    for path in SECRETS_FILES:
        if path.is_file():
            try:
                section = tomllib.loads(path.read_text(encoding="utf-8")).get("auth")
            except (OSError, ValueError) as error:
                raise ConfigError(f"{path} is not readable as TOML: {error}") from None
            auth = section if isinstance(section, dict) else auth
    return auth


def require_login() -> None:
    """If the viewer must log in and has not, show only a login button and end this run of the page; otherwise do nothing."""
    if os.environ.get(LOGIN_VARIABLE) == "1" and not st.user.get("is_logged_in", False):
        st.title("Injerto", anchor=False)
        st.write("Log in to see the studies.")
        st.button("Log in", on_click=st.login, type="primary")
        st.stop()


def may_act() -> bool:
    """Return whether the app was started with ``--allow-actions``, so that viewers may send commands and write notes."""
    return os.environ.get(ACTIONS_VARIABLE) == "1"
