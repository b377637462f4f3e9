"""Reads and writes files with a trainer's state, and writes files with a network's weights, in a folder or a bucket."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from trainables.errors import DamagedError
from trainables.storage.root import RETRY_PAUSES, root_and_key
from trainables.storage.secrets import redact

State = dict[str, Any]
FORMAT = 1


def save_state(location: str | Path, state: State) -> None:
    """Write a trainer's state to a path or URL. A reader sees the old file or the new one, never a part of it.

    Raises ``ResourceError`` where there is no space, ``StorageError`` where the location cannot be written.
    """
    root, key = root_and_key(location, RETRY_PAUSES)
    with root.writing(key) as file:
        torch.save({"format": FORMAT, **state}, file)


def load_state(location: str | Path) -> State | None:
    """Return the state that `save_state` wrote, with tensors on the CPU, or None if there is no file. Runs no code from the file.

    Raises ``DamagedError`` for a damaged file or one of another format, ``StorageError`` where the location cannot be read.
    """
    root, key = root_and_key(location, RETRY_PAUSES)
    file = root.open(key)
    if file is None:
        return None
    try:
        with file:
            state: State = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise DamagedError(f"{redact(location)} is not a readable checkpoint: {error}") from error
    version = state.get("format") if isinstance(state, dict) else None
    if version != FORMAT:
        raise DamagedError(f"{redact(location)} is a checkpoint of format {version}; this version reads {FORMAT}")
    return state


def export_weights(location: str | Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write tensors and metadata to a safetensors file at a path or URL, the whole file or nothing. Raises as `save_state` does."""
    root, key = root_and_key(location, RETRY_PAUSES)
    root.write(key, save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, metadata))
