"""The end of a search: the test split opened once, and the best configuration handed over as files."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna

from search.records import TrialRecord, study_record
from trainables.config import Recipe, TrialConfig, write_yaml

if TYPE_CHECKING:
    from search.launch import Share
    from search.plan import Plan


def hand_over(study: optuna.Study, plan: "Plan", folder: Path, share: "Share") -> None:
    """Write `best.yaml` and `best.safetensors`, and the test metrics of the winner and of the default recipe to the study.

    Does nothing where no trial has ended. Nothing is chosen after the test split is opened.
    """
    record = study_record(study)
    best, default = record.best, record.default_recipe
    if best is None or default is None:
        return
    chosen = {"winner": best} | ({"default_recipe": default} if default.state in ("finished", "stopped") else {})
    scores = _finish(chosen, plan, folder, share)
    study.set_user_attr("test", scores)
    recipe = Recipe(
        study=study.study_name,
        trial_number=best.number,
        metric=plan.metric,
        value=best.value,
        threads=int(share["cpu"]),
        fingerprint=plan.dataset.fingerprint,
        data=plan.config.data,
        trial=TrialConfig.model_validate(best.config),
    )
    write_yaml(folder / "best.yaml", recipe, f"The best configuration of {study.study_name}. Train it again with: injerto train best.yaml")


def _finish(chosen: dict[str, TrialRecord], plan: "Plan", folder: Path, share: "Share") -> dict[str, Any]:
    import ray

    from search.launch import assigner
    from trainables.final import finish

    assign = assigner(plan, folder, share)
    task = ray.remote(num_cpus=share["cpu"], num_gpus=share["gpu"])(finish)
    pending = {}
    for role, trial in chosen.items():
        config = TrialConfig.model_validate(trial.config)
        assignment = assign(trial.number, config).model_dump(mode="json")
        weights = str(folder / "best.safetensors") if role == "winner" else None
        pending[role] = task.remote(assignment, weights)
    return {role: {"trial": chosen[role].number, **ray.get(reference)} for role, reference in pending.items()}
