"""The table of Ray schedulers, which decide after each epoch whether a trial goes on."""

from collections.abc import Callable, Mapping
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from search.policy.rungs import Rungs, Verdict


class ProgressHalving(FIFOScheduler):
    """A Ray scheduler that stops a trial when a rung says so, and puts the rung's verdict into `verdicts` under the trial's number."""

    def __init__(self, rungs: Rungs, verdicts: dict[int, Verdict]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._rungs, self._verdicts = rungs, verdicts
        self._judged: dict[int, int] = {}

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: Mapping[str, Any]) -> str:
        """Return Ray's decision (STOP or CONTINUE) for a trial that reported an epoch."""
        number = trial.config["assignment"]["number"]
        if (verdict := self._observe(trial, result)) is not None:
            self._verdicts[number] = verdict
        return str(TrialScheduler.STOP if number in self._verdicts else TrialScheduler.CONTINUE)

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: Mapping[str, Any]) -> None:
        """Let the rungs observe the last report of a trial, which Ray does not hand to `on_trial_result`; it can stop nothing any more."""
        self._observe(trial, result)

    def _observe(self, trial: Trial, result: Mapping[str, Any]) -> Verdict | None:
        """Return the verdict of a rung on the epochs since the trial's last report, None if the trial may go on.

        The rungs observe these epochs in order, because a trial may report several at once.
        """
        if "epoch" not in result:
            return None
        assignment = trial.config["assignment"]
        planned, number = assignment["trial"], assignment["number"]
        epochs = range(self._judged.get(number, assignment["reported"]) + 1, result["epoch"] + 1)
        self._judged[number] = result["epoch"]
        for epoch in epochs:
            value = result["history/objective"][epoch - 1]
            verdict = self._rungs.observe(number, epoch=epoch, epochs=planned["epochs"], warmup=planned["warmup"], value=value)
            if verdict is not None:
                return verdict
        return None


def _run_all_epochs(rungs: Rungs, verdicts: dict[int, Verdict]) -> TrialScheduler:
    return FIFOScheduler()


SCHEDULERS: dict[str, Callable[[Rungs, dict[int, Verdict]], TrialScheduler]] = {"asha": ProgressHalving, "none": _run_all_epochs}
"""Name of a scheduler → (rungs, where verdicts are put) → Ray's scheduler. Those that stop trials are also in `config.EARLY_STOPPING`."""
