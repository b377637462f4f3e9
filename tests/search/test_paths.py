from pathlib import Path

import pytest

from search.config import SearchConfig
from search.config_reader import read_config
from search.paths import resolve_paths
from trainables.errors import ConfigError, StorageError


def test_paths_are_resolved_and_names_are_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = resolve_paths(read_config("photos", {"output": "out", "weights": "mine.pth"}, ("data.image_folder=images",)))
    assert config.data.source == str(tmp_path / "photos")
    assert config.data.image_folder == str(tmp_path / "images")
    assert config.weights == str(tmp_path / "mine.pth")
    assert config.output == tmp_path / "out"
    plain = resolve_paths(SearchConfig())
    assert (plain.data.source, plain.weights, plain.data.image_folder) == ("builtin:digits", "imagenet", None)
    assert resolve_paths(read_config("~/photos", {})).data.source == str(Path.home() / "photos")


def test_the_url_of_a_bucket_is_kept():
    url = "s3://bucket/photos?endpoint_override=http://127.0.0.1:9000&region=us-east-1"
    config = resolve_paths(read_config(url, {}, ("data.image_folder=images",)))
    assert (config.data.source, config.data.image_folder) == (url, "images")
    with pytest.raises(StorageError, match="'http://host/photos' cannot be a data source; name a folder, or a bucket"):
        resolve_paths(read_config("http://host/photos", {}))
    with pytest.raises(StorageError, match=r"the data source s3://.* holds a password or a key"):
        resolve_paths(read_config("s3://user:password@bucket/photos", {}))


def test_a_path_that_cannot_be_resolved_is_named():
    with pytest.raises(ConfigError, match="~nobody-of-that-name/x"):
        resolve_paths(SearchConfig(data={"source": "~nobody-of-that-name/x"}))
