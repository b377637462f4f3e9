"""Starts and resumes searches: `SearchConfig` → plan → cluster → study → trials → `StudyRecord`, in this order."""

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna

from cluster.connect import connect, joins_cluster
from cluster.proxies import add_direct_hosts
from search.config import SearchConfig
from search.config_reader import change_settings, read_config
from search.display.terminal import Terminal
from search.driver.drive import all_trials_ended, build_stop_condition, drive
from search.driver.new_study import create_planned_study, new_study_places, with_study_name
from search.driver.search_run import SearchRun
from search.driver.steering import config_to_record, with_larger_budget
from search.nodes.provision import prepare_nodes
from search.nodes.resources import TrialResources, fit_to_cluster
from search.paths import resolve_paths
from search.plan import Plan, make_plan
from search.policy.samplers import build_sampler
from search.record.lease import Lease, study_running_error
from search.record.reader import study_record
from search.record.records import StudyRecord
from search.record.store import load_study, open_storage, resolve_url, storage_errors
from search.watcher import SilentWatcher, Watcher
from trainables.config import validate
from trainables.data.dataset import difference
from trainables.errors import ConfigError, StorageError
from trainables.storage.locations import is_url
from trainables.storage.root import probe

if TYPE_CHECKING:
    from trainables.worker.trainable import ImageTrial


def run(source: str | Path | None = None, *, settings: tuple[str, ...] = (), **options: Any) -> StudyRecord:
    """Run a new search, show its progress on standard output, and return its record.

    `source` is a data path, ``builtin:digits`` or a YAML file; None if `settings` name the data. Options are those of the command line:
    ``trials``, ``time_budget``, ``name``, ``weights``, ``metric``, ``seed``, ``storage``, ``output``, ``task``, ``strict`` and so on.
    `settings` are ``key=value`` texts and have priority over `source` and options. Raises ``InjertoError`` as `launch` does.
    """
    return launch(read_config(source, options, settings), Terminal())


def launch(config: SearchConfig, watcher: Watcher | None = None, *, trainable: "type[ImageTrial] | None" = None) -> StudyRecord:
    """Run a new search until it ends or pauses, and return its record. Trials run as `trainable`, by default `ImageTrial`.

    Raises ``InjertoError`` before the first trial if the search cannot work, and later if an error makes it pause.
    """
    watcher = watcher or SilentWatcher()
    config = resolve_paths(config).model_copy(update={"storage": resolve_url(config.storage)})
    add_direct_hosts()
    storage = open_storage(config.storage, create=True)
    config = with_study_name(config, storage)
    folder, root = new_study_places(config)
    plan = make_plan(config, watcher.preparing)
    with _cluster(plan, folder, root, watcher) as (plan, resources):
        study = create_planned_study(storage, plan, folder, root)
        with Lease(study, folder, 0.0) as lease:
            return drive(SearchRun(study, plan, folder, root, resources, watcher, trainable or _image_trial()), lease)


def resume(
    name: str,
    storage: str | None = None,
    watcher: Watcher | None = None,
    *,
    add_trials: int = 0,
    add_seconds: float = 0.0,
    settings: tuple[str, ...] = (),
    trainable: "type[ImageTrial] | None" = None,
) -> StudyRecord:
    """Continue a search until it ends or pauses, and return its record: first its open trials from their last epoch, then new ones.

    `add_trials` and `add_seconds` enlarge the budget; `settings`, ``key=value`` texts, change `budget`, `keep` and `resources`. A finished
    search needs a larger budget. Raises ``StorageError`` if there is no such study, if it is running, or if it has finished and its budget
    is unchanged; ``ConfigError`` if the images, labels or decoder have changed or the new budget is used up already; and as `launch` does.
    """
    watcher, url = watcher or SilentWatcher(), resolve_url(storage)
    study = load_study(open_storage(url), name)
    record = study_record(study)
    if record.state == "running":
        raise study_running_error(study)
    before = validate(SearchConfig, dict(record.config), f"the record of {name}").model_copy(update={"storage": url})
    config = with_larger_budget(change_settings(before, settings), add_trials, add_seconds, record.seconds)
    _check_budget(config, before, record)
    root = _existing_root(study, record)
    plan = make_plan(config, watcher.preparing)
    decoder = str(record.dataset.get("decoder", ""))
    if differs := difference(plan.dataset, str(record.dataset["fingerprint"]), config.data.source, f"{name!r} began", decoder):
        raise ConfigError(f"{differs}; start a new search")
    study.sampler = build_sampler(config.algorithm.sampler, seed=config.seed, trials=config.budget.trials)
    with _cluster(plan, record.folder, root, watcher) as (plan, resources), Lease(study, record.folder, record.seconds) as lease:
        if config != before:
            study.set_user_attr("config", config_to_record(config))
        return drive(SearchRun(study, plan, record.folder, root, resources, watcher, trainable or _image_trial()), lease)


@contextmanager
def _cluster(plan: Plan, folder: Path, root: str, watcher: Watcher) -> Iterator[tuple[Plan, TrialResources]]:
    """Connect to Ray, and yield the plan and each trial's resources; leave Ray after the block.

    If this process joins an existing cluster, all its nodes are checked and get the images first, and the plan names the data's manifest.
    The block runs in `folder` as working directory; a database error in it is raised as ``StorageError``.
    """
    config, joining = plan.config, joins_cluster(plan.config.resources.address)
    with storage_errors(config.storage), _working_folder(folder), connect(config.resources.address) as capacity:
        resources = fit_to_cluster(capacity, config)
        yield (prepare_nodes(plan, resources, root, watcher) if joining else plan), resources


@contextmanager
def _working_folder(folder: Path) -> Iterator[None]:
    """Create a study's folder and make it the process's working directory during the block. Remove it and its new parents if left empty.

    Raises ``StorageError`` if the folder cannot be created. Ray puts the driver's working folder first on every worker's Python path. A
    user's `search.py` there would hide this package.
    """
    created = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot create the output folder {folder}: {error.strerror}; name another with --output") from None
    try:
        with contextlib.chdir(folder):
            yield
    finally:
        for path in created:
            with contextlib.suppress(OSError):
                path.rmdir()


def _check_budget(config: SearchConfig, before: SearchConfig, record: StudyRecord) -> None:
    """Raise an error if a finished search would end at once, so that the test split is not evaluated again for nothing.

    ``StorageError`` if the budget is as `before`, ``ConfigError`` if it is larger and still used up.
    """
    if record.state != "finished":
        return
    name = record.name
    if config.budget == before.budget:
        more = f"injerto resume {name} --add-trials 10"
        raise StorageError(f"the study {name!r} has finished ({record.why}); look at it: injerto best {name}, or go on with more: {more}")
    stop_condition = build_stop_condition(config, record.mode, record.seconds)
    for trial in sorted(record.trials, key=lambda trial: (trial.ended is None, trial.ended, trial.number)):
        if trial.state == "finished" and trial.value is not None:
            stop_condition.completed(trial.value)
        elif trial.state == "stopped":
            stop_condition.stopped()
    used_up = None if stop_condition.may_propose(len(record.trials)) else all_trials_ended(config.budget.trials)
    reason = stop_condition.reason() or used_up
    if reason is not None:
        raise ConfigError(f"{name!r} would end at once: {reason}; raise that budget: --add-trials, --add-time, or --set budget.target=...")


def _existing_root(study: optuna.Study, record: StudyRecord) -> str:
    """Return the root of a recorded study's checkpoints: a folder, or the URL of a bucket.

    Raises ``StorageError`` if the bucket cannot be used, or if the folder does not exist although a trial has trained an epoch.
    """
    root = str(study.user_attrs.get("root", record.folder))
    if is_url(root):
        probe(root)
    elif not Path(root).is_dir() and any(trial.epochs_done for trial in record.trials):
        raise StorageError(f"the folder {root} of {record.name!r} is gone, and the checkpoints of its trials with it; start a new search")
    return root


def _image_trial() -> "type[ImageTrial]":
    from trainables.worker.trainable import ImageTrial  # imports Ray, which must not happen before `connect`

    return ImageTrial
