"""Evaluates a finished trial, or its refit, on the test split, which the search has not used, and exports the network."""

from typing import Any

from trainables.errors import StorageError
from trainables.storage.saved_states import SavedStates
from trainables.storage.secrets import redact
from trainables.worker.assignment import Assignment, open_data
from trainables.worker.trial_state import build_trainer


def evaluate_finished(assignment: dict[str, Any], weights: str | None = None) -> dict[str, Any]:
    """Load a trial's last state and evaluate it on the test and the validation split.

    Returns ``test`` (empty if the split has no images) and ``validation``, each the metrics by name, and the entries of `describe_network`.
    Also writes the whole network as safetensors to the path or URL `weights`, if given.
    Raises ``StorageError`` if the trial has no saved state, ``DamagedError`` if its last one is damaged, and as `build_trainer` does.
    """
    job = Assignment.model_validate(assignment)
    states = SavedStates(job.folder)
    if not states.names():
        raise StorageError(f"trial {job.number} left no checkpoint in {redact(job.folder)}")
    trainer, _ = build_trainer(job, states)
    if weights is not None:
        trainer.export(weights)
    test = trainer.evaluate("test") if len(trainer.dataset.rows["test"]) else {}
    return {"test": test, "validation": trainer.evaluate("validation"), **trainer.description()}


def refit(assignment: dict[str, Any], weights: str | None = None) -> dict[str, Any]:
    """Train a trial's configuration again, from the first epoch, on the training and the validation images together.

    The schedule is that of the trial, see `refit_trainer`. Returns ``test``, the metrics by name (empty if the split has
    no images), and the entries of `describe_network`; there are no validation metrics, because no image is left for them. Also writes the
    whole network as safetensors to the path or URL `weights`, if given. Raises as `Trainer` and `run_epoch` do.
    """
    from trainables.training.features.features import node_cache
    from trainables.training.refit import refit_trainer
    from trainables.training.trainer import set_threads

    job = Assignment.model_validate(assignment)
    set_threads(job.threads)
    cache = node_cache(job.feature_cache)
    trainer = refit_trainer(open_data(job), job.trial, metric=job.metric, workers=job.workers, feature_cache=cache)
    while trainer.epoch < job.trial.epochs:
        trainer.run_epoch()
    if weights is not None:
        trainer.export(weights)
    test = trainer.evaluate("test") if len(trainer.dataset.rows["test"]) else {}
    return {"test": test, **trainer.description()}
