"""A PostgreSQL server for tests: a database cluster in a temporary folder, on a free port of the loopback address."""

import contextlib
import itertools
import os
import random
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import psutil
import psycopg

USER = "injerto"
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": 40,
    "shared_buffers": "16MB",
    "fsync": "off",
    "full_page_writes": "off",
}
GUARDED = "host all guarded 127.0.0.1/32 scram-sha-256\n"  # this user alone needs a password


def binaries() -> Path | None:
    """Return the folder of `initdb` and `pg_ctl`, None if PostgreSQL is not installed."""
    found = shutil.which("initdb")
    if found:
        return Path(found).parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return versions[-1].parent if versions else None


def missing() -> str | None:
    """Return why no server can run on this machine, None if one can."""
    if binaries() is None:
        return "no PostgreSQL server on this machine: apt-get install postgresql"
    if os.geteuid() == 0 and not _known("postgres"):
        return "PostgreSQL does not run as root, and there is no user postgres"
    return None


class Server:
    """An empty database cluster; `close` deletes it."""

    def __init__(self, network: str | None = None, address: str = "127.0.0.1") -> None:
        """Listen on loopback, and at `address`, where clients from `network` need a password."""
        self._folder = Path(tempfile.mkdtemp(prefix="injerto-postgres-"))
        self._as_user = {}
        if os.geteuid() == 0:
            self._as_user = {"user": "postgres", "group": "postgres", "extra_groups": []}
            shutil.chown(self._folder, "postgres", "postgres")
        self._data = self._folder / "data"
        self.port = free_port()
        self._numbers = itertools.count()
        self._run("initdb", "-D", self._data, "-U", USER, "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync")
        listens = {"listen_addresses": ", ".join(dict.fromkeys((SETTINGS["listen_addresses"], address)))}
        settings = SETTINGS | listens | {"port": self.port, "unix_socket_directories": self._folder}
        with (self._data / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())
        rules = self._data / "pg_hba.conf"
        strangers = "" if network is None else f"host all all {network} scram-sha-256\n"
        rules.write_text(GUARDED + strangers + rules.read_text())

    def database(self, owner: str = USER) -> str:
        """Create an empty database and return its URL."""
        name = f"studies{next(self._numbers)}"
        self.do(f"CREATE DATABASE {name} OWNER {owner}")
        return self.url(name)

    def url(self, name: str) -> str:
        """Return the URL of a database."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{name}"

    def do(self, statement: str, database: str = "postgres") -> list[tuple]:
        """Execute a statement as the server's owner and return its rows."""
        with psycopg.connect(host="127.0.0.1", port=self.port, user=USER, dbname=database, autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def answers(self) -> bool:
        """Return whether the server accepts connections."""
        with contextlib.suppress(psycopg.OperationalError):
            return bool(self.do("SELECT 1"))
        return False

    def start(self) -> None:
        """Start the server and wait until it accepts connections."""
        self._run("pg_ctl", "-D", self._data, "-l", self._folder / "log", "-w", "-t", "60", "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop the server: `fast` closes connections, `immediate` acts as a power failure does."""
        self._run("pg_ctl", "-D", self._data, "-m", mode, "-w", "-t", "60", "stop")

    def kill(self) -> None:
        """Kill the server's main process, and wait until its children have ended."""
        file = self._data / "postmaster.pid"
        first = psutil.Process(int(file.read_text().split()[0]))
        others = first.children()
        first.kill()
        psutil.wait_procs(others, timeout=30)
        file.unlink()

    def close(self) -> None:
        """Stop the server and delete its folder."""
        with contextlib.suppress(subprocess.CalledProcessError):
            self.stop("immediate")
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, program: str, *arguments: object) -> None:
        command = [str(binaries() / program), *map(str, arguments)]
        subprocess.run(
            command,
            cwd=self._folder,
            check=True,
            timeout=90,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **self._as_user,
        )


def free_port() -> int:
    """Return a free port below the range of outgoing connections, so that it stays free between a stop and a start."""
    for port in random.SystemRandom().sample(range(20_000, 32_000), 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no free port")


def _known(user: str) -> bool:
    import pwd

    return any(entry.pw_name == user for entry in pwd.getpwall())
