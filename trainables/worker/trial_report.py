"""The trial report: a file in the trial's folder with its journal and its network's diagnostics, for display only. Light to import."""

import json
from collections.abc import Sequence
from typing import Any

from trainables.errors import DamagedError
from trainables.storage.locations import join
from trainables.storage.root import RETRY_PAUSES, Root

TRIAL_REPORT_FILE = "account.json"


def write_trial_report(folder: str, log: Sequence[str], diagnostics: dict[str, Any] | None) -> None:
    """Write the journal's lines and the diagnostics (see `Trainer.diagnostics`) into a trial's folder, the whole file or nothing.

    Raises as `Root.write` does.
    """
    Root(folder, RETRY_PAUSES).write(TRIAL_REPORT_FILE, json.dumps({"log": log, "pictures": diagnostics}).encode())


def read_trial_report(folder: str) -> dict[str, Any]:
    """Return ``log`` (lines) and ``pictures`` (the diagnostics or None); an empty dictionary where the trial has not saved an epoch.

    Raises as `Root.read` does, and ``DamagedError`` for a file that is not JSON.
    """
    content = Root(folder).read(TRIAL_REPORT_FILE)
    try:
        report: dict[str, Any] = json.loads(content) if content else {}
    except ValueError as error:
        raise DamagedError(f"{join(folder, TRIAL_REPORT_FILE)} is not readable: {error}") from None
    return report
