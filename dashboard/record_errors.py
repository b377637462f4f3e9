"""Context managers that turn errors of the storage and of malformed records into warnings for the viewer instead of tracebacks."""

from collections.abc import Iterator
from contextlib import contextmanager

import optuna
import sqlalchemy
import streamlit as st
from streamlit.errors import StreamlitAPIException

from dashboard.markdown_text import escape
from trainables.errors import InjertoError, StorageError

RECORD_ERRORS = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, OSError, StopIteration, StreamlitAPIException)
"""Exceptions that a malformed or foreign record can raise."""
UNREADABLE_PART = "a part of the record cannot be shown, as it is broken or of another version of injerto"
LONGEST_MESSAGE = 400


@contextmanager
def translate_storage_errors() -> Iterator[None]:
    """Turn an error of the database in the block into a ``StorageError``; also a ``KeyError``, which Optuna raises for a deleted study."""
    try:
        yield
    except KeyError as error:
        raise StorageError(f"this study is gone or was written by another version of injerto: {error} is missing") from None
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        raise StorageError(f"the storage does not answer: {reason}; check that the database exists and is not locked") from None


@contextmanager
def show_errors() -> Iterator[None]:
    """If the block raises an ``InjertoError`` or one of `RECORD_ERRORS`, show a warning instead; the code after the block goes on.

    The warning is the message of the ``InjertoError``. For another error it says that a part of the record cannot be shown.
    """
    try:
        yield
    except InjertoError as error:
        st.warning(escape(str(error)))
    except RECORD_ERRORS as error:
        st.warning(escape(f"{UNREADABLE_PART}: {error!r}"[:LONGEST_MESSAGE]))
