"""Ray's token, which gives access to a cluster: read it, create it if there is none, and let Ray send it."""

import os
import secrets
import sys
from pathlib import Path

from trainables.errors import ResourceError

MODE, TOKEN, TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
READABLE_BY_OTHERS = 0o077


def token_file() -> Path:
    """Return the path of this machine's token file: ``RAY_AUTH_TOKEN_PATH``, else Ray's default in the home folder."""
    return Path(os.environ.get(TOKEN_PATH) or Path.home() / ".ray" / "auth_token").expanduser()


def read_token() -> str | None:
    """Return this machine's token from ``RAY_AUTH_TOKEN``, else from `token_file`; None if both are missing, empty or unreadable."""
    if token := os.environ.get(TOKEN, "").strip():
        return token
    try:
        return token_file().read_text(encoding="ascii").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def make_token() -> None:
    """Write a new token to `token_file` if `read_token` finds none; only the owner can read the file.

    An existing token file is made so too, if the home folder's owner owns it. Ray would also create a token, but readable by everybody.
    Raises ``ResourceError`` if the file cannot be written, or if it holds something that is no token.
    """
    path = token_file()
    try:
        if read_token() is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists() and path.read_bytes().strip():
                raise ResourceError(f"{path} holds something other than Ray's token; name another file in {TOKEN_PATH}, or remove it")
            path.unlink(missing_ok=True)
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_hex(32))
        elif path.is_file() and path.stat().st_mode & READABLE_BY_OTHERS and path.owner() == Path.home().owner():
            path.chmod(0o600)
    except (OSError, KeyError) as error:
        raise ResourceError(f"cannot write Ray's token to {path}: {error}; name another file in {TOKEN_PATH}") from None


def present_token() -> bool:
    """Make Ray send this machine's token when this process connects, and return whether the token mode is on.

    It sets ``RAY_AUTH_MODE`` to ``token``; by default Ray sends no token. An existing mode stays. Without a token nothing changes.
    """
    if MODE not in os.environ and read_token() is not None:
        os.environ[MODE] = "token"
        if "ray" in sys.modules:  # it has read its environment already
            from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

            Config.initialize("")
            AuthenticationTokenLoader.instance().reset_cache()
    return os.environ.get(MODE) == "token"
