"""Two changes to Ray Tune 2.60, made with `unittest.mock.patch` while trials run: who decides on retries, and no credentials in logs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SECURITY_TOKEN", "AWS_SESSION_TOKEN")
"""Environment variables that are not passed on. Nodes have credentials of their own; the preflight finds those that have none."""


@contextmanager
def retries_decided_by(may_retry: Callable[[str, BaseException], bool]) -> Iterator[None]:
    """While the block runs, Ray Tune asks `may_retry(ray_trial_id, error)` whether a trial that raised or lost its worker is tried again.

    Without this, Ray's `TuneController._process_trial_failure` counts a lost node like an exception of the trial. Its
    `RayActorManager._actor_task_failed` ends the whole run for an error that is neither an actor's nor a task's, such as a worker that
    the memory monitor killed.
    """
    from ray.air.execution._internal.actor_manager import RayActorManager
    from ray.exceptions import RayActorError, RayError, RayTaskError
    from ray.tune.execution.tune_controller import TuneController

    task_failed, trial_failed = RayActorManager._actor_task_failed, TuneController._process_trial_failure

    def actor_task_failed(self: Any, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, RayError) and not isinstance(exception, RayActorError | RayTaskError):
            exception = RayActorError(error_msg=f"{type(exception).__name__}: {exception}")
        task_failed(self, tracked_actor_task=tracked_actor_task, exception=exception)

    def process_trial_failure(self: Any, trial: Any, exception: Any) -> None:
        again = may_retry(trial.trial_id, exception)
        trial.max_failures = -1 if again else 0
        if again and trial.status == "PENDING":  # its worker was lost while Ray handed it over from another trial
            self._set_trial_status(trial, "RUNNING")
        trial_failed(self, trial, exception)

    ask_may_retry = patch.object(TuneController, "_process_trial_failure", process_trial_failure)
    with patch.object(RayActorManager, "_actor_task_failed", actor_task_failed), ask_may_retry:
        yield


@contextmanager
def credentials_withheld() -> Iterator[None]:
    """While the block runs, Ray Tune passes no bucket credentials to trials: they would be in the runtime environment, which Ray logs."""
    from ray.tune.execution import class_cache

    with patch.object(class_cache, "ENV_VARS_TO_PROPAGATE", set(class_cache.ENV_VARS_TO_PROPAGATE) - set(CREDENTIALS)):
        yield
