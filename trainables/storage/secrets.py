"""`redact`, which hides passwords and keys in URLs, and a pattern for the names of URL parameters that hold secrets."""

import re
from pathlib import Path

SECRET_NAME = re.compile("passw|secret|token|pwd", re.IGNORECASE)
"""Matches the name of a URL parameter that holds a secret; ``passfile`` only names a file that does."""
_SECRET_IN_URL = re.compile(
    r"(?:(?<=//)|(?<=%2F%2F))[^?#\s]*(?::|%3A)[^?#\s]*(?:@|%40)|(?<==)(?<=(?:key|ret|ken|ord|sig)=)[^&#\s]+", re.IGNORECASE
)


def redact(text: str | Path) -> str:
    """Return a text with ``***`` in place of each user name with a password, and of each key, in its URLs."""
    return _SECRET_IN_URL.sub("***", str(text))
