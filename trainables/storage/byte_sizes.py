"""Conversion between numbers of bytes and text: '20GB' to 20_000_000_000, '1GiB' to 1_073_741_824, and back."""

import re

_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}
_SIZE = re.compile(r"\s*([0-9.]+(?:e[0-9]+)?)\s*(?:([KMGT])(I?))?B?\s*", re.IGNORECASE)


def parse_bytes(text: str) -> int:
    """Return the number of bytes in a text such as ``'20GB'``, ``'500 MB'``, ``'2GiB'`` or ``'1e9'``.

    kB, MB, GB and TB are powers of 1000; KiB, MiB, GiB and TiB are powers of 1024.

    Raises ``ValueError`` for any other text; its message begins with "must be".
    """
    match = _SIZE.fullmatch(text)
    try:
        if match:
            return round(float(match[1]) * float(1024 if match[3] else 1000) ** _POWERS[(match[2] or "").upper()])
    except (ValueError, OverflowError):
        pass
    raise ValueError("must be a number of bytes, or a number and kB, MB, GB or TB such as 20GB, or KiB, MiB, GiB or TiB")


def show_bytes(count: int) -> str:
    """Return a number of bytes with three significant digits and a unit, such as ``1.5 GB``."""
    size, unit = float(count), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:.3g} {unit}" if size < 1000 else f"{size:.0f} {unit}"
