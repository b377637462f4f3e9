import optuna
import pytest
import sqlalchemy
from streamlit.testing.v1 import AppTest

from dashboard.record_errors import LONGEST_MESSAGE, UNREADABLE_PART, translate_storage_errors
from trainables.errors import StorageError


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (KeyError("metric"), "'metric' is missing"),
        (sqlalchemy.exc.OperationalError("select 1", {}, Exception("database is locked")), "database is locked"),
        (optuna.exceptions.StorageInternalError("no connection"), "the storage does not answer: no connection"),
    ],
)
def test_an_error_of_the_database_becomes_a_storage_error(error, message):
    with pytest.raises(StorageError, match=message), translate_storage_errors():
        raise error


def show(message, length):
    import streamlit as st

    from dashboard.record_errors import show_errors
    from trainables.errors import StorageError

    with show_errors():
        raise StorageError(message) if message else ValueError("x" * length)
    st.write("the rest")


def test_an_error_for_the_user_is_a_warning_and_the_rest_is_shown():
    app = AppTest.from_function(show, args=("no *study*", 0)).run()
    assert [warning.value for warning in app.warning] == [r"no \*study\*"]
    assert app.markdown[0].value == "the rest"


def test_an_error_of_a_malformed_record_is_a_short_warning():
    app = AppTest.from_function(show, args=("", 5000)).run()
    text = app.warning[0].value.replace("\\", "")
    assert text.startswith(UNREADABLE_PART)
    assert len(text) == LONGEST_MESSAGE
