import pytest

from search.config import SearchConfig, find_setting, parse_size
from search.config_reader import read_config
from trainables.errors import ConfigError


@pytest.mark.parametrize("name", ["a", "calm-fig", "A.b_c-9", "x" * 64])
def test_safe_names_are_accepted(name):
    assert read_config(None, {"name": name}).name == name


@pytest.mark.parametrize("name", ["", " ", "a/b", "..", "a b", "x" * 65, "é", "a\n", "-x", "--help"])
def test_unsafe_names_are_refused(name):
    with pytest.raises(ConfigError, match="name: must be 1 to 64 letters"):
        read_config(None, {"name": name})


@pytest.mark.parametrize(("text", "value"), [("500MB", 5e8), ("20 GB", 2e10), ("7", 7), (7, 7)])
def test_bytes_of_a_size(text, value):
    assert parse_size(text) == value
    assert SearchConfig(keep={"disk": text}).keep.disk == value


def test_a_setting_is_found_by_its_key():
    assert find_setting(SearchConfig, "budget.trials").default == 12
    assert find_setting(SearchConfig, "seed").default == 0
