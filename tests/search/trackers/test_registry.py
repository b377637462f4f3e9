import pytest

from search.trackers.registry import TRACKERS, tracker_threads
from trainables.errors import ConfigError


@pytest.mark.parametrize("name", TRACKERS)
def test_a_package_that_is_not_installed_is_an_error_with_the_remedy(name, monkeypatch):
    monkeypatch.setattr("search.trackers.registry.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=f"--track {name} needs the package {name}; install it with: pip install {name}"):
        tracker_threads([name], print)


def test_a_folder_with_the_name_of_a_package_does_not_count_as_the_package(tmp_path, monkeypatch):
    """`wandb` writes a folder of its own name into the current directory."""
    (tmp_path / "tracker_of_tests").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(TRACKERS, "tracker_of_tests", object)
    with pytest.raises(ConfigError, match="needs the package tracker_of_tests"):
        tracker_threads(["tracker_of_tests"], print)


def test_an_unknown_name_is_an_error_with_a_suggestion():
    with pytest.raises(ConfigError, match=r"--track: unknown 'tensorbord'; did you mean 'tensorboard'\?"):
        tracker_threads(["tensorbord"], print)


def test_a_package_that_raises_is_an_error_with_the_cause(monkeypatch):
    def fail():
        raise RuntimeError("no such mode\n''")

    monkeypatch.setitem(TRACKERS, "json", fail)
    with pytest.raises(ConfigError, match=r"--track json: the package json does not work .*RuntimeError: no such mode ''"):
        tracker_threads(["json"], print)
