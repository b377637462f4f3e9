"""Previews of the augmentation are optional."""

from search.config_reader import read_config
from search.driver.launch import launch
from tests.search.watchers import ActOnce
from trainables.worker.simulated_trial import SimulatedTrial


def fail_previews(assignment):
    raise RuntimeError("these images cannot be shown")


def test_a_search_finishes_without_previews_if_they_cannot_be_made(ray_session, tmp_path):
    broken = type("SimulatedTrial", (SimulatedTrial,), {"previews": staticmethod(fail_previews), "__module__": SimulatedTrial.__module__})
    options = {"storage": f"sqlite:///{tmp_path}/studies.db", "output": str(tmp_path / "out"), "weights": "none", "trials": 2}
    watcher = ActOnce("epoch", None)
    record = launch(read_config("builtin:digits", options, ("space.epochs=2",)), watcher, trainable=broken)
    assert record.counts["finished"] == 2
    assert record.augmentation == {}
    assert "there are no previews of the augmentation: RuntimeError: these images cannot be shown" in watcher.said
