"""From the storage to the screens: records that are read once for all viewers, and errors that are said kindly."""

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock

import optuna
import sqlalchemy
import streamlit as st
from optuna.storages import RDBStorage
from streamlit.errors import StreamlitAPIException

from search.record import store
from search.record.records import StudyReader, StudyRecord
from trainables.errors import InjertoError, StorageError
from trainables.storage.locations import Root

SHARED_SECONDS = 1.0
MOST_STUDIES_HELD = 8
LONGEST = 400
ODD = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, OSError, StopIteration, StreamlitAPIException)
"""What a screen meets in a record that nobody of ours has written."""
SAID_FROM = 1000
"""Trials from which on it is said how far the first reading is."""
Progress = Callable[[int, int], None]


def every() -> float:
    """Return the seconds between two refreshes of a live panel."""
    return float(os.environ.get("INJERTO_DASHBOARD_REFRESH", "2"))


class Held:
    """A study's reader and what it read last, shared by all viewers."""

    def __init__(self, study: optuna.Study) -> None:
        self._reader, self._lock = StudyReader(study), Lock()
        self._record: StudyRecord | None = None
        self._read = 0.0

    def record(self, progress: Progress) -> StudyRecord:
        """Return the study as it was at most `SHARED_SECONDS` ago."""
        with self._lock:
            if self._record is None or time.monotonic() - self._read > SHARED_SECONDS:
                self._record = self._reader.read(progress if self._record is None else None)
                self._read = time.monotonic()
            return self._record


def _file(url: str) -> int:
    """Return which file a SQLite storage is, 0 for another kind or none: one that was made anew is another."""
    file = store.sqlite_file(url)
    return file.stat().st_ino if file is not None and file.exists() else 0


@st.cache_resource(show_spinner=False)
def _open(url: str, file: int) -> RDBStorage:
    return store.open_storage(url)


@st.cache_resource(show_spinner=False, max_entries=MOST_STUDIES_HELD)
def _held(url: str, file: int, name: str) -> Held:
    return Held(store.load_study(_open(url, file), name))


def _storage() -> tuple[str, int]:
    url = store.resolve_url(None)
    return url, _file(url)


def names() -> list[str]:
    """Return the names of the studies, oldest first. Raises ``StorageError`` if the storage cannot be read."""
    with translated():
        return store.names(_open(*_storage()))


def study(name: str | None = None) -> StudyRecord:
    """Return a study, the latest by default. Raises ``StorageError`` if there is none or it cannot be read."""
    with translated(), _told() as progress:
        place = _storage()
        if name is None:
            name = store.load_study(_open(*place), None).study_name
        try:
            return _held(*place, name).record(progress)
        except BaseException:
            _held.clear(*place, name)
            raise


def optuna_study(name: str) -> optuna.Study:
    """Return a study to append requests and notes to. Raises ``StorageError`` if it cannot be read."""
    with translated():
        return store.load_study(_open(*_storage()), name)


@st.cache_data(show_spinner=False, max_entries=64)
def artifact(root: str, name: str) -> bytes:
    """Return an artifact under a study's root. Raises ``StorageError`` if it is not there."""
    place = store.artifact_place(root)
    found = Root(place).read(name)
    if found is None:
        raise StorageError(f"an artifact is not at {place} any more: {name}")
    return found


@contextmanager
def _told() -> Iterator[Progress]:
    """Give what shows how far a long reading is."""
    place = st.empty()

    def progress(done: int, total: int) -> None:
        if total >= SAID_FROM:
            place.progress(done / total, f"Reading {total:,} trials for the first time; afterwards only what is new is read.")

    yield progress
    place.empty()


@contextmanager
def translated() -> Iterator[None]:
    """Turn what a database says into a ``StorageError``."""
    try:
        yield
    except KeyError as error:
        raise StorageError(f"this study is gone or was written by another version of injerto: {error} is missing") from None
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        raise StorageError(f"the storage does not answer: {reason}; look whether the database is there and not locked") from None


@contextmanager
def kindly() -> Iterator[None]:
    """Show what goes wrong for the user's eyes as a message instead of a traceback, also where a part of a record is of another shape."""
    try:
        yield
    except InjertoError as error:
        st.warning(plain(str(error)))
    except ODD as error:
        st.warning(plain(f"a part of the record cannot be shown, as it is broken or of another version of injerto: {error!r}"[:LONGEST]))


def plain(text: object) -> str:
    """Return a text that Markdown shows as it is: every ASCII punctuation mark escaped, on one line."""
    whole = str(text).encode("utf-8", "replace").decode()
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", " ".join(whole.split()))
