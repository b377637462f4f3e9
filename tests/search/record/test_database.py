import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from filelock import FileLock
from optuna.samplers import RandomSampler
from sqlalchemy.engine import make_url

from search.record.database import ADVICE, LIBPQ_SETTINGS, engine_settings
from search.record.reader import read_study
from search.record.store import create_study, list_study_names, open_storage, resolve_url, storage_errors, without_password
from tests.search.conftest import command
from trainables.errors import StorageError

SECRET = "secret/%:@"
QUOTED = "secret%2F%25%3A%40"


@pytest.fixture(scope="module")
def guarded(postgres):
    """The URL, without the password, of a database whose user needs one."""
    postgres.do(f"CREATE ROLE guarded LOGIN PASSWORD '{SECRET}'")
    return postgres.database("guarded").replace("injerto@", "guarded@")


@pytest.fixture
def restarted(postgres):
    """The server, which is started again after a test that stops it."""
    yield postgres
    if not postgres.answers():
        postgres.start()


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("postgresql://me@host/name", "postgresql+psycopg://me@host/name"),
        ("postgres://me@host/name", "postgresql+psycopg://me@host/name"),
        ("postgresql+psycopg2://me@host/name", "postgresql+psycopg2://me@host/name"),
        (f"postgresql://me:{QUOTED}@host:5433/name?sslmode=require", f"postgresql+psycopg://me:{QUOTED}@host:5433/name?sslmode=require"),
        ("mysql+pymysql://me@host/name", "mysql+pymysql://me@host/name"),
    ],
)
def test_resolve_url_adds_the_driver(given, meant):
    resolved = resolve_url(given)
    assert make_url(resolved) == make_url(meant)
    assert resolve_url(resolved) == resolved


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:secret@host/db",
        "postgresql://me@host/db?password=secret",
        "mysql://me@host/db?passwd=secret",
        "postgresql://me@host/db?PassWord=secret",
        "postgresql://me@host/db?sslpassword=secret&sslmode=require",
    ],
)
def test_without_password_removes_passwords_and_secret_parameters(url):
    assert "secret" not in without_password(resolve_url(url))
    assert "host/db" in without_password(resolve_url(url))


@pytest.mark.parametrize(
    "url", ["postgresql//me:secret@host/db", "postgresql://me:a@secret@host/db", "postgresql://me:secret@host:port/db"]
)
def test_the_error_for_a_malformed_url_contains_no_password(url):
    with pytest.raises(StorageError, match="storage URL") as raised:
        resolve_url(url)
    assert "secret" not in str(raised.value)


def test_connection_settings_in_a_url_have_priority():
    own = engine_settings(make_url("postgresql+psycopg://host/db?connect_timeout=2&keepalives_idle=99"))["connect_args"]
    assert own == {name: value for name, value in LIBPQ_SETTINGS.items() if name not in ("connect_timeout", "keepalives_idle")}
    assert engine_settings(make_url("postgresql+asyncpg://host/db")) == {"pool_pre_ping": True, "connect_args": {}}


def test_connections_name_the_program_and_detect_a_lost_server(postgres):
    storage = open_storage(postgres.database(), create=True)
    connection = storage.engine.raw_connection()
    found = connection.dbapi_connection.info.get_parameters()
    assert {name: found[name] for name in LIBPQ_SETTINGS} == {name: str(value) for name, value in LIBPQ_SETTINGS.items()}
    seconds = LIBPQ_SETTINGS["keepalives_idle"] + LIBPQ_SETTINGS["keepalives_interval"] * LIBPQ_SETTINGS["keepalives_count"]
    assert seconds <= 30 == LIBPQ_SETTINGS["tcp_user_timeout"] / 1000
    seen = postgres.do(f"SELECT application_name FROM pg_stat_activity WHERE datname = '{make_url(storage.url).database}'")
    assert ("injerto",) in seen
    connection.close()
    storage.engine.dispose()


WRONG = {
    "nobody listens": ("postgresql://me@127.0.0.1:1/db", "Connection refused; start the server, or correct the host and port"),
    "no such host": ("postgresql://me@none.invalid/db", "; there is no such host; correct it in the URL"),
    "no such socket": ("postgresql://me@/db?host=/nowhere", "; start the server"),
    "no such driver": ("postgresql+pg8000://me@host/db", "needs the package pg8000; install it"),
    "no such database": ("postgresql://injerto@127.0.0.1:{port}/none", 'database "none" does not exist; create it: createdb'),
    "no such user": ("postgresql://none@127.0.0.1:{port}/none", 'role "none" does not exist; write the user in the URL'),
    "no password": ("postgresql://guarded@127.0.0.1:{port}/db", "no password supplied; give the password in PGPASSWORD"),
    "wrong password": (
        "postgresql://guarded:wrong@127.0.0.1:{port}/db",
        "password authentication failed .*; give the password in PGPASSWORD",
    ),
    "no encryption": ("postgresql://injerto@127.0.0.1:{port}/db?sslmode=require", "does not support SSL.*; leave sslmode=require out"),
    "no such setting": ("postgresql://injerto@127.0.0.1:{port}/db?colour=red", 'invalid connection option "colour"'),
}


@pytest.mark.parametrize("what", WRONG)
def test_open_storage_explains_a_connection_error_on_one_line(what, postgres, guarded):
    url, message = WRONG[what]
    for create in (True, False):
        with pytest.raises(StorageError) as raised:
            open_storage(url.format(port=postgres.port), create=create)
        text = str(raised.value)
        assert re.search(message, text), text
        assert "\n" not in text
        assert "wrong" not in text


def test_a_user_without_create_permission_gets_advice(postgres, guarded):
    url = postgres.database().replace("injerto@", f"guarded:{QUOTED}@")
    with pytest.raises(StorageError, match=r"permission denied for schema public; .* GRANT CREATE"):
        open_storage(url, create=True)


def test_a_user_who_may_only_read_can_read(postgres, guarded):
    url = postgres.database()
    create_study(open_storage(url, create=True), "calm-fig", "max", RandomSampler())
    reader = url.replace("injerto@", f"guarded:{QUOTED}@")
    with pytest.raises(StorageError, match=r"permission denied for table .*; .* GRANT"):
        list_study_names(open_storage(reader))
    postgres.do("GRANT SELECT ON ALL TABLES IN SCHEMA public TO guarded", database=str(make_url(url).database))
    assert list_study_names(open_storage(reader)) == ["calm-fig"]


def test_passwords_come_from_the_url_the_environment_or_a_file(guarded, tmp_path, monkeypatch):
    assert list_study_names(open_storage(guarded.replace("guarded@", f"guarded:{QUOTED}@"), create=True)) == []
    monkeypatch.setenv("PGPASSWORD", SECRET)
    assert list_study_names(open_storage(guarded)) == []
    monkeypatch.delenv("PGPASSWORD")
    file = tmp_path / "passwords"
    file.write_text("*:*:*:guarded:" + SECRET.replace(":", "\\:"))
    file.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(file))
    assert list_study_names(open_storage(guarded)) == []


def test_status_explains_a_wrong_password_and_exits_with_2(guarded):
    done = command("status", "--storage", guarded.replace("guarded@", "guarded:wrong@"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: cannot open the storage postgresql+psycopg://guarded:***@")
    assert "Traceback" not in done.stderr
    assert "wrong" not in done.stderr


def test_a_server_that_stops_between_opening_and_reading_raises_storage_errors(restarted):
    url = restarted.database()
    storage = open_storage(url, create=True)
    create_study(storage, "calm-fig", "max", RandomSampler())
    restarted.stop("immediate")
    with pytest.raises(StorageError, match=r"cannot be used: .*Connection refused; start the server"), storage_errors(url):
        list_study_names(storage)
    with pytest.raises(StorageError, match=r"cannot open the storage .*Connection refused"):
        read_study("calm-fig", url)
    restarted.start()
    assert list_study_names(storage) == ["calm-fig"]


def test_a_storage_works_again_after_its_server_was_killed_and_restarted(restarted):
    storage = open_storage(restarted.database(), create=True)
    study = create_study(storage, "calm-fig", "max", RandomSampler())
    trial = study.ask()
    restarted.kill()
    with pytest.raises(StorageError, match=r"try again|start the server"), storage_errors(storage.url):
        trial.report(0.5, 1)
    restarted.start()
    trial.report(0.5, 1)
    assert study.trials[0].intermediate_values == {1: 0.5}


def test_open_storage_waits_a_limited_time_for_a_lock_on_the_tables(postgres, monkeypatch):
    monkeypatch.setattr("search.record.database.TIMEOUT_SECONDS", 1)
    url = postgres.database()
    with ThreadPoolExecutor() as pool:
        holder = pool.submit(postgres.do, f"SELECT pg_advisory_lock({0x696E6A6572746F}), pg_sleep(3)", str(make_url(url).database))
        time.sleep(0.5)
        with pytest.raises(StorageError, match="lock timeout; another program holds it"):
            open_storage(url, create=True)
        holder.result()
    assert list_study_names(open_storage(url, create=True)) == []


def test_every_pattern_of_the_advice_is_a_distinct_regular_expression():
    assert all(re.compile(pattern) and advice[0].islower() for pattern, advice in ADVICE)
    assert len({pattern for pattern, _ in ADVICE}) == len(ADVICE)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_open_storage_explains_a_folder_without_write_permission(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match="name another with --storage"):
        open_storage(f"sqlite:///{tmp_path}/studies.db", create=True)


def test_a_locked_sqlite_file_raises_an_error_that_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("search.record.database.TIMEOUT_SECONDS", 1)
    url = f"sqlite:///{tmp_path}/studies.db"
    storage = open_storage(url, create=True)
    program = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1])
connection.execute("BEGIN EXCLUSIVE")
print(flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "studies.db")], stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        with pytest.raises(StorageError, match="database is locked; another program holds it"), storage_errors(url):
            create_study(storage, "calm-fig", "max", RandomSampler())
        holder.kill()
    create_study(storage, "calm-fig", "max", RandomSampler())
    assert list_study_names(storage) == ["calm-fig"]


def test_open_storage_waits_a_limited_time_for_a_sqlite_file_in_creation(tmp_path, monkeypatch):
    monkeypatch.setattr("search.record.database.TIMEOUT_SECONDS", 0.2)
    with FileLock(tmp_path / "studies.db.lock"), pytest.raises(StorageError, match="another program holds it"):
        open_storage(f"sqlite:///{tmp_path}/studies.db", create=True)
    assert list_study_names(open_storage(f"sqlite:///{tmp_path}/studies.db", create=True)) == []
