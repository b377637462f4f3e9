from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from trainables.errors import ConfigError
from trainables.networks.bodies import build_body
from trainables.networks.heads import build_head
from trainables.networks.model import Network

BACKBONES = ("mobilenet_v3_small", "shufflenet_v2_x0_5", "squeezenet1_1")  # five stages, four, no batch norm
DEPTHS = [(name, depth) for name in BACKBONES for depth in range(len(build_body(name).stages) + 1)]


@pytest.fixture(scope="module")
def bodies():
    torch.manual_seed(0)
    return {name: build_body(name) for name in BACKBONES}


@pytest.fixture
def build(bodies):
    def network(name="mobilenet_v3_small", depth=None, **options):
        body = deepcopy(bodies[name])
        head = build_head(body.width, 4, layers=1, units=16)
        return Network(body, head, unfrozen_stages=len(body.stages) if depth is None else depth, **options)

    return network


def images(count=16, seed=1):
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def train(network, steps=2, recompute=True):
    """Train a few steps and recompute the statistics, as the trainer does."""
    optimizer = torch.optim.AdamW(network.parameter_groups(1e-2, 0.9, 1e-2))
    network.train()
    for step in range(steps):
        nn.functional.cross_entropy(network(images(seed=step)), torch.arange(16) % 4).backward()
        optimizer.step()
        optimizer.zero_grad()
    if recompute:
        network.recompute_statistics(network.to_boundary(images(seed=seed)) for seed in (8, 9))


def copy(network):
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def stage_of(network, name):
    """Return the number of the stage that a name of the state belongs to, None for the head."""
    if name.startswith("head."):
        return None
    tensor = network.state_dict(keep_vars=True)[name]
    return next(
        index for index, stage in enumerate(network.body.stages) if any(tensor is own for own in (*stage.parameters(), *stage.buffers()))
    )


@pytest.mark.parametrize(("name", "depth"), DEPTHS)
def test_training_changes_the_unfrozen_stages_only(build, name, depth):
    network = build(name, depth)
    before = copy(network)
    network.thaw(True)
    train(network)
    first = len(network.body.stages) - depth
    changed = {key: not torch.equal(before[key], tensor) for key, tensor in network.state_dict().items()}
    for key in before:
        stage = stage_of(network, key)
        if stage is not None and stage < first:
            assert not changed[key], key
        elif key.endswith("running_mean") or before[key].ndim > 1:
            assert changed[key], key
    network.train()
    for index, stage in enumerate(network.body.stages):
        assert {module.training for block in stage for module in block.modules()} == {index >= first}


@pytest.mark.parametrize("name", BACKBONES)
def test_training_changes_nothing_in_the_body_before_it_is_thawed(build, name):
    network = build(name)
    before = copy(network)
    train(network)
    after = network.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before if key.startswith("body."))
    assert all(not torch.equal(before[key], after[key]) for key in before if key.startswith("head.") and before[key].ndim > 1)
    network.thaw(True)
    train(network)
    assert any(not torch.equal(before[key], after[key]) for key in before if key.startswith("body."))


@pytest.mark.parametrize(("name", "depth"), DEPTHS)
def test_parameter_groups_hold_each_trained_parameter_once_with_its_rate_and_decay(build, name, depth):
    network = build(name, depth)
    groups = network.parameter_groups(0.1, 0.5, 0.03)
    network.thaw(True)
    listed = [parameter for group in groups for parameter in group["params"]]
    assert len({id(parameter) for parameter in listed}) == len(listed)
    assert {id(parameter) for parameter in listed} == {id(parameter) for parameter in network.parameters() if parameter.requires_grad}
    assert network.trainable_parameters() == sum(parameter.numel() for parameter in listed)
    place = {id(parameter): key for key, parameter in network.named_parameters()}
    norms = {id(p) for module in network.modules() if isinstance(module, (_BatchNorm, nn.LayerNorm)) for p in module.parameters()}
    for group in groups:
        assert group["peak"] == group["lr"]
        for parameter in group["params"]:
            key = place[id(parameter)]
            stage = stage_of(network, key)
            distance = 0 if stage is None else len(network.body.stages) - stage
            assert group["lr"] == pytest.approx(0.1 * 0.5**distance)
            assert group["weight_decay"] == (0 if id(parameter) in norms or key.endswith("bias") else 0.03)


def test_recomputed_statistics_are_plain_averages_over_the_batches(build):
    network = build()
    network.thaw(True)
    train(network, recompute=False)
    batches = [images(8, seed=seed) * (seed + 1) + seed for seed in range(3)]
    convolution, norm = network.body.trunk.features[0][0], network.body.trunk.features[0][1]
    last = network.body.trunk.features[12][1]
    inputs_of_last = []
    hook = last.register_forward_pre_hook(lambda module, inputs: inputs_of_last.append(inputs[0]))
    network.recompute_statistics(batches)
    hook.remove()
    with torch.no_grad():
        inputs_of_first = [convolution(batch) for batch in batches]
    for layer, maps in ((norm, inputs_of_first), (last, inputs_of_last)):
        means = torch.stack([part.mean((0, 2, 3)) for part in maps]).mean(0)
        variances = torch.stack([part.var((0, 2, 3)) for part in maps]).mean(0)
        assert torch.allclose(layer.running_mean, means, rtol=1e-4, atol=1e-5)
        assert torch.allclose(layer.running_var, variances, rtol=1e-4, atol=1e-5)
        assert layer.momentum == 0.1


def test_statistics_of_frozen_stages_are_not_recomputed(build):
    network = build(depth=1)
    network.thaw(True)
    before = copy(network)
    network.recompute_statistics([network.to_boundary(images())])
    changed = {stage_of(network, key) for key, tensor in network.state_dict().items() if not torch.equal(before[key], tensor)}
    assert changed == {4}
    assert not any(module.training for module in network.modules())


def test_without_batch_norm_training_statistics_stay_while_all_weights_train(build):
    network = build(batch_norm_trains=False)
    network.thaw(True)
    before = copy(network)
    train(network)
    after = network.state_dict()
    statistics = [key for key in before if "running_" in key or "num_batches" in key]
    assert statistics
    assert all(torch.equal(before[key], after[key]) for key in statistics)
    assert all(not torch.equal(before[key], after[key]) for key in before if before[key].ndim > 1)
    norm = network.body.trunk.features[0][1]
    assert not torch.equal(before["body.trunk.features.0.1.weight"], norm.weight)


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "mnasnet0_5", "shufflenet_v2_x0_5", "resnet18"])
def test_batch_norm_has_momentum_0_1(name):
    norms = [module for module in build_body(name).modules() if isinstance(module, _BatchNorm)]
    assert norms
    assert all(norm.momentum == 0.1 for norm in norms)


@pytest.mark.parametrize(("name", "depth"), DEPTHS)
@torch.no_grad()
def test_running_from_the_boundary_equals_running_the_whole_network(build, name, depth):
    network = build(name, depth).eval()
    assert network.boundary == len(network.body.stages) - depth
    activations = network.to_boundary(images())
    assert torch.equal(network.from_boundary(activations), network(images()))


@torch.no_grad()
def test_the_head_runs_in_float32_under_autocast(build):
    network, seen = build().eval(), []
    network.head.register_forward_hook(lambda module, inputs, output: seen.append((inputs[0].dtype, output.dtype)))
    with torch.autocast("cpu", torch.bfloat16):
        assert network.body(images()).dtype == torch.bfloat16
        logits = network(images())
    assert seen == [(torch.float32, torch.float32)]
    assert logits.unique().numel() == logits.numel()


@pytest.mark.parametrize("depth", [0, 2, 5])
def test_the_trained_state_holds_all_that_training_changes(build, depth):
    network, other = build(depth=depth), build(depth=depth)
    network.thaw(True)
    train(network)
    other.load_state_dict(network.trained_state(), strict=False)
    assert all(torch.equal(a, b) for a, b in zip(network.state_dict().values(), other.state_dict().values(), strict=True))
    first = len(network.body.stages) - depth
    assert {stage for key in network.trained_state() if (stage := stage_of(network, key)) is not None} == set(range(first, 5))


def test_frozen_stages_have_no_gradients(build):
    network = build(depth=2)
    network.thaw(True)
    network.train()
    network(images()).sum().backward()
    with_gradient = {stage_of(network, key) for key, parameter in network.named_parameters() if parameter.grad is not None}
    assert with_gradient == {None, 3, 4}


def test_more_unfrozen_stages_than_the_body_has_are_rejected(build):
    with pytest.raises(ConfigError, match="must be at most 5, the stages of this backbone, but got 6"):
        build(depth=6)
