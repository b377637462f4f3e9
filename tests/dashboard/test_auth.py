import os

import pytest

from dashboard import auth, serve
from trainables.errors import ConfigError

FULL = (
    '[auth]\nredirect_uri = "https://here/callback"\ncookie_secret = "c"\nclient_id = "i"\nclient_secret = "s"\nserver_metadata_url = "u"\n'
)


@pytest.fixture
def secrets(tmp_path, monkeypatch):
    """Files of secrets in a home and in a project; none is there yet."""
    home, project = tmp_path / "home.toml", tmp_path / "project.toml"
    monkeypatch.setattr(auth, "SECRETS_FILES", (home, project))
    return home, project


@pytest.fixture
def authlib(monkeypatch):
    """The package that logs people in is installed."""
    monkeypatch.setattr(auth, "find_spec", lambda name: name)


def allowed():
    return os.environ[auth.ACTIONS_VARIABLE], os.environ[auth.LOGIN_VARIABLE]


@pytest.mark.parametrize("address", ["127.0.0.1", "localhost", "::1"])
@pytest.mark.parametrize("actions", [False, True])
def test_loopback_needs_no_login(address, actions, secrets):
    auth.set_permissions(address, insecure=False, allow_actions=actions)
    assert allowed() == (str(int(actions)), "0")
    assert auth.may_act() == actions


def test_another_address_needs_a_provider(secrets):
    with pytest.raises(ConfigError, match=r"other people can open the page.*redirect_uri, cookie_secret.*--insecure"):
        auth.set_permissions("0.0.0.0", insecure=False, allow_actions=False)
    assert allowed() == ("0", "0")


@pytest.mark.parametrize("address", ["0.0.0.0", "192.168.1.5", "::", "127.0.0.1.example.org"])
def test_another_address_with_a_provider_needs_a_login(address, secrets, authlib):
    secrets[0].write_text(FULL)
    auth.set_permissions(address, insecure=False, allow_actions=True)
    assert allowed() == ("1", "1")


def test_insecure_needs_no_login(secrets):
    auth.set_permissions("0.0.0.0", insecure=True, allow_actions=False)
    assert allowed() == ("0", "0")


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_insecure_and_actions_are_rejected_together(address, secrets):
    with pytest.raises(ConfigError, match="cannot be combined"):
        auth.set_permissions(address, insecure=True, allow_actions=True)
    assert not auth.may_act()


@pytest.mark.parametrize("missing", auth.REQUIRED_SECRETS)
def test_each_missing_secret_is_listed_in_the_error(missing, secrets, authlib):
    lines = [line for line in FULL.splitlines() if not line.startswith(missing)]
    secrets[0].write_text("\n".join(lines))
    with pytest.raises(ConfigError, match=f"lacks {missing};"):
        auth.require_provider("0.0.0.0")


def test_the_projects_secrets_can_name_the_provider(secrets, authlib):
    secrets[1].write_text(FULL)
    auth.set_permissions("0.0.0.0", insecure=False, allow_actions=False)
    assert allowed() == ("0", "1")


def test_other_secrets_of_the_user_do_not_hide_the_projects_auth(secrets, authlib):
    secrets[0].write_text('token = "t"\n')
    secrets[1].write_text(FULL)
    auth.set_permissions("0.0.0.0", insecure=False, allow_actions=False)
    assert allowed() == ("0", "1")


def test_the_projects_secrets_override_the_users(secrets, authlib):
    secrets[0].write_text(FULL)
    secrets[1].write_text('[auth]\nclient_id = "i"\n')
    with pytest.raises(ConfigError, match="cookie_secret"):
        auth.require_provider("0.0.0.0")


@pytest.mark.parametrize("content", [b"[auth", b"\xff\xfe", b"auth = 3\n"])
def test_malformed_secrets_raise_a_config_error(content, secrets, authlib):
    secrets[0].write_bytes(content)
    with pytest.raises(ConfigError, match=r"not readable as TOML|lacks redirect_uri"):
        auth.require_provider("0.0.0.0")


def test_a_provider_needs_the_package(secrets, monkeypatch):
    secrets[0].write_text(FULL)
    monkeypatch.setattr(auth, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="Authlib"):
        auth.require_provider("0.0.0.0")


@pytest.mark.parametrize("refresh", [0.0, -1.0, 0.4, 3601.0, float("nan"), float("inf")])
def test_a_refresh_out_of_range_is_rejected(refresh, secrets):
    with pytest.raises(ConfigError, match="--refresh"):
        serve.serve("sqlite:///x.db", 1, refresh=refresh)


def test_a_server_on_another_address_does_not_start_without_a_provider(secrets):
    with pytest.raises(ConfigError, match="log in"):
        serve.serve("sqlite:///x.db", 65535, "0.0.0.0")


def test_streamlit_gets_the_address_and_sends_no_statistics():
    options = serve.streamlit_options(8501, "192.168.1.5")
    assert options["server.address"] == "192.168.1.5"
    assert options["browser.gatherUsageStats"] is False
    assert options["server.fileWatcherType"] == "none"
