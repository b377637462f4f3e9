"""The results of a search, from its record: its best recipe as text, and the file of the best weights."""

from pathlib import Path

from search.record.records import StudyRecord
from trainables.config import Recipe, to_yaml, validate
from trainables.errors import StorageError

LARGEST_DOWNLOAD = 200_000_000
"""Largest file of weights, in bytes, that the browser can download; of a larger one the path is shown."""


def recipe_yaml(record: StudyRecord) -> str:
    """Return the best configuration as the text of a `best.yaml`.

    Raises ``StorageError`` while no trial has ended with a value, ``ConfigError`` for a configuration of another version.
    """
    best = record.best
    if best is None:
        raise StorageError(f"no trial of {record.name!r} has ended with a value yet")
    values = {
        "study": record.name,
        "trial_number": best.number,
        "metric": record.metric,
        "value": best.value,
        "threads": int(record.config.get("resources", {}).get("cpus_per_trial") or 1),
        "fingerprint": record.dataset.get("fingerprint"),
        "data": dict(record.config.get("data", {})),
        "trial": dict(best.config),
    }
    recipe = validate(Recipe, values, f"the record of {record.name}")
    return f"# The best configuration of {record.name}. Train it again with: injerto train best.yaml\n{to_yaml(recipe)}"


def weights_file(record: StudyRecord) -> Path | None:
    """Return the file of the best weights, None if it is not on this machine."""
    file = record.folder / "best.safetensors"
    return file if file.is_file() else None


def weights_location(record: StudyRecord) -> str:
    """Return where the weights are, or when they will be written, as a sentence."""
    if record.state in ("finished", "failed"):
        return f"They are not on this machine. The search wrote them to {record.folder / 'best.safetensors'} on the machine that ran it."
    return "They are written when the search ends."
