import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn
from torchvision.models import mobilenet_v3_small

from trainables import recipe
from trainables.errors import ConfigError, DataError, NonFiniteError
from trainables.objectives import METRICS
from trainables.training.checkpoint import load_state, save_state
from trainables.training.precision import Precision
from trainables.training.trainer import Trainer

CPU = torch.device("cpu")
PRETRAINED = {"backbone": "efficientnet_lite0", "weights": "imagenet"}
CLOCK = {"seconds_training", "seconds_evaluation", "images_per_second"}
TASKS = ("multiclass", "binary", "multilabel", "regression")
pytestmark = pytest.mark.usefixtures("short_epochs")

EVALUATION_ONLY = {"ema", "flip_average", "evaluation_size"}
BASE = {"optimizer": "sgd", "learning_rate": 0.01, "unfrozen_stages": 2, "head_layers": 1, "head_units": 16, "dropout": 0.1}


def build(dataset, trial, **options):
    return Trainer(dataset, trial, device=CPU, **options)


def run(trainer, epochs=None):
    for _ in range(epochs or trainer.trial.epochs - trainer.epoch):
        trainer.run_epoch()
    return trainer


def weights(trainer):
    return {name: tensor.clone() for name, tensor in trainer.network.state_dict().items()}


def equal(a, b):
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


def untimed(history):
    return {name: values for name, values in history.items() if name not in CLOCK}


@pytest.fixture(scope="module")
def base_run(multiclass, tiny, short_epochs):
    return run(build(multiclass, tiny(**BASE)))


@pytest.fixture(scope="module")
def pretrained_run(multiclass, tiny, short_epochs):
    return run(build(multiclass, tiny(**BASE, **PRETRAINED)))


@pytest.mark.parametrize("task", TASKS)
def test_every_task_trains_and_returns_all_metrics(request, tiny, task):
    dataset = request.getfixturevalue(task)
    assert dataset.task == task
    trainer = build(dataset, tiny(freeze_steps=0.2))
    before = weights(trainer)
    row = trainer.run_epoch()
    expected = set(METRICS[task]) - {"top5"} | {"objective", "train_loss", "learning_rate"} | CLOCK
    assert set(row) == set(trainer.history) == expected
    assert all(map(math.isfinite, row.values()))
    assert row["objective"] == row[trainer.metric]
    assert trainer.evaluate("validation").items() <= row.items()
    after = weights(trainer)
    assert all(not torch.equal(before[name], after[name]) for name in before if before[name].ndim > 1)


def test_an_easy_data_set_is_learnt(multiclass, tiny):
    trainer = run(build(multiclass, tiny(epochs=3, head_epochs=0, **PRETRAINED)))
    losses = trainer.history["train_loss"]
    assert losses[-1] < losses[0] / 2
    assert trainer.history["loss"][-1] < math.log(3) / 3
    assert trainer.evaluate("test")["accuracy"] > 0.85


def test_regression_is_learnt_and_measured_in_original_units(regression, tiny):
    trainer = run(build(regression, tiny(epochs=3, augmentation_strength=0.0, **PRETRAINED)))
    targets = regression.targets
    spread = np.abs(targets - np.median(targets)).mean()
    assert trainer.evaluate("test")["mae"] < spread / 2
    assert trainer.history["mae"][-1] > 0.01, "in original units, not in standard deviations"


def test_the_same_seed_gives_the_same_bits_with_any_number_of_workers(multiclass, tiny):
    first, again, workers, other = (
        run(build(multiclass, tiny(seed=seed, dropout=0.3), workers=count)) for seed, count in ((0, 0), (0, 0), (0, 2), (1, 0))
    )
    equal(weights(first), weights(again))
    equal(weights(first), weights(workers))
    assert untimed(first.history) == untimed(again.history) == untimed(workers.history)
    assert first.history["train_loss"] != other.history["train_loss"]


@pytest.mark.parametrize(("schedule", "optimizer"), [("cosine", "adamw"), ("constant", "sgd")])
def test_a_resumed_run_equals_an_uninterrupted_one(larger, tiny, tmp_path, schedule, optimizer):
    # Batch norm trains without pretrained weights, so its statistics must be saved; the body is thawed within the second epoch.
    trial = tiny(epochs=3, batch_size=16, schedule=schedule, optimizer=optimizer, freeze_steps=0.4, augmentation_strength=0.5)
    whole, ends = build(larger, trial), {}
    for epoch in (1, 2, 3):
        ends[epoch] = weights(run(whole, 1))
        save_state(tmp_path / f"{epoch}.pt", whole.state())
    for epoch in (1, 2):
        resumed = build(larger, trial)
        resumed.load(load_state(tmp_path / f"{epoch}.pt"))
        assert resumed.epoch == epoch
        equal(weights(resumed), ends[epoch])
        run(resumed)
        equal(weights(resumed), weights(whole))
        assert untimed(resumed.history) == untimed(whole.history)
        assert resumed.objective_epoch() == whole.objective_epoch()


def test_the_scale_of_a_float16_loss_is_saved_and_changes_no_result(larger, tiny, tmp_path, monkeypatch):
    """On a CPU in float32: powers of two scale exactly."""
    trial = tiny(epochs=2, batch_size=16)
    plain = run(build(larger, trial))
    monkeypatch.setattr(
        "trainables.training.trainer.precision_on",
        lambda device: Precision(scaler=torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=7)),
    )
    scaled = run(build(larger, trial), 1)
    save_state(tmp_path / "1.pt", scaled.state())
    resumed = build(larger, trial)
    resumed.load(load_state(tmp_path / "1.pt"))
    assert resumed.settings.precision.scaler.get_scale() == scaled.settings.precision.scaler.get_scale() > 8.0
    for one in (scaled, resumed):
        run(one)
        equal(weights(one), weights(plain))
    assert resumed.settings.precision.scaler.state_dict() == scaled.settings.precision.scaler.state_dict()
    assert scaled.state()["scaler"] is None


def test_a_finished_run_round_trips(multiclass, tiny, tmp_path):
    trial = tiny(epochs=2, schedule="constant", learning_rate=0.05, optimizer="sgd")
    finished = run(build(multiclass, trial))
    save_state(tmp_path / "last.pt", finished.state())
    again = build(multiclass, trial)
    again.load(load_state(tmp_path / "last.pt"))
    equal(weights(again), weights(finished))
    assert again.evaluate("validation") == finished.evaluate("validation")
    assert again.state()["optimizer"] is None


def test_a_constant_rate_ends_with_the_best_epoch_even_if_resumed(regression, tiny, tmp_path):
    trainer = build(regression, tiny(epochs=4, schedule="constant", learning_rate=0.01))
    ends = [weights(run(trainer, 1)) for _ in range(3)]
    save_state(tmp_path / "last.pt", trainer.state())
    resumed = build(regression, trainer.trial)
    resumed.load(load_state(tmp_path / "last.pt"))
    for one in (trainer, resumed):
        one.network.head[1].bias.data += 50  # 50 standard deviations off, more than an epoch can correct
        one.run_epoch()
    equal(weights(resumed), weights(trainer))
    values = trainer.history["mae"]
    best = values.index(min(values))
    assert trainer.history["objective"] == [min(values[: epoch + 1]) for epoch in range(4)]
    assert trainer.objective_epoch() == best + 1 < 4
    equal(weights(trainer), ends[best])
    assert trainer.evaluate("validation")["mae"] == min(values)


def test_an_annealed_rate_ends_with_the_last_epoch(regression, tiny):
    trainer = run(build(regression, tiny(epochs=3, learning_rate=0.02, warmup=0, clip_norm=0)))
    assert trainer.history["objective"] == trainer.history["mae"]
    assert trainer.objective_epoch() == 3
    assert trainer.evaluate("validation")["mae"] == trainer.history["mae"][-1]
    assert trainer.history["learning_rate"][-1] < 1e-4 < trainer.history["learning_rate"][0]


def test_the_body_is_frozen_for_the_share_freeze_steps(multiclass, tiny):
    trainer = build(multiclass, tiny(epochs=2, freeze_steps=0.5))
    before = weights(trainer)
    run(trainer, 1)
    middle = weights(trainer)
    bodies = [name for name in before if name.startswith("body.")]
    assert all(torch.equal(before[name], middle[name]) for name in bodies)
    assert not torch.equal(before["head.1.weight"], middle["head.1.weight"])
    run(trainer)
    after = weights(trainer)
    assert all(not torch.equal(middle[name], after[name]) for name in bodies if middle[name].ndim > 1)


def test_the_initializer_has_an_effect(multiclass, tiny):
    heads = {}
    for initializer in ("trunc_normal", "zeros_last", "orthogonal", "default"):
        trainer = build(multiclass, tiny(initializer=initializer, augmentation_strength=0.0))
        initial = trainer.network.head[1].weight.detach().clone()
        run(trainer)
        heads[initializer] = trainer.network.head[1].weight.detach()
        # After one epoch of small steps the weights still correlate with the initial ones.
        assert torch.corrcoef(torch.stack([initial.flatten(), heads[initializer].flatten()]))[0, 1] > 0.5 or initializer == "zeros_last"
    names = list(heads)
    assert not any(torch.equal(heads[a], heads[b]) for a in names for b in names if a < b)
    assert heads["orthogonal"].std() > 1.5 * heads["trunc_normal"].std()


@pytest.mark.parametrize(
    "change",
    [
        {"head_layers": 2},
        {"head_units": 32},
        {"activation": "gelu"},
        {"dropout": 0.5},
        {"head": ("dense 24 tanh", "dropout 0.2", "dense"), "head_layers": 0, "head_units": 256, "dropout": 0.2},
        {"label_smoothing": 0.1},
        {"momentum": 0.5},
        {"weight_decay": 0.5},
        {"stage_lr_decay": 0.5},
        {"unfrozen_stages": 1},
        {"freeze_steps": 0.5},
        {"schedule": "step"},
        {"warmup": 0.5},
        {"clip_norm": 0.01},
        {"augmentation_strength": 0.5},
        {"augmentation_ops": ("crop",)},
        {"augmentation_ops": ("trivial",)},
        {"batch_size": 4},
        {"head_epochs": 0},
        {"mixup": 0.4},
        {"cutmix": 1.0},
        {"ema": 0.9},
        {"flip_average": True},
        {"evaluation_size": 36},
        {"reinit_stages": 1, **PRETRAINED},
        {"l2_sp": 50, **PRETRAINED},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_hyperparameter_has_an_effect(multiclass, tiny, base_run, pretrained_run, change):
    trained = run(build(multiclass, tiny(**{**BASE, **change})))
    compared = pretrained_run if "weights" in change else base_run
    name = "loss" if next(iter(change)) in EVALUATION_ONLY else "train_loss"
    assert trained.history[name] != compared.history[name]


def test_accumulation_splits_batches(multiclass, tiny):
    trainer, sizes = build(multiclass, tiny(accumulation=4)), set()
    trainer.network.register_forward_pre_hook(lambda network, inputs: sizes.add((network.training, len(inputs[0]))))
    trainer.run_epoch()
    assert {size for training, size in sizes if training} == {2}


def test_all_batches_of_a_trial_differ(multiclass, tiny):
    trainer, seen = build(multiclass, tiny(epochs=2, unfrozen_stages=0)), []
    trainer.network.register_forward_pre_hook(lambda network, inputs: seen.append(inputs[0].clone()) if network.training else None)
    run(trainer)
    assert len({images.sum().item() for images in seen}) == len(seen) == 2 * trainer.steps_per_epoch


@pytest.mark.parametrize("batch_size", [8, 16])
def test_statistics_are_those_of_the_training_images_unless_batches_are_small(larger, tiny, batch_size):
    trainer = build(larger, tiny(batch_size=batch_size, **PRETRAINED))
    before = weights(trainer)
    run(trainer)
    norm = trainer.network.body.trunk.bn1
    if batch_size < 16:
        assert torch.equal(norm.running_mean, before["body.trunk.bn1.running_mean"])
        return
    images, _ = next(trainer.batches.evaluation(larger.rows["train"], 1000))
    with torch.no_grad():
        maps = trainer.network.body.trunk.conv_stem(images)
    assert torch.allclose(norm.running_mean, maps.mean((0, 2, 3)), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("task", TASKS)
def test_the_head_is_trained_on_frozen_features_before_the_first_epoch(request, tiny, task):
    """With a body that stays frozen and a rate of nearly 0 in the epoch, only the passes before it can reduce the loss."""
    dataset = request.getfixturevalue(task)
    frozen = {"unfrozen_stages": 0, "augmentation_strength": 0.0, "dropout": 0.0, "initializer": "zeros_last", "learning_rate": 1e-2}
    losses = {}
    for head_epochs in (0, 20):
        trainer = build(dataset, tiny(head_epochs=head_epochs, warmup=1.0, **frozen, **PRETRAINED))
        for group in trainer.optimizer.param_groups:
            group["peak"] = 1e-12
        losses[head_epochs] = trainer.run_epoch()["train_loss"]
    assert losses[20] < 0.9 * losses[0]


def test_exported_weights_load_into_plain_torchvision(multiclass, tiny, tmp_path):
    trainer = run(build(multiclass, tiny(batch_size=8, backbone="mobilenet_v3_small")))
    logits, _ = trainer.predict("test")
    trainer.export(tmp_path / "best.safetensors")

    state = load_file(tmp_path / "best.safetensors")
    network = mobilenet_v3_small()
    network.classifier = nn.Linear(576, 3)
    network.load_state_dict({name.replace("head.1.", "classifier."): tensor for name, tensor in state.items()})
    network.eval()
    with safe_open(tmp_path / "best.safetensors", "pt") as file:
        metadata = file.metadata()
    assert (metadata["backbone"], metadata["task"], json.loads(metadata["classes"])) == (
        "mobilenet_v3_small",
        "multiclass",
        list(multiclass.classes),
    )
    preprocessing = json.loads(metadata["preprocessing"])
    assert (preprocessing["square"], preprocessing["center_crop"], preprocessing["aspect"]) == (37, 32, "crop")
    margin = (preprocessing["square"] - preprocessing["center_crop"]) // 2
    pixels = multiclass.images[multiclass.rows["test"]][:, margin : margin + 32, margin : margin + 32] / np.float32(255)
    images = torch.from_numpy((pixels - np.float32(preprocessing["mean"])) / np.float32(preprocessing["std"])).permute(0, 3, 1, 2)
    with torch.no_grad():
        assert torch.allclose(network(images), logits, atol=1e-4)


def test_two_micro_batches_train_like_one_batch(multiclass, tiny):
    plain, split = (
        run(build(multiclass, tiny(dropout=0.0, optimizer="sgd", learning_rate=0.01, accumulation=accumulation, **PRETRAINED)))
        for accumulation in (1, 2)
    )
    for name, tensor in weights(plain).items():
        assert torch.allclose(tensor.float(), weights(split)[name].float(), rtol=1e-2, atol=1e-4), name
    assert split.history["train_loss"] == pytest.approx(plain.history["train_loss"], rel=1e-3)


def test_the_validation_loss_is_without_label_smoothing(multiclass, tiny):
    trainer = build(multiclass, tiny(label_smoothing=0.5))
    logits, targets = trainer.predict("validation")
    assert trainer.evaluate("validation")["loss"] == pytest.approx(nn.functional.cross_entropy(logits, targets).item())


@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop"])
def test_a_diverging_trial_raises(multiclass, tiny, optimizer):
    without_norms = {"backbone": "squeezenet1_1", "unfrozen_stages": 4}
    diverging = {"learning_rate": 10, "clip_norm": 0, "warmup": 0, "weight_decay": 1, "head_epochs": 0, "epochs": 3}
    trainer = build(multiclass, tiny(optimizer=optimizer, **diverging, **without_norms))
    with pytest.raises(NonFiniteError, match=r"not a finite number|the training loss became"):
        run(trainer)


@pytest.mark.parametrize("task", TASKS)
def test_a_network_with_nan_weights_raises_and_records_nothing(request, tiny, task):
    trainer = build(request.getfixturevalue(task), tiny(learning_rate=1e-6))
    trainer.network.head[1].weight.data.fill_(float("nan"))
    with pytest.raises(NonFiniteError):
        trainer.run_epoch()
    assert trainer.epoch == 0
    assert trainer.history == {}


def test_an_epoch_has_whole_passes_and_enough_steps(multiclass, tiny):
    trainer = build(multiclass, tiny())
    images = len(multiclass.rows["train"])
    assert trainer.steps_per_epoch == trainer.passes * (images // 8) >= recipe.STEPS_PER_EPOCH
    row = trainer.run_epoch()
    assert row["images_per_second"] * row["seconds_training"] == pytest.approx(8 * trainer.steps_per_epoch)


def test_a_batch_of_more_than_a_quarter_of_the_images_is_rejected(multiclass, tiny):
    images = len(multiclass.rows["train"])
    build(multiclass, tiny(batch_size=images // 4))
    with pytest.raises(ConfigError, match=f"at most a quarter of the {images} training images but got {images // 4 + 1}"):
        build(multiclass, tiny(batch_size=images // 4 + 1))


def test_settings_that_do_not_fit_the_data_are_rejected(multiclass, regression, tiny):
    with pytest.raises(ConfigError, match="is not a loss of a multiclass task"):
        build(multiclass, tiny(loss="mse"))
    with pytest.raises(ConfigError, match="is not a metric of a multiclass task"):
        build(multiclass, tiny(), metric="mae")
    with pytest.raises(ConfigError, match="at most 5, the stages of this backbone"):
        build(multiclass, tiny(unfrozen_stages=6))
    for part in regression.rows:  # in any split: an infinite loss on the validation images would end every trial
        targets = regression.targets.copy()
        targets[regression.rows[part][0]] = 0
        changed = replace(regression, targets=targets)
        with pytest.raises(DataError, match="1 of 48 targets are 0"):
            build(changed, tiny(loss="mape"))
        with pytest.raises(DataError, match="target: log needs targets above 0"):
            build(changed, tiny(target="log"))


@pytest.mark.parametrize(
    "changes", [{"loss": "mape"}, {"loss": "huber", "target": "log"}, {"loss": "mae"}, {"loss": "mape", "target": "log"}]
)
def test_every_regression_loss_learns_more_than_the_mean(regression, tiny, changes):
    trainer = run(build(regression, tiny(epochs=5, augmentation_strength=0.0, **changes)))
    assert trainer.history["r2"][-1] > 0
