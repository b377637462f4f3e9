"""Small image sets of every task, prepared once a session, and the smallest trial on them."""

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

from trainables.config import TrialConfig
from trainables.data.dataset import prepare

COLOURS = {"blue": (60, 60, 190), "green": (60, 190, 60), "red": (190, 60, 60)}
SIZE, SHORT_EPOCH = 32, 6
ALL_OPTIONS = {
    "backbone": "efficientnet_lite0",
    "weights": "imagenet",
    "unfrozen_stages": 2,
    "mixup": 0.4,
    "cutmix": 1.0,
    "class_balance": "sampling",
    "ema": 0.9,
    "l2_sp": 0.5,
    "reinit_stages": 1,
    "flip_average": True,
    "evaluation_size": 36,
}
"""A trial with the settings that are off by default."""

settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    import torch

    torch.set_num_threads(1)


def paint(path, colour, rng):
    """Write a noisy picture of 24 to 40 pixels a side around one colour."""
    height, width = rng.integers(24, 41, 2)
    pixels = np.array(colour) + rng.normal(0, 25, (height, width, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)


def folders(root, each):
    rng = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        for index in range(each):
            paint(root / name / f"{index}.png", colour, rng)
    return prepare(source=str(root), image_size=SIZE)


def table(root, header, draw, images=48):
    """Return a prepared CSV set: ``draw(index, rng)`` gives each image's colour and its cells."""
    rng = np.random.default_rng(1)
    lines = [f"image,{header}"]
    for index in range(images):
        colour, cells = draw(index, rng)
        paint(root / f"{index}.png", colour, rng)
        lines.append(f"{index}.png,{cells}")
    (root / "labels.csv").write_text("\n".join(lines))
    return prepare(source=str(root / "labels.csv"), image_size=SIZE)


@pytest.fixture(scope="session")
def multiclass(own_cache, tmp_path_factory):
    return folders(tmp_path_factory.mktemp("multiclass"), 16)


@pytest.fixture(scope="session")
def larger(own_cache, tmp_path_factory):
    """Return 96 images: enough for batches of 16, in which batch norm trains."""
    return folders(tmp_path_factory.mktemp("larger"), 32)


@pytest.fixture(scope="session")
def binary(own_cache, tmp_path_factory):
    names = sorted(COLOURS)[1:]
    return table(tmp_path_factory.mktemp("binary"), "label", lambda index, rng: (COLOURS[names[index % 2]], names[index % 2]))


@pytest.fixture(scope="session")
def multilabel(own_cache, tmp_path_factory):
    def draw(index, rng):
        on = [index >> bit & 1 for bit in range(3)]
        return [60 + 130 * value for value in on], ",".join(map(str, on))

    return table(tmp_path_factory.mktemp("multilabel"), "red,green,blue", draw)


@pytest.fixture(scope="session")
def regression(own_cache, tmp_path_factory):
    def draw(index, rng):
        grey = rng.uniform(40, 220)
        return (grey, grey, grey), f"{grey / 10:.3f}"

    return table(tmp_path_factory.mktemp("regression"), "weight", draw)


@pytest.fixture(scope="session")
def pair(own_cache):
    """Two connected processes; see `tests.trainables.replicating`."""
    from tests.trainables.replicating import Pair

    pair = Pair()
    yield pair
    pair.close()


@pytest.fixture(scope="module")
def short_epochs():
    """Let a reported epoch have fewer steps at least, in modules whose tests do not depend on the number."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainables.recipe.STEPS_PER_EPOCH", SHORT_EPOCH)
        yield


@pytest.fixture(scope="session")
def tiny():
    """Return a function that gives the smallest trial with changes: ``tiny(epochs=2, ...)``.

    It starts without pretrained weights, in the fastest network, and so learns little: see `PRETRAINED`.
    """

    def build(**changes):
        small = {"backbone": "mobilenet_v3_small", "weights": "none", "unfrozen_stages": 5}
        return TrialConfig(**{**small, "image_size": SIZE, "batch_size": 8, "epochs": 1, "stage_lr_decay": 1.0, **changes})

    return build
