"""One driver a study: it holds a lock in the study's folder, says in the record that it lives, and hears there what others ask of it."""

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

BEAT_SECONDS = 10.0
SILENCE_SECONDS = 90.0
"""A driver on another host that has not been heard for so long is taken for dead."""
ANSWER_SECONDS = 30.0
HELD: set[str] = set()
"""Drivers that live in this process: one may have ended without a word, on a full disk say, and left its process alive."""


class Lease:
    """A driver's right to write a study. Raises ``StorageError`` on entering if another driver has it."""

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
            raise taken(self._study) from None
        try:
            if alive(self._study.user_attrs):
                raise taken(self._study)
            for key in commands(self._study):
                answer(self._study, key, "it came too late: the driver that it was for had ended")
            self.beat()
            self._study.set_user_attr("status", self.status)
        except BaseException:
            self._lock.release()
            raise
        HELD.add(self.status["driver"])
        return self

    def __exit__(self, *error: object) -> None:
        HELD.discard(self.status["driver"])
        self._lock.release()
        Path(self._lock.lock_file).unlink(missing_ok=True)

    def beat(self) -> None:
        """Say that this driver lives, and how long the study has run."""
        used = self._used + time.monotonic() - self._began
        self._study.set_user_attr("heartbeat", {"driver": self.status["driver"], "at": time.time(), "used_seconds": used})

    def lost(self) -> str | None:
        """Say who has taken the study over, while this driver could not be heard; None if nobody has."""
        status = self._study.user_attrs["status"]
        if status.get("driver") in (None, self.status["driver"]):
            return None
        return f"the driver on {status['host']} (process {status['pid']}) took the study over at {status['since']}"

    def end(self, state: str, why: str, used_seconds: float) -> None:
        """Write how the study stands, now that this driver leaves it, unless it is another's by now."""
        if self.lost() is not None:
            return
        self._study.set_user_attr("status", self.status | {"state": state, "why": why, "used_seconds": used_seconds})


def alive(attributes: Mapping[str, Any]) -> bool:
    """Say whether the driver that wrote a study's attributes still runs: by its process on this host, by its heartbeat elsewhere."""
    status = attributes.get("status", {})
    if status.get("state") != "running":
        return False
    if status.get("host") != socket.gethostname():
        return time.time() - last_heard(attributes) < SILENCE_SECONDS
    if status["pid"] == os.getpid():
        return status.get("driver") in HELD
    try:
        process = psutil.Process(status["pid"])
        return bool(abs(process.create_time() - status["born"]) < 1) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def last_heard(attributes: Mapping[str, Any]) -> float:
    """Return when a study's driver was last heard, in seconds since the epoch."""
    status, heartbeat = attributes["status"], attributes.get("heartbeat", {})
    heard = max(float(heartbeat.get("at", 0.0)), datetime.fromisoformat(status["since"]).timestamp())
    return heard if heard <= time.time() + SILENCE_SECONDS else 0.0  # a clock that is ahead of ours tells nothing


def taken(study: optuna.Study) -> StorageError:
    """Return the error for a study that another driver runs."""
    status = study.user_attrs.get("status", {})
    return StorageError(
        f"the study {study.study_name!r} is running since {status.get('since', 'just now')} on {status.get('host', socket.gethostname())} "
        f"(process {status.get('pid', 'unknown')}); watch it: injerto status {study.study_name} --watch, "
        f"or stop it: injerto stop {study.study_name}"
    )


def send(study: optuna.Study, command: str, *, by: str = "injerto stop", **about: Any) -> str:
    """Ask a study's driver for something (see `steering.COMMANDS`) and return the request's key; `by` says where from."""
    key = uuid.uuid4().hex
    by = f"{by} (process {os.getpid()} on {socket.gethostname()})"
    study.set_user_attr(f"command:{key}", {**about, "do": command, "by": by, "at": datetime.now().isoformat(timespec="seconds")})
    return key


def request(study: optuna.Study, command: str, **about: Any) -> str:
    """Ask a study's driver for something and return its answer.

    Raises ``StorageError`` if the study does not run, or its driver does not answer within `ANSWER_SECONDS`; the request stands.
    """
    if not alive(study.user_attrs):
        state = study.user_attrs.get("status", {}).get("state", "unknown")
        raise StorageError(
            f"the study {study.study_name!r} is not running ({'interrupted' if state == 'running' else state}); "
            f"nothing can be asked of it unless it goes on: injerto resume {study.study_name}"
        )
    key, asked = send(study, command, **about), time.monotonic()
    while time.monotonic() - asked < ANSWER_SECONDS:
        if (words := answered(study, key)) is not None:
            return words
        if not alive(study.user_attrs):
            return "the search has just ended"
        time.sleep(0.2)
    raise StorageError(
        f"the driver of {study.study_name!r} has not answered for {ANSWER_SECONDS:.0f} s; it will obey once it reads its record again"
    )


def commands(study: optuna.Study) -> dict[str, Mapping[str, Any]]:
    """Return the requests that no driver has answered, by key."""
    attributes = study.user_attrs
    asked = {name.removeprefix("command:"): value for name, value in attributes.items() if name.startswith("command:")}
    return {key: command for key, command in asked.items() if f"ack:{key}" not in attributes}


def answer(study: optuna.Study, key: str, words: str) -> None:
    """Answer a request."""
    study.set_user_attr(f"ack:{key}", {"said": words, "at": datetime.now().isoformat(timespec="seconds")})


def answered(study: optuna.Study, key: str) -> str | None:
    """Return the answer to a request, None while there is none."""
    found = study.user_attrs.get(f"ack:{key}")
    return str(found["said"]) if found else None
