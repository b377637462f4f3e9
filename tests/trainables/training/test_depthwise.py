"""The backward pass of wide depthwise convolutions, against torch's own."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from trainables.networks.bodies import build_body
from trainables.training.depthwise import PART_BYTES, FastDepthwise, weight_gradient


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_values_and_gradients_equal_torchs(data):
    rows, columns = data.draw(st.sampled_from([(5, 5), (7, 7), (3, 4), (1, 5), (6, 3), (3, 3)]))
    stride = data.draw(st.sampled_from([1, 2, (2, 1), (1, 3)]))
    padding = data.draw(st.tuples(st.integers(0, rows), st.integers(0, columns)))
    height, width = (
        data.draw(st.integers(max(1, side - 2 * margin), side + 6)) for side, margin in zip((rows, columns), padding, strict=True)
    )
    images, channels, bias = data.draw(st.integers(1, 5)), data.draw(st.integers(2, 9)), data.draw(st.booleans())
    torch.manual_seed(data.draw(st.integers(0, 99)))
    convolution = nn.Conv2d(channels, channels, (rows, columns), stride, padding, groups=channels, bias=bias)
    pixels = torch.randn(images, channels, height, width)

    def run(context):
        inputs = pixels.clone().requires_grad_(True)
        convolution.zero_grad()
        with context:
            result = convolution(inputs)
        (result * torch.linspace(-1, 1, result.numel()).view(result.shape)).sum().backward()
        return [result, inputs.grad, *(parameter.grad for parameter in convolution.parameters())]

    for own, torchs in zip(run(FastDepthwise()), run(torch.enable_grad()), strict=True):
        torch.testing.assert_close(own, torchs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("kernel", "padding", "side"), [(7, 3, 1), (7, 3, 2), (7, 2, 3), (5, 2, 1), (9, 4, 1)])
def test_maps_that_are_smaller_than_the_padding_have_torchs_gradients(kernel, padding, side):
    convolution = nn.Conv2d(4, 4, kernel, padding=padding, groups=4)
    images = torch.randn(3, 4, side, side)
    found = []
    for context in (FastDepthwise(), torch.enable_grad()):
        convolution.zero_grad()
        with context:
            result = convolution(images)
        result.square().sum().backward()
        found.append(convolution.weight.grad)
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4)


def test_many_images_are_computed_in_parts_that_fit_the_cache():
    channels, side = 64, 16
    images = torch.randn(40, channels, side, side)
    assert images.nbytes > 2 * PART_BYTES
    weight, gradient = torch.randn(channels, 1, 5, 5), torch.randn(40, channels, side, side)
    wanted = torch.ops.aten.convolution_backward(
        gradient, images, weight, None, (1, 1), (2, 2), (1, 1), False, (0, 0), channels, (False, True, False)
    )[1]
    torch.testing.assert_close(weight_gradient(gradient, images, weight, (1, 1), (2, 2)), wanted, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "mobilenet_v3_small", "convnext_tiny"])
def test_the_wide_depthwise_convolutions_of_a_network_are_replaced_and_no_others(name):
    body = build_body(name).train()
    wide = [m for m in body.modules() if isinstance(m, nn.Conv2d) and m.groups == m.in_channels and m.kernel_size[1] > 3]
    names: dict[nn.Module, str] = {}
    for module in body.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda module, inputs, result: names.update({module: type(result.grad_fn).__name__}))
    with FastDepthwise():
        body(torch.zeros(2, 3, 64, 64))
    assert wide
    assert {module for module, kind in names.items() if kind == "_ConvolutionBackward"} == set(wide)


def test_without_a_gradient_torchs_own_convolution_runs():
    convolution = nn.Conv2d(4, 4, 5, groups=4)
    with FastDepthwise(), torch.no_grad():
        assert convolution(torch.zeros(1, 4, 8, 8)).grad_fn is None
    convolution.requires_grad_(False)
    with FastDepthwise():
        assert type(convolution(torch.zeros(1, 4, 8, 8).requires_grad_()).grad_fn).__name__ != "_ConvolutionBackward"
