"""Opens the record: Optuna storage and the artifact store; creates and finds studies."""

import logging
import os
import random
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import optuna
import platformdirs
import sqlalchemy
from filelock import FileLock
from optuna.artifacts import FileSystemArtifactStore
from optuna.samplers import BaseSampler
from optuna.storages import RDBStorage
from sqlalchemy.engine import make_url

from trainables.errors import StorageError, did_you_mean

TIMEOUT_SECONDS = 30
ADJECTIVES = (
    "amber",
    "brisk",
    "calm",
    "dewy",
    "early",
    "fresh",
    "green",
    "hardy",
    "juicy",
    "keen",
    "late",
    "mellow",
    "ripe",
    "sunny",
    "tender",
    "young",
)
NOUNS = (
    "almond",
    "apple",
    "cherry",
    "citron",
    "fig",
    "grape",
    "lemon",
    "mango",
    "medlar",
    "olive",
    "orange",
    "peach",
    "pear",
    "plum",
    "quince",
    "walnut",
)

optuna.logging.set_verbosity(logging.ERROR)


def default_url() -> str:
    """Return ``INJERTO_STORAGE``, else a SQLite file in the data folder of the platform."""
    return os.environ.get("INJERTO_STORAGE") or f"sqlite:///{platformdirs.user_data_path('injerto') / 'studies.db'}"


def resolve_url(url: str | None) -> str:
    """Return a storage URL whose SQLite path is absolute, so that it means the same after a change of folder.

    Raises ``StorageError`` for what is not a database URL.
    """
    text = url or default_url()
    try:
        parsed = make_url(text)
    except sqlalchemy.exc.ArgumentError:
        raise StorageError(f"{text!r} is not a storage URL; write sqlite:///studies.db or postgresql+psycopg://user@host/name") from None
    if parsed.get_backend_name() == "sqlite":
        if parsed.database in (None, "", ":memory:"):
            raise StorageError(f"{text!r} would be lost with the process; name a file: sqlite:///studies.db")
        return f"sqlite:///{Path(str(parsed.database)).expanduser().resolve()}"
    return text


def shown(url: str) -> str:
    """Return a storage URL without its password."""
    return make_url(url).render_as_string(hide_password=True)


def open_storage(url: str | None, *, create: bool = False) -> RDBStorage:
    """Open Optuna storage; SQLite in write-ahead mode, so that readers never wait for the search.

    Raises ``StorageError`` if it cannot be opened, or does not exist and `create` is False.
    """
    url = resolve_url(url)
    parsed = make_url(url)
    arguments = {}
    if parsed.get_backend_name() == "sqlite":
        _open_sqlite(Path(str(parsed.database)), create)
        arguments = {"connect_args": {"timeout": TIMEOUT_SECONDS}}
    try:
        with _alone(parsed) if create else nullcontext():
            return RDBStorage(url, engine_kwargs=arguments)
    except ModuleNotFoundError as error:
        raise StorageError(f"storage {shown(url)} needs the package {error.name}; install it") from None
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError, RuntimeError, ImportError) as error:
        raise StorageError(f"cannot open the storage {shown(url)}: {_first_line(error)}") from None


@contextmanager
def _alone(url: sqlalchemy.URL) -> Iterator[None]:
    """Let one process at a time make the tables of a SQLite file: two that do it at once disturb each other."""
    if url.get_backend_name() != "sqlite":
        yield
        return
    with FileLock(f"{url.database}.lock", timeout=TIMEOUT_SECONDS):
        yield


def _open_sqlite(path: Path, create: bool) -> None:
    if not path.exists() and not create:
        raise StorageError(f"no studies at {path}; start one with: injerto search")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with sqlite3.connect(path, timeout=TIMEOUT_SECONDS) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
        connection.close()
    except (OSError, sqlite3.Error) as error:
        raise StorageError(f"cannot open the storage {path}: {error}; name another with --storage") from None


@contextmanager
def storage_errors(url: str | None) -> Iterator[None]:
    """Turn what a database says of itself into a ``StorageError``: full, locked, gone."""
    try:
        yield
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        raise StorageError(f"the storage {shown(resolve_url(url))} cannot be used: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    return str(error.__cause__ or error).strip().splitlines()[0]


def names(storage: RDBStorage) -> list[str]:
    """Return the studies of a storage, oldest first."""
    return [study.study_name for study in sorted(storage.get_all_studies(), key=lambda s: s._study_id)]


def create_study(storage: RDBStorage, name: str, mode: str, sampler: BaseSampler) -> optuna.Study:
    """Create a study that maximizes (``max``) or minimizes (``min``). Raises ``StorageError`` if the name is taken."""
    try:
        return optuna.create_study(storage=storage, study_name=name, direction="maximize" if mode == "max" else "minimize", sampler=sampler)
    except optuna.exceptions.DuplicatedStudyError:
        raise taken(name) from None


def taken(name: str) -> StorageError:
    """Return the error for a name that a study has already."""
    return StorageError(f"the study {name!r} exists already; choose another --name, or go on with it: injerto resume {name}")


def fresh_name(taken: Iterable[str]) -> str:
    """Return a readable name that is not taken."""
    free = [f"{a}-{n}" for a in ADJECTIVES for n in NOUNS if f"{a}-{n}" not in set(taken)]
    return random.SystemRandom().choice(free) if free else f"study-{random.SystemRandom().getrandbits(48):012x}"


def load_study(storage: RDBStorage, name: str | None, sampler: BaseSampler | None = None) -> optuna.Study:
    """Return a study by name, or the latest. Raises ``StorageError`` if there is none."""
    known = names(storage)
    if not known:
        raise StorageError("the storage holds no study; start one with: injerto search")
    if name is not None and name not in known:
        raise StorageError(f"no study {name!r}{did_you_mean(name, known)}")
    return optuna.load_study(study_name=name or known[-1], storage=storage, sampler=sampler)


def artifact_store(folder: Path) -> FileSystemArtifactStore:
    """Return the artifact store of a study's output folder."""
    (folder / "artifacts").mkdir(parents=True, exist_ok=True)
    return FileSystemArtifactStore(str(folder / "artifacts"))
