"""What resume needs, in one literal, and nothing that can be derived again."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from trainables.errors import ResourceError, StorageError

State = dict[str, Any]
FORMAT = 1


def save_state(path: Path, state: State) -> None:
    """Write a state so that a reader sees the old file or the new one, never a part. Raises ``ResourceError`` on a full disk."""
    with _replacing(path) as partial, partial.open("wb") as file:
        torch.save({"format": FORMAT, **state}, file)


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
    found = state.get("format") if isinstance(state, dict) else None
    if found != FORMAT:
        raise StorageError(f"{path} is a checkpoint of format {found}; this version reads {FORMAT}")
    return state


def export_weights(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write tensors as safetensors, the whole file or none. Raises ``ResourceError`` on a full disk."""
    with _replacing(path) as partial:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, partial, metadata)


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name whose file, once safe on the disk, becomes ``path`` if the block succeeds, and vanishes if it does not."""
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise ResourceError(f"cannot write {path}: {error}; is the disk full?") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
