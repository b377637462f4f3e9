"""`BoundaryCache`: the activations of evaluation images behind the frozen stages, which are computed once a trial."""

from collections.abc import Callable, Iterable, Iterator

import torch

from trainables.images.batches import Batch, Rows
from trainables.networks.model import Network
from trainables.training.precision import Precision

CAPACITY = 256 << 20  # bytes that one trial keeps in its memory


class BoundaryCache:
    """Runs images through the frozen stages of a network, and keeps the activations, as long as all kept ones take at most 256 MiB.

    The frozen stages never change and evaluation images are not augmented, so kept activations equal those that would be computed again.
    """

    def __init__(self, network: Network, precision: Precision) -> None:
        self._network, self._precision = network, precision
        self._kept: dict[tuple[str, bytes], list[Batch]] = {}
        self._free = CAPACITY

    def batches(self, rows: Rows, load: Callable[[Rows], Iterable[Batch]], view: str = "") -> Iterator[Batch]:
        """Yield (activations, targets) of the images `rows` (indices), as `Network.to_boundary` returns them.

        `load` returns the batches of rows, each with images and targets. Equal rows and equal names of a `view` must have equal batches at
        every call. The mode of the network does not change: frozen stages are always in evaluation mode.
        """
        key = view, rows.tobytes()
        if key in self._kept:
            yield from self._kept[key]
            return
        kept: list[Batch] | None = [] if self._network.boundary else None
        needed = 0
        for images, targets in load(rows):
            with torch.inference_mode(), self._precision.autocast():
                activations = self._network.to_boundary(images)
            needed += activations.nbytes
            if kept is not None:
                kept = [*kept, (activations, targets)] if needed <= self._free else None
            yield activations, targets
        if kept is not None:
            self._kept[key] = kept
            self._free -= needed

    def clear(self) -> None:
        """Forget all activations."""
        self._kept, self._free = {}, CAPACITY
