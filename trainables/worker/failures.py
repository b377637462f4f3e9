"""Which errors end a trial for good, what kind of failure each of them is, and its message on one line. Light to import."""

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


MAX_ERROR_LENGTH = 300
"""Characters of one error that a message about several holds."""


def one_line(error: BaseException | str) -> str:
    """Return an error's message on one line, at most `MAX_ERROR_LENGTH` characters."""
    text = " ".join(str(error).split())
    return text if len(text) <= MAX_ERROR_LENGTH else text[: MAX_ERROR_LENGTH - 1] + "…"


def failure_kind(error: BaseException) -> str | None:
    """Return the kind of a failure that ends a trial for good, such as ``data``, or None for an error that another attempt may avoid."""
    if type(error).__name__ == "OutOfMemoryError":  # torch's; by name, so that torch need not be imported
        return "out of memory"
    return next((kind for error_class, kind in PERMANENT_FAILURES if isinstance(error, error_class)), None)
