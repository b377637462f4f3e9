"""The end of a search: the test split opened once, and the best configuration handed over as files."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna

from search.nodes.resources import TrialResources, assignment_factory
from search.record.records import StudyRecord, TrialRecord, study_record
from trainables.config import Recipe, TrialConfig, write_yaml
from trainables.errors import InjertoError, StorageError
from trainables.storage.locations import Root, join, size_of

if TYPE_CHECKING:
    from search.plan import Plan
    from trainables.worker.trainable import ImageTrial


WEIGHTS = "best.safetensors"


def hand_over(
    study: optuna.Study, plan: "Plan", folder: Path, resources: TrialResources, trainable: "type[ImageTrial]", do: Callable[..., Any]
) -> None:
    """Write `best.yaml` and `best.safetensors`, and the test metrics of the winner and of the default recipe to the study.

    Workers read states and write weights under the study's root, which the driver need not have on a disk of its own. The default recipe
    is left out where the disk budget had no room for its state. Does nothing where no trial has ended. Nothing is chosen after the test
    split is opened; where a search goes on after that, each opening stays in the record. `do` reads and writes the record.
    """
    record: StudyRecord = do(study_record, study)
    best, default = record.best, record.default_recipe
    if best is None or default is None:
        return
    judged = default.state in ("finished", "stopped") and size_of(default.attributes.get("checkpoint", "none")) is not None
    chosen = {"winner": best} | ({"default_recipe": default} if judged else {})
    root = str(study.user_attrs.get("root", folder))
    scores = _finish(chosen, plan, root, resources, trainable)
    if root != str(folder):
        fetch(WEIGHTS, Root(root), Root(folder))
    do(study.set_user_attr, "test", scores)
    do(study.set_user_attr, "openings", [*record.openings, {"winner": best.number, "trials": len(record.trials)}])
    recipe = Recipe(
        study=study.study_name,
        trial_number=best.number,
        metric=plan.metric,
        value=best.value,
        threads=resources.cpus,
        fingerprint=plan.dataset.fingerprint,
        data=plan.config.data,
        trial=TrialConfig.model_validate(best.config),
    )
    write_yaml(folder / "best.yaml", recipe, f"The best configuration of {study.study_name}. Train it again with: injerto train best.yaml")


def fetch(key: str, source: Root, to: Root) -> None:
    """Copy what is at a key of one place to another. Raises ``StorageError`` if it is not there."""
    found = source.read(key)
    if found is None:
        raise StorageError(f"{key} is not in {source}; a worker wrote it a moment ago: do all nodes see the same root?")
    to.write(key, found)


def _finish(
    chosen: dict[str, TrialRecord], plan: "Plan", root: str, resources: TrialResources, trainable: "type[ImageTrial]"
) -> dict[str, Any]:
    import ray

    assign = assignment_factory(plan, root, resources)
    task = ray.remote(**resources.options())(trainable.finish)
    pending = {}
    for role, trial in chosen.items():
        config = TrialConfig.model_validate(trial.config)
        assignment = assign(trial.number, config).model_dump(mode="json")
        weights = join(root, WEIGHTS) if role == "winner" else None
        pending[role] = task.remote(assignment, weights)
    try:
        return {role: {"trial": chosen[role].number, **ray.get(reference)} for role, reference in pending.items()}
    except ray.exceptions.RayTaskError as error:
        raise error.cause if isinstance(error.cause, InjertoError) else error from None
