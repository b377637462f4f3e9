"""Copies the project's own code for upload to a cluster: one or two megabytes, without data and without a Python environment."""

import shutil
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

PACKAGES = ("search", "trainables", "dashboard", "cluster")
NOT_COPIED = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")


def copy_code(folder: Path) -> list[str]:
    """Copy the packages and their version metadata into an existing folder; return the paths of the copies, for Ray's ``py_modules``.

    The folder must not hold such copies yet. Ray names an upload by its content, so it uploads the same code to a cluster only once.
    """
    here = Path(__file__).resolve().parents[1]
    copies = [shutil.copytree(here / name, folder / name, ignore=NOT_COPIED) for name in PACKAGES]
    metadata = folder / f"injerto-{version()}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: injerto\nVersion: {version()}\n", encoding="utf-8")
    return [str(path) for path in (*copies, metadata)]


def version() -> str:
    """Return the version of the installed ``injerto`` package, such as ``0.1.0``; ``0`` if it is not installed."""
    try:
        return distribution("injerto").version
    except PackageNotFoundError:
        return "0"
