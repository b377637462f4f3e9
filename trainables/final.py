"""What a finished trial says on images that no search has seen, and its weights as a file."""

from pathlib import Path
from typing import Any

from trainables.errors import StorageError
from trainables.trainable import Assignment, begin, checkpoint_path


def finish(assignment: dict[str, Any], weights: str | None = None) -> dict[str, Any]:
    """Load a trial's last state and evaluate it on the validation and the test images.

    Writes the whole network to `weights` where that is given. Returns `test`, `validation` and `preprocessing`.
    Raises ``StorageError`` if the trial left no state.
    """
    job = Assignment.model_validate(assignment)
    if not checkpoint_path(job).exists():
        raise StorageError(f"trial {job.number} left no checkpoint at {checkpoint_path(job)}")
    trainer, _ = begin(job)
    if weights is not None:
        trainer.export(Path(weights), metadata(trainer.trial.backbone, job))
    return {
        "test": trainer.evaluate("test") if len(trainer.dataset.rows["test"]) else {},
        "validation": trainer.evaluate("validation"),
        "preprocessing": trainer.preprocessing(),
        "scale": {"mean": trainer.scale.mean, "deviation": trainer.scale.deviation, "logarithm": trainer.scale.logarithm},
    }


def metadata(backbone: str, job: Assignment) -> dict[str, str]:
    """Return what the weights file says of itself."""
    return {"format": "pt", "backbone": backbone, "task": job.task, "fingerprint": job.fingerprint, "trial": str(job.number)}
