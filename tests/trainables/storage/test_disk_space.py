import pytest

from trainables.errors import ConfigError, ResourceError
from trainables.storage.disk_space import require_space


def test_require_space_counts_what_the_folder_holds(tmp_path, monkeypatch):
    monkeypatch.delenv("INJERTO_CACHE_BUDGET", raising=False)
    (tmp_path / "old").write_bytes(bytes(600))
    require_space(400, tmp_path, 1000, "images")
    with pytest.raises(ResourceError, match=r"images need 401 bytes but the budget of 1 kB .* leaves 400 bytes in .*, or buy a disk"):
        require_space(401, tmp_path, 1000, "images", "buy a disk")


def test_require_space_takes_its_budget_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("INJERTO_CACHE_BUDGET", "1 kB")
    require_space(1000, tmp_path, None, "images")
    with pytest.raises(ResourceError, match="the budget of 1 kB"):
        require_space(1001, tmp_path, None, "images")
    monkeypatch.setenv("INJERTO_CACHE_BUDGET", "plenty")
    with pytest.raises(ConfigError, match=r"INJERTO_CACHE_BUDGET must be a number of bytes.* but got 'plenty'"):
        require_space(1, tmp_path, None, "images")


def test_require_space_without_a_budget_counts_the_free_disk(tmp_path, monkeypatch):
    monkeypatch.delenv("INJERTO_CACHE_BUDGET", raising=False)
    with pytest.raises(ResourceError, match="the free disk leaves"):
        require_space(10**18, tmp_path, None, "images")
