"""Writes a trained network to a file that other programs can use, with a description of how to use it."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from trainables.config import TrialConfig
from trainables.data.dataset import Dataset
from trainables.images.color_profiles import SAME
from trainables.images.decode import DRAFT_SIDE
from trainables.images.pixel_map import GREY
from trainables.networks.backbones import backbone
from trainables.networks.model import Network
from trainables.networks.network_card import body_card, weights_card
from trainables.training.checkpoint import export_weights
from trainables.training.tasks import TargetScale

SQUARES = {
    "crop": "cut the largest square out of the middle and resize it to square × square pixels: ImageOps.fit, bicubic",
    "pad": f"resize the longer side to square pixels and put the image in the middle of grey {(GREY,) * 3}: ImageOps.pad, bicubic",
    "squash": "resize the image to square × square pixels, whatever its proportions: Image.resize, bicubic",
}
"""Aspect → how an image becomes a square, in words."""
STEPS = (
    "open the file with Pillow; a large JPEG is decoded at a half, a quarter or an eighth of its size: draft(None, (draft, draft))",
    "turn the image upright as its EXIF orientation says: ImageOps.exif_transpose",
    "reduce the colours of a 16-bit image to 8 bits: min(value >> (bits - 8), 255), and its alpha: value >> 8; Pillow reads 16 bits "
    "of grey images only, and of others value >> 8, so where bits is below 16 OpenCV has to read those",
    "convert an ICC profile to sRGB with perceptual intent: ImageCms; except one that is damaged, that is of another colour space than the "
    f"image, or that changes no colour by over {SAME} of 255, such as sRGB itself",
    "put transparent pixels on white: (color * alpha + 255 * (255 - alpha)) / 255",
    "convert it to RGB",
)


def describe_network(dataset: Dataset, trial: TrialConfig, scale: TargetScale, head: nn.Module, provenance: str) -> dict[str, Any]:
    """Return what is needed to use a network, as values that JSON can hold.

    Its architecture is in ``body`` and ``head``, the origin and licence of its pretrained weights in ``weights``, how to prepare an image
    in ``preprocessing``, and the meaning of the outputs in ``task``, ``classes`` and ``scale``. ``fingerprint`` is the data set's.
    `head` is the network's, `provenance` what `load_weights` returned.
    """
    row = backbone(trial.backbone)
    return {
        "backbone": trial.backbone,
        "body": body_card(row, trial.image_size),
        "weights": weights_card(row, provenance),
        "task": dataset.task,
        "classes": list(dataset.classes),
        "fingerprint": dataset.fingerprint,
        "head": {
            "modules": [_module_row(module) for module in head.children()],
            "tensors": [f"head.{name}" for name in head.state_dict()],
        },
        "preprocessing": _preprocessing(dataset, trial),
        "scale": asdict(scale),
    }


def _preprocessing(dataset: Dataset, trial: TrialConfig) -> dict[str, Any]:
    """Return how an image file becomes an input, or two with ``flip_average``: ``steps`` in words, whose numbers are the other entries."""
    row, side = backbone(trial.backbone), int(dataset.images.shape[1])
    crop = trial.evaluation_size or trial.image_size
    edge = (side - crop) // 2
    last = ["cut out the box (left, upper, right, lower)", "divide by 255, subtract mean and divide by std, for each channel"]
    if trial.flip_average:
        last.append("give the network the input and its mirror image, left and right exchanged, and average its outputs")
    return {
        "steps": [*STEPS, SQUARES[trial.aspect], *last],
        "draft": DRAFT_SIDE,
        "bits": dataset.bits,
        "square": side,
        "aspect": trial.aspect,
        "center_crop": crop,
        "box": [edge, edge, edge + crop, edge + crop],
        "mean": list(row.mean),
        "std": list(row.std),
        "flip_average": trial.flip_average,
    }


def _module_row(module: nn.Module) -> list[Any]:
    """Return the class of a head's module in ``torch.nn`` and its arguments, such as ``["Linear", 1280, 10]``."""
    arguments = {nn.Linear: ("in_features", "out_features"), nn.Dropout: ("p",)}.get(type(module), ())
    return [type(module).__name__, *(getattr(module, name) for name in arguments)]


def export_network(location: str | Path, network: Network, description: dict[str, Any]) -> None:
    """Write a whole network to a safetensors file at a path or URL: the body under its library's own keys, the head under ``head.``.

    The file's metadata holds the description; values that are not text are encoded as JSON. Raises as `save_state` does.
    """
    state = {name.removeprefix("body.trunk."): tensor for name, tensor in network.state_dict().items()}
    tensors = {name: tensor for name, tensor in state.items() if not name.startswith("body.")}
    metadata = {name: value if isinstance(value, str) else json.dumps(value) for name, value in description.items()}
    export_weights(location, tensors, {"format": "pt", **metadata})
