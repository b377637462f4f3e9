import pytest
from typer.testing import CliRunner

from search.cli.main import app
from search.config import read_config
from search.remote import submit
from trainables.errors import ConfigError, InjertoError

NOBODY = "http://127.0.0.1:9"


@pytest.mark.parametrize("named", [True, False])
def test_a_password_never_leaves_this_machine(named, monkeypatch):
    url = "postgresql://me:canary@db.internal/studies"
    monkeypatch.setenv("INJERTO_STORAGE", url)
    with pytest.raises(ConfigError, match=r"was given with a password, which Ray's job page would show; .*PGPASSFILE") as refused:
        submit(read_config(None, {"storage": url if named else None}), NOBODY)
    assert "canary" not in str(refused.value)


def test_a_file_of_this_folder_is_no_record_for_a_cluster():
    with pytest.raises(ConfigError, match="is relative to a folder of this machine; give a path that the cluster has, or a server"):
        submit(read_config(None, {"storage": "sqlite:///here.db"}), NOBODY)


def test_a_root_with_a_key_is_refused():
    with pytest.raises(InjertoError, match="holds a password or a key"):
        submit(read_config(None, {"root": "s3://me:canary@bucket/place"}), NOBODY)


@pytest.mark.parametrize("key", ["weights", "data.image_folder"])
def test_no_url_with_a_key_is_uploaded(key):
    with pytest.raises(ConfigError, match="holds a password or a key") as refused:
        submit(read_config(None, {}, (f"{key}=s3://me:canary@bucket/place",)), NOBODY)
    assert "canary" not in str(refused.value)


def test_what_a_search_cannot_change_is_not_sent_to_be_refused():
    done = CliRunner().invoke(app, ["resume", "meadow", "--address", NOBODY, "--set", "storage=postgresql://me:canary@db/studies"])
    assert "--set storage: a search that goes on can change budget, keep and resources" in str(done.exception)
    assert "canary" not in str(done.exception)
