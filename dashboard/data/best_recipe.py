"""The best recipe of a study as YAML text, and where the file of its weights is."""

from pathlib import Path

from search.record.records import StudyRecord
from trainables.config import Recipe, to_yaml, validate
from trainables.errors import StorageError

LARGEST_DOWNLOAD = 200_000_000
"""Largest file of weights, in bytes, that the dashboard offers as a download; for a larger one it shows the path."""


def recipe_yaml(record: StudyRecord) -> str:
    """Return the study's best configuration as YAML text, the content of a `best.yaml` for ``injerto train``.

    Raises ``StorageError`` while no trial has ended with a value, ``ConfigError`` for a configuration that this version
    of injerto does not accept.
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
    """Return the path of the best weights, `best.safetensors` in the study's folder; None if it is not on this machine."""
    file = record.folder / "best.safetensors"
    return file if file.is_file() else None


def weights_location(record: StudyRecord) -> str:
    """Return a sentence on weights that `weights_file` did not find: where the search wrote them, or that it writes them when it ends."""
    if record.state in ("finished", "failed"):
        return f"They are not on this machine. The search wrote them to {record.folder / 'best.safetensors'} on the machine that ran it."
    return "They are written when the search ends."
