"""The versions that a result depends on; light, so that a machine without half of them can still say so."""

import sys
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("injerto", "ray", "optuna", "torch", "torchvision", "albumentations", "numpy", "pillow", "opencv-python-headless")
ABSENT = "not installed"


def versions() -> dict[str, str]:
    """Return Python's version and each package's, or that it is not installed."""
    return {"python": sys.version.split()[0], **{name: _version(name) for name in PACKAGES}}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ABSENT
