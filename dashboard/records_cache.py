"""Reads studies and artifacts from the storage. What is read is cached in this process and shared by all viewers."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock

import optuna
import streamlit as st
from optuna.storages import RDBStorage

from dashboard.record_errors import translate_storage_errors
from search.record import store
from search.record.artifacts import artifact_location
from search.record.reader import StudyReader
from search.record.records import StudyRecord
from trainables.errors import StorageError
from trainables.storage.root import Root

SHARED_SECONDS = 1.0
"""How long viewers share a record before it is read again."""
MOST_STUDIES_CACHED = 8
MOST_ARTIFACTS_CACHED = 64
PROGRESS_FROM = 1000
"""Number of trials from which on the first reading shows its progress."""
OnProgress = Callable[[int, int], None]
"""Called with the number of trials read so far and the number of trials to read in total."""


def refresh_seconds() -> float:
    """Return the seconds between two refreshes of a live screen, as given to `serve`; 2 by default."""
    return float(os.environ.get("INJERTO_DASHBOARD_REFRESH", "2"))


class SharedStudy:
    """The reader of one study and the record that it read last, shared by all viewers. Its methods may be called on any thread."""

    def __init__(self, study: optuna.Study) -> None:
        self._study, self._reader, self._lock = study, StudyReader(study), Lock()
        self._record: StudyRecord | None = None
        self._read_at = 0.0

    def record(self, on_progress: OnProgress) -> StudyRecord:
        """Return the record as it was at most `SHARED_SECONDS` ago, and read it again if the last one is older.

        `on_progress` is called only during the first reading, which can be long. Raises ``StorageError`` if injerto did not create the
        study, ``KeyError`` if it was deleted, and the database's own errors.
        """
        with self._lock:
            if self._record is None or time.monotonic() - self._read_at > SHARED_SECONDS:
                self._replace_deleted_study()
                self._record = self._reader.read(on_progress if self._record is None else None)
                self._read_at = time.monotonic()
            return self._record

    def _replace_deleted_study(self) -> None:
        """If the study was deleted and a new one has its name, read the new one from the start.

        Databases can give the id of a deleted study to any new study. Raises ``KeyError`` if no study has the name.
        """
        name, storage = self._study.study_name, self._study._storage
        if storage.get_study_id_from_name(name) != self._study._study_id:
            self._study = optuna.load_study(study_name=name, storage=storage)
            self._reader, self._record = StudyReader(self._study), None


def _inode(url: str) -> int:
    """Return the inode of a SQLite storage's file; 0 for another database or a missing file.

    It is part of the caches' keys: a storage file that is deleted and created again has another inode, and is opened again.
    """
    file = store.sqlite_file(url)
    return file.stat().st_ino if file is not None and file.exists() else 0


@st.cache_resource(show_spinner=False)
def _open(url: str, inode: int) -> RDBStorage:
    return store.open_storage(url)


@st.cache_resource(show_spinner=False, max_entries=MOST_STUDIES_CACHED)
def _shared_study(url: str, inode: int, name: str) -> SharedStudy:
    return SharedStudy(store.load_study(_open(url, inode), name))


def _storage() -> tuple[str, int]:
    url = store.resolve_url(None)
    return url, _inode(url)


def names() -> list[str]:
    """Return the names of the studies in the dashboard's storage, oldest first. Raises ``StorageError`` if the storage cannot be read."""
    with translate_storage_errors():
        return store.list_study_names(_open(*_storage()))


def study(name: str | None = None) -> StudyRecord:
    """Return the record of a study, or of the one created last for None; it may be `SHARED_SECONDS` old.

    A long first reading shows a progress bar. Raises ``StorageError`` if there is no such study, or if it cannot be read.
    """
    with translate_storage_errors(), _reading_progress() as on_progress:
        storage = _storage()
        if name is None:
            name = store.load_study(_open(*storage), None).study_name
        try:
            return _shared_study(*storage, name).record(on_progress)
        except BaseException:
            _shared_study.clear(*storage, name)
            raise


def optuna_study(name: str) -> optuna.Study:
    """Return the Optuna study of this name, to which commands and notes are appended.

    Raises ``StorageError`` if there is no such study, or if the storage cannot be read.
    """
    with translate_storage_errors():
        return store.load_study(_open(*_storage()), name)


@st.cache_data(show_spinner=False, max_entries=MOST_ARTIFACTS_CACHED)
def artifact(root: str, name: str) -> bytes:
    """Return the content of an artifact; `root` is `StudyRecord.root`, `name` the artifact's file name below its artifacts.

    Raises ``StorageError`` if it does not exist, and what `Root.read` raises. The content is cached.
    """
    place = artifact_location(root)
    content = Root(place).read(name)
    if content is None:
        raise StorageError(f"an artifact is not at {place} any more: {name}")
    return content


@contextmanager
def _reading_progress() -> Iterator[OnProgress]:
    """Give the block an `OnProgress` that shows a progress bar for `PROGRESS_FROM` trials or more; the bar disappears after the block."""
    bar = st.empty()

    def on_progress(done: int, total: int) -> None:
        if total >= PROGRESS_FROM:
            bar.progress(done / total, f"Reading {total:,} trials for the first time; later refreshes read only what is new.")

    yield on_progress
    bar.empty()
