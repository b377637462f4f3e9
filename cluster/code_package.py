"""The project's own code, to travel with a search: a megabyte or two, never the data and never an environment."""

import shutil
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

PACKAGES = ("search", "trainables", "dashboard", "cluster")
LEFT_BEHIND = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")


def copy_code(folder: Path) -> list[str]:
    """Copy the packages, and what says their version, into a folder; return the copies, each a module of Ray's ``py_modules``.

    Ray names what it uploads by content, so that the same code goes to a cluster once.
    """
    here = Path(__file__).resolve().parents[1]
    copies = [shutil.copytree(here / name, folder / name, ignore=LEFT_BEHIND) for name in PACKAGES]
    about = folder / f"injerto-{version()}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: injerto\nVersion: {version()}\n", encoding="utf-8")
    return [str(path) for path in (*copies, about)]


def version() -> str:
    """Return the version of this code; ``0`` where it was never installed."""
    try:
        return distribution("injerto").version
    except PackageNotFoundError:
        return "0"
