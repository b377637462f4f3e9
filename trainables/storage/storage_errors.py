"""Translation of errors of disks and bucket servers into ``StorageError`` and ``ResourceError``, with what failed, why and what to do."""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from trainables.errors import InjertoError, ResourceError, StorageError
from trainables.storage.atomic_write import NO_SPACE
from trainables.storage.locations import is_url
from trainables.storage.secrets import redact

TRANSIENT = re.compile("NETWORK_CONNECTION|INTERNAL_FAILURE|SERVICE_UNAVAILABLE|SLOW_DOWN|THROTTLING|REQUEST_TIMEOUT")
"""Matches the text of a bucket server's transient errors, which a retry may not meet again."""
_FULL_BUCKET = re.compile("StorageFull|QuotaExceeded|InsufficientStorage|HTTP status 507")
_BUCKET_ERRORS = {
    "NO_SUCH_BUCKET": ("there is no such bucket", "make it first, or name another"),
    "ACCESS_DENIED|INVALID_ACCESS_KEY|INVALID_CLIENT_TOKEN|SIGNATURE|AUTHENTICATION|EXPIRED": (
        "the credentials are refused",
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, to ones that may list, read and write there",
    ),
    TRANSIENT.pattern: ("the server does not answer as it should", "check that it runs, and check endpoint_override and region"),
}
"""Pattern in the text of a bucket server's error → what it means, and what the user can do."""


def storage_error(error: OSError, action: str, location: str) -> InjertoError:
    """Return the error to raise for an ``OSError``: ``ResourceError`` if no space is left, else ``StorageError``.

    `action` is the verb of the message ("write", "read"), `location` its object; secrets in it are hidden.
    """
    text, failed = str(error), f"cannot {action} {redact(location)}"
    if error.errno in NO_SPACE or _FULL_BUCKET.search(text):
        return ResourceError(f"{failed}: {error.strerror or 'no room in the bucket'}; is the disk full?")
    for pattern, (why, what_to_do) in _BUCKET_ERRORS.items():
        if re.search(pattern, text):
            return StorageError(f"{failed}: {why}; {what_to_do}")
    why = error.strerror if not is_url(location) and error.strerror else redact(text.partition(" (Request ID")[0][:300])
    return StorageError(f"{failed}: {why}; check that it may be read and written, or name another root or output")


@contextmanager
def translated_errors(action: str, location: str) -> Iterator[None]:
    """Raise `storage_error` for an ``OSError`` of the block, also for a ``RuntimeError`` that a library raised while it handled one."""
    try:
        yield
    except InjertoError:
        raise
    except (OSError, RuntimeError) as error:
        cause = error if isinstance(error, OSError) else error.__context__
        if not isinstance(cause, OSError):
            raise
        raise storage_error(cause, action, location) from error


def absent_is_none() -> suppress:
    """Return a context manager that ends its block without an error if a path names no file; the line after it returns "nothing"."""
    return suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError)
