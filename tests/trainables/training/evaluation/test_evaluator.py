from dataclasses import replace

import numpy as np
import pytest
import torch

from trainables.networks.bodies import build_body
from trainables.networks.heads import build_head
from trainables.networks.model import Network
from trainables.training.evaluation.evaluator import predict
from trainables.training.precision import Precision
from trainables.training.trainer import Trainer

CPU = torch.device("cpu")
PRETRAINED = {"backbone": "efficientnet_lite0", "weights": "imagenet"}


def build(dataset, trial):
    return Trainer(dataset, trial, device=CPU)


def test_predict_keeps_the_order_and_the_network():
    torch.manual_seed(0)
    body = build_body("mobilenet_v3_small")
    network = Network(body, build_head(body.width, 3, layers=0, units=8, dropout=0.5), unfrozen_stages=5).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    batches = [(torch.randn(8, 3, 32, 32), torch.randint(3, (8,))) for _ in range(3)]
    logits, targets = predict(network, batches, Precision())
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert torch.equal(targets, torch.cat([wanted for _, wanted in batches]))
    with torch.no_grad():
        assert torch.equal(logits, torch.cat([network.eval()(images) for images, _ in batches]))


def test_statistics_are_computed_on_batches_of_all_classes(larger, tiny):
    """Rows are ordered by class. A batch of one class would have the variance within that class, which is smaller."""
    row_count = len(larger.rows["train"])
    trainer = build(larger, tiny(batch_size=16))
    trainer.evaluator.batch_size = row_count // 3
    trainer.network.thaw(True)
    trainer.evaluator.recompute_statistics(trainer.dataset.rows["train"], trainer.trial.seed)
    images, _ = next(trainer.batches.evaluation(larger.rows["train"], row_count))
    with torch.no_grad():
        maps = trainer.network.body.trunk.features[0][0](images)
    by_class = torch.stack([part.var((0, 2, 3)) for part in maps.chunk(3)]).mean(0)
    whole = maps.var((0, 2, 3))
    error = (trainer.network.body.trunk.features[0][1].running_var - whole).abs()
    assert (error < (by_class - whole).abs() / 2).all()


@pytest.mark.parametrize("images", [127, 128, 129, 255, 257, 1025])
def test_statistics_are_computed_on_batches_of_nearly_one_size(larger, tiny, monkeypatch, images):
    """A last batch of one image would weigh as much as one of 128, and its 1 × 1 maps would have no variance."""
    trainer = build(replace(larger, rows={**larger.rows, "train": np.resize(larger.rows["train"], images)}), tiny(batch_size=16))
    trainer.network.thaw(True)
    sizes = []
    hook = trainer.network.body.stages[0][0].register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    trainer.evaluator.recompute_statistics(trainer.dataset.rows["train"], trainer.trial.seed)
    hook.remove()
    assert sum(sizes) == min(images, 256)
    assert max(sizes) <= 128
    assert max(sizes) - min(sizes) < len(sizes)


def test_a_network_that_is_frozen_in_part_runs_its_frozen_stages_once_on_evaluation_images(multiclass, tiny):
    trainer = build(multiclass, tiny(epochs=3, unfrozen_stages=2, augmentation_strength=0.0, **PRETRAINED))
    evaluated = []
    trainer.network.body.stages[0][0].register_forward_pre_hook(
        lambda module, inputs: evaluated.append(len(inputs[0])) if not trainer.network.training else None
    )
    trainer.run_epoch()
    first = sum(evaluated)
    trainer.run_epoch()
    trainer.run_epoch()
    assert sum(evaluated) == first
    plain = build(multiclass, trainer.trial)
    plain.network.load_state_dict(trainer.network.state_dict())
    assert plain.evaluate("validation") == trainer.evaluate("validation")


@pytest.mark.parametrize("largest", [4, 1])
def test_an_evaluation_that_the_memory_does_not_hold_runs_in_smaller_batches(multiclass, tiny, largest):
    trainer = build(multiclass, tiny())
    expected, _ = trainer.predict("validation")

    def check(module, inputs):
        if len(inputs[0]) > largest:
            raise torch.OutOfMemoryError("the device's memory is too small")

    trainer.network.body.stages[0][0].register_forward_pre_hook(check)
    logits, _ = trainer.predict("validation")
    assert trainer.evaluator.batch_size == largest
    assert torch.allclose(logits, expected, atol=1e-4)


def test_statistics_that_the_memory_does_not_hold_are_computed_in_smaller_batches(larger, tiny):
    trainer = build(larger, tiny(batch_size=16))
    trainer.network.thaw(True)

    def check(module, inputs):
        if len(inputs[0]) > 40:
            raise torch.OutOfMemoryError("the device's memory is too small")

    trainer.network.body.stages[0][0].register_forward_pre_hook(check)
    trainer.evaluator.recompute_statistics(larger.rows["train"], 0)
    assert trainer.evaluator.batch_size == 64
    norm = trainer.network.body.trunk.features[0][1]
    assert norm.num_batches_tracked == 2, "all images, in two batches of nearly one size"
    assert not norm.training


def test_an_evaluation_that_does_not_fit_with_one_image_raises(multiclass, tiny):
    trainer = build(multiclass, tiny())
    trainer.network.body.stages[0][0].register_forward_pre_hook(lambda module, inputs: (_ for _ in ()).throw(torch.OutOfMemoryError()))
    with pytest.raises(torch.OutOfMemoryError):
        trainer.predict("validation")
