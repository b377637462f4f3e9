"""Errors of disks and bucket servers, translated into Injerto's: what failed, why, and what the user can do."""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from trainables.errors import InjertoError, ResourceError, StorageError
from trainables.storage.atomic_write import NO_SPACE
from trainables.storage.locations import is_url
from trainables.storage.secrets import redact

TRANSIENT = re.compile("NETWORK_CONNECTION|INTERNAL_FAILURE|SERVICE_UNAVAILABLE|SLOW_DOWN|THROTTLING|REQUEST_TIMEOUT")
"""Matches a bucket server's errors that may pass after a pause."""
_FULL_BUCKET = re.compile("StorageFull|QuotaExceeded|InsufficientStorage|HTTP status 507")
_BUCKET_ERRORS = {
    "NO_SUCH_BUCKET": ("there is no such bucket", "make it first, or name another"),
    "ACCESS_DENIED|INVALID_ACCESS_KEY|INVALID_CLIENT_TOKEN|SIGNATURE|AUTHENTICATION|EXPIRED": (
        "the credentials are refused",
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, to ones that may list, read and write there",
    ),
    TRANSIENT.pattern: ("the server does not answer as it should", "check that it runs, and check endpoint_override and region"),
}
"""Pattern in a bucket server's error → its meaning, and what to do."""


def storage_error(error: OSError, action: str, location: str) -> InjertoError:
    """Return the error for the user, given what the system raised during an action (write, read, remove) at a location."""
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
    """Turn what a disk or a server raises into `storage_error`, also where a library's own error hides the ``OSError``."""
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
    """Suppress the errors of a path that names no file, so that the line after the block returns "nothing there"."""
    return suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError)
