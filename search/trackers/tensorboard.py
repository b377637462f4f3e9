"""A study in TensorBoard (https://www.tensorflow.org/tensorboard): event files in the study's folder."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from search.trackers.tracker import flat


class TensorBoardTracker:
    """Writes event files under ``FOLDER/tensorboard/NNNNN``: a scalar for each metric, the configuration for the HParams tab.

    When a trial resumes, TensorBoard discards what it wrote after the epoch from which the trial resumes.
    """

    def __init__(self) -> None:
        self._tensorboard = importlib.import_module("torch.utils.tensorboard")
        self._hparams = importlib.import_module("torch.utils.tensorboard.summary").hparams
        self._writers: dict[int, Any] = {}

    def start_study(self, name: str, folder: Path, metric: str, config: Mapping[str, Any]) -> None:
        """Remember the folder for the event files, and the metric that the HParams tab shows. Writes nothing."""
        self._folder, self._metric = folder / "tensorboard", metric

    def start_trial(self, number: int, config: Mapping[str, Any], epoch: int) -> None:
        """Open a new event file of a trial and write its configuration; values after `epoch` from an earlier file are discarded."""
        if number in self._writers:
            self._writers.pop(number).close()
        folder = self._folder / f"{number:05d}"
        writer = self._writers[number] = self._tensorboard.SummaryWriter(str(folder), purge_step=epoch + 1 if folder.exists() else None)
        experiment, session_start, self._session_end = self._hparams(flat(config), {self._metric: 0.0})
        writer.file_writer.add_summary(experiment)
        writer.file_writer.add_summary(session_start)

    def log_epoch(self, number: int, epoch: int, metrics: Mapping[str, float]) -> None:
        """Write a scalar for each metric."""
        for name, value in metrics.items():
            self._writers[number].add_scalar(name, value, epoch)
        self._writers[number].flush()

    def end_trial(self, number: int, state: str, reason: str, value: float | None) -> None:
        """Write a trial's state and the reason, and close its files."""
        writer = self._writers.pop(number)
        writer.add_text("ended", f"{state}: {reason}" if reason else state)
        if state != "paused":
            writer.file_writer.add_summary(self._session_end)
        writer.close()

    def close(self, state: str) -> None:
        """Close the files of trials that have not ended."""
        for writer in self._writers.values():
            writer.close()
