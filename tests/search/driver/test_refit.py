"""A search with `refit` or folds trains its winner again on training and validation images."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from search.rerun import rerun
from trainables.config import Recipe, read_yaml, validate
from trainables.data.dataset import open_dataset, with_validation_in_training


@pytest.mark.slow
def test_a_winner_with_folds_is_trained_again_evaluated_exported_and_can_be_rerun(search, photos):
    record = search(photos, trials=1, epochs=1, settings=("space.folds=3", "space.unfrozen_stages=0"))
    pictures = record.trials[0].report["pictures"]
    assert pictures["images"] == record.dataset["images"]["train"] + record.dataset["images"]["validation"]
    scores = record.test
    assert set(scores) == {"winner", "default_recipe", "refit"}
    assert "validation" in scores["winner"]
    assert "validation" not in scores["refit"], "a refit has no image left for validation"
    assert scores["refit"]["test"] != scores["winner"]["test"]
    path = record.folder / "best.yaml"
    recipe = validate(Recipe, read_yaml(path))
    assert (recipe.refit, recipe.trial.folds) == (True, 3)
    again = record.folder / "again.safetensors"
    assert rerun(path, again) == scores["refit"]["test"]
    first, second = load_file(record.folder / "best.safetensors"), load_file(again)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_training_and_validation_images_train_together(finished):
    dataset = open_dataset(finished.dataset["fingerprint"], 32, "crop")
    together = with_validation_in_training(dataset)
    expected = np.concatenate([dataset.rows["train"], dataset.rows["validation"]])
    assert sorted(together.rows["train"]) == sorted(expected)
    assert len(set(together.rows["train"])) == len(expected)
    assert not set(together.rows["train"]) & set(dataset.rows["test"])
    assert together.fingerprint == dataset.fingerprint
