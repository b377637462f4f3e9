"""Ray's token, which opens a cluster: found, made where there is none, presented, and kept from everybody else's eyes."""

import os
import secrets
import sys
from pathlib import Path

from trainables.errors import ResourceError

MODE, TOKEN, TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
READABLE_BY_OTHERS = 0o077


def token_file() -> Path:
    """Return where this machine's token is or would be: ``RAY_AUTH_TOKEN_PATH``, else Ray's own place in the home folder."""
    return Path(os.environ.get(TOKEN_PATH) or Path.home() / ".ray" / "auth_token").expanduser()


def read_token() -> str | None:
    """Return the token that this machine has, from the environment or its file; None where it has none."""
    if token := os.environ.get(TOKEN, "").strip():
        return token
    try:
        return token_file().read_text(encoding="ascii").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def make_token() -> None:
    """Have a token in this machine's file, readable by its owner alone; one that is there stays, and is closed to others.

    Ray makes one itself, but readable by all. Raises ``ResourceError`` where the file cannot be written.
    """
    path = token_file()
    try:
        if read_token() is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists() and path.read_bytes().strip():
                raise ResourceError(f"{path} holds something else than Ray's token; name another file in {TOKEN_PATH}, or remove it")
            path.unlink(missing_ok=True)
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_hex(32))
        elif path.is_file() and path.stat().st_mode & READABLE_BY_OTHERS and path.owner() == Path.home().owner():
            path.chmod(0o600)
    except (OSError, KeyError) as error:
        raise ResourceError(f"cannot keep Ray's token in {path}: {error}; name another file in {TOKEN_PATH}") from None


def present_token() -> bool:
    """Let Ray present this machine's token wherever it connects, as it does not by itself; say whether it will.

    A mode that the user has set stands. Without a token nothing changes.
    """
    if MODE not in os.environ and read_token() is not None:
        os.environ[MODE] = "token"
        if "ray" in sys.modules:  # it has read its environment already
            from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

            Config.initialize("")
            AuthenticationTokenLoader.instance().reset_cache()
    return os.environ.get(MODE) == "token"
