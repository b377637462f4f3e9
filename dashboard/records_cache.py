"""Studies and artifacts from the storage, read once for all viewers."""

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
"""Called with the number of trials that are read and the number of all trials to read."""


def refresh_seconds() -> float:
    """Return the seconds between two refreshes of a live panel."""
    return float(os.environ.get("INJERTO_DASHBOARD_REFRESH", "2"))


class SharedStudy:
    """The reader of one study and the record that it read last, shared by all viewers."""

    def __init__(self, study: optuna.Study) -> None:
        self._study, self._reader, self._lock = study, StudyReader(study), Lock()
        self._record: StudyRecord | None = None
        self._read_at = 0.0

    def record(self, on_progress: OnProgress) -> StudyRecord:
        """Return the study as it was at most `SHARED_SECONDS` ago. `on_progress` is called during the first reading only."""
        with self._lock:
            if self._record is None or time.monotonic() - self._read_at > SHARED_SECONDS:
                self._replace_deleted_study()
                self._record = self._reader.read(on_progress if self._record is None else None)
                self._read_at = time.monotonic()
            return self._record

    def _replace_deleted_study(self) -> None:
        """Turn to the study that has the name now, if the one that was read is deleted: databases can give its id to any new study."""
        name, storage = self._study.study_name, self._study._storage
        if storage.get_study_id_from_name(name) != self._study._study_id:
            self._study = optuna.load_study(study_name=name, storage=storage)
            self._reader, self._record = StudyReader(self._study), None


def _inode(url: str) -> int:
    """Return the inode of a SQLite storage, 0 for another kind or a missing file. A storage that is created again has another inode."""
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
    """Return the names of the studies, oldest first. Raises ``StorageError`` if the storage cannot be read."""
    with translate_storage_errors():
        return store.list_study_names(_open(*_storage()))


def study(name: str | None = None) -> StudyRecord:
    """Return a study, the latest by default. Raises ``StorageError`` if there is none or it cannot be read."""
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
    """Return the Optuna study that commands and notes are appended to. Raises ``StorageError`` if it cannot be read."""
    with translate_storage_errors():
        return store.load_study(_open(*_storage()), name)


@st.cache_data(show_spinner=False, max_entries=MOST_ARTIFACTS_CACHED)
def artifact(root: str, name: str) -> bytes:
    """Return an artifact under a study's root. Raises ``StorageError`` if it does not exist."""
    place = artifact_location(root)
    content = Root(place).read(name)
    if content is None:
        raise StorageError(f"an artifact is not at {place} any more: {name}")
    return content


@contextmanager
def _reading_progress() -> Iterator[OnProgress]:
    """Give a function that shows a progress bar while a long reading goes on; the bar disappears at the end."""
    bar = st.empty()

    def on_progress(done: int, total: int) -> None:
        if total >= PROGRESS_FROM:
            bar.progress(done / total, f"Reading {total:,} trials for the first time; later refreshes read only what is new.")

    yield on_progress
    bar.empty()
