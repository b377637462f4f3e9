import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.recipe import (
    BATCH_SIZE,
    DEPTH,
    EPOCHS,
    HEAD_EPOCHS,
    LEARNING_RATE,
    STAGE_LR_DECAY,
    STEPS,
    STEPS_PER_EPOCH,
    default_recipe,
    largest_batch,
    passes_per_epoch,
    rule_epochs,
)


def recipe(images, **changes):
    options = {"task": "multiclass", "backbone": "mobilenet_v3_small", "stages": 5, "weights": "imagenet", "image_size": 64}
    return default_recipe(images, **{**options, **changes})


@given(st.integers(8, 200_000))
def test_batch_passes_and_epochs_are_within_their_bounds_for_any_number_of_images(images):
    trial, (fewest, most) = recipe(images), EPOCHS
    assert trial.batch_size <= images / 4
    passes = passes_per_epoch(images, trial.batch_size)
    steps = passes * (images // trial.batch_size)
    assert steps >= STEPS_PER_EPOCH
    assert passes == 1 or (passes - 1) * (images // trial.batch_size) < STEPS_PER_EPOCH, "no more passes than necessary"
    assert fewest <= trial.epochs <= most
    within = fewest < trial.epochs < most
    assert abs(trial.epochs * steps - STEPS) <= steps / 2 or not within


@given(st.integers(8, 5000), st.integers(2, 64))
def test_epochs_make_about_as_many_steps_at_any_batch(images, batch_size):
    batch_size = min(batch_size, largest_batch(images))
    steps = passes_per_epoch(images, batch_size) * (images // batch_size)
    epochs = rule_epochs(images, batch_size)
    assert steps >= STEPS_PER_EPOCH
    assert epochs == EPOCHS[0] if steps > STEPS / EPOCHS[0] else abs(epochs * steps - STEPS) <= steps / 2


@pytest.mark.parametrize(("images", "batch_size"), [(8, 2), (40, 10), (64, 16), (499, 16), (500, 32), (100_000, 32)])
def test_the_batch_size_depends_on_the_number_of_images(images, batch_size):
    assert recipe(images).batch_size == batch_size


def test_the_default_recipe_has_the_documented_values():
    trial = recipe(1257, ops=("crop",), seed=7)
    assert (trial.optimizer, trial.learning_rate, trial.weight_decay, trial.stage_lr_decay) == (
        "adamw",
        LEARNING_RATE,
        1e-2,
        STAGE_LR_DECAY,
    )
    assert (trial.unfrozen_stages, trial.head_epochs, trial.freeze_steps) == (DEPTH, HEAD_EPOCHS, 0)
    assert (trial.warmup, trial.schedule, trial.clip_norm) == (0.1, "cosine", 1.0)
    assert (trial.head_layers, trial.initializer, trial.dropout, trial.augmentation_strength) == (0, "trunc_normal", 0.2, 0.25)
    assert (trial.batch_size, trial.epochs, trial.augmentation_ops, trial.seed) == (32, round(STEPS / 39), ("crop",), 7)
    assert (trial.backbone, trial.weights, trial.image_size) == ("mobilenet_v3_small", "imagenet", 64)


@pytest.mark.parametrize(
    ("weights", "ops", "averages"),
    [("imagenet", ("crop", "flip"), True), ("imagenet", ("crop",), False), ("none", ("crop", "flip"), False)],
)
def test_evaluation_averages_mirror_images_where_they_keep_their_labels(weights, ops, averages):
    assert recipe(1000, weights=weights, ops=ops).flip_average is averages


@pytest.mark.parametrize("images", [8, 40, 499, 500, 100_000])
def test_the_learning_rate_is_proportional_to_the_batch_size(images):
    trial = recipe(images)
    assert trial.learning_rate == pytest.approx(LEARNING_RATE * trial.batch_size / BATCH_SIZE)


@pytest.mark.parametrize(
    ("weights", "stages", "depth", "head_epochs"),
    [("imagenet", 5, min(5, DEPTH), HEAD_EPOCHS), ("mine.pth", 2, min(2, DEPTH), HEAD_EPOCHS), ("none", 5, 5, 0), ("none", 4, 4, 0)],
)
def test_a_body_without_pretrained_weights_trains_whole_and_from_the_first_step(weights, stages, depth, head_epochs):
    trial = recipe(1000, weights=weights, stages=stages)
    assert (trial.unfrozen_stages, trial.head_epochs) == (depth, head_epochs)


@pytest.mark.parametrize(("task", "smoothing"), [("multiclass", 0.1), ("binary", 0), ("multilabel", 0), ("regression", 0)])
def test_label_smoothing_is_for_multiclass_only(task, smoothing):
    assert recipe(1000, task=task).label_smoothing == smoothing
