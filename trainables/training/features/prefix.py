"""`Prefix`, the stages of a body before a boundary: what identifies them, and what they make of images."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b

import torch
from torch import Tensor, nn

from trainables.networks.bodies import Body
from trainables.training.precision import Precision

LARGEST_HALF = torch.finfo(torch.float16).max


class Prefix:
    """Runs the stages of a body up to a boundary, a 0-based stage, and rounds the activations to float16 at each boundary on the way.

    So the activations are the same, whether they are computed from the images or from the activations at an earlier boundary.
    """

    def __init__(self, body: Body, precision: Precision, device: torch.device) -> None:
        self._body, self._precision, self._device = body, precision, device
        self._keys: dict[int, str] = {}
        self._shapes: dict[tuple[int, int], tuple[int, ...]] = {}

    def earlier(self, boundary: int) -> list[int]:
        """Return the boundaries from whose activations those at `boundary` can be computed, the latest first."""
        return [*range(boundary - 1, 0, -1)] if self._body.runs_in_parts else []

    def hub(self, size: int) -> int | None:
        """Return the boundary from which most others are cheap: the first whose activations take at most the bytes of the image's pixels.

        If none does, it is the one before the last stage; None for a body that does not run in parts.
        """
        if not self._body.runs_in_parts:
            return None
        last = len(self._body.stages) - 1
        small = (boundary for boundary in range(1, last) if 2 * math.prod(self.shape(boundary, size)) <= 3 * size * size)
        return next(small, last)

    def key(self, boundary: int) -> str:
        """Return a hash of the weights of the stages before `boundary`, as they are at the first call, and of how they compute."""
        if boundary not in self._keys:
            digest = blake2b(digest_size=16)
            device = torch.cuda.get_device_name(self._device) if self._device.type == "cuda" else "cpu"
            digest.update(f"{torch.__version__} {device} {self._body.runs_in_parts}".encode())
            for stage in self._body.stages[:boundary]:
                digest.update(repr(stage).encode())
                for name, tensor in stage.state_dict().items():
                    digest.update(name.encode())
                    digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
            self._keys[boundary] = digest.hexdigest()
        return self._keys[boundary]

    def shape(self, boundary: int, size: int) -> tuple[int, ...]:
        """Return the shape of one image's activations at `boundary` for squares of `size` pixels."""
        if (boundary, size) not in self._shapes:
            black = torch.zeros(1, 3, size, size, device=self._device)
            self._shapes[boundary, size] = tuple(self.run(black, 0, boundary).shape[1:])
        return self._shapes[boundary, size]

    @torch.inference_mode()
    def run(self, activations: Tensor, first: int, boundary: int) -> Tensor:
        """Return the activations `(N, …) float16` at `boundary` from those at the boundary `first`, or from images, if `first` is 0.

        The stages run in evaluation mode. They may be in the middle of training: shapes are measured behind a trial's boundary, too.
        """
        steps = range(first + 1, boundary + 1) if self._body.runs_in_parts else (boundary,)
        with in_evaluation_mode(self._body.stages[first:boundary]):
            for last in steps:
                with self._precision.autocast():
                    activations = self._body.forward_between(first, last, activations.float())
                activations, first = activations.float().clamp(-LARGEST_HALF, LARGEST_HALF).half(), last
        return activations


@contextmanager
def in_evaluation_mode(stages: Sequence[nn.Module]) -> Iterator[None]:
    """Put modules into evaluation mode during the block, and each of their parts into its own mode again after it."""
    modes = [(module, module.training) for stage in stages for module in stage.modules()]
    for stage in stages:
        stage.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
