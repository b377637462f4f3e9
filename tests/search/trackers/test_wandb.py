import pytest

from search.trackers.tracker import study_hash
from tests.search.trackers.tracked_search import SEARCH, track


def test_wandb_writes_a_run_for_each_trial_without_a_network(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="Weights & Biases is not installed: pip install wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    (tmp_path / "calm-fig").mkdir()
    assert not any("failed" in line for line in track("wandb", tmp_path, SEARCH))
    key = study_hash(tmp_path / "calm-fig")
    for number in (0, 1):
        (file,) = (tmp_path / "calm-fig" / "wandb").glob(f"offline-run-*-{key}-{number}/run-{key}-{number}.wandb")
        content = file.read_bytes()
        assert b"calm-fig" in content
        assert b"learning_rate" in content
        assert b"accuracy" in content
