import dataclasses

import pytest
import yaml

from dashboard.data import best_recipe
from tests.dashboard.records import older, study
from trainables.config import Recipe
from trainables.errors import InjertoError, StorageError


def test_the_recipe_is_a_best_yaml_of_the_best_trial(record):
    text = best_recipe.recipe_yaml(record)
    assert text.startswith("# The best configuration of calm-fig.")
    found = Recipe.model_validate(yaml.safe_load(text))
    assert (found.study, found.trial_number, found.metric, found.value) == ("calm-fig", 1, "accuracy", 0.8)
    assert found.trial.model_dump(mode="json") == record.best.config
    assert found.fingerprint == "0"


def test_the_recipe_keeps_the_cpus_per_trial(record):
    config = {**record.config, "resources": {"cpus_per_trial": 3}}
    assert yaml.safe_load(best_recipe.recipe_yaml(dataclasses.replace(record, config=config)))["threads"] == 3


@pytest.mark.parametrize("name", ["a: b", "🌱 **x**", "<script>", "'\"#"])
def test_any_study_name_gives_a_valid_recipe(record, name):
    found = yaml.safe_load(best_recipe.recipe_yaml(dataclasses.replace(record, name=name)))
    assert Recipe.model_validate(found).study == name


def test_a_study_without_a_value_has_no_recipe():
    with pytest.raises(StorageError, match="no trial of 'made-fig' has ended"):
        best_recipe.recipe_yaml(study())


def test_an_older_record_has_a_recipe(record):
    assert best_recipe.recipe_yaml(older(record)) == best_recipe.recipe_yaml(record)


def test_a_configuration_of_another_version_raises_an_injerto_error(record):
    best = dataclasses.replace(record.best, config={"backbone": "x", "wings": 2})
    with pytest.raises(InjertoError, match="wings"):
        best_recipe.recipe_yaml(dataclasses.replace(record, trials=(best,)))


def test_weights_are_a_file_only_on_this_machine(record, tmp_path):
    here = dataclasses.replace(record, folder=tmp_path)
    assert best_recipe.weights_file(here) is None
    (tmp_path / "best.safetensors").write_bytes(b"weights")
    assert best_recipe.weights_file(here).read_bytes() == b"weights"


@pytest.mark.parametrize(
    ("state", "words"),
    [("running", "when the search ends"), ("interrupted", "when the search ends"), ("finished", "on the machine that ran it")],
)
def test_the_location_of_the_weights_is_described(record, state, words):
    assert words in best_recipe.weights_location(dataclasses.replace(record, state=state))
