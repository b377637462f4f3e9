"""A study in Weights & Biases (https://docs.wandb.ai): a run for each trial, grouped by study."""

import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from search.trackers.tracker import flat, study_hash
from trainables.errors import ConfigError

EXIT_CODE = {"finished": 0, "stopped": 0, "failed": 1, "paused": 1}
"""State of a trial or a search → the exit code of its run."""
PROJECT = "injerto"


class WandbTracker:
    """Logs to the project ``injerto``. The variables ``WANDB_*`` apply, for example ``WANDB_PROJECT`` and ``WANDB_MODE=offline``.

    Raises ``ConfigError`` if W&B is online and nobody is logged in.
    """

    def __init__(self) -> None:
        self._wandb = importlib.import_module("wandb")
        if self._wandb.setup().settings.mode == "online" and not self._wandb.login(prompt=False):
            raise ConfigError("--track wandb needs an account; log in with: wandb login, or set WANDB_MODE=offline")
        self._runs: dict[int, Any] = {}

    def start_study(self, name: str, folder: Path, metric: str, config: Mapping[str, Any]) -> None:
        """Remember the name, which becomes the group of the runs, and the folder for W&B's files. Starts no run."""
        self._name, self._folder = name, folder

    def start_trial(self, number: int, config: Mapping[str, Any], epoch: int) -> None:
        """Open a trial's run: the earlier one if the trial starts again, else a new one with the configuration."""
        if number in self._runs:
            return
        self._runs[number] = self._wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            id=f"{study_hash(self._folder)}-{number}",
            name=f"{self._name} {number}",
            group=self._name,
            config={"trial": number, **flat(config)},
            dir=str(self._folder),
            resume="allow",
            reinit="create_new",
            settings=self._wandb.Settings(silent=True, console="off"),
        )

    def log_epoch(self, number: int, epoch: int, metrics: Mapping[str, float]) -> None:
        """Log each metric with the epoch as its step."""
        self._runs[number].log(dict(metrics), step=epoch)

    def end_trial(self, number: int, state: str, reason: str, value: float | None) -> None:
        """Write a trial's state and the reason to its run, and end it."""
        run = self._runs.pop(number)
        run.summary.update({"state": state, "reason": reason})
        run.finish(exit_code=EXIT_CODE[state])

    def close(self, state: str) -> None:
        """End the runs of trials that have not ended, with the exit code of the search's state."""
        for run in self._runs.values():
            run.finish(exit_code=EXIT_CODE[state])
