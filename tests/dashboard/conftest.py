"""Fixtures of the dashboard's tests: played studies, their records, and the environment of the app."""

import pytest
import sqlalchemy
import streamlit

from dashboard import auth, records_cache
from search.record.reader import read_study
from search.record.store import open_storage
from tests.dashboard.gallery import build_gallery
from tests.dashboard.played_search import PlayedSearch, five_trials, twelve_trials


@pytest.fixture(scope="session", autouse=True)
def unsynced_sqlite():
    """Do not wait until commits are on the disk; that would be half of these tests' time."""

    def relax(connection, record):
        if type(connection).__module__.startswith("sqlite3"):
            connection.execute("PRAGMA synchronous=OFF")

    sqlalchemy.event.listen(sqlalchemy.Engine, "connect", relax)
    yield
    sqlalchemy.event.remove(sqlalchemy.Engine, "connect", relax)


@pytest.fixture(autouse=True)
def unshared_reads(monkeypatch):
    """Read a study whenever a screen asks for it, so that no test waits until a shared record is old enough."""
    monkeypatch.setattr(records_cache, "SHARED_SECONDS", 0.0)


@pytest.fixture(autouse=True)
def no_permissions(monkeypatch):
    """Viewers may not act and need not log in, unless a test says so."""
    for name in (auth.ACTIONS_VARIABLE, auth.LOGIN_VARIABLE):
        monkeypatch.setenv(name, "0")


@pytest.fixture
def allow_actions(monkeypatch):
    monkeypatch.setenv(auth.ACTIONS_VARIABLE, "1")


@pytest.fixture(scope="session")
def gallery(tmp_path_factory, unsynced_sqlite):
    """The URL of a storage with studies of every kind, for tests that only read."""
    return build_gallery(tmp_path_factory.mktemp("gallery"))


@pytest.fixture
def gallery_storage(gallery, monkeypatch):
    """The gallery as the storage that the app shows."""
    monkeypatch.setenv("INJERTO_STORAGE", gallery)
    return gallery


@pytest.fixture
def empty_caches():
    """Clear what other tests have read."""
    streamlit.cache_resource.clear()
    streamlit.cache_data.clear()


@pytest.fixture
def empty_storage(tmp_path, monkeypatch):
    url = f"sqlite:///{tmp_path}/studies.db"
    open_storage(url, create=True)
    monkeypatch.setenv("INJERTO_STORAGE", url)
    return url


@pytest.fixture
def play(empty_storage, tmp_path):
    """Start a study: `play(name, trials=…)`."""
    return lambda name, **more: PlayedSearch(empty_storage, tmp_path, name, **more)


@pytest.fixture
def played(play):
    """A running study of eight trials: default recipe 0.7, winner 0.8, one stopped, one failed, one running, three not yet started."""
    return five_trials(play("calm-fig"))


@pytest.fixture(scope="session")
def record(tmp_path_factory, unsynced_sqlite):
    """The record of a study like `played`, for tests that only read."""
    root = tmp_path_factory.mktemp("record")
    search = five_trials(PlayedSearch(f"sqlite:///{root}/studies.db", root, "calm-fig"))
    return read_study(search.name, search.url)


@pytest.fixture(scope="session")
def learnt(tmp_path_factory, unsynced_sqlite):
    """The record of a study of twelve finished trials, in which the value grows with the augmentation's strength."""
    root = tmp_path_factory.mktemp("learnt")
    search = PlayedSearch(f"sqlite:///{root}/studies.db", root, "wise-fig", trials=12)
    twelve_trials(search)
    return read_study(search.name, search.url)
