"""A Ray callback that passes on to the bridge what Ray does not tell its searcher."""

from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial as RayTrial

from search.driver.bridge import Bridge


class ResultCallback(Callback):
    """Passes every report of a trial to the bridge, and in each turn of Ray's event loop whether any running trial has a worker."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._started: dict[str, RayTrial] = {}

    def on_trial_start(self, iteration: int, trials: list[RayTrial], trial: RayTrial, **info: Any) -> None:
        """Remember a trial. Ray calls this when the trial gets a worker."""
        self._started[trial.trial_id] = trial

    def on_trial_result(self, iteration: int, trials: list[RayTrial], trial: RayTrial, result: dict[str, Any], **info: Any) -> None:
        """Pass a report to the bridge. Ray calls this also for the last report of a stopped trial, which its searchers do not get."""
        self._bridge.on_report(trial.trial_id, result)

    def on_step_end(self, iteration: int, trials: list[RayTrial], **info: Any) -> None:
        """Note in the bridge whether any trial has a worker. Ray calls this in each turn of its event loop."""
        self._started = {name: trial for name, trial in self._started.items() if self._bridge.is_running(name)}
        self._bridge.note_workers(any(trial.status == "RUNNING" for trial in self._started.values()))
