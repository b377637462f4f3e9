import os
import stat

import pytest

from cluster.token import MODE, TOKEN, TOKEN_PATH, make_token, present_token, read_token, token_file
from trainables.errors import ResourceError


@pytest.fixture
def home(tmp_path, monkeypatch):
    for name in (MODE, TOKEN, TOKEN_PATH):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_token_is_readable_by_its_owner_only(home):
    assert not present_token()
    make_token()
    assert token_file() == home / ".ray" / "auth_token"
    assert mode(token_file()) == 0o600
    assert len(read_token()) == 64
    assert present_token()
    assert os.environ[MODE] == "token"


def test_an_existing_token_stays_and_is_made_private(home):
    token_file().parent.mkdir()
    token_file().write_text("mine")
    token_file().chmod(0o644)
    make_token()
    assert read_token() == "mine"
    assert mode(token_file()) == 0o600


def test_an_empty_token_file_is_replaced(home):
    token_file().parent.mkdir()
    token_file().write_text("\n")
    assert read_token() is None
    make_token()
    assert read_token()


def test_a_mode_that_the_user_has_set_stays(home, monkeypatch):
    make_token()
    monkeypatch.setenv(MODE, "disabled")
    assert not present_token()
    assert os.environ[MODE] == "disabled"


def test_the_environment_has_priority_over_the_file(home, monkeypatch):
    make_token()
    monkeypatch.setenv(TOKEN, "theirs")
    assert read_token() == "theirs"


def test_an_unwritable_token_file_is_named(home, monkeypatch):
    (home / "file").write_text("")
    monkeypatch.setenv(TOKEN_PATH, str(home / "file" / "token"))
    with pytest.raises(ResourceError, match=r"cannot write Ray's token to .*file/token"):
        make_token()


def test_a_file_with_other_data_is_not_overwritten(home):
    token_file().parent.mkdir()
    token_file().write_bytes(b"\xff\xd8 a photograph")
    with pytest.raises(ResourceError, match="holds something other than Ray's token; name another file in RAY_AUTH_TOKEN_PATH"):
        make_token()
    assert token_file().read_bytes() == b"\xff\xd8 a photograph"
