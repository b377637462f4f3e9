"""The settings that are off by default: what each does to a trial, alone, with saved states and in several processes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tests.trainables.conftest import ALL_OPTIONS
from tests.trainables.replicating import CPU
from trainables.training.checkpoint import load_state, save_state
from trainables.training.trainer import Trainer

PRETRAINED = {"backbone": "efficientnet_lite0", "weights": "imagenet"}
CLOCK = {"seconds_training", "seconds_evaluation", "images_per_second"}
pytestmark = pytest.mark.usefixtures("short_epochs")


def build(dataset, trial):
    return Trainer(dataset, trial, device=CPU)


def run(trainer, epochs=None):
    for _ in range(epochs or trainer.trial.epochs - trainer.epoch):
        trainer.run_epoch()
    return trainer


def untimed(trainer):
    return {name: values for name, values in trainer.history.items() if name not in CLOCK}


def unequal(dataset):
    """Return a data set with 4 training images of its first class, and all of the others."""
    rows = dataset.rows["train"]
    first = rows[dataset.targets[rows] == 0]
    return replace(dataset, rows={**dataset.rows, "train": np.setdiff1d(rows, first[4:])})


def test_a_resumed_trial_with_all_options_equals_an_uninterrupted_one(larger, tiny, tmp_path):
    trial = tiny(epochs=3, batch_size=16, optimizer="sgd", learning_rate=0.01, **ALL_OPTIONS)
    whole = run(build(larger, trial), 2)
    save_state(tmp_path / "2.pt", whole.state())
    resumed = build(larger, trial)
    resumed.load(load_state(tmp_path / "2.pt"))
    assert resumed.evaluate("validation") == whole.evaluate("validation")
    run(whole), run(resumed)
    assert untimed(resumed) == untimed(whole)
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(resumed.network.state_dict()[name], tensor), name
    assert resumed.state()["epoch"] == 3


@pytest.mark.parametrize("task", ["multiclass", "binary", "multilabel"])
def test_mixed_batches_have_mixed_targets_with_accumulation_too(request, tiny, task):
    dataset = request.getfixturevalue(task)
    losses, settings = {}, {"dropout": 0.0, "unfrozen_stages": 0, "head_epochs": 0, **PRETRAINED}
    for accumulation in (1, 2):
        trial = tiny(mixup=1.0, accumulation=accumulation, **settings)
        losses[accumulation] = run(build(dataset, trial)).history["train_loss"]
    assert losses[1] == pytest.approx(losses[2], rel=1e-4)
    plain = run(build(dataset, tiny(**settings)))
    assert losses[1] != pytest.approx(plain.history["train_loss"], rel=1e-4)


@pytest.mark.parametrize("balance", ["loss", "sampling"])
@pytest.mark.parametrize("head_epochs", [0, 5])
def test_class_balance_makes_a_rare_class_more_probable_and_leaves_the_validation_loss_plain(multiclass, tiny, balance, head_epochs):
    dataset = unequal(multiclass)
    settings = {"unfrozen_stages": 0, "learning_rate": 0.02, "head_epochs": head_epochs, "augmentation_strength": 0.0, "batch_size": 6}
    share = {}
    for class_balance in ("none", balance):
        trainer = run(build(dataset, tiny(class_balance=class_balance, dropout=0.0, epochs=3, **settings)))
        logits, targets = trainer.predict("validation")
        share[class_balance] = logits.softmax(1)[:, 0].mean()
        assert trainer.history["loss"][-1] == pytest.approx(nn.functional.cross_entropy(logits, targets).item())
    assert share[balance] > share["none"] + 0.03


def test_sampling_draws_all_classes_as_often(multiclass, tiny):
    settings = {"unfrozen_stages": 0, "head_epochs": 0, "batch_size": 4, "epochs": 4}
    trainer, drawn = build(unequal(multiclass), tiny(class_balance="sampling", **settings)), []
    loss = trainer.settings.loss
    trainer.settings = replace(trainer.settings, loss=lambda logits, targets: (drawn.append(targets), loss(logits, targets))[1])
    run(trainer)
    drawn = torch.cat(drawn)
    shares = torch.bincount(drawn) / len(drawn)
    assert torch.allclose(shares, torch.full((3,), 1 / 3), atol=0.06)


def test_an_average_of_the_weights_is_evaluated_and_training_goes_on_without_it(larger, tiny):
    settings = {"epochs": 3, "batch_size": 16, "optimizer": "sgd", "learning_rate": 0.01}
    plain, averaged = (run(build(larger, tiny(ema=ema, **settings))) for ema in (0.0, 0.9))
    assert averaged.history["train_loss"] == plain.history["train_loss"]
    assert averaged.history["loss"] != plain.history["loss"]
    assert averaged.evaluate("validation")["loss"] == averaged.history["loss"][-1]
    weights = [trainer.network.head[1].weight for trainer in (plain, averaged)]
    assert not torch.equal(*weights)
    assert torch.equal(averaged.average.live["head.1.weight"], weights[0])


def test_statistics_are_recomputed_for_the_averaged_weights(larger, tiny):
    trainer = run(build(larger, tiny(ema=0.9, batch_size=16, learning_rate=0.01)))
    images, _ = next(trainer.batches.evaluation(larger.rows["train"], 1000))
    with torch.no_grad():
        maps = trainer.network.body.trunk.features[0][0](images)
    norm = trainer.network.body.trunk.features[0][1]
    assert torch.allclose(norm.running_mean, maps.mean((0, 2, 3)), rtol=1e-3, atol=1e-4)


def test_the_state_of_a_finished_trial_has_the_average_alone(multiclass, tiny):
    trainer = run(build(multiclass, tiny(ema=0.9, epochs=2)), 1)
    live = trainer.state()["live"]
    assert live.keys() < trainer.state()["network"].keys()
    assert not torch.equal(live["head.1.weight"], trainer.state()["network"]["head.1.weight"])
    run(trainer)
    assert trainer.state()["live"] is None


def test_with_a_constant_rate_the_average_of_the_best_epoch_is_kept(regression, tiny):
    trainer = run(build(regression, tiny(ema=0.5, epochs=3, schedule="constant", learning_rate=0.01)))
    assert trainer.evaluate("validation")["mae"] == trainer.history["objective"][-1] == min(trainer.history["mae"])


def distance_to_pretrained(dataset, trial):
    """Return how far training moves the weights of the body's last two stages, per stage."""
    trainer = build(dataset, trial)
    stages = trainer.network.body.stages[-2:]
    before = [[p.detach().clone() for block in stage for p in block.parameters() if p.ndim > 1] for stage in stages]
    run(trainer)
    after = [[p for block in stage for p in block.parameters() if p.ndim > 1] for stage in stages]
    return [sum(float((a - b).detach().square().sum()) for a, b in zip(*pair, strict=True)) for pair in zip(before, after, strict=True)]


def test_l2_sp_keeps_the_body_near_its_pretrained_weights_where_it_has_some(multiclass, tiny):
    settings = {"unfrozen_stages": 2, "optimizer": "sgd", "learning_rate": 0.02, "weight_decay": 0.0, **PRETRAINED}
    free, pulled, partly = (
        distance_to_pretrained(multiclass, tiny(**settings, **changes))
        for changes in ({}, {"l2_sp": 20}, {"l2_sp": 20, "reinit_stages": 1})
    )
    assert pulled[0] < 0.5 * free[0]
    assert pulled[1] < 0.5 * free[1]
    assert partly[1] > 2 * pulled[1]


def test_weight_decay_is_for_the_head_alone_with_l2_sp(multiclass, tiny):
    trainer = build(multiclass, tiny(l2_sp=0.1, reinit_stages=1, unfrozen_stages=3, weight_decay=0.05, **PRETRAINED))
    decays = {}
    for group in trainer.optimizer.param_groups:
        decays[group["distance"]] = max(decays.get(group["distance"], 0), group["weight_decay"])
    assert decays == {0: 0.05, 1: 0.05, 2: 0, 3: 0}, "and for new stages"


def test_a_reinitialized_stage_trains_with_its_norms_and_without_a_head_start(multiclass, tiny):
    changes = {"reinit_stages": 1, "unfrozen_stages": 2, **PRETRAINED}
    trainer = build(multiclass, tiny(initializer="kaiming_normal", learning_rate=0.01, epochs=2, **changes))
    assert trainer.network.batch_norm_trains
    last = trainer.network.body.stages[-1]
    convolutions = [module for block in last for module in block.modules() if isinstance(module, nn.Conv2d)]
    first = convolutions[0].weight.detach().clone()
    run(trainer)
    assert not torch.equal(convolutions[0].weight, first)
    assert trainer.history["train_loss"][-1] < trainer.history["train_loss"][0]


@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_evaluation_averages_the_logits_of_an_image_and_its_mirror_image(request, tiny, task):
    dataset = request.getfixturevalue(task)
    trainer = run(build(dataset, tiny(flip_average=True, **PRETRAINED)))
    logits, _ = trainer.predict("validation")
    images, _ = next(trainer.batches.evaluation(dataset.rows["validation"], 1000))
    with torch.no_grad():
        plain, mirrored = (trainer.network.eval()(seen) for seen in (images, images.flip(3)))
    assert not torch.allclose(plain, mirrored, atol=1e-3)
    assert torch.allclose(logits, (plain + mirrored) / 2, atol=1e-4)
    assert trainer.description()["preprocessing"]["flip_average"] is True
    assert torch.equal(trainer.predict("validation")[0], logits), "also from kept activations"


def test_kept_activations_of_mirrored_images_are_those_of_the_frozen_stages(multiclass, tiny):
    trainer = build(multiclass, tiny(flip_average=True, unfrozen_stages=1, **PRETRAINED))
    logits, _ = trainer.predict("validation")
    seen = []
    trainer.network.body.stages[0][0].register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    assert torch.equal(trainer.predict("validation")[0], logits)
    assert seen == []


def test_evaluation_and_statistics_see_larger_squares_than_training_and_the_head_start(larger, tiny):
    trainer, sizes = build(larger, tiny(evaluation_size=37, batch_size=16, head_epochs=1)), set()
    trainer.network.body.stages[0][0].register_forward_pre_hook(
        lambda module, inputs: sizes.add((trainer.network.training, len(inputs[0][0, 0])))
    )
    trainer.evaluator.pooled_features(larger.rows["train"])
    assert sizes == {(False, 32)}
    sizes.clear()
    trainer.predict("validation")
    trainer.network.thaw(True)
    trainer.evaluator.recompute_statistics(larger.rows["train"], 0)
    assert sizes == {(False, 37)}
    sizes.clear()
    run(trainer)
    assert {side for training, side in sizes if training} == {32}
    assert trainer.description()["preprocessing"]["center_crop"] == 37
