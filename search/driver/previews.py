"""What augmentation does to a study's own images: made by a worker while the first trials run, kept as artifacts of the study."""

import tempfile
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.artifacts import upload_artifact

from search.record.record_writer import RecordWriter
from search.record.store import artifact_store
from trainables.worker.trainable import Assignment

if TYPE_CHECKING:
    from trainables.worker.trainable import ImageTrial

PREVIEWS = "augmentation"
"""The study attribute that names the sheets: `ops`, `draws`, `images` and, by strength, an artifact each."""


def make_previews(
    study: optuna.Study,
    assignment: Assignment,
    trainable: "type[ImageTrial]",
    *,
    root: str,
    record_writer: RecordWriter,
    say: Callable[[str], None],
) -> None:
    """Have the sheets made, unless the study has them; the search goes on meanwhile, and without them if that fails."""
    import ray

    if PREVIEWS in study.user_attrs:
        return

    def made(future: "Future[dict[str, Any]]") -> None:
        if error := future.exception():
            say(f"there are no previews of the augmentation: {str(error).strip().splitlines()[-1]}")
        elif drawn := future.result():
            record_writer.put(partial(_keep, study, drawn, root, record_writer))

    task = ray.remote(num_cpus=0, max_retries=0)(trainable.previews)
    task.remote(assignment.model_dump(mode="json")).future().add_done_callback(made)


def _keep(study: optuna.Study, drawn: dict[str, Any], root: str, record_writer: RecordWriter) -> None:
    store, linked = artifact_store(root), {}
    with tempfile.TemporaryDirectory() as folder:
        for strength, content in drawn["sheets"].items():
            file = Path(folder) / f"augmentation-{strength}.jpg"
            file.write_bytes(content)
            linked[strength] = record_writer.patiently(upload_artifact, artifact_store=store, file_path=str(file), study_or_trial=study)
    record_writer.patiently(study.set_user_attr, PREVIEWS, drawn | {"sheets": linked})
