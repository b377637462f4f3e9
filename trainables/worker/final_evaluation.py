"""What a finished trial says on images that no search has seen, and its weights as a file."""

from typing import Any

from trainables.errors import StorageError
from trainables.storage.locations import shown, size_of
from trainables.worker.trainable import Assignment, begin, checkpoint_location


def finish(assignment: dict[str, Any], weights: str | None = None) -> dict[str, Any]:
    """Load a trial's last state and evaluate it on the validation and the test images.

    Writes the whole network to the location `weights` where that is given. Returns `test`, `validation` and the
    network's description.
    Raises ``StorageError`` if the trial left no state.
    """
    job = Assignment.model_validate(assignment)
    location = checkpoint_location(job)
    if size_of(location) is None:
        raise StorageError(f"trial {job.number} left no checkpoint at {shown(location)}")
    trainer, _ = begin(job)
    if weights is not None:
        trainer.export(weights)
    test = trainer.evaluate("test") if len(trainer.dataset.rows["test"]) else {}
    return {"test": test, "validation": trainer.evaluate("validation"), **trainer.description()}
