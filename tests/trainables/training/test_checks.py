import pytest

from trainables.errors import ConfigError
from trainables.training.checks import check_trial
from trainables.training.trainer import Trainer

REFUSED = [
    ("regression", {"mixup": 0.2}, "mixup 0.2 would mix the targets of two images, but half of an image"),
    ("regression", {"mixup": 0.2, "cutmix": 1}, "mixup 0.2 and cutmix 1 would mix .*; set mixup and cutmix to 0 for regression"),
    ("regression", {"class_balance": "loss"}, "class_balance: loss weighs classes, which regression does not have"),
    ("multiclass", {"l2_sp": 0.1}, "l2_sp 0.1 decays towards pretrained weights, but weights: none has none; set l2_sp to 0"),
    ("multiclass", {"reinit_stages": 1}, "reinit_stages 1 replaces pretrained stages, but with weights: none all are new"),
    (
        "multiclass",
        {"reinit_stages": 2, "unfrozen_stages": 1, "weights": "imagenet"},
        r"reinit_stages must be at most unfrozen_stages \(1\), .* would never learn, but got 2",
    ),
    (
        "multiclass",
        {"evaluation_size": 38},
        "evaluation_size must be at most 37, the side of the squares that are stored for image_size 32, but got 38",
    ),
    (
        "multiclass",
        {"evaluation_size": 36, "backbone": "timm:vit_tiny_patch16_224.augreg_in21k_ft_in1k"},
        "is built for images of one size, 32 pixels, so evaluation_size cannot be 36; leave evaluation_size out",
    ),
    ("binary", {"label_smoothing": 0.1}, "label_smoothing 0.1 spreads a part of the target over several classes, which a binary task"),
    ("regression", {"label_smoothing": 0.1}, "which a regression task does not have; set label_smoothing to 0"),
    ("multiclass", {"freeze_steps": 1, "unfrozen_stages": 1}, "freeze_steps 1 keeps the body frozen to the end, so its new stages"),
    ("multiclass", {"batch_size": 2, "accumulation": 2}, r"batch_size 2 in 2 parts .* one image in each.* batch_size of at least 4"),
    ("multilabel", {"class_balance": "sampling"}, "not possible where an image has several labels; set class_balance: loss"),
]
ALLOWED = [
    ("regression", {"folds": 5}),
    ("multiclass", {"mixup": 0.2, "cutmix": 1, "class_balance": "sampling"}),
    ("binary", {"mixup": 0.2, "class_balance": "sampling"}),
    ("multiclass", {"l2_sp": 0.1, "reinit_stages": 1, "weights": "imagenet"}),
    ("multiclass", {"evaluation_size": 37}),
    ("multiclass", {"evaluation_size": 32}),
    ("binary", {"freeze_steps": 1, "weights": "imagenet"}),
    ("binary", {"batch_size": 2, "accumulation": 2, "weights": "imagenet"}),
    ("multilabel", {"cutmix": 1, "class_balance": "loss"}),
]


@pytest.mark.parametrize(("task", "changes", "message"), REFUSED)
def test_settings_that_do_not_apply_are_refused_with_the_reason(request, tiny, task, changes, message):
    with pytest.raises(ConfigError, match=message):
        check_trial(request.getfixturevalue(task), tiny(**changes))


@pytest.mark.parametrize(("task", "changes"), ALLOWED)
def test_settings_that_apply_are_accepted(request, tiny, task, changes):
    check_trial(request.getfixturevalue(task), tiny(**changes))


def test_folds_need_one_process_enough_images_and_a_batch_that_fits(multiclass, tiny):
    with pytest.raises(ConfigError, match=r"one after another, but a trial has 2 GPUs; set resources\.gpus_per_trial to at most 1"):
        check_trial(multiclass, tiny(folds=2), 2)
    with pytest.raises(ConfigError, match="at most a quarter of the 20 training images of a fold but got 8"):
        check_trial(multiclass, tiny(folds=2))


@pytest.mark.parametrize("change", [{"image_size": 48}, {"aspect": "pad"}])
def test_a_data_set_of_other_squares_is_refused(multiclass, tiny, change):
    name, wanted = next(iter(change.items()))
    with pytest.raises(ConfigError, match=f"was prepared with {name} .*, but the trial has {wanted}; prepare it with {name}={wanted!r}"):
        Trainer(multiclass, tiny(**change))


def test_a_process_with_one_image_has_nothing_to_mix(multiclass, tiny):
    check_trial(multiclass, tiny(batch_size=4, mixup=0.2), 2)
    with pytest.raises(ConfigError, match="with a batch of 4 in 4 processes each has one image; choose a batch_size of at least 8"):
        check_trial(multiclass, tiny(batch_size=4, mixup=0.2), 4)
