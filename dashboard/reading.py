"""From the storage to the screens: records that are read once for all viewers, and errors that are said kindly."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
import sqlalchemy
import streamlit as st
from optuna.storages import RDBStorage
from sqlalchemy.engine import make_url

from search import store
from search.records import StudyRecord, study_record
from trainables.errors import InjertoError, StorageError

LIVE = "2s"
SHARED_SECONDS = 1.0


def _still_there(storage: RDBStorage) -> bool:
    url = make_url(storage.url)
    return url.get_backend_name() != "sqlite" or Path(str(url.database)).exists()


@st.cache_resource(show_spinner=False, validate=_still_there)
def _open(url: str) -> RDBStorage:
    return store.open_storage(url)


def names() -> list[str]:
    """Return the names of the studies, oldest first. Raises ``StorageError`` if the storage cannot be read."""
    with _translated():
        return store.names(_open(store.resolve_url(None)))


def study(name: str | None = None) -> StudyRecord:
    """Return a study, the latest by default. Raises ``StorageError`` if there is none or it cannot be read."""
    return _study(store.resolve_url(None), name)


@st.cache_resource(ttl=SHARED_SECONDS, show_spinner=False)
def _study(url: str, name: str | None) -> StudyRecord:
    with _translated():
        return study_record(store.load_study(_open(url), name))


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except KeyError as error:
        raise StorageError(f"this study is gone or was written by another version of injerto: {error} is missing") from None
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        raise StorageError(f"the storage does not answer: {reason}; look whether the database is there and not locked") from None


@contextmanager
def kindly() -> Iterator[None]:
    """Show what goes wrong for the user's eyes as a message instead of a traceback."""
    try:
        yield
    except InjertoError as error:
        st.warning(plain(str(error)))


def plain(text: object) -> str:
    """Return a text that Markdown shows as it is: every ASCII punctuation mark escaped, on one line."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", " ".join(str(text).split()))
