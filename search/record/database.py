"""What SQLite and PostgreSQL each need before Optuna opens them, and what their errors mean to a user."""

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
POSTGRESQL = ("postgresql", "postgres")
"""What a URL may begin with where it names no driver: libpq takes both."""
DRIVER = "postgresql+psycopg"
LIBPQ = ("psycopg", "psycopg2")
CONNECTION: dict[str, Any] = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 1000 * TIMEOUT_SECONDS,
    "fallback_application_name": "injerto",
}
"""libpq's settings: a server that vanishes is noticed within some 25 s; where the URL has the same setting, the URL's holds."""
TABLES_LOCK = 0x696E6A6572746F  # "injerto", the key of the advisory lock under which the tables are made

ADVICE = (
    ("Connection refused|No such file or directory", "start the server, or mend the host and port in the URL"),
    ("resolve host|Name or service not known|nodename nor servname|translate host", "there is no such host; mend it in the URL"),
    (
        "timeout expired|timed out|No route to host|unreachable",
        "the server does not answer; is it running, and does a firewall stand between?",
    ),
    (
        "no password supplied|password authentication failed",
        "give the password in PGPASSWORD, or in ~/.pgpass as host:port:database:user:password (mode 0600)",
    ),
    ("role .* does not exist", "write the user in the URL, postgresql://USER@host/name, or make it: createuser USER"),
    ("database .* does not exist", "make it: createdb NAME"),
    ("no pg_hba.conf entry", "the server lets this user in from elsewhere only; see its pg_hba.conf, or try ?sslmode=require"),
    ("does not support SSL", "leave sslmode=require out of the URL"),
    ("permission denied for schema", "its owner may allow it: GRANT CREATE ON SCHEMA public TO USER"),
    ("permission denied for (table|sequence)", "its owner may allow it: GRANT ALL ON ALL TABLES, ALL SEQUENCES IN SCHEMA public TO USER"),
    ("too many (clients|connections)|connection slots", "close other programs that use it, or raise its max_connections"),
    ("starting up|shutting down|terminating connection|server closed the connection", "try again in a moment"),
    ("is locked|lock timeout|could not be acquired", "another program holds it; end that one, or try again in a moment"),
    ("disk is full|No space left", "make room on its disk"),
    ("not a database", "the file is something else; name another with --storage"),
    ("readonly|unable to open|Permission denied|Read-only", "it cannot be written there; name another with --storage"),
)
"""What a database says (a regular expression) → what to do about it."""


def normal_url(text: str) -> URL:
    """Return a storage URL with its driver named and a SQLite path made absolute. Raises ``StorageError`` for what is not one."""
    try:
        url = make_url(text)
    except (sqlalchemy.exc.ArgumentError, ValueError):
        secretless = re.sub(":.*@", ":***@", text)
        raise StorageError(f"{secretless!r} is not a storage URL; write sqlite:///studies.db or postgresql://user@host/name") from None
    if url.get_backend_name() == "sqlite":
        if url.database in (None, "", ":memory:"):
            raise StorageError(f"{text!r} would be lost with the process; name a file: sqlite:///studies.db")
        return URL.create("sqlite", database=str(Path(str(url.database)).expanduser().resolve()))
    if "@" in (url.host or ""):
        raise StorageError(
            "a password in a storage URL has its @, : and / written as %40, %3A and %2F; better leave it out and set PGPASSWORD"
        )
    return url.set(drivername=DRIVER) if url.drivername in POSTGRESQL else url


def engine_settings(url: URL) -> dict[str, Any]:
    """Return what SQLAlchemy's ``create_engine`` is given for a database."""
    if url.get_backend_name() == "sqlite":
        return {"connect_args": {"timeout": TIMEOUT_SECONDS}}
    own = CONNECTION if url.get_driver_name() in LIBPQ else {}
    return {"pool_pre_ping": True, "connect_args": {name: value for name, value in own.items() if name not in url.query}}


def ready(url: URL, create: bool) -> AbstractContextManager[None]:
    """Bracket the opening of a storage, so that two processes do not make its tables at once.

    Raises ``StorageError`` if there is none and `create` is False.
    """
    return READY.get(url.get_backend_name(), _anything)(url, create)


@contextmanager
def _sqlite(url: URL, create: bool) -> Iterator[None]:
    """Turn write-ahead mode on, so that readers never wait for the writer, but for the moment in which it makes the tables."""
    path = Path(str(url.database))
    if not path.exists() and not create:
        raise StorageError(f"no studies at {path}; start one with: injerto search")
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, timeout=TIMEOUT_SECONDS)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        whole = _whole(connection)
        with nullcontext() if whole else FileLock(f"{path}.lock", timeout=TIMEOUT_SECONDS):
            if not create and not whole and not _whole(connection):
                raise StorageError(f"no studies at {path}; start one with: injerto search")
            yield
    finally:
        connection.close()


def _whole(connection: sqlite3.Connection) -> bool:
    """Say whether Optuna's tables are there, to the mark that it sets last."""
    with suppress(sqlite3.OperationalError):
        return connection.execute("SELECT 1 FROM alembic_version").fetchone() is not None
    return False


@contextmanager
def _postgresql(url: URL, create: bool) -> Iterator[None]:
    engine = sqlalchemy.create_engine(url, poolclass=NullPool, **engine_settings(url))
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text(f"SET LOCAL lock_timeout = '{TIMEOUT_SECONDS}s'"))
        connection.execute(sqlalchemy.select(sqlalchemy.func.pg_advisory_xact_lock(TABLES_LOCK)))
        if not create and not sqlalchemy.inspect(connection).has_table("studies"):
            raise StorageError(f"no studies at {url.set(query={}).render_as_string()}; start one with: injerto search --storage URL")
        yield


def _anything(url: URL, create: bool) -> AbstractContextManager[None]:
    return nullcontext()


READY: dict[str, Callable[[URL, bool], AbstractContextManager[None]]] = {"sqlite": _sqlite, "postgresql": _postgresql}


def explained(error: BaseException) -> str:
    """Return in a line what a database said at the bottom of an error, and what to do about it where that is known."""
    said = _said(error)
    advice = next((advice for pattern, advice in ADVICE if re.search(pattern, said, re.IGNORECASE)), None)
    return f"{said}; {advice}" if advice else said


def _said(error: BaseException) -> str:
    """Return the last line of the first paragraph of an error's root that is no hint: where several hosts failed, the last one's."""
    while inner := getattr(error, "orig", None) or error.__cause__:
        error = inner
    lines = [line.strip(" -") for line in str(error).splitlines() if line.strip() and not line.startswith("\t")]
    return lines[0] if len(lines) < 2 or "Multiple connection attempts" not in lines[0] else lines[-1]
