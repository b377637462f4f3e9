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


def test_a_token_is_made_for_its_owner_alone(home):
    assert not present_token()
    make_token()
    assert token_file() == home / ".ray" / "auth_token"
    assert mode(token_file()) == 0o600
    assert len(read_token()) == 64
    assert present_token()
    assert os.environ[MODE] == "token"


def test_one_that_is_there_stays_and_is_closed_to_others(home):
    token_file().parent.mkdir()
    token_file().write_text("mine")
    token_file().chmod(0o644)
    make_token()
    assert read_token() == "mine"
    assert mode(token_file()) == 0o600


def test_an_empty_file_is_no_token(home):
    token_file().parent.mkdir()
    token_file().write_text("\n")
    assert read_token() is None
    make_token()
    assert read_token()


def test_a_mode_that_the_user_set_stands(home, monkeypatch):
    make_token()
    monkeypatch.setenv(MODE, "disabled")
    assert not present_token()
    assert os.environ[MODE] == "disabled"


def test_the_environment_comes_first(home, monkeypatch):
    make_token()
    monkeypatch.setenv(TOKEN, "theirs")
    assert read_token() == "theirs"


def test_a_place_that_cannot_be_written_is_named(home, monkeypatch):
    (home / "file").write_text("")
    monkeypatch.setenv(TOKEN_PATH, str(home / "file" / "token"))
    with pytest.raises(ResourceError, match=r"cannot keep Ray's token in .*file/token"):
        make_token()


def test_a_file_that_is_no_token_stays(home):
    token_file().parent.mkdir()
    token_file().write_bytes(b"\xff\xd8 a photograph")
    with pytest.raises(ResourceError, match="holds something else than Ray's token; name another file in RAY_AUTH_TOKEN_PATH"):
        make_token()
    assert token_file().read_bytes() == b"\xff\xd8 a photograph"
