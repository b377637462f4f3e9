"""What Ray Tune runs: one `Trainable` whose step is one reported epoch. Light to import: torch is imported in the first step."""

import time
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ray import tune

from trainables.errors import DamagedError
from trainables.storage.saved_states import SavedStates
from trainables.worker.assignment import Assignment, open_data
from trainables.worker.failures import failure_kind
from trainables.worker.final_evaluation import evaluate_finished, refit
from trainables.worker.journal import Journal
from trainables.worker.memory import free_memory
from trainables.worker.node_draining import raise_if_draining
from trainables.worker.node_usage import worker_name
from trainables.worker.trial_report import read_trial_report, write_trial_report
from trainables.worker.trial_state import WorkDone, build_trainer, describe_restart, epoch_result, save_trainer

if TYPE_CHECKING:
    from trainables.training.trainer import Trainer
    from trainables.worker.replicas import Replicas


class ImageTrial(tune.Trainable):
    """Fine-tunes one network. Each epoch is saved before it is reported.

    The `config` that Ray gives holds an `Assignment`, as a dictionary, under ``assignment``. Subclasses replace the public methods
    ``start_trainer``, ``save_epoch``, ``report_epoch``, ``evaluate_finished``, ``refit`` and ``previews``.
    """

    _replicas: "Replicas | None" = None

    def setup(self, config: dict[str, Any]) -> None:
        """Keep the configuration for the first step. Whatever can fail is left to that step, where Ray retries."""
        self._assignment = config
        self._trainer: Trainer | None = None
        self._journal = Journal()

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial's configuration and return True; keep the process, its imports, its open data sets and its replicas."""
        self._release()
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Train and evaluate one epoch, save it, and return its result for Ray; see `epoch_result`.

        An epoch that a lost worker had saved, but perhaps not reported, is reported first.
        An error that another attempt would meet again ends the trial with a result that holds ``failure`` (``kind``, ``message``,
        ``traceback``). Any other error is raised, and Ray retries.
        Raises ``NodeDraining`` if the node is being drained.
        """
        started = time.perf_counter()
        assignment = Assignment.model_validate(self._assignment["assignment"])
        raise_if_draining()
        try:
            with self._journal.capture_warnings():
                just_built = self._trainer is None
                if self._trainer is None:
                    self._trainer, self._work = self.start_trainer(assignment)
                trainer = self._trainer
                unreported = just_built and trainer.epoch > assignment.reported
                if trainer.epoch < assignment.trial.epochs and not unreported:
                    self._run_epoch(trainer)
                    self._work.add(time.perf_counter() - started)
                    self.save_epoch(trainer, assignment, self._work)
            return self.report_epoch(trainer, assignment, self._work)
        except Exception as error:
            kind = failure_kind(error)
            if kind is None:
                if self._replicas is not None:
                    self.cleanup()  # the replicas may be at different points of the epoch
                raise
            self._release()
            failure = {"kind": kind, "message": str(error), "traceback": traceback.format_exc()}
            return {"done": True, "failure": failure, "objective": float("nan"), "progress": 0}

    def start_trainer(self, assignment: Assignment) -> tuple[Any, WorkDone]:
        """Return the trial's trainer, which continues from the newest state that can be read, and the work done so far.

        Also adds lines to the journal, after the lines of the trial's earlier workers: who trains, and why if from an earlier epoch.
        """
        self._states = SavedStates(assignment.folder)
        trainer, work = self._build_trainer(assignment)
        restarts = describe_restart(self._states, epoch=trainer.epoch, reported=assignment.reported)
        if trainer.epoch or restarts:
            with suppress(DamagedError):
                self._journal.prepend(read_trial_report(assignment.folder).get("log", []))
        workers = ", ".join([worker_name(), *(self._replicas.names if self._replicas else ())])
        self._journal.add(f"{workers} on {trainer.device}: from epoch {trainer.epoch + 1} of {assignment.trial.epochs}")
        for restart in restarts:
            self._journal.add(f"warning: {restart}")
        work.restarts += restarts
        return trainer, work

    def save_epoch(self, trainer: Any, assignment: Assignment, work: WorkDone) -> None:
        """Add the epoch to the journal, save the trial report, and then the state: a trial that has a state has a report too."""
        row = {name: values[-1] for name, values in trainer.history.items()}
        self._journal.add(f"epoch {trainer.epoch}: " + ", ".join(f"{name} {value:.4g}" for name, value in row.items()))
        write_trial_report(assignment.folder, self._journal.lines, trainer.diagnostics())
        save_trainer(trainer, self._states, work)

    def report_epoch(self, trainer: Any, assignment: Assignment, work: WorkDone) -> dict[str, Any]:
        """Return what the step reports to Ray after an epoch: `epoch_result`, with the largest peak memory of all replicas."""
        result = epoch_result(trainer, assignment, self._states, work)
        if self._replicas is not None:
            result["facts"]["peak_memory_bytes"] = max(result["facts"]["peak_memory_bytes"], self._replicas.peak_memory)
        return result

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        """Return an empty dictionary for Ray to keep: `step` has saved the state in the trial's folder, which every node can read."""
        return {}

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Free the trainer in memory; the next step continues from the state in the trial's folder, and `checkpoint` is not used."""
        self._release()

    @staticmethod
    def evaluate_finished(assignment: dict[str, Any], weights: str | None = None) -> dict[str, Any]:
        """Evaluate a finished trial on the test split and export it; see `trainables.worker.final_evaluation.evaluate_finished`."""
        return evaluate_finished(assignment, weights)

    @staticmethod
    def refit(assignment: dict[str, Any], weights: str | None = None) -> dict[str, Any]:
        """Train a trial again on training and validation images, and export it; see `trainables.worker.final_evaluation.refit`."""
        return refit(assignment, weights)

    @staticmethod
    def previews(assignment: dict[str, Any]) -> dict[str, Any]:
        """Return JPEG sheets of training images before and after augmentation; see `trainables.data.augmentation_previews.sheets`."""
        from trainables.data.augmentation_previews import sheets  # imports Albumentations

        job = Assignment.model_validate(assignment)
        return sheets(open_data(job), job.trial.augmentation_ops)

    def cleanup(self) -> None:
        """End the replicas' processes and free the network. Ray calls this before it ends the actor."""
        if self._replicas is not None:
            self._replicas.close()
            self._replicas = None
        self._release()

    def _release(self) -> None:
        """Free the network here and in the replicas; keep the processes for the next trial. Replicas that do not answer are ended."""
        if self._replicas is not None and not self._replicas.release():
            self._replicas = None
        self._trainer = None
        free_memory()

    def _build_trainer(self, assignment: Assignment) -> "tuple[Trainer, WorkDone]":
        if self._replicas is not None and self._replicas.size != assignment.replicas:
            self._replicas.close()
            self._replicas = None
        if assignment.replicas == 1:
            return build_trainer(assignment, self._states, fall_back=True)
        from trainables.worker.replicas import Replicas  # imports torch

        self._replicas = self._replicas or Replicas(assignment.replicas)
        return self._replicas.build_trainers(assignment, self._states)

    def _run_epoch(self, trainer: Any) -> None:
        if self._replicas is None:
            trainer.run_epoch()
        else:
            self._replicas.run_epoch(trainer)
