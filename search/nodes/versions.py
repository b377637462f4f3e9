"""The versions of the packages that a result depends on. Imports none of them, so that it works where some are missing."""

import sys
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("injerto", "ray", "optuna", "torch", "torchvision", "timm", "albumentations", "numpy", "pillow", "opencv-python-headless")
ABSENT = "not installed"


def versions() -> dict[str, str]:
    """Return the version of ``python`` and of each of `PACKAGES`, by name; ``not installed`` for a package that is missing."""
    return {"python": sys.version.split()[0], **{name: _version(name) for name in PACKAGES}}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ABSENT
