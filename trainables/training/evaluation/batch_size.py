"""How many images an evaluation runs through the network at a time."""

import torch
from torch import Tensor, nn

from trainables.networks.model import Network

LARGEST = 128  # images; larger batches are not faster on a CPU
CAPACITY = 512 << 20  # bytes of the largest input and output of one layer, for a whole batch


@torch.inference_mode()
def largest_fitting_batch(network: Network, image_size: int, device: torch.device) -> int:
    """Return the batch size for evaluating square images of `image_size` pixels: at most 128, at least 1.

    It is the largest power of two for which the input and the output of the network's largest layer take at most 512 MiB together. It does
    not depend on the device's memory, so that every machine computes batch-norm statistics on the same batches.
    """
    largest = 0

    def measure(module: nn.Module, inputs: tuple[object, ...], output: object) -> None:
        nonlocal largest
        tensors = [value for value in (*inputs, output) if isinstance(value, Tensor)]
        largest = max(largest, sum(tensor.numel() * 4 for tensor in tensors))

    hooks = [module.register_forward_hook(measure) for module in network.modules() if not any(module.children())]
    try:
        network.eval()(torch.zeros(1, 3, image_size, image_size, device=device))
    finally:
        for hook in hooks:
            hook.remove()
    fitting = min(LARGEST, max(1, CAPACITY // max(1, largest)))
    return 1 << (int(fitting).bit_length() - 1)
