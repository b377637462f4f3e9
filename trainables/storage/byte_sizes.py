"""Conversion between numbers of bytes and text: '20GB' to 20_000_000_000, and back."""

import re

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_SIZE = re.compile(r"\s*([0-9.]+(?:e[0-9]+)?)\s*([KMGT]?)I?B?\s*", re.IGNORECASE)


def parse_bytes(text: str) -> int:
    """Return the number of bytes in a text such as ``'20GB'``, ``'500 MB'`` or ``'1e9'``; units are powers of 1000, even GiB.

    Raises ``ValueError`` for any other text; its message begins with "must be".
    """
    match = _SIZE.fullmatch(text)
    try:
        if match:
            return round(float(match[1]) * _UNITS[match[2].upper()])
    except (ValueError, OverflowError):
        pass
    raise ValueError("must be a number of bytes, or a number and kB, MB, GB or TB such as 20GB")


def show_bytes(count: int) -> str:
    """Return a number of bytes with three significant digits and a unit, such as ``1.5 GB``."""
    size, unit = float(count), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:.3g} {unit}" if size < 1000 else f"{size:.0f} {unit}"
