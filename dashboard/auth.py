"""Who may look and who may act: this machine alone, unless the launcher was told otherwise."""

import os
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import streamlit as st

from trainables.errors import ConfigError

LOOPBACK = "127.0.0.1"
ACTIONS, LOGIN = "INJERTO_DASHBOARD_ACTIONS", "INJERTO_DASHBOARD_LOGIN"
"""Environment variables by which the launcher tells the app what it was allowed."""
SECRETS = (Path.home() / ".streamlit" / "secrets.toml", Path(".streamlit") / "secrets.toml")
NEEDED = ("redirect_uri", "cookie_secret", "client_id", "client_secret", "server_metadata_url")


def permit(address: str, *, insecure: bool, allow_actions: bool) -> None:
    """Set what the app may do. Raises ``ConfigError`` where others could do it, too.

    On another address than loopback people must log in, by the OpenID provider of Streamlit's secrets, unless `insecure`.
    """
    if insecure and allow_actions:
        raise ConfigError("--allow-actions and --insecure do not go together: anybody who finds the page could stop the search")
    login = address not in (LOOPBACK, "localhost", "::1") and not insecure
    if login:
        require_provider(address)
    os.environ[ACTIONS], os.environ[LOGIN] = str(int(allow_actions)), str(int(login))


def require_provider(address: str) -> None:
    """Raise ``ConfigError`` unless Streamlit's secrets say who may log in."""
    auth = _auth()
    missing = [name for name in NEEDED if name not in auth]
    if missing:
        raise ConfigError(
            f"on {address} others can open the page, so they must log in, but the section [auth] of {SECRETS[0]} lacks "
            f"{', '.join(missing)}; fill it in for your OpenID provider, or show the page to everybody with --insecure"
        )
    if find_spec("authlib") is None:
        raise ConfigError("logging in needs the package Authlib; install it: pip install 'streamlit[auth]'")


def _auth() -> dict[str, Any]:
    """Return the section as Streamlit finds it: a later file's goes before an earlier one's."""
    auth: dict[str, Any] = {}
    for path in SECRETS:
        if path.is_file():
            try:
                found = tomllib.loads(path.read_text(encoding="utf-8")).get("auth")
            except (OSError, ValueError) as error:
                raise ConfigError(f"{path} is not readable as TOML: {error}") from None
            auth = found if isinstance(found, dict) else auth
    return auth


def require_login() -> None:
    """Show nothing but a way to log in to those who have to."""
    if os.environ.get(LOGIN) == "1" and not st.user.get("is_logged_in", False):
        st.title("Injerto", anchor=False)
        st.write("Log in to see the studies.")
        st.button("Log in", on_click=st.login, type="primary")
        st.stop()


def may_act() -> bool:
    """Say whether the app was started with ``--allow-actions``."""
    return os.environ.get(ACTIONS) == "1"
