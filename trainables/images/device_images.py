"""`DeviceImages`, which brings the images of a pixel map to the device, or keeps them all there."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

LARGEST_SHARE = 1 / 16
"""Of a GPU's memory, for all images. Up to four trials share a GPU, each in a process that has its own copy."""
AT_A_TIME = 4096  # images that are copied to the GPU
_resident: dict[torch.device, tuple[NDArray[np.uint8], Tensor | None]] = {}
"""The last images of each GPU, and their copy there, for the next trial of this process; None if the GPU has no room for them."""


class DeviceImages:
    """The images `(N, S, S, 3) uint8` of a pixel map, for computations on a device.

    A GPU keeps all images if they need at most a sixteenth of its memory, and if so much is free. Results do not depend on it.
    """

    def __init__(self, images: NDArray[np.uint8], device: torch.device) -> None:
        self._images, self._device = images, device

    def take(self, rows: NDArray[np.int64]) -> Tensor:
        """Return the images `rows` as `(B, 3, S, S) uint8`, in channels-last memory on the device."""
        resident = self._kept()
        if resident is None:
            return to_device(torch.from_numpy(self._images[rows]), self._device).permute(0, 3, 1, 2)
        return resident[to_device(torch.tensor(rows), self._device)].permute(0, 3, 1, 2)

    def _kept(self) -> Tensor | None:
        if self._device.type != "cuda":
            return None
        if _resident.get(self._device, (None,))[0] is not self._images:
            _resident.pop(self._device, None)  # frees the memory before the next copy
            _resident[self._device] = self._images, self._copied()
        return _resident[self._device][1]

    def _copied(self) -> Tensor | None:
        _, total = torch.cuda.mem_get_info(self._device)
        if self._images.nbytes > LARGEST_SHARE * total:
            return None
        try:
            copy = torch.empty(self._images.shape, dtype=torch.uint8, device=self._device)
        except torch.OutOfMemoryError:
            return None
        for start in range(0, len(copy), AT_A_TIME):
            part = slice(start, start + AT_A_TIME)
            copy[part] = torch.from_numpy(np.array(self._images[part]))
        return copy


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Return values on a device. A copy to a GPU goes on while the caller does other work."""
    return (values.pin_memory() if device.type == "cuda" else values).to(device, non_blocking=True)
