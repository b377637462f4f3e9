"""What a worker is given to run one trial, and the data set that goes with it. Light to import."""

from typing import TYPE_CHECKING

from pydantic import Field

from trainables.config import DataConfig, Model, TrialConfig
from trainables.errors import DataError

if TYPE_CHECKING:
    from trainables.data.dataset import Dataset


class Assignment(Model):
    """Everything that a worker needs to run one trial. It is small, because Ray sends it with the trial.

    `folder` (path or URL) is the trial's own. The record has `reported` epochs of it already. `threads` are torch's CPU threads, `workers`
    threads that prepare batches. `manifest` is the location of the search's manifest, from which a node without the data set makes it.
    With `replicas` above 1, that many processes train the trial, each in its own bundle of the trial's placement group and on its part of
    every batch. Batch norm then computes its statistics over that part, or with `sync_batch_norm` over all parts. `feature_cache` limits
    what each node stores of activations behind frozen stages, bytes.
    """

    number: int
    trial: TrialConfig
    data: DataConfig
    task: str
    fingerprint: str
    metric: str
    folder: str
    threads: int = 1
    workers: int = 0
    reported: int = 0
    manifest: str | None = None
    replicas: int = Field(1, ge=1)
    sync_batch_norm: bool = False
    feature_cache: float | None = None


def progress(epoch: int, epochs: int) -> int:
    """Return the share of a trial's own `epochs` that is done after `epoch` of them, from 0 to 1000 (per mille)."""
    return round(1000 * epoch / epochs)


def open_data(assignment: Assignment) -> "Dataset":
    """Return the trial's data set from this node's cache; if it is absent, prepare it from the search's manifest or else from its source.

    Raises ``DataError`` if the images or the decoder have changed since the search began, and as `prepare_from_manifest` or
    `prepare_from_config` do.
    """
    from trainables.data.dataset import difference, open_dataset, prepare_from_config
    from trainables.data.manifest import prepare_from_manifest

    size, aspect = assignment.trial.image_size, assignment.trial.aspect
    try:
        return open_dataset(assignment.fingerprint, size, aspect)
    except DataError:
        if assignment.manifest is not None:
            dataset = prepare_from_manifest(assignment.manifest, size, aspect, outside_paths=assignment.data.outside_paths)
        else:
            dataset = prepare_from_config(assignment.data, image_size=size, aspect=aspect)
    if differs := difference(dataset, assignment.fingerprint, assignment.data.source, "the search began"):
        raise DataError(f"{differs}; start a new search")
    return dataset
