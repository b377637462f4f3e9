"""Opens the record: Optuna storage and the artifact store; creates and finds studies."""

import logging
import os
import random
import re
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import optuna
import platformdirs
import sqlalchemy
from optuna.artifacts.exceptions import ArtifactNotFound
from optuna.samplers import BaseSampler
from optuna.storages import RDBStorage
from sqlalchemy.engine import make_url

from search.record.database import engine_settings, explained, normal_url, ready
from trainables.errors import StorageError, did_you_mean
from trainables.storage.locations import PERSISTENT, Root, join

SECRET = re.compile("passw|secret|token|pwd", re.IGNORECASE)
"""What is in the name of a parameter of a URL that holds a password; ``passfile`` only says where one is."""
DATABASE_ERRORS = (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError)
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
    """Return a storage URL that means the same after a change of folder, its driver named; it still holds the password if one was given.

    Raises ``StorageError`` for what is not a database URL.
    """
    return normal_url(url or default_url()).render_as_string(hide_password=False)


def sqlite_file(url: str | None) -> Path | None:
    """Return the file of a SQLite storage, None for another kind."""
    parsed = make_url(resolve_url(url))
    return Path(str(parsed.database)) if parsed.get_backend_name() == "sqlite" else None


def shown(url: str) -> str:
    """Return a storage URL without its password."""
    parsed = make_url(url)
    return parsed.difference_update_query([name for name in parsed.query if SECRET.search(name)]).render_as_string(hide_password=True)


def open_storage(url: str | None, *, create: bool = False) -> RDBStorage:
    """Open Optuna storage, and make its tables if need be where `create` is True.

    Raises ``StorageError`` if it cannot be opened, or does not exist and `create` is False.
    """
    url = resolve_url(url)
    parsed = make_url(url)
    try:
        with ready(parsed, create):
            return RDBStorage(url, engine_kwargs=engine_settings(parsed))
    except ModuleNotFoundError as error:
        raise StorageError(f"storage {shown(url)} needs the package {error.name}; install it") from None
    except (*DATABASE_ERRORS, sqlite3.Error, RuntimeError, ImportError, OSError) as error:
        raise StorageError(f"cannot open the storage {shown(url)}: {explained(error)}") from None


@contextmanager
def storage_errors(url: str | None) -> Iterator[None]:
    """Turn what a database says of itself into a ``StorageError``: full, locked, gone."""
    try:
        yield
    except DATABASE_ERRORS as error:
        raise StorageError(f"the storage {shown(resolve_url(url))} cannot be used: {explained(error)}") from error


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


class Artifacts:
    """Optuna's artifact store over a place: a folder or a bucket."""

    def __init__(self, root: Root) -> None:
        self._root = root

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """Open an artifact. Raises ``ArtifactNotFound`` if there is none."""
        found = self._root.opened(artifact_id)
        if found is None:
            raise ArtifactNotFound(f"there is no artifact {artifact_id!r} in {self._root}")
        return found

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Save an artifact, all of it or nothing. Raises as `Root.write` does."""
        self._root.write(artifact_id, content_body.read())

    def remove(self, artifact_id: str) -> None:
        """Remove an artifact; it is fine if there is none."""
        self._root.remove(artifact_id)


def study_root(root: str | None, name: str, folder: Path) -> str:
    """Return where a study's states and artifacts are: under the common root if there is one, else in its output folder."""
    return join(root, name) if root else str(folder)


def trial_folder(root: str | Path, number: int) -> str:
    """Return where a trial's state and its account are while it runs."""
    return join(root, f"trials/{number:05d}")


def artifact_place(root: str | Path) -> str:
    """Return where the artifacts under a study's root are."""
    return join(root, "artifacts")


def artifact_store(root: str | Path) -> Artifacts:
    """Return the artifact store under a study's root."""
    return Artifacts(Root(artifact_place(root), PERSISTENT))
