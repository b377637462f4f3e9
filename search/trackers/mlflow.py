"""A study in MLflow (https://mlflow.org): a run for the study and a nested run for each trial."""

import importlib
import logging
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from search.trackers.tracker import flat, study_hash

STATUS = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED", "paused": "SCHEDULED"}
"""State of a trial or a search → MLflow's run status."""
EXPERIMENT = "injerto"
BATCH = 100
"""Most parameters that one request to MLflow may carry."""
STUDY = "-1"
"""The value of the tag ``injerto.trial`` on the study's own run."""


class MLflowTracker:
    """Logs to the experiment ``injerto`` at ``MLFLOW_TRACKING_URI``; a resumed search finds its runs by their tags.

    Needs the package ``mlflow``. The methods are those of `Tracker` and raise what MLflow raises.
    """

    def __init__(self) -> None:
        mlflow = importlib.import_module("mlflow")
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        self._entities = importlib.import_module("mlflow.entities")
        self._client = mlflow.MlflowClient()
        self._runs: dict[int, str] = {}

    def start_study(self, name: str, folder: Path, metric: str, config: Mapping[str, Any]) -> None:
        """Open the study's run: the earlier one if the search resumes, else a new one with the configuration as its parameters.

        Creates the experiment if it does not exist.
        """
        self._tags = {"injerto.study": name, "injerto.id": study_hash(folder)}
        experiment = self._client.get_experiment_by_name(EXPERIMENT)
        self._experiment = experiment.experiment_id if experiment else self._client.create_experiment(EXPERIMENT)
        for run in self._earlier_runs():
            self._runs[int(run.data.tags["injerto.trial"])] = run.info.run_id
        earlier = self._runs.pop(int(STUDY), None)
        self._parent = earlier or self._create_run(name, {"injerto.trial": STUDY, "injerto.metric": metric})
        self._client.update_run(self._parent, status="RUNNING")
        if earlier is None:
            self._log_parameters(self._parent, config)

    def start_trial(self, number: int, config: Mapping[str, Any], epoch: int) -> None:
        """Open a trial's run: the earlier one if the trial starts again, else a new one with the configuration as its parameters."""
        if number not in self._runs:
            tags = {"injerto.trial": str(number), "mlflow.parentRunId": self._parent}
            self._runs[number] = self._create_run(f"trial {number}", tags)
            self._log_parameters(self._runs[number], config)
        self._client.update_run(self._runs[number], status="RUNNING")

    def log_epoch(self, number: int, epoch: int, metrics: Mapping[str, float]) -> None:
        """Log each metric with the epoch as its step."""
        now = int(time.time() * 1000)
        logged = [self._entities.Metric(name, float(value), now, epoch) for name, value in metrics.items()]
        self._client.log_batch(self._runs[number], metrics=logged)

    def end_trial(self, number: int, state: str, reason: str, value: float | None) -> None:
        """Tag a trial's run with its state and the reason, and end it."""
        self._client.set_tag(self._runs[number], "injerto.state", state)
        self._client.set_tag(self._runs[number], "injerto.reason", reason)
        self._client.set_terminated(self._runs[number], STATUS[state])

    def close(self, state: str) -> None:
        """End the study's run, with the state as its status."""
        self._client.set_terminated(self._parent, STATUS[state])

    def _earlier_runs(self) -> Iterator[Any]:
        query = f"tags.`injerto.id` = '{self._tags['injerto.id']}'"
        token = None
        while True:
            page = self._client.search_runs([self._experiment], query, page_token=token)
            yield from page
            if not (token := page.token):
                return

    def _create_run(self, name: str, tags: Mapping[str, str]) -> str:
        run = self._client.create_run(self._experiment, run_name=name, tags={**self._tags, **tags})
        return str(run.info.run_id)

    def _log_parameters(self, run: str, config: Mapping[str, Any]) -> None:
        parameters = [self._entities.Param(name, str(value)) for name, value in flat(config).items()]
        for first in range(0, len(parameters), BATCH):
            self._client.log_batch(run, params=parameters[first : first + BATCH])
