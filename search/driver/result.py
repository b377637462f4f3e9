"""The end of a search: evaluates the winner on the test split, and writes the best configuration and its weights as files."""

from typing import Any

from search.driver.search_run import SearchRun
from search.nodes.resources import assignment_factory
from search.record.artifacts import trial_folder
from search.record.reader import study_record
from search.record.record_writer import RecordWriter
from search.record.records import StudyRecord, TrialRecord
from trainables.config import Recipe, TrialConfig, write_yaml
from trainables.errors import InjertoError, StorageError
from trainables.storage.locations import join
from trainables.storage.root import Root
from trainables.storage.saved_states import SavedStates

WEIGHTS = "best.safetensors"


def write_result(run: SearchRun, record_writer: RecordWriter) -> None:
    """Evaluate the winner and the default recipe on the test split; record it, and write `best.yaml` and `best.safetensors`.

    With `config.refit`, or without it if the winner has folds, the winner is also trained again on training and validation images; then the
    files are those of that network.
    Workers read the checkpoints and write the weights below the study's root, which the driver may not have on its own disk. The default
    recipe is left out if its checkpoint was dropped to save space. Does nothing if no trial has finished or was stopped. Nothing is chosen
    after the test split is evaluated. If a user continues the search and it ends again, the record lists both evaluations.
    """
    record: StudyRecord = record_writer.write(study_record, run.study)
    best, default = record.best, record.default_recipe
    if best is None or default is None:
        return
    default_kept = default.state in ("finished", "stopped") and bool(SavedStates(trial_folder(run.root, default.number)).names())
    recipe = _recipe(run, best)
    if recipe.refit:
        epochs = f"{recipe.trial.epochs} epoch{'s' * (recipe.trial.epochs > 1)}"
        run.watcher.say(f"training trial {best.number} again on training and validation images, {epochs}")
    roles = {"winner": best} | ({"default_recipe": default} if default_kept else {}) | ({"refit": best} if recipe.refit else {})
    scores = _evaluate(roles, run, exported="refit" if recipe.refit else "winner")
    if run.root != str(run.folder):
        copy_key(WEIGHTS, Root(run.root), Root(run.folder))
    record_writer.write(run.study.set_user_attr, "test", scores)
    evaluation = {"winner": best.number, "trials": len(record.trials)}
    record_writer.write(run.study.set_user_attr, "openings", [*record.test_evaluations, evaluation])
    write_yaml(
        run.folder / "best.yaml",
        recipe,
        f"The best configuration of {run.study.study_name}. Train it again with: injerto train best.yaml",
    )


def copy_key(key: str, source: Root, target: Root) -> None:
    """Copy the content of a key from one root to the same key of another. Raises ``StorageError`` if `source` has no such key."""
    content = source.read(key)
    if content is None:
        raise StorageError(f"{key} is not in {source}, although a worker has just written it; check that all nodes see the same root")
    target.write(key, content)


def _recipe(run: SearchRun, best: TrialRecord) -> Recipe:
    trial, refit = TrialConfig.model_validate(best.config), run.plan.config.refit
    return Recipe(
        study=run.study.study_name,
        trial_number=best.number,
        metric=run.plan.metric,
        value=best.value,
        epochs_done=None if best.state == "finished" else best.epochs_done,
        threads=run.resources.cpus,
        fingerprint=run.plan.dataset.fingerprint,
        refit=trial.folds > 0 if refit is None else refit,
        data=run.plan.config.data,
        trial=trial,
    )


def _evaluate(trials: dict[str, TrialRecord], run: SearchRun, *, exported: str) -> dict[str, Any]:
    """Return role → the trial's number as `trial`, and the metrics as `test` and `validation`; `trials` maps each role to its trial.

    Workers evaluate the trials in parallel, one that has two roles once, and train the one with the role ``refit`` again before. The worker
    with the role `exported` also writes the network's weights to the study's root.
    Raises the ``InjertoError`` with which a worker ended.
    """
    import ray

    assign = assignment_factory(run.plan, run.root, run.resources)
    remote = ray.remote(**run.resources.remote_options())
    work = {role: ("refit" if role == "refit" else "evaluate_finished", trial.number) for role, trial in trials.items()}
    pending = {}
    for role, trial in trials.items():
        if work[role] in pending:
            continue
        assignment = assign(trial.number, TrialConfig.model_validate(trial.config)).model_dump(mode="json")
        weights = join(run.root, WEIGHTS) if work[role] == work[exported] else None
        pending[work[role]] = remote(getattr(run.trainable, work[role][0])).remote(assignment, weights)
    try:
        return {role: {"trial": trials[role].number, **ray.get(pending[task])} for role, task in work.items()}
    except ray.exceptions.RayTaskError as error:
        raise error.cause if isinstance(error.cause, InjertoError) else error from None
