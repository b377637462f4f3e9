"""Trials on stored activations give the results of trials on images, whoever computed what is stored."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from trainables.data.dataset import with_validation_in_training
from trainables.storage.cache import cache_root
from trainables.training.features import features as module
from trainables.training.fold_trainer import FoldTrainer
from trainables.training.trainer import Trainer

LITE = {"backbone": "efficientnet_lite0", "weights": "imagenet"}
BODIES = {
    "residual": {"backbone": "resnet18", "weights": "none"},
    "inverted residual": LITE,
    "dense": {"backbone": "densenet121", "weights": "none"},
    "plain": {"backbone": "vgg11_bn", "weights": "none"},
}


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch, tmp_path):
    """Give each test activations of its own, and the images of all tests."""
    (tmp_path / "pixels").symlink_to(cache_root() / "pixels")
    monkeypatch.setenv("INJERTO_CACHE", str(tmp_path))
    return tmp_path / "features"


def trained(dataset, trial, **options):
    trainer = Trainer(dataset, trial, device=torch.device("cpu"), **options)
    while trainer.epoch < trial.epochs:
        trainer.run_epoch()
    return trainer


def results(trainer):
    return {name: values for name, values in trainer.history.items() if "second" not in name}


def images_run(trainer):
    """Return a list to which the first stage adds how many images it runs."""
    counts = []
    trainer.network.body.stages[0][0].register_forward_pre_hook(lambda module, inputs: counts.append(len(inputs[0])))
    return counts


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize("unfrozen", [0, 1, 2])
def test_activations_are_those_of_the_images_to_rounding(multiclass, tiny, kind, unfrozen):
    trainer = Trainer(multiclass, tiny(**BODIES[kind], views=1, unfrozen_stages=unfrozen), device=torch.device("cpu"))
    rows = multiclass.rows["train"]
    stored, targets = next(iter(trainer.features.evaluation(rows, len(rows), size=32, mirrored=True)))
    images, same = next(iter(trainer.batches.evaluation(rows, len(rows), mirrored=True)))
    with torch.no_grad():
        computed = trainer.network.eval().to_boundary(images)
    assert torch.equal(targets, same)
    assert stored.shape == computed.shape
    assert (stored - computed).norm() < 0.002 * computed.norm()


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize("frozen", ["in part", "whole"])
def test_one_view_trains_like_the_images(multiclass, tiny, kind, frozen):
    settings = {"epochs": 1, "augmentation_strength": 0.0, "optimizer": "sgd", "learning_rate": 0.001, "head_epochs": 2}
    trial = tiny(**BODIES[kind], **settings, unfrozen_stages=1 if frozen == "in part" else 0)
    plain, stored = trained(multiclass, trial), trained(multiclass, trial.model_copy(update={"views": 1}))
    assert plain.features is None
    assert stored.features is not None
    assert stored.history["train_loss"] == pytest.approx(plain.history["train_loss"], rel=0.02, abs=2e-3)
    logits, targets = plain.predict("validation")
    again, same = stored.predict("validation")
    assert torch.equal(targets, same)
    assert (logits - again).norm() < 0.05 * logits.norm()


@pytest.mark.parametrize("task", ["regression", "binary", "multilabel"])
def test_views_work_for_every_task(request, tiny, task):
    trainer = trained(request.getfixturevalue(task), tiny(epochs=2, views=2, unfrozen_stages=1, **LITE))
    assert trainer.features is not None
    assert np.isfinite(trainer.history["objective"]).all()


def test_cold_warm_removed_and_unstored_activations_give_the_same_bits(multiclass, tiny, empty_cache):
    trial = tiny(epochs=3, views=2, unfrozen_stages=1, flip_average=True, head_epochs=2, **LITE)
    cold = trained(multiclass, trial)
    stored = sorted(empty_cache.iterdir())
    warm = trained(multiclass, trial)
    for path in stored[::2]:
        path.unlink()
    stored[1].write_bytes(b"damaged")
    mended = trained(multiclass, trial)
    for path in empty_cache.iterdir():
        path.unlink()
    with pytest.warns(UserWarning, match="computed again"):
        unstored = trained(multiclass, trial, feature_cache=module.node_cache(1))
    for other in (warm, mended, unstored):
        assert results(other) == results(cold)
        assert other.evaluate("test") == cold.evaluate("test")


@pytest.mark.parametrize(
    "settings",
    [
        {**LITE, "unfrozen_stages": 4, "evaluation_size": 36},
        {**LITE, "unfrozen_stages": 4, "reinit_stages": 1},
        {**LITE, "unfrozen_stages": 4, "head_epochs": 2},
        {"backbone": "resnet18", "weights": "none", "unfrozen_stages": 3},
    ],
    ids=lambda settings: " ".join(settings),
)
def test_missing_activations_change_no_result_of_deep_trials(multiclass, tiny, settings, empty_cache):
    trial = tiny(epochs=2, views=2, augmentation_strength=0.5, **settings)
    cold = trained(multiclass, trial)
    warm = trained(multiclass, trial)
    for path in empty_cache.iterdir():
        path.unlink()
    trained(multiclass, trial.model_copy(update={"augmentation_strength": 0.25, "epochs": 1}))
    partly = trained(multiclass, trial)
    assert results(cold) == results(warm) == results(partly)


def test_a_resumed_deep_trial_whose_activations_are_gone_gives_the_same_bits(multiclass, tiny, empty_cache):
    trial = tiny(epochs=2, views=2, unfrozen_stages=4, **LITE)
    whole = trained(multiclass, trial)
    first = Trainer(multiclass, trial, device=torch.device("cpu"))
    first.run_epoch()
    for path in empty_cache.iterdir():
        path.unlink()
    second = Trainer(multiclass, trial, device=torch.device("cpu"))
    second.load(first.state())
    second.run_epoch()
    assert results(second) == results(whole)


def test_networks_of_one_architecture_but_other_statistics_share_no_activations(multiclass, tiny):
    names = ("timm:resnet18d.ra4_e3600_r224_in1k", "timm:resnet18d.ra2_in1k")
    trials = [tiny(backbone=name, weights="none", views=1, unfrozen_stages=0, augmentation_strength=0.0) for name in names]
    first, second = (Trainer(multiclass, trial, device=torch.device("cpu")) for trial in trials)
    rows = multiclass.rows["train"]
    found = [next(iter(one.features.evaluation(rows, len(rows), size=32)))[0] for one in (first, second)]
    images = [next(iter(one.batches.evaluation(rows, len(rows))))[0] for one in (first, second)]
    assert not torch.equal(*images)
    assert not torch.equal(*found)


def test_a_deeper_boundary_is_computed_from_a_stored_one_with_the_same_bits(multiclass, tiny, empty_cache):
    trial = tiny(epochs=2, views=2, unfrozen_stages=0, head_epochs=0, **LITE)
    direct = trained(multiclass, trial)
    for path in empty_cache.iterdir():
        path.unlink()
    trained(multiclass, trial.model_copy(update={"unfrozen_stages": 3}))
    trainer = Trainer(multiclass, trial, device=torch.device("cpu"))
    trainer.features._prefix.shape(5, trial.image_size)
    counts = images_run(trainer)
    while trainer.epoch < trial.epochs:
        trainer.run_epoch()
    assert sum(counts) <= 4, "only the shapes are measured, with one image each"
    assert results(trainer) == results(direct)


def test_a_second_trial_of_other_rates_and_seeds_runs_no_image_through_the_frozen_stages(multiclass, tiny):
    trial = tiny(epochs=3, views=2, unfrozen_stages=1, head_epochs=2, **LITE)
    trained(multiclass, trial)
    other = Trainer(multiclass, trial.model_copy(update={"learning_rate": 1e-4, "seed": 7, "batch_size": 4}), device=torch.device("cpu"))
    counts = images_run(other)
    while other.epoch < 3:
        other.run_epoch()
    assert sum(counts) <= 5, "only the shapes are measured, with one image each"


def test_each_pass_has_the_next_view_and_the_first_again_after_the_last(multiclass, tiny):
    trainer = Trainer(multiclass, tiny(views=2, unfrozen_stages=0, augmentation_strength=1.0, **LITE), device=torch.device("cpu"))
    rows, count = multiclass.rows["train"], len(multiclass.images)

    def epoch(number):
        batches = trainer.features.training(rows, epoch=number, passes=1, count=count)
        return torch.cat([values for values, _ in batches]).sort(0).values

    trainer.trial.model_copy(update={"batch_size": len(rows)})
    first, second, third = (epoch(number) for number in (1, 2, 3))
    assert first.shape == second.shape
    assert not torch.equal(first, second)
    whole = len(rows) % trainer.trial.batch_size == 0
    assert torch.equal(first, third) == whole


def test_an_image_that_a_pass_draws_twice_is_in_another_view(multiclass, tiny):
    trial = tiny(views=4, unfrozen_stages=0, augmentation_strength=1.0, batch_size=8, **LITE)
    trainer = Trainer(multiclass, trial, device=torch.device("cpu"))
    rows = multiclass.rows["train"]
    weights = np.zeros(len(rows))
    weights[0] = len(rows)
    values, _ = next(iter(trainer.features.training(rows, epoch=1, passes=1, count=len(multiclass.images), weights=weights)))
    assert len(torch.unique(values, dim=0)) == 4


def test_all_views_of_strength_0_are_one(multiclass, tiny, empty_cache):
    trained(multiclass, tiny(epochs=3, views=3, unfrozen_stages=0, augmentation_strength=0.0, head_epochs=0, **LITE))
    training, validation, hubs = 1, 1, 2
    assert len(list(empty_cache.iterdir())) == training + validation + hubs


@pytest.mark.parametrize(
    "changes",
    [{"views": 0}, {"mixup": 0.2}, {"cutmix": 1.0}, {"unfrozen_stages": 5}],
    ids=["no views", "mixup", "cutmix", "all stages train"],
)
def test_other_trials_train_on_images(multiclass, tiny, changes):
    trial = tiny(**{"views": 2, "unfrozen_stages": 1, **LITE, **changes})
    assert Trainer(multiclass, trial, device=torch.device("cpu")).features is None


def test_a_trial_whose_views_are_too_large_trains_on_images(multiclass, tiny, monkeypatch):
    trial = tiny(views=2, unfrozen_stages=0, **LITE)
    monkeypatch.setattr(module, "LARGEST_VIEW", len(multiclass.rows["train"]) * 1280 * 2)
    assert Trainer(multiclass, trial, device=torch.device("cpu")).features is not None
    monkeypatch.setattr(module, "LARGEST_VIEW", len(multiclass.rows["train"]) * 1280 * 2 - 1)
    assert Trainer(multiclass, trial, device=torch.device("cpu")).features is None


def test_other_weights_and_images_have_activations_of_their_own(multiclass, binary, tiny, empty_cache):
    trial = tiny(views=1, unfrozen_stages=0, head_epochs=0, backbone="mobilenet_v3_small", weights="none", epochs=1)
    trained(multiclass, trial)
    count = len(list(empty_cache.iterdir()))
    trained(multiclass, trial.model_copy(update={"seed": 5}))
    assert len(list(empty_cache.iterdir())) == 2 * count, "the weights of the frozen stages follow from the seed"
    trained(binary, trial)
    assert len(list(empty_cache.iterdir())) == 3 * count


def test_a_resumed_trial_equals_an_uninterrupted_one(multiclass, tiny):
    trial = tiny(epochs=4, views=2, unfrozen_stages=1, head_epochs=2, dropout=0.3, **LITE)
    whole = trained(multiclass, trial)
    first = Trainer(multiclass, trial, device=torch.device("cpu"))
    first.run_epoch()
    first.run_epoch()
    second = Trainer(multiclass, trial, device=torch.device("cpu"))
    second.load(first.state())
    while second.epoch < 4:
        second.run_epoch()
    assert results(second) == results(whole)


def test_folds_share_their_activations(multiclass, tiny, empty_cache):
    trial = tiny(epochs=1, views=1, unfrozen_stages=0, head_epochs=1, batch_size=4, folds=3, **LITE)
    trainer = FoldTrainer(multiclass, trial, device=torch.device("cpu"))
    counts = [images_run(one) for one in (trainer, *trainer.others)]
    trainer.run_epoch()
    views, images = 2, len(multiclass.rows["train"]) + len(multiclass.rows["validation"])
    assert views * images <= sum(counts[0]) <= views * images + 5
    assert all(sum(count) <= 5 for count in counts[1:])
    assert np.isfinite(trainer.evaluate("test")["loss"])


def test_an_exported_network_gives_the_logits_of_the_trial(multiclass, tiny):
    trainer = trained(multiclass, tiny(epochs=2, views=2, unfrozen_stages=1, **LITE))
    logits, _ = trainer.predict("validation")
    plain = Trainer(multiclass, trainer.trial.model_copy(update={"views": 0}), device=torch.device("cpu"))
    plain.network.load_state_dict(trainer.network.state_dict())
    again, _ = plain.predict("validation")
    assert torch.allclose(logits, again, atol=0.02 * float(logits.abs().max()))


def test_a_refit_trains_on_stored_activations_too(multiclass, tiny):
    trainer = trained(with_validation_in_training(multiclass), tiny(epochs=1, views=1, unfrozen_stages=1, **LITE))
    assert trainer.features is not None
    assert np.isfinite(trainer.evaluate("test")["loss"])


def test_a_set_of_several_chunks_gives_the_same_batches_in_any_order_of_computing(larger, tiny, monkeypatch, empty_cache):
    monkeypatch.setattr(module, "CHUNK", 16)
    trial = tiny(epochs=1, views=1, unfrozen_stages=0, batch_size=16, **LITE)
    rows = larger.rows["train"]
    forwards = Trainer(larger, trial, device=torch.device("cpu")).features.pooled(rows)[0]
    for path in empty_cache.iterdir():
        path.unlink()
    unstored = Trainer(larger, trial, device=torch.device("cpu"), feature_cache=module.node_cache(1)).features
    with pytest.warns(UserWarning, match="computed again"):
        backwards = unstored.pooled(rows[::-1].copy())[0]
    assert torch.equal(forwards, backwards.flip(0))
    assert len(rows) > 3 * 16


def test_rows_are_computed_where_they_are_asked_for_only(larger, tiny, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 16)
    dataset = replace(larger, rows=dict(larger.rows))
    trainer = Trainer(dataset, tiny(views=1, unfrozen_stages=0, **LITE), device=torch.device("cpu"))
    counts = images_run(trainer)
    trainer.features.pooled(dataset.rows["train"][:3])
    assert max(counts) == 16
    assert sum(counts) <= 16 + 5
