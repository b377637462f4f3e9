"""Starts the task that makes previews: pictures of what augmentation does to a study's own images. The pictures become artifacts."""

import tempfile
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.artifacts import upload_artifact

from search.driver.search_run import SearchRun
from search.record.artifacts import artifact_store
from search.record.record_writer import RecordWriter
from trainables.worker.assignment import Assignment

PREVIEWS = "augmentation"
"""The study attribute that describes the previews: `ops`, `draws`, `images`, and `sheets` (augmentation strength → artifact id)."""


def make_previews(run: SearchRun, assignment: Assignment, record_writer: RecordWriter) -> None:
    """Start a Ray task that makes the previews, and return at once; do nothing if the study has them.

    When the task has ended, the previews are submitted to the record. If it fails, the watcher gets a message and the search goes on
    without previews. `assignment` may be that of any trial: the task takes the data and the augmentation operations from it.
    """
    import ray

    if PREVIEWS in run.study.user_attrs:
        return

    def on_done(future: "Future[dict[str, Any]]") -> None:
        if error := future.exception():
            run.watcher.say(f"there are no previews of the augmentation: {str(error).strip().splitlines()[-1]}")
        elif previews := future.result():
            record_writer.submit(partial(_record_previews, run.study, previews, run.root, record_writer))

    task = ray.remote(num_cpus=0, max_retries=0)(run.trainable.previews)
    task.remote(assignment.model_dump(mode="json")).future().add_done_callback(on_done)


def _record_previews(study: optuna.Study, previews: dict[str, Any], root: str, record_writer: RecordWriter) -> None:
    store, artifacts = artifact_store(root), {}
    with tempfile.TemporaryDirectory() as folder:
        for strength, content in previews["sheets"].items():
            file = Path(folder) / f"augmentation-{strength}.jpg"
            file.write_bytes(content)
            artifacts[strength] = record_writer.with_retries(
                upload_artifact, artifact_store=store, file_path=str(file), study_or_trial=study
            )
    record_writer.with_retries(study.set_user_attr, PREVIEWS, previews | {"sheets": artifacts})
