import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.durations import parse_duration, parse_seconds
from trainables.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "value"), [("90", 90), ("90s", 90), ("30m", 1800), ("1.5h", 5400), ("2 d", 172800), ("5min", 300), (7, 7)]
)
def test_seconds_of_a_text(text, value):
    assert parse_seconds(text) == value


@given(st.text(max_size=8).filter(lambda text: not any(character.isdigit() for character in text)))
def test_a_text_without_a_number_is_refused(text):
    with pytest.raises(ValueError, match="such as 30m"):
        parse_seconds(text)


def test_an_option_that_is_not_given_is_no_time():
    assert (parse_duration("--add-time", None), parse_duration("--add-time", "1.5h")) == (0, 5400)


@pytest.mark.parametrize("text", ["0", "soon", "9" * 400])
def test_an_option_without_a_finite_positive_time_is_refused(text):
    with pytest.raises(ConfigError, match=rf"^--add-time must be .* but got '{text}'"):
        parse_duration("--add-time", text)
