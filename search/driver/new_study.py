"""Creates the study of a new search: its name, its folder, and what the record says about it before the first trial."""

import contextlib
import shutil
import uuid
from pathlib import Path

import optuna
from optuna.storages import RDBStorage

from search.config import SearchConfig
from search.driver.steering import config_to_record
from search.nodes.versions import versions
from search.plan import Plan
from search.policy.samplers import build_sampler
from search.record.artifacts import study_root
from search.record.store import create_study, list_study_names, name_taken_error
from search.record.study_names import fresh_name
from trainables.errors import ResourceError, StorageError
from trainables.storage.root import Root, probe

MIN_FREE_BYTES = 100_000_000
"""Free space that a search needs where it writes: for a few checkpoints of a small network, its history and its weights."""


def with_study_name(config: SearchConfig, storage: RDBStorage) -> SearchConfig:
    """Return the configuration with its `name` set: its own, else a new readable one that no study, output folder or root has.

    Raises ``StorageError`` if a study in the storage has the configuration's own name already.
    """
    known = list_study_names(storage)
    if config.name in known:
        raise name_taken_error(str(config.name))
    if config.name is not None:
        return config
    folders = [entry.name for entry in config.output.iterdir()] if config.output.is_dir() else []
    roots = Root(config.root).names() if config.root else []
    return config.model_copy(update={"name": fresh_name([*known, *folders, *roots])})


def new_study_places(config: SearchConfig) -> tuple[Path, str]:
    """Return the output folder of a new study, and the root of its checkpoints and artifacts (a folder or a URL).

    Raises ``StorageError`` if one of them is not empty or the root cannot be written, ``ResourceError`` if the disk of the output folder
    has less than `MIN_FREE_BYTES` free or the root is full.
    """
    name = str(config.name)
    folder = config.output / name
    if folder.exists() and any(folder.iterdir()):
        raise StorageError(f"the folder {folder} is not empty; choose another --name or --output")
    _require_space(config.output)
    root = study_root(config.root, name, folder)
    if config.root:
        probe(root, fresh=True)
    return folder, root


def create_planned_study(storage: RDBStorage, plan: Plan, folder: Path, root: str) -> optuna.Study:
    """Create a study, write the plan into its attributes, enqueue the default recipe as trial 0, and return the study.

    Raises ``StorageError`` if the name exists already. After any later error the study is deleted again.
    """
    config = plan.config
    sampler = build_sampler(config.algorithm.sampler, seed=config.seed, trials=config.budget.trials)
    study = create_study(storage, str(config.name), plan.mode, sampler)
    try:
        _record_plan(study, plan, folder, root)
        study.enqueue_trial(plan.space.default_params())
    except BaseException:
        with contextlib.suppress(Exception):
            optuna.delete_study(study_name=study.study_name, storage=storage)
        raise
    return study


def _record_plan(study: optuna.Study, plan: Plan, folder: Path, root: str) -> None:
    for key, value in {
        "config": config_to_record(plan.config),
        "dataset": plan.dataset_facts(),
        "space": plan.space.describe(),
        "parameters": plan.space.as_json(),
        "identity": uuid.uuid4().hex,
        "metric": plan.metric,
        "folder": str(folder),
        "root": root,
        "versions": versions(),
    }.items():
        study.set_user_attr(key, value)


def _require_space(output: Path) -> None:
    place = next(path for path in (output, *output.parents) if path.exists())
    free = shutil.disk_usage(place).free
    if free < MIN_FREE_BYTES:
        raise ResourceError(
            f"{place} has {free / 1e6:.0f} MB free, and a search needs {MIN_FREE_BYTES / 1e6:.0f} MB; free space or name another --output"
        )
