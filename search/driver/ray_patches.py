"""The two places where Ray Tune 2.60 takes every fault for the same, made to ask us instead.

`RayActorManager._actor_task_failed` raises for what is neither an actor's nor a task's error (a worker killed by the memory monitor, for
one) and so ends the whole run; `TuneController._process_trial_failure` counts a lost node like an exception.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch


@contextmanager
def retries_decided_by(go_on: Callable[[str, BaseException], bool]) -> Iterator[None]:
    """While the block runs, ask `go_on(ray_trial_id, error)` whether a trial that broke is tried again."""
    from ray.air.execution._internal.actor_manager import RayActorManager
    from ray.exceptions import RayActorError, RayError, RayTaskError
    from ray.tune.execution.tune_controller import TuneController

    task_failed, trial_failed = RayActorManager._actor_task_failed, TuneController._process_trial_failure

    def actor_task_failed(self: Any, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, RayError) and not isinstance(exception, RayActorError | RayTaskError):
            exception = RayActorError(error_msg=f"{type(exception).__name__}: {exception}")
        task_failed(self, tracked_actor_task=tracked_actor_task, exception=exception)

    def process_trial_failure(self: Any, trial: Any, exception: Any) -> None:
        again = go_on(trial.trial_id, exception)
        trial.max_failures = -1 if again else 0
        if again and trial.status == "PENDING":  # its worker was lost while it was being passed on from the trial before
            self._set_trial_status(trial, "RUNNING")
        trial_failed(self, trial, exception)

    asking = patch.object(TuneController, "_process_trial_failure", process_trial_failure)
    with patch.object(RayActorManager, "_actor_task_failed", actor_task_failed), asking:
        yield
