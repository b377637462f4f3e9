import numpy as np
import pytest
import torch

from tests.trainables.images.test_augmentation import SIZE, textured
from trainables.images import device_images
from trainables.images.device_augmentation import DEVICE_OPS, DeviceAugmenter
from trainables.images.device_images import DeviceImages
from trainables.images.draws import Draws

IMAGES = np.stack([textured(seed) for seed in range(6)])
ROWS = np.array([4, 0, 4, 5])
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def test_images_come_in_the_order_of_the_rows_and_in_channels_last_memory():
    taken = DeviceImages(IMAGES, torch.device("cpu")).take(ROWS)
    assert taken.dtype == torch.uint8
    assert taken.is_contiguous(memory_format=torch.channels_last)
    assert np.array_equal(taken.permute(0, 2, 3, 1).numpy(), IMAGES[ROWS])


@needs_gpu
@pytest.mark.parametrize("share", [0, 1 / 16])
def test_a_gpu_gives_the_same_images_whether_it_keeps_them_or_not(monkeypatch, share):
    monkeypatch.setattr(device_images, "LARGEST_SHARE", share)
    monkeypatch.setattr(device_images, "_resident", {})
    taken = DeviceImages(IMAGES, torch.device("cuda")).take(ROWS)
    assert taken.device.type == "cuda"
    assert np.array_equal(taken.permute(0, 2, 3, 1).cpu().numpy(), IMAGES[ROWS])
    (kept,) = device_images._resident.values()
    assert (kept[1] is not None) == (share > 0)


@needs_gpu
def test_a_gpu_makes_the_views_that_a_cpu_makes_of_the_same_numbers():
    ops = sorted(DEVICE_OPS - {"noise"})  # each device has its own generator of normal numbers
    views = [
        DeviceAugmenter(0.5, ops, SIZE)(DeviceImages(IMAGES, torch.device(name)).take(ROWS), Draws(0, 1, ROWS)).cpu()
        for name in ("cpu", "cuda")
    ]
    torch.testing.assert_close(*views, rtol=0, atol=0.5)
