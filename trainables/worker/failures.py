"""Which errors end a trial for good, and what kind of failure each of them is. Light to import."""

from trainables.errors import DataError, InjertoError, NonFiniteError, ResourceError, StorageError

PERMANENT_FAILURES: tuple[tuple[type[BaseException], str], ...] = (
    (NonFiniteError, "non-finite"),
    (DataError, "data"),
    (ResourceError, "no space"),
    (StorageError, "no storage"),
    (InjertoError, "configuration"),
    (MemoryError, "out of memory"),
)
"""Error class → kind of failure, for errors that another attempt would meet again. The first class that fits counts."""


def failure_kind(error: BaseException) -> str | None:
    """Return the kind of a failure that ends a trial for good, such as ``data``, or None for an error that another attempt may avoid."""
    if type(error).__name__ == "OutOfMemoryError":  # torch's; by name, so that torch need not be imported
        return "out of memory"
    return next((kind for error_class, kind in PERMANENT_FAILURES if isinstance(error, error_class)), None)
