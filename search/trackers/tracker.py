"""Places where trials are recorded besides the study: TensorBoard, MLflow, Weights & Biases, behind one protocol."""

import hashlib
import importlib
import logging
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from trainables.errors import ConfigError

MLFLOW_STATUS = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED", "paused": "SCHEDULED"}
WANDB_EXIT = {"finished": 0, "stopped": 0, "failed": 1, "paused": 1}


class Tracker(Protocol):
    """Where trials are recorded besides the study. A trial may begin again, from the epoch that it goes on from."""

    def study(self, name: str, folder: Path, metric: str, config: Mapping[str, Any]) -> None:
        """A search starts or goes on."""

    def began(self, number: int, config: Mapping[str, Any], epoch: int) -> None:
        """A trial begins after so many epochs."""

    def epoch(self, number: int, epoch: int, metrics: Mapping[str, float]) -> None:
        """A trial reports an epoch."""

    def ended(self, number: int, state: str, reason: str, value: float | None) -> None:
        """A trial ends: finished, stopped, failed or paused."""

    def close(self, state: str) -> None:
        """The search ends: finished, paused or failed."""


class TensorBoard:
    """Event files under ``FOLDER/tensorboard/NNNNN``: a scalar for each metric, the configuration for the HParams tab.

    A trial that goes on purges what it wrote after the epoch that it goes on from.
    """

    def __init__(self) -> None:
        self._tensorboard = importlib.import_module("torch.utils.tensorboard")
        self._hparams = importlib.import_module("torch.utils.tensorboard.summary").hparams
        self._writers: dict[int, Any] = {}

    def study(self, name: str, folder: Path, metric: str, config: Mapping[str, Any]) -> None:
        """Note the folder and the metric that the HParams tab shows."""
        self._folder, self._metric = folder / "tensorboard", metric

    def began(self, number: int, config: Mapping[str, Any], epoch: int) -> None:
        """Open a trial's files."""
        if number in self._writers:
            self._writers.pop(number).close()
        folder = self._folder / f"{number:05d}"
        writer = self._writers[number] = self._tensorboard.SummaryWriter(str(folder), purge_step=epoch + 1 if folder.exists() else None)
        experiment, start, self._end = self._hparams(flat(config), {self._metric: 0.0})
        writer.file_writer.add_summary(experiment)
        writer.file_writer.add_summary(start)

    def epoch(self, number: int, epoch: int, metrics: Mapping[str, float]) -> None:
        """Write a scalar for each metric."""
        for name, value in metrics.items():
            self._writers[number].add_scalar(name, value, epoch)
        self._writers[number].flush()

    def ended(self, number: int, state: str, reason: str, value: float | None) -> None:
        """Write how a trial ended, and close its files."""
        writer = self._writers.pop(number)
        writer.add_text("ended", f"{state}: {reason}" if reason else state)
        if state != "paused":
            writer.file_writer.add_summary(self._end)
        writer.close()

    def close(self, state: str) -> None:
        """Close what is open."""
        for writer in self._writers.values():
            writer.close()


class MLflow:
    """A parent run for the study and a nested one for each trial, in the experiment ``injerto``, at ``MLFLOW_TRACKING_URI``.

    A search that goes on finds its runs again by their tags.
    """

    EXPERIMENT = "injerto"
    BATCH = 100
    """Parameters that one request takes."""

    def __init__(self) -> None:
        mlflow = importlib.import_module("mlflow")
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        self._entities = importlib.import_module("mlflow.entities")
        self._client = mlflow.MlflowClient()
        self._runs: dict[int, str] = {}

    def study(self, name: str, folder: Path, metric: str, config: Mapping[str, Any]) -> None:
        """Open the study's run, the one that it had before if there is one."""
        self._tags = {"injerto.study": name, "injerto.id": identity(folder)}
        found = self._client.get_experiment_by_name(self.EXPERIMENT)
        self._experiment = found.experiment_id if found else self._client.create_experiment(self.EXPERIMENT)
        for run in self._past():
            self._runs[int(run.data.tags["injerto.trial"])] = run.info.run_id
        known = self._runs.pop(-1, None)
        self._parent = known or self._create(name, {"injerto.trial": "-1", "injerto.metric": metric})
        self._client.update_run(self._parent, status="RUNNING")
        if known is None:
            self._parameters(self._parent, config)

    def began(self, number: int, config: Mapping[str, Any], epoch: int) -> None:
        """Open a trial's run."""
        if number not in self._runs:
            tags = {"injerto.trial": str(number), "mlflow.parentRunId": self._parent}
            self._runs[number] = self._create(f"trial {number}", tags)
            self._parameters(self._runs[number], config)
        self._client.update_run(self._runs[number], status="RUNNING")

    def epoch(self, number: int, epoch: int, metrics: Mapping[str, float]) -> None:
        """Log each metric at the epoch."""
        now = int(time.time() * 1000)
        logged = [self._entities.Metric(name, float(value), now, epoch) for name, value in metrics.items()]
        self._client.log_batch(self._runs[number], metrics=logged)

    def ended(self, number: int, state: str, reason: str, value: float | None) -> None:
        """Close a trial's run with its state and the reason."""
        self._client.set_tag(self._runs[number], "injerto.state", state)
        self._client.set_tag(self._runs[number], "injerto.reason", reason)
        self._client.set_terminated(self._runs[number], MLFLOW_STATUS[state])

    def close(self, state: str) -> None:
        """Close the study's run."""
        self._client.set_terminated(self._parent, MLFLOW_STATUS[state])

    def _past(self) -> Iterator[Any]:
        words = f"tags.`injerto.id` = '{self._tags['injerto.id']}'"
        token = None
        while True:
            page = self._client.search_runs([self._experiment], words, page_token=token)
            yield from page
            if not (token := page.token):
                return

    def _create(self, name: str, tags: Mapping[str, str]) -> str:
        run = self._client.create_run(self._experiment, run_name=name, tags={**self._tags, **tags})
        return str(run.info.run_id)

    def _parameters(self, run: str, config: Mapping[str, Any]) -> None:
        given = [self._entities.Param(name, str(value)) for name, value in flat(config).items()]
        for first in range(0, len(given), self.BATCH):
            self._client.log_batch(run, params=given[first : first + self.BATCH])


class Wandb:
    """A run for each trial, in the project ``injerto``, grouped by study; ``WANDB_*`` variables hold, ``WANDB_MODE=offline`` among them."""

    PROJECT = "injerto"

    def __init__(self) -> None:
        self._wandb = importlib.import_module("wandb")
        if self._wandb.setup().settings.mode == "online" and not self._wandb.login(prompt=False):
            raise ConfigError("--track wandb needs an account; log in with: wandb login, or set WANDB_MODE=offline")
        self._runs: dict[int, Any] = {}

    def study(self, name: str, folder: Path, metric: str, config: Mapping[str, Any]) -> None:
        """Note the group and the folder."""
        self._name, self._folder, self._metric = name, folder, metric

    def began(self, number: int, config: Mapping[str, Any], epoch: int) -> None:
        """Open a trial's run, the one that it had before if there is one."""
        if number in self._runs:
            return
        self._runs[number] = self._wandb.init(
            project=os.environ.get("WANDB_PROJECT", self.PROJECT),
            id=f"{identity(self._folder)}-{number}",
            name=f"{self._name} {number}",
            group=self._name,
            config={"trial": number, **flat(config)},
            dir=str(self._folder),
            resume="allow",
            reinit="create_new",
            settings=self._wandb.Settings(silent=True, console="off"),
        )

    def epoch(self, number: int, epoch: int, metrics: Mapping[str, float]) -> None:
        """Log the epoch's metrics."""
        self._runs[number].log(dict(metrics), step=epoch)

    def ended(self, number: int, state: str, reason: str, value: float | None) -> None:
        """Close a trial's run with its state and the reason."""
        run = self._runs.pop(number)
        run.summary.update({"state": state, "reason": reason})
        run.finish(exit_code=WANDB_EXIT[state])

    def close(self, state: str) -> None:
        """Close what is open."""
        for run in self._runs.values():
            run.finish(exit_code=WANDB_EXIT[state])


def flat(config: Mapping[str, Any]) -> dict[str, bool | int | float | str]:
    """Return a configuration as the plain values that every tracker takes, ``budget.trials`` for a key within a key."""
    found: dict[str, bool | int | float | str] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            found |= {f"{name}.{inner}": plain for inner, plain in flat(value).items()}
        elif isinstance(value, list | tuple):
            found[name] = ", ".join(map(str, value))
        else:
            found[name] = value if isinstance(value, bool | int | float | str) else str(value)
    return found


def identity(folder: Path) -> str:
    """Return a short name that only this study's folder has, the same after a resume."""
    return hashlib.sha256(str(folder).encode()).hexdigest()[:16]
