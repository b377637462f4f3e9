"""What a search hands over, from its record: the recipe as text, and where its weights are."""

from pathlib import Path

from search.record.records import StudyRecord
from trainables.config import Recipe, to_yaml, validate
from trainables.errors import StorageError

LARGEST = 200_000_000
"""Bytes of weights that the browser is given; of larger ones the path is shown."""


def recipe(record: StudyRecord) -> str:
    """Return the best configuration as the text of a `best.yaml`. Raises ``StorageError`` where no trial has a value yet."""
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
    found = validate(Recipe, values, f"the record of {record.name}")
    return f"# The best configuration of {record.name}. Train it again with: injerto train best.yaml\n{to_yaml(found)}"


def weights(record: StudyRecord) -> Path | None:
    """Return the file of the best weights where this machine has it, None where it has not."""
    file = record.folder / "best.safetensors"
    return file if file.is_file() else None


def where_weights_are(record: StudyRecord) -> str:
    """Say where the weights are, or when they come."""
    if record.state in ("finished", "failed"):
        return f"They are on the machine that ran the search, at {record.folder / 'best.safetensors'}, or were removed from there."
    return "They are written when the search has ended."
