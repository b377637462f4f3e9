"""Writes a trained network to a file that other programs can use, with a description of how to use it."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from trainables.config import TrialConfig
from trainables.data.dataset import Dataset
from trainables.networks.backbones import backbone
from trainables.networks.model import Network
from trainables.training.checkpoint import export_weights
from trainables.training.tasks import TargetScale


def describe_network(dataset: Dataset, trial: TrialConfig, scale: TargetScale) -> dict[str, Any]:
    """Return what is needed to use a network, as values that JSON can hold.

    Its architecture is in ``backbone`` and ``head``, how to prepare an image in ``preprocessing``, and the meaning of the outputs in
    ``task``, ``classes`` and ``scale``. ``fingerprint`` is the data set's.
    """
    row = backbone(trial.backbone)
    return {
        "backbone": trial.backbone,
        "task": dataset.task,
        "classes": list(dataset.classes),
        "fingerprint": dataset.fingerprint,
        "head": {"layers": trial.head_layers, "units": trial.head_units, "activation": trial.activation, "dropout": trial.dropout},
        "preprocessing": {
            "square": int(dataset.images.shape[1]),
            "aspect": trial.aspect,
            "center_crop": trial.image_size,
            "mean": list(row.mean),
            "std": list(row.std),
        },
        "scale": asdict(scale),
    }


def export_network(location: str | Path, network: Network, description: dict[str, Any]) -> None:
    """Write a whole network to a safetensors file at a path or URL: the body under torchvision's own keys, the head under ``head.``.

    The file's metadata holds the description; values that are not text are encoded as JSON. Raises as `save_state` does.
    """
    state = {name.removeprefix("body.trunk."): tensor for name, tensor in network.state_dict().items()}
    tensors = {name: tensor for name, tensor in state.items() if not name.startswith("body.")}
    metadata = {name: value if isinstance(value, str) else json.dumps(value) for name, value in description.items()}
    export_weights(location, tensors, {"format": "pt", **metadata})
