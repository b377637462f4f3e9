"""Where a study keeps its checkpoints and artifacts, and Optuna's artifact store over a folder or a bucket."""

from pathlib import Path
from typing import BinaryIO

from optuna.artifacts.exceptions import ArtifactNotFound

from trainables.storage.locations import join
from trainables.storage.root import RETRY_PAUSES, Root


class Artifacts:
    """An artifact store for Optuna that keeps its objects in a folder or a bucket."""

    def __init__(self, root: Root) -> None:
        self._root = root

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """Return an artifact as a binary file, which the caller closes. Raises ``ArtifactNotFound`` if it does not exist."""
        file = self._root.open(artifact_id)
        if file is None:
            raise ArtifactNotFound(f"there is no artifact {artifact_id!r} in {self._root}")
        return file

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Write all that `content_body` holds as an artifact, whole or not at all. Raises as `Root.write` does."""
        self._root.write(artifact_id, content_body.read())

    def remove(self, artifact_id: str) -> None:
        """Remove an artifact; does nothing if it does not exist."""
        self._root.remove(artifact_id)


def study_root(root: str | None, name: str, folder: Path) -> str:
    """Return the location of a study's checkpoints and artifacts: below `root`, common to all studies, or else its output `folder`."""
    return join(root, name) if root else str(folder)


def trial_folder(root: str | Path, number: int) -> str:
    """Return the location of a trial's checkpoint, and of its report while it runs; `root` is the study's."""
    return join(root, f"trials/{number:05d}")


def artifact_location(root: str | Path) -> str:
    """Return the location of the artifacts below a study's root."""
    return join(root, "artifacts")


def artifact_store(root: str | Path) -> Artifacts:
    """Return the artifact store below a study's root. If a bucket fails, it tries again after `RETRY_PAUSES`."""
    return Artifacts(Root(artifact_location(root), RETRY_PAUSES))
