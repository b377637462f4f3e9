"""What resume needs, in one literal, and nothing that can be derived again."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from trainables.errors import DamagedError
from trainables.storage.locations import PERSISTENT, Root, shown, split

State = dict[str, Any]
FORMAT = 1


def save_state(location: str | Path, state: State) -> None:
    """Write a state so that a reader sees the old file or the new one, never a part.

    Raises ``ResourceError`` where there is no space, ``StorageError`` where the place cannot be written.
    """
    root, key = _place(location)
    with root.writing(key) as file:
        torch.save({"format": FORMAT, **state}, file)


def load_state(location: str | Path) -> State | None:
    """Return a saved state, or None where there is none. Reads tensors and plain values only, never code.

    Raises ``DamagedError`` for a file of another format or one that is damaged, ``StorageError`` where the place does not answer.
    """
    root, key = _place(location)
    opened = root.opened(key)
    if opened is None:
        return None
    try:
        with opened as file:
            state: State = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise DamagedError(f"{shown(location)} is not a readable checkpoint: {error}") from error
    found = state.get("format") if isinstance(state, dict) else None
    if found != FORMAT:
        raise DamagedError(f"{shown(location)} is a checkpoint of format {found}; this version reads {FORMAT}")
    return state


def export_weights(location: str | Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write tensors as safetensors, all of them or nothing. Raises as `save_state` does."""
    root, key = _place(location)
    root.write(key, save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, metadata))


def _place(location: str | Path) -> tuple[Root, str]:
    around, key = split(location)
    return Root(around, PERSISTENT), key
