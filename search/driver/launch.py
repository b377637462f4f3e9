"""`SearchConfig` → a Ray Tune run over an Optuna study → its record; run and resume."""

import contextlib
import logging
import shutil
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.storages import RDBStorage

from cluster.connect import capacity, connect, died, joins, nodes
from search.config import SearchConfig, amended, read_config
from search.display.terminal import Terminal
from search.driver.steering import ENDING, Steering, enlarged, recorded
from search.nodes.provision import prepare_nodes
from search.nodes.resources import TrialResources, assignment_factory, fit
from search.nodes.versions import versions
from search.plan import Plan, absolute, make_plan
from search.policy.samplers import build_sampler
from search.record import lease
from search.record.records import StudyRecord, study_record
from search.record.store import (
    create_study,
    fresh_name,
    load_study,
    names,
    open_storage,
    resolve_url,
    sqlite_file,
    storage_errors,
    study_root,
    taken,
)
from search.watcher import SilentWatcher, Watcher
from trainables.config import validate
from trainables.errors import ConfigError, ResourceError, StorageError
from trainables.storage.locations import Root, is_url, probe

if TYPE_CHECKING:
    from search.policy.rungs import StopCondition
    from search.record.record_writer import RecordWriter
    from trainables.worker.trainable import ImageTrial

POLL_SECONDS = 1.0
LOOK_SECONDS = 5.0
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
MOST_AT_ONCE = 100_000
"""For Ray, which fills its slots faster where it is told of a limit; the bridge keeps the one that follows the nodes."""
LEAST_SPACE = 100_000_000
"""Bytes that must be free where a search writes: room for a few states of a small network, its history and its weights."""


def run(source: str | Path | None = None, *, settings: tuple[str, ...] = (), **options: Any) -> StudyRecord:
    """Search, show how it goes, and return the record. `source` is a data path, ``builtin:digits`` or a YAML file.

    Options are those of the command line: ``trials``, ``time_budget``, ``name``, ``weights``, ``metric``, ``seed``, ``storage``,
    ``output``, ``task``, ``strict`` and so on; `settings` are ``key=value`` texts. Raises ``InjertoError`` before anything starts.
    """
    return launch(read_config(source, options, settings), Terminal())


def launch(config: SearchConfig, watcher: Watcher | None = None, *, trainable: "type[ImageTrial] | None" = None) -> StudyRecord:
    """Prepare a search, run it to its end and return its record. Raises ``InjertoError`` for whatever cannot work."""
    config, watcher = absolute(config).model_copy(update={"storage": resolve_url(config.storage)}), watcher or SilentWatcher()
    storage = open_storage(config.storage, create=True)
    known = names(storage)
    if config.name in known:
        raise taken(str(config.name))
    name = config.name or fresh_name([*known, *_folders(config.output), *(Root(config.root).names() if config.root else ())])
    folder = config.output / name
    if folder.exists() and any(folder.iterdir()):
        raise StorageError(f"the folder {folder} is not empty; choose another --name or --output")
    _require_space(config.output)
    if config.root:
        probe(study_root(config.root, name, folder), fresh=True)
    plan = make_plan(config.model_copy(update={"name": name}), watcher.preparing)
    root, joining = study_root(config.root, name, folder), joins(config.resources.address)
    with storage_errors(config.storage), _workplace(folder), connect(config.resources.address) as found:
        resources = fit(found, config)
        if joining:
            plan = prepare_nodes(plan, resources, root, watcher)
        study = _begin(storage, plan, folder)
        with lease.Lease(study, folder, 0.0) as held:
            return _drive(study, plan, folder, resources, watcher, held, trainable)


def _begin(storage: RDBStorage, plan: Plan, folder: Path) -> optuna.Study:
    config = plan.config
    sampler = build_sampler(config.algorithm.sampler, seed=config.seed, trials=config.budget.trials)
    study = create_study(storage, str(config.name), plan.mode, sampler)
    try:
        _describe(study, plan, folder)
    except BaseException:
        with contextlib.suppress(Exception):
            optuna.delete_study(study_name=study.study_name, storage=storage)
        raise
    return study


def _describe(study: optuna.Study, plan: Plan, folder: Path) -> None:
    config = plan.config
    for key, value in {
        "config": recorded(config),
        "dataset": plan.dataset_facts(),
        "space": plan.space.in_words(),
        "parameters": plan.space.as_json(),
        "identity": uuid.uuid4().hex,
        "metric": plan.metric,
        "folder": str(folder),
        "root": study_root(config.root, str(config.name), folder),
        "versions": versions(),
    }.items():
        study.set_user_attr(key, value)
    study.enqueue_trial(plan.space.default_params())


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
    """Go on with an interrupted search: its unfinished trials from their last epoch, then what is left of its budget, and more where added.

    Raises ``StorageError`` if there is nothing to go on with or it is still running, ``ConfigError`` if the data has changed.
    """
    watcher, storage = watcher or SilentWatcher(), resolve_url(storage)
    opened = open_storage(storage)
    study = load_study(opened, name)
    record = study_record(study)
    if record.state == "running":
        raise lease.taken(study)
    before = validate(SearchConfig, dict(record.config), f"the record of {name}")
    config = enlarged(amended(before, settings), add_trials, add_seconds, record.seconds).model_copy(update={"storage": storage})
    if record.state == "finished" and config.budget != before.budget:
        _refuse_spent(config, record)
    elif record.state == "finished":
        more = f"injerto resume {name} --add-trials 10"
        raise StorageError(f"the study {name!r} has finished ({record.why}); look at it: injerto best {name}, or go on with more: {more}")
    root = str(study.user_attrs.get("root", record.folder))
    if is_url(root):
        probe(root)
    elif not Path(root).is_dir() and any(trial.epochs_done for trial in record.trials):
        raise StorageError(f"the folder {root} of {name!r} is gone, and the states of its trials with it; start a new search")
    plan = make_plan(config, watcher.preparing)
    if plan.dataset.fingerprint != record.dataset["fingerprint"]:
        raise ConfigError(f"the images or labels of {config.data.source!r} have changed since {name!r} began; start a new search")
    study.sampler = build_sampler(config.algorithm.sampler, seed=config.seed, trials=config.budget.trials)
    joining = joins(config.resources.address)
    with storage_errors(storage), _workplace(record.folder), connect(config.resources.address) as found:
        resources = fit(found, config)
        if joining:
            plan = prepare_nodes(plan, resources, root, watcher)
        with lease.Lease(study, record.folder, record.seconds) as held:
            if config != before.model_copy(update={"storage": storage}):
                study.set_user_attr("config", recorded(config))
            return _drive(study, plan, record.folder, resources, watcher, held, trainable)


def _refuse_spent(config: SearchConfig, record: StudyRecord) -> None:
    """Raise ``ConfigError`` where a finished search would end at once, so that the test images are not opened again for nothing."""
    stop_condition = _stop_condition(config, record.mode, record.seconds)
    for trial in sorted(record.trials, key=lambda trial: (trial.ended is None, trial.ended, trial.number)):
        if trial.state == "finished" and trial.value is not None:
            stop_condition.completed(trial.value)
        elif trial.state == "stopped":
            stop_condition.stopped()
    over = stop_condition.reason() or (None if stop_condition.may_propose(len(record.trials)) else all_ended(config.budget.trials))
    if over is not None:
        raise ConfigError(
            f"{record.name!r} would end at once: {over}; raise that one: --add-trials, --add-time, or --set budget.target=..."
        )


def _stop_condition(config: SearchConfig, mode: str, used_seconds: float) -> "StopCondition":
    from search.policy.rungs import StopCondition

    budget = config.budget
    return StopCondition(
        mode,
        trials=budget.trials,
        seconds=budget.time,
        gpu_seconds=None if budget.gpu_hours is None else 3600 * budget.gpu_hours,
        target=budget.target,
        no_improvement=budget.no_improvement,
        used_seconds=used_seconds,
    )


def _drive(
    study: optuna.Study,
    plan: Plan,
    folder: Path,
    resources: TrialResources,
    watcher: Watcher,
    held: lease.Lease,
    trainable: "type[ImageTrial] | None",
) -> StudyRecord:
    from search.driver.result import hand_over
    from search.record.record_writer import RecordWriter
    from trainables.worker.trainable import ImageTrial

    trainable = trainable or ImageTrial
    stop_condition = _stop_condition(plan.config, plan.mode, held.status["used_seconds"])
    steering = Steering(study, plan, stop_condition, watcher)
    state, why = "failed", "the driver ended with an error"

    def interrupt(reason: str) -> None:
        if stop_condition.over:
            watcher.say(f"{reason}: {ENDING}; once more ends it at once")
            return
        stop_condition.interrupt(reason)
        watcher.pausing(reason)

    with RecordWriter(watcher.say, partial(stop_condition.interrupt, "the record cannot be written")) as record_writer:
        record_writer.every(lease.BEAT_SECONDS, partial(_beat, held, stop_condition, record_writer))
        record_writer.every(LOOK_SECONDS, partial(_look, plan.config, stop_condition, record_writer))
        record_writer.every(POLL_SECONDS, steering.obey)
        record_writer.every(LOOK_SECONDS, partial(_count_nodes, steering, resources))
        try:
            with watcher, _signals(interrupt):
                _tune(steering, folder, resources, record_writer, trainable)
                record_writer.wait()
                if stop_condition.interrupted:
                    state, why = "interrupted", stop_condition.interrupted
                else:
                    why, stop_condition.over = stop_condition.reason() or all_ended(stop_condition.trials), True
                    watcher.finishing()
                    hand_over(study, plan, folder, resources, trainable, record_writer.do)
                    state = "failed" if stop_condition.hopeless else "finished"
        except KeyboardInterrupt:
            state, why = "interrupted", "ended at once by a second signal"
            record_writer.abandon()
            watcher.say(f"ended at once; go on with it: injerto resume {study.study_name}")
            raise
        finally:
            record_writer.last(partial(held.end, state, why, stop_condition.elapsed()))
            shutil.rmtree(folder / "ray", ignore_errors=True)
    if stop_condition.error is not None and not stop_condition.over:
        raise type(stop_condition.error)(
            f"{stop_condition.error}; once that is mended, go on: injerto resume {study.study_name}"
        ) from stop_condition.error
    return study_record(study)


def all_ended(trials: int) -> str:
    """Say that the budget of trials is used up."""
    return f"all {trials} trials have ended"


def _beat(held: lease.Lease, stop_condition: "StopCondition", record_writer: "RecordWriter") -> None:
    """Say that this driver lives; one that another took for dead leaves the study to that."""
    if (other := held.lost()) is not None:
        record_writer.abandon()
        stop_condition.interrupt(other, StorageError(other))
    else:
        held.beat()


def _look(config: SearchConfig, stop_condition: "StopCondition", record_writer: "RecordWriter") -> None:
    """Pause where what the search stands on is gone: Ray's own processes, or the file of the record, which SQLite would not notice."""
    if dead := died():
        stop_condition.interrupt("Ray is gone", ResourceError(f"Ray's own processes have ended ({', '.join(dead)})"))
    record = sqlite_file(config.storage)
    if record is not None and not record.exists():
        record_writer.abandon()
        stop_condition.interrupt("the record is gone", StorageError(f"the file of the record, {record}, has been removed"))


def _count_nodes(steering: Steering, resources: TrialResources) -> None:
    """Use the nodes that have come, and record which there are and how busy, as far as their trials have told."""
    if steering.bridge is not None and not steering.stop_condition.over:
        steering.bridge.slots = resources.fits(capacity())
        seen = [node | steering.bridge.usage.get(node["node"], {}) for node in nodes()]
        steering.study.set_user_attr("cluster", {"at": time.time(), "nodes": seen})


def _tune(
    steering: Steering, folder: Path, resources: TrialResources, record_writer: "RecordWriter", trainable: "type[ImageTrial]"
) -> None:
    from ray import tune
    from ray.tune.schedulers import FIFOScheduler

    from search.driver.bridge import Bridge, ResultCallback
    from search.driver.previews import make_previews
    from search.driver.ray_credentials import credentials_withheld
    from search.driver.ray_patches import retries_decided_by
    from search.driver.retention import Retention
    from search.policy.rungs import ProgressHalving, Rungs

    study, plan, stop_condition, watcher = steering.study, steering.plan, steering.stop_condition, steering.watcher
    algorithm, keep = plan.config.algorithm, plan.config.keep
    rungs, root = Rungs(plan.mode, algorithm.reduction_factor), str(study.user_attrs.get("root", folder))
    assign = assignment_factory(plan, root, resources)
    bridge = Bridge(
        study,
        plan.space,
        assign,
        record_writer=record_writer,
        stop_condition=stop_condition,
        rungs=rungs,
        retention=Retention(plan.mode, best=keep.best, disk=keep.disk),
        root=root,
        slots=resources.slots,
        gpus=resources.gpus,
        halving=algorithm.scheduler == "asha",
        watch=watcher.event,
    )
    steering.bridge = bridge
    make_previews(study, assign(0, plan.space.recipe), trainable, root=root, record_writer=record_writer, say=watcher.say)
    watcher.begin(study.study_name, plan, resources.slots, stop_condition, stop_condition.ended)
    tuner = tune.Tuner(
        tune.with_resources(trainable, resources.request()),
        tune_config=tune.TuneConfig(
            metric="objective",
            mode=plan.mode,
            search_alg=bridge,
            max_concurrent_trials=resources.most or MOST_AT_ONCE,
            scheduler=ProgressHalving(rungs, bridge.verdicts) if algorithm.scheduler == "asha" else FIFOScheduler(),
            num_samples=-1,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="ray",
            storage_path=str(folder),
            failure_config=tune.FailureConfig(max_failures=-1),
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            callbacks=[ResultCallback(bridge)],
            stop=stop_condition,
            verbose=0,
        ),
    )
    logging.getLogger("ray.tune.tune").setLevel(logging.CRITICAL)  # it lists the trials that failed, as the watcher has done
    with retries_decided_by(bridge.go_on), credentials_withheld():
        try:
            tuner.fit()
        except OSError as error:
            stop_condition.interrupt("the output folder cannot be used", StorageError(f"{folder} cannot be used any more: {error}"))
    bridge.close()


@contextmanager
def _signals(interrupt: Callable[[str], None]) -> Iterator[None]:
    """The first Ctrl-C, SIGTERM or closed terminal pauses the search at the next epochs; a second one ends it at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def pause(number: int, frame: Any) -> None:
        interrupt(f"interrupted by {signal.Signals(number).name}")
        signal.signal(number, before[number])

    before: dict[int, Any] = {number: signal.signal(number, pause) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _require_space(output: Path) -> None:
    place = next(path for path in (output, *output.parents) if path.exists())
    free = shutil.disk_usage(place).free
    if free < LEAST_SPACE:
        raise ResourceError(
            f"{place} has {free / 1e6:.0f} MB free, and a search needs {LEAST_SPACE / 1e6:.0f} MB; make room or name another --output"
        )


def _folders(output: Path) -> list[str]:
    return [entry.name for entry in output.iterdir()] if output.is_dir() else []


@contextmanager
def _workplace(folder: Path) -> Iterator[None]:
    """Work in a study's folder: Ray puts the driver's own first on every worker's path, and a user's `search.py` would hide ours."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot make the output folder {folder}: {error.strerror}; name another with --output") from None
    try:
        with contextlib.chdir(folder):
            yield
    finally:
        for empty in made:
            with contextlib.suppress(OSError):
                empty.rmdir()
