import pytest
import torch
from torch import nn

from trainables.networks.bodies import build_body
from trainables.networks.heads import INITIALIZERS
from trainables.networks.reinitialize import NORMS, reinitialized


def body_of(name, stages, initializer="trunc_normal"):
    """Return a body all of whose values were set to 7 by what stands for pretrained weights."""
    torch.manual_seed(0)
    body = build_body(name)
    with reinitialized(body, stages, initializer), torch.no_grad():
        for tensor in (*body.parameters(), *body.buffers()):
            tensor.fill_(7)
    return body


def tensors(stage):
    return [tensor for block in stage for tensor in (*block.parameters(), *block.buffers())]


@pytest.mark.parametrize("stages", [0, 1, 3])
@pytest.mark.parametrize("name", ["mobilenet_v3_small", "convnext_tiny", "squeezenet1_1"])
def test_the_last_stages_are_new_and_the_others_keep_what_was_loaded(name, stages):
    body = body_of(name, stages)
    new = [not any((tensor == 7).all() for tensor in tensors(stage)) for stage in body.stages]
    kept = [all((tensor == 7).all() for tensor in tensors(stage)) for stage in body.stages]
    assert new == [False] * (len(new) - stages) + [True] * stages
    assert kept == [not one for one in new]


@pytest.mark.parametrize("initializer", INITIALIZERS)
def test_weights_have_the_chosen_initializer_and_norms_change_nothing(initializer):
    stage = body_of("mobilenet_v3_small", 1, initializer).stages[-1]
    modules = [module for block in stage for module in block.modules()]
    convolution = max((m for m in modules if isinstance(m, nn.Conv2d)), key=lambda m: m.weight.numel())
    fan_in, fan_out = convolution.weight[0].numel(), convolution.weight[:, 0].numel()
    if initializer in ("trunc_normal", "zeros_last"):
        assert 0.03 < convolution.weight.abs().max() <= 0.04
    if "xavier" in initializer:
        assert convolution.weight.var().item() == pytest.approx(2 / (fan_in + fan_out), rel=0.05)
    if "kaiming" in initializer:
        assert convolution.weight.var().item() == pytest.approx(2 / fan_in, rel=0.05)
    for norm in (module for module in modules if isinstance(module, NORMS)):
        assert (norm.weight == 1).all()
        assert (norm.bias == 0).all()
        assert (norm.running_mean == 0).all()
        assert (norm.running_var == 1).all()


def test_default_keeps_the_librarys_values():
    torch.manual_seed(0)
    expected = build_body("mobilenet_v3_small").stages[-1]
    found = body_of("mobilenet_v3_small", 1, "default").stages[-1]
    assert all(torch.equal(a, b) for a, b in zip(tensors(found), tensors(expected), strict=True))
