"""What a trial tells of itself in its folder, for people to look at: its journal, and its network's pictures. Light to import."""

import json
from collections.abc import Sequence
from typing import Any

from trainables.errors import DamagedError
from trainables.storage.locations import PERSISTENT, Root, join

ACCOUNT = "account.json"


def write_trial_report(folder: str, log: Sequence[str], pictures: dict[str, Any] | None) -> None:
    """Put `log` and `pictures` into a trial's folder, whole or not at all. Raises as `Root.write` does."""
    Root(folder, PERSISTENT).write(ACCOUNT, json.dumps({"log": log, "pictures": pictures}).encode())


def read_trial_report(folder: str) -> dict[str, Any]:
    """Return `log` and `pictures`; nothing where the trial has not saved an epoch.

    Raises as `Root.read` does, and ``DamagedError`` for what is none.
    """
    found = Root(folder).read(ACCOUNT)
    try:
        account: dict[str, Any] = json.loads(found) if found else {}
    except ValueError as error:
        raise DamagedError(f"{join(folder, ACCOUNT)} is not readable: {error}") from None
    return account
