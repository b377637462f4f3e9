"""The lease of a study: one driver at a time writes it. Also the commands that other processes send to that driver.

A driver holds a lock file in the study's folder and writes a heartbeat into the record. The command line and the dashboard
append commands to the record; the driver reads and answers them.
"""

import os
import socket
import time
import uuid
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
import psutil
from filelock import FileLock, Timeout

from trainables.errors import StorageError

HEARTBEAT_SECONDS = 10.0
SILENCE_SECONDS = 90.0
"""A driver on another host counts as dead if its last heartbeat is older than this."""
ANSWER_SECONDS = 30.0
LOCAL_DRIVERS: set[str] = set()
"""Ids of the drivers that run in this process. A driver may end without recording it (on a full disk) while its process lives on."""


class Lease:
    """A driver's right to write a study, held during a ``with`` block. Entering raises ``StorageError`` if another driver has it.

    `folder` is the study's output folder, for the lock file; earlier drivers ran for `used_seconds`. Entering also writes `status` into the
    record, and answers the commands that an earlier driver left as too late.
    """

    def __init__(self, study: optuna.Study, folder: Path, used_seconds: float) -> None:
        self._study, self._used, self._began = study, used_seconds, time.monotonic()
        self._lock = FileLock(folder / ".driver.lock", timeout=0)
        process = psutil.Process()
        self.status: dict[str, Any] = {
            "state": "running",
            "since": datetime.now().astimezone().isoformat(timespec="seconds"),
            "host": socket.gethostname(),
            "pid": process.pid,
            "born": process.create_time(),
            "driver": uuid.uuid4().hex,
            "used_seconds": used_seconds,
        }

    def __enter__(self) -> "Lease":
        try:
            self._lock.acquire()
        except Timeout:
            raise study_running_error(self._study) from None
        try:
            if driver_is_alive(self._study.user_attrs):
                raise study_running_error(self._study)
            for key in pending_commands(self._study):
                answer_command(self._study, key, "it came too late: the driver that should have done it had ended")
            self.write_heartbeat()
            self._study.set_user_attr("status", self.status)
        except BaseException:
            self._lock.release()
            raise
        LOCAL_DRIVERS.add(self.status["driver"])
        return self

    def __exit__(self, *error: object) -> None:
        LOCAL_DRIVERS.discard(self.status["driver"])
        self._lock.release()
        Path(self._lock.lock_file).unlink(missing_ok=True)

    def write_heartbeat(self) -> None:
        """Record the present time as a sign that this driver is alive, and for how many seconds the study has run."""
        used = self._used + time.monotonic() - self._began
        self._study.set_user_attr("heartbeat", {"driver": self.status["driver"], "at": time.time(), "used_seconds": used})

    def takeover(self) -> str | None:
        """Return a sentence for the user that names the driver which has taken the study over; None if this driver still has it.

        Another driver takes a study over when the heartbeat has stopped for `SILENCE_SECONDS`.
        """
        status = self._study.user_attrs["status"]
        if status.get("driver") in (None, self.status["driver"]):
            return None
        return f"the driver on {status['host']} (process {status['pid']}) took the study over at {status['since']}"

    def record_end(self, state: str, why: str, used_seconds: float) -> None:
        """Record the state in which this driver leaves the study, the reason, and the seconds that the study has run over all its drivers.

        Does nothing if another driver has taken the study over.
        """
        if self.takeover() is not None:
            return
        self._study.set_user_attr("status", self.status | {"state": state, "why": why, "used_seconds": used_seconds})


def driver_is_alive(attributes: Mapping[str, Any]) -> bool:
    """Return whether a study's driver still runs; `attributes` are the study's user attributes.

    A driver on this host runs if its process does. One on another host runs if its last heartbeat is younger than `SILENCE_SECONDS`.
    """
    status = attributes.get("status", {})
    if status.get("state") != "running":
        return False
    if status.get("host") != socket.gethostname():
        return time.time() - last_heartbeat(attributes) < SILENCE_SECONDS
    if status["pid"] == os.getpid():
        return status.get("driver") in LOCAL_DRIVERS
    try:
        process = psutil.Process(status["pid"])
        return bool(abs(process.create_time() - status["born"]) < 1) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def last_heartbeat(attributes: Mapping[str, Any]) -> float:
    """Return the time of the driver's last heartbeat, or of its start if that is later, in seconds since the epoch.

    0 if that time is more than `SILENCE_SECONDS` in the future, because the driver's clock is then wrong. `attributes` are the study's user
    attributes.
    """
    status, heartbeat = attributes["status"], attributes.get("heartbeat", {})
    latest = max(float(heartbeat.get("at", 0.0)), datetime.fromisoformat(status["since"]).timestamp())
    return latest if latest <= time.time() + SILENCE_SECONDS else 0.0


def study_running_error(study: optuna.Study) -> StorageError:
    """Return (not raise) the error for a study that another driver runs; its message names host and process."""
    status = study.user_attrs.get("status", {})
    return StorageError(
        f"the study {study.study_name!r} is running since {status.get('since', 'just now')} on {status.get('host', socket.gethostname())} "
        f"(process {status.get('pid', 'unknown')}); watch it: injerto status {study.study_name} --watch, "
        f"or stop it: injerto stop {study.study_name}"
    )


def send_command(study: optuna.Study, command: str, *, by: str = "injerto stop", **arguments: Any) -> str:
    """Append a command (see `steering.COMMANDS`) for a study's driver to the record, without waiting; `by` names the sender.

    Returns the command's key, for `answer_to`. `arguments` are the command's own and must be JSON values.
    """
    key = uuid.uuid4().hex
    by = f"{by} (process {os.getpid()} on {socket.gethostname()})"
    study.set_user_attr(f"command:{key}", {**arguments, "do": command, "by": by, "at": datetime.now().isoformat(timespec="seconds")})
    return key


def request(study: optuna.Study, command: str, **arguments: Any) -> str:
    """Send a command to a study's driver as `send_command` does, wait for the answer and return it as a sentence for the user.

    If the driver ends before it has answered, the returned sentence says so. Raises ``StorageError`` if the study does not run, or if its
    driver does not answer within `ANSWER_SECONDS`. In the second case the command stays in the record, and the driver does it later.
    """
    if not driver_is_alive(study.user_attrs):
        state = study.user_attrs.get("status", {}).get("state", "unknown")
        raise StorageError(
            f"the study {study.study_name!r} is not running ({'interrupted' if state == 'running' else state}), "
            f"so no driver can do this; go on with it first: injerto resume {study.study_name}"
        )
    key, sent_at = send_command(study, command, **arguments), time.monotonic()
    while time.monotonic() - sent_at < ANSWER_SECONDS:
        if (answer := answer_to(study, key)) is not None:
            return answer
        if not driver_is_alive(study.user_attrs):
            return "the search has just ended"
        time.sleep(0.2)
    raise StorageError(
        f"the driver of {study.study_name!r} has not answered for {ANSWER_SECONDS:.0f} s; it will do this when it reads its record again"
    )


def pending_commands(study: optuna.Study) -> dict[str, Mapping[str, Any]]:
    """Return key → command (see `steering.Command`) for each command that no driver has answered."""
    attributes = study.user_attrs
    commands = {name.removeprefix("command:"): value for name, value in attributes.items() if name.startswith("command:")}
    return {key: command for key, command in commands.items() if f"ack:{key}" not in attributes}


def answer_command(study: optuna.Study, key: str, answer: str) -> None:
    """Record the answer to the command with this key."""
    study.set_user_attr(f"ack:{key}", {"said": answer, "at": datetime.now().isoformat(timespec="seconds")})


def answer_to(study: optuna.Study, key: str) -> str | None:
    """Return the answer to the command with this key, None while there is none."""
    recorded = study.user_attrs.get(f"ack:{key}")
    return str(recorded["said"]) if recorded else None
