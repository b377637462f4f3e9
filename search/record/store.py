"""Opens Optuna's storage, and creates and loads studies."""

import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
import platformdirs
import sqlalchemy
from optuna.samplers import BaseSampler
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from sqlalchemy.engine import make_url

from search.record.database import engine_settings, explain_database_error, normalize_url, prepare_database
from trainables.errors import StorageError, did_you_mean
from trainables.storage.secrets import SECRET_NAME

DATABASE_ERRORS = (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError)
OPTUNA_DIRECTIONS = {"max": StudyDirection.MAXIMIZE, "min": StudyDirection.MINIMIZE}
"""Mode of a metric → Optuna's direction."""

optuna.logging.set_verbosity(logging.ERROR)


def default_url() -> str:
    """Return the storage URL in the environment variable ``INJERTO_STORAGE``, else that of a SQLite file in the user's data folder."""
    return os.environ.get("INJERTO_STORAGE") or f"sqlite:///{platformdirs.user_data_path('injerto') / 'studies.db'}"


def resolve_url(url: str | None) -> str:
    """Return a storage URL (the default one for None) with its driver named and its path absolute, so that any folder can use it.

    A password in the URL stays in it. Raises ``StorageError`` for what is not a database URL.
    """
    return normalize_url(url or default_url()).render_as_string(hide_password=False)


def sqlite_file(url: str | None) -> Path | None:
    """Return the absolute path of a SQLite storage's file, None for another database. A `url` of None is the default storage."""
    parsed = make_url(resolve_url(url))
    return Path(str(parsed.database)) if parsed.get_backend_name() == "sqlite" else None


def without_password(url: str) -> str:
    """Return a storage URL without its password and without parameters whose name says that they are secret."""
    parsed = make_url(url)
    return parsed.difference_update_query([name for name in parsed.query if SECRET_NAME.search(name)]).render_as_string(hide_password=True)


def open_storage(url: str | None, *, create: bool = False) -> RDBStorage:
    """Return Optuna's storage at a URL, or the default one for None; with `create`, make its tables if they do not exist.

    Raises ``StorageError`` if it cannot be opened, or does not exist and `create` is False.
    """
    url = resolve_url(url)
    parsed = make_url(url)
    try:
        with prepare_database(parsed, create):
            return RDBStorage(url, engine_kwargs=engine_settings(parsed))
    except ModuleNotFoundError as error:
        raise StorageError(f"storage {without_password(url)} needs the package {error.name}; install it") from None
    except (*DATABASE_ERRORS, sqlite3.Error, RuntimeError, ImportError, OSError) as error:
        raise StorageError(f"cannot open the storage {without_password(url)}: {explain_database_error(error)}") from None


@contextmanager
def storage_errors(url: str | None) -> Iterator[None]:
    """Raise a database error of the block (full, locked, not reachable) as ``StorageError``; `url` is the storage that it names."""
    try:
        yield
    except DATABASE_ERRORS as error:
        message = f"the storage {without_password(resolve_url(url))} cannot be used: {explain_database_error(error)}"
        raise StorageError(message) from error


def list_study_names(storage: RDBStorage) -> list[str]:
    """Return the names of the studies in a storage, oldest first."""
    return [study.study_name for study in sorted(storage.get_all_studies(), key=lambda s: s._study_id)]


def create_study(storage: RDBStorage, name: str, mode: str, sampler: BaseSampler) -> optuna.Study:
    """Return a new study that maximizes (`mode` ``max``) or minimizes (``min``). Raises ``StorageError`` if the name exists already."""
    try:
        return optuna.create_study(storage=storage, study_name=name, direction=OPTUNA_DIRECTIONS[mode], sampler=sampler)
    except optuna.exceptions.DuplicatedStudyError:
        raise name_taken_error(name) from None


def study_mode(study: optuna.Study) -> str:
    """Return ``max`` for a study that maximizes, ``min`` for one that minimizes."""
    return next(mode for mode, direction in OPTUNA_DIRECTIONS.items() if direction == study.direction)


def name_taken_error(name: str) -> StorageError:
    """Return (not raise) the error for a name that another study has."""
    return StorageError(f"the study {name!r} exists already; choose another --name, or go on with it: injerto resume {name}")


def load_study(storage: RDBStorage, name: str | None, sampler: BaseSampler | None = None) -> optuna.Study:
    """Return the study of this name, or the one created last if `name` is None. Raises ``StorageError`` if there is none."""
    known = list_study_names(storage)
    if not known:
        raise StorageError("the storage holds no study; start one with: injerto search")
    if name is not None and name not in known:
        raise StorageError(f"no study {name!r}{did_you_mean(name, known)}")
    return optuna.load_study(study_name=name or known[-1], storage=storage, sampler=sampler)
