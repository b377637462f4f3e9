import shutil

import pytest
import torch
import yaml
from safetensors.torch import load_file

from search.rerun import rerun
from tests.search.conftest import command
from trainables.errors import ConfigError, DataError


@pytest.fixture
def recipe(finished, tmp_path):
    shutil.copy(finished.folder / "best.yaml", tmp_path / "best.yaml")
    return tmp_path / "best.yaml"


def same_weights(first, second):
    one, two = load_file(first), load_file(second)
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_a_rerun_gives_the_same_weights_bit_for_bit(finished, recipe, tmp_path):
    done = command("train", recipe)
    assert done.returncode == 0, done.stderr
    assert f"the search recorded {finished.best.value:.4f}" in done.stdout
    assert f"validation loss {finished.best.value:.4f};" in done.stdout
    assert same_weights(tmp_path / "best-rerun.safetensors", finished.folder / "best.safetensors")
    test = rerun(recipe, tmp_path / "second.safetensors")
    assert same_weights(tmp_path / "second.safetensors", finished.folder / "best.safetensors")
    assert test == pytest.approx(finished.test["winner"]["test"], rel=1e-5)


def test_a_rerun_of_a_trial_that_the_search_stopped_says_what_it_compares(finished, recipe, tmp_path, capsys):
    epochs = finished.best.epochs_planned
    edit(recipe, epochs_done=1, value=0.1234)
    rerun(recipe, tmp_path / "whole.safetensors")
    text = " ".join(capsys.readouterr().out.split())
    first = finished.best.history["objective"][0]
    assert f"epoch {epochs}/{epochs}" in text
    assert f"after epoch 1, where the search stopped this trial, it was {first:.4f}, and the search recorded 0.1234" in text


def edit(path, **changes):
    values = yaml.safe_load(path.read_text())
    for key, value in changes.items():
        if value is None:
            values.pop(key)
        else:
            values[key] = value
    path.write_text(yaml.safe_dump(values))


def test_another_seed_gives_other_weights(finished, recipe, tmp_path):
    values = yaml.safe_load(recipe.read_text())
    edit(recipe, trial=values["trial"] | {"seed": 99, "epochs": 1})
    rerun(recipe, tmp_path / "other.safetensors")
    assert not same_weights(tmp_path / "other.safetensors", finished.folder / "best.safetensors")


def test_an_existing_weights_file_is_not_overwritten(recipe, tmp_path):
    (tmp_path / "mine.safetensors").write_text("precious")
    with pytest.raises(ConfigError, match="exists already; name another file with --to, or pass --force"):
        rerun(recipe, tmp_path / "mine.safetensors")
    assert (tmp_path / "mine.safetensors").read_text() == "precious"


def test_data_with_another_fingerprint_is_refused(recipe, tmp_path):
    edit(recipe, fingerprint="0" * 64)
    with pytest.raises(DataError, match=r"have changed since this recipe was found \(fingerprint 0{12} then, .*remove the line"):
        rerun(recipe, tmp_path / "new.safetensors")
    assert not (tmp_path / "new.safetensors").exists()


@pytest.mark.parametrize(
    ("changes", "fragment"),
    [
        ({"trail": {}}, "unknown key 'trail'; did you mean 'trial'"),
        ({"trial": {"learning_rate": -1}}, "trial.learning_rate: must be greater than 0 but got -1"),
        ({"threads": 0}, "threads"),
        ({"trial": {"batch_size": 4096}, "fingerprint": None}, "batch_size must be at most"),
        ({"metric": "mae"}, "is not a metric of a multiclass task"),
    ],
)
def test_a_recipe_that_does_not_fit_is_refused(changes, fragment, recipe, tmp_path):
    edit(recipe, **changes)
    with pytest.raises(ConfigError) as caught:
        rerun(recipe, tmp_path / "new.safetensors")
    assert fragment in str(caught.value)
    assert not (tmp_path / "new.safetensors").exists()
