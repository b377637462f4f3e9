"""What resume needs, in one literal, and nothing that can be derived again."""

import os
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from trainables.errors import ResourceError, StorageError

State = dict[str, Any]
FORMAT = 1


def save_state(path: Path, state: State) -> None:
    """Write a state so that a reader sees the old file or the new one, never a part. Raises ``ResourceError`` on a full disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            torch.save({"format": FORMAT, **state}, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except (OSError, RuntimeError) as error:
        partial.unlink(missing_ok=True)
        raise ResourceError(f"cannot write the checkpoint {path}: {error}; is the disk full?") from error


def load_state(path: Path) -> State | None:
    """Return a saved state, or None where there is none. Reads tensors and plain values only, never code.

    Raises ``StorageError`` for a file of another format or one that is damaged.
    """
    if not path.exists():
        return None
    try:
        state: State = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise StorageError(f"{path} is not a readable checkpoint: {error}") from error
    if state.get("format") != FORMAT:
        raise StorageError(f"{path} is a checkpoint of format {state.get('format')}; this version reads {FORMAT}")
    return state


def export_weights(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write tensors as safetensors, to a temporary name first, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, partial, metadata)
    partial.replace(path)
