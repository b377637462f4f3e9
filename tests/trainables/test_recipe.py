import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.recipe import default_recipe, largest_batch, passes_per_epoch, rule_epochs


def recipe(images, **changes):
    options = {"task": "multiclass", "backbone": "mobilenet_v3_small", "stages": 5, "weights": "builtin", "image_size": 64}
    return default_recipe(images, **{**options, **changes})


@given(st.integers(8, 200_000))
def test_batch_passes_and_epochs_are_within_their_bounds_for_any_number_of_images(images):
    trial = recipe(images)
    assert trial.batch_size <= images / 4
    passes = passes_per_epoch(images, trial.batch_size)
    steps = passes * (images // trial.batch_size)
    assert steps >= 20
    assert passes == 1 or (passes - 1) * (images // trial.batch_size) < 20, "no more passes than necessary"
    assert 10 <= trial.epochs <= 40
    within = 10 < trial.epochs < 40
    assert abs(trial.epochs * steps - 500) <= steps / 2 or not within


@given(st.integers(8, 5000), st.integers(2, 64))
def test_epochs_make_about_500_steps_at_any_batch(images, batch_size):
    batch_size = min(batch_size, largest_batch(images))
    steps = passes_per_epoch(images, batch_size) * (images // batch_size)
    epochs = rule_epochs(images, batch_size)
    assert steps >= 20
    assert epochs == 10 if steps > 50 else 475 <= epochs * steps <= 525


@pytest.mark.parametrize(("images", "batch_size"), [(8, 2), (40, 10), (64, 16), (499, 16), (500, 32), (100_000, 32)])
def test_the_batch_size_depends_on_the_number_of_images(images, batch_size):
    assert recipe(images).batch_size == batch_size


def test_the_default_recipe_has_the_documented_values():
    trial = recipe(1257, ops=("crop",), seed=7)
    assert (trial.optimizer, trial.learning_rate, trial.weight_decay, trial.stage_lr_decay) == ("adamw", 1e-3, 1e-2, 0.5)
    assert (trial.unfrozen_stages, trial.freeze_steps, trial.warmup, trial.schedule, trial.clip_norm) == (5, 0.1, 0.1, "cosine", 1.0)
    assert (trial.head_layers, trial.initializer, trial.dropout, trial.augmentation_strength) == (0, "trunc_normal", 0.2, 0.25)
    assert (trial.batch_size, trial.epochs, trial.augmentation_ops, trial.seed) == (32, 13, ("crop",), 7)


@pytest.mark.parametrize(("task", "smoothing"), [("multiclass", 0.1), ("binary", 0), ("multilabel", 0), ("regression", 0)])
def test_label_smoothing_is_for_multiclass_only(task, smoothing):
    assert recipe(1000, task=task).label_smoothing == smoothing
