import pytest
from typer.testing import CliRunner

from search.cli.main import app
from search.config_reader import read_config
from search.remote import submit
from trainables.errors import ConfigError, InjertoError

CLOSED_PORT = "http://127.0.0.1:9"


@pytest.mark.parametrize("named", [True, False])
def test_a_storage_url_with_a_password_is_refused(named, monkeypatch):
    url = "postgresql://me:canary@db.internal/studies"
    monkeypatch.setenv("INJERTO_STORAGE", url)
    with pytest.raises(ConfigError, match=r"was given with a password, which Ray's job page would show; .*PGPASSFILE") as refused:
        submit(read_config(None, {"storage": url if named else None}), CLOSED_PORT)
    assert "canary" not in str(refused.value)


def test_a_relative_sqlite_file_is_refused():
    with pytest.raises(ConfigError, match="is relative to a folder of this machine; give a path that the cluster has, or a server"):
        submit(read_config(None, {"storage": "sqlite:///here.db"}), CLOSED_PORT)


def test_a_root_with_a_key_is_refused():
    with pytest.raises(InjertoError, match="holds a password or a key"):
        submit(read_config(None, {"root": "s3://me:canary@bucket/place"}), CLOSED_PORT)


@pytest.mark.parametrize("key", ["weights", "data.image_folder"])
def test_a_url_with_a_key_in_any_setting_is_refused(key):
    with pytest.raises(ConfigError, match="holds a password or a key") as refused:
        submit(read_config(None, {}, (f"{key}=s3://me:canary@bucket/place",)), CLOSED_PORT)
    assert "canary" not in str(refused.value)


def test_resume_refuses_unchangeable_settings_before_it_sends_them():
    done = CliRunner().invoke(app, ["resume", "meadow", "--address", CLOSED_PORT, "--set", "storage=postgresql://me:canary@db/studies"])
    assert "--set storage: a resumed search can change only budget, keep and resources" in str(done.exception)
    assert "canary" not in str(done.exception)
