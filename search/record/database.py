"""Prepares SQLite and PostgreSQL databases for Optuna, and explains their errors to users."""

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import sqlalchemy
from filelock import FileLock
from sqlalchemy.engine import URL, make_url
from sqlalchemy.pool import NullPool

from trainables.errors import StorageError

TIMEOUT_SECONDS = 30
POSTGRESQL_SCHEMES = ("postgresql", "postgres")
"""Schemes of a PostgreSQL URL that names no driver; libpq accepts both."""
POSTGRESQL_DRIVER = "postgresql+psycopg"
LIBPQ_DRIVERS = ("psycopg", "psycopg2")
LIBPQ_SETTINGS: dict[str, Any] = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 1000 * TIMEOUT_SECONDS,
    "fallback_application_name": "injerto",
}
"""libpq's connection settings: they detect a lost server within about 25 s. A setting in the URL has priority."""
TABLES_LOCK = 0x696E6A6572746F  # "injerto": key of the advisory lock that is held while the tables are created

ADVICE = (
    ("Connection refused|No such file or directory", "start the server, or correct the host and port in the URL"),
    ("resolve host|Name or service not known|nodename nor servname|translate host", "there is no such host; correct it in the URL"),
    (
        "timeout expired|timed out|No route to host|unreachable",
        "the server does not answer; check that it runs and that no firewall blocks the connection",
    ),
    (
        "no password supplied|password authentication failed",
        "give the password in PGPASSWORD, or in ~/.pgpass as host:port:database:user:password (mode 0600)",
    ),
    ("role .* does not exist", "write the user in the URL, postgresql://USER@host/name, or create it: createuser USER"),
    ("database .* does not exist", "create it: createdb NAME"),
    ("no pg_hba.conf entry", "the server does not accept this user from this host; see its pg_hba.conf, or try ?sslmode=require"),
    ("does not support SSL", "leave sslmode=require out of the URL"),
    ("permission denied for schema", "its owner can allow it: GRANT CREATE ON SCHEMA public TO USER"),
    ("permission denied for (table|sequence)", "its owner can allow it: GRANT ALL ON ALL TABLES, ALL SEQUENCES IN SCHEMA public TO USER"),
    ("too many (clients|connections)|connection slots", "close other programs that use the server, or raise its max_connections"),
    ("starting up|shutting down|terminating connection|server closed the connection", "try again in a moment"),
    ("is locked|lock timeout|could not be acquired", "another program holds it; end that program, or try again in a moment"),
    ("disk is full|No space left", "free space on the disk of the database"),
    ("not a database", "the file is not a SQLite database; name another with --storage"),
    ("readonly|unable to open|Permission denied|Read-only", "the file cannot be written; name another with --storage"),
)
"""Regular expression for a database's error message → what the user can do about it."""


def normalize_url(text: str) -> URL:
    """Return a storage URL with its driver named and a SQLite path made absolute. Raises ``StorageError`` if it is not a storage URL."""
    try:
        url = make_url(text)
    except (sqlalchemy.exc.ArgumentError, ValueError):
        without_secret = re.sub(":.*@", ":***@", text)
        raise StorageError(f"{without_secret!r} is not a storage URL; write sqlite:///studies.db or postgresql://user@host/name") from None
    if url.get_backend_name() == "sqlite":
        if url.database in (None, "", ":memory:"):
            raise StorageError(f"{text!r} would be lost when the process ends; name a file: sqlite:///studies.db")
        return URL.create("sqlite", database=str(Path(str(url.database)).expanduser().resolve()))
    if "@" in (url.host or ""):
        raise StorageError(
            "in the password of a storage URL write @, : and / as %40, %3A and %2F; better leave the password out and set PGPASSWORD"
        )
    return url.set(drivername=POSTGRESQL_DRIVER) if url.drivername in POSTGRESQL_SCHEMES else url


def engine_settings(url: URL) -> dict[str, Any]:
    """Return keyword arguments of SQLAlchemy's ``create_engine`` for a database: timeouts, and the detection of lost connections."""
    if url.get_backend_name() == "sqlite":
        return {"connect_args": {"timeout": TIMEOUT_SECONDS}}
    settings = LIBPQ_SETTINGS if url.get_driver_name() in LIBPQ_DRIVERS else {}
    return {"pool_pre_ping": True, "connect_args": {name: value for name, value in settings.items() if name not in url.query}}


def prepare_database(url: URL, create: bool) -> AbstractContextManager[None]:
    """Return a context in which Optuna may open the storage: a lock keeps two processes from creating the tables at the same time.

    Entering it raises ``StorageError`` if the storage has no tables yet and `create` is False. Other errors of the database pass through.
    """
    return PREPARATIONS.get(url.get_backend_name(), _prepare_other)(url, create)


@contextmanager
def _prepare_sqlite(url: URL, create: bool) -> Iterator[None]:
    """Turn on write-ahead mode, and hold a lock file during the block if tables are missing: readers wait only for their creation.

    Creates the folder of the file, and the file.
    """
    path = Path(str(url.database))
    if not path.exists() and not create:
        raise StorageError(f"no studies at {path}; start one with: injerto search")
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, timeout=TIMEOUT_SECONDS)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        complete = _has_all_tables(connection)
        with nullcontext() if complete else FileLock(f"{path}.lock", timeout=TIMEOUT_SECONDS):
            if not create and not complete and not _has_all_tables(connection):
                raise StorageError(f"no studies at {path}; start one with: injerto search")
            yield
    finally:
        connection.close()


def _has_all_tables(connection: sqlite3.Connection) -> bool:
    """Return whether Optuna has created all its tables: it writes the version last."""
    with suppress(sqlite3.OperationalError):
        return connection.execute("SELECT 1 FROM alembic_version").fetchone() is not None
    return False


@contextmanager
def _prepare_postgresql(url: URL, create: bool) -> Iterator[None]:
    engine = sqlalchemy.create_engine(url, poolclass=NullPool, **engine_settings(url))
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text(f"SET LOCAL lock_timeout = '{TIMEOUT_SECONDS}s'"))
        connection.execute(sqlalchemy.select(sqlalchemy.func.pg_advisory_xact_lock(TABLES_LOCK)))
        if not create and not sqlalchemy.inspect(connection).has_table("studies"):
            raise StorageError(f"no studies at {url.set(query={}).render_as_string()}; start one with: injerto search --storage URL")
        yield


def _prepare_other(url: URL, create: bool) -> AbstractContextManager[None]:
    return nullcontext()


PREPARATIONS: dict[str, Callable[[URL, bool], AbstractContextManager[None]]] = {
    "sqlite": _prepare_sqlite,
    "postgresql": _prepare_postgresql,
}


def explain_database_error(error: BaseException) -> str:
    """Return one line: the message of the database at the root of an error and, where known, what the user can do about it."""
    message = _root_message(error)
    advice = next((advice for pattern, advice in ADVICE if re.search(pattern, message, re.IGNORECASE)), None)
    return f"{message}; {advice}" if advice else message


def _root_message(error: BaseException) -> str:
    """Return the first line of the error's root cause; where several hosts failed, the line of the last one."""
    while inner := getattr(error, "orig", None) or error.__cause__:
        error = inner
    lines = [line.strip(" -") for line in str(error).splitlines() if line.strip() and not line.startswith("\t")]
    return lines[0] if len(lines) < 2 or "Multiple connection attempts" not in lines[0] else lines[-1]
