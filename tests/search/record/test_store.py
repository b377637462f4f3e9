import sqlite3

import pytest
from optuna.samplers import RandomSampler

from search.record.store import create_study, load_study, open_storage, resolve_url, without_password
from trainables.errors import StorageError


@pytest.fixture
def storage(tmp_path):
    return open_storage(f"sqlite:///{tmp_path}/new/folder/studies.db", create=True)


def create(storage, name):
    return create_study(storage, name, "max", RandomSampler(seed=0))


def test_open_storage_creates_the_folder_and_turns_write_ahead_mode_on(storage, tmp_path):
    with sqlite3.connect(tmp_path / "new/folder/studies.db") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_load_study_names_similar_studies_for_an_unknown_name(storage):
    with pytest.raises(StorageError, match="holds no study"):
        load_study(storage, None)
    create(storage, "calm-fig")
    with pytest.raises(StorageError, match="no study 'calm-fog'; did you mean 'calm-fig'"):
        load_study(storage, "calm-fog")


def test_resolve_url_makes_sqlite_paths_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resolve_url("sqlite:///studies.db") == f"sqlite:///{tmp_path.resolve()}/studies.db"
    monkeypatch.setenv("INJERTO_STORAGE", "sqlite:///own.db")
    assert resolve_url(None) == f"sqlite:///{tmp_path.resolve()}/own.db"


def test_without_password_hides_the_password():
    assert "secret" not in without_password("postgresql+psycopg://me:secret@host/db")


@pytest.mark.parametrize(
    ("url", "fragment"),
    [
        ("nonsense", "is not a storage URL"),
        ("sqlite://", "would be lost when the process ends"),
        ("sqlite:///:memory:", "would be lost when the process ends"),
        ("sqlite:////proc/none/studies.db", "cannot open the storage"),
        ("sqlite:///{folder}", "cannot open the storage"),
        ("sqlite:///{folder}/text.db", "cannot open the storage"),
        ("nodb://host/db", "cannot open the storage"),
    ],
)
def test_open_storage_names_what_is_wrong_with_a_url(url, fragment, tmp_path):
    (tmp_path / "text.db").write_text("this is no database, only text that is long enough to be read as a header" * 20)
    with pytest.raises(StorageError, match=fragment):
        open_storage(url.format(folder=tmp_path), create=True)
