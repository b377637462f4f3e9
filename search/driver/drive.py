"""Drives one run of a search: the record writer with its periodic tasks, the trials, the result; signals and failures on the way."""

import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from cluster.connect import capacity, dead_ray_processes, node_states
from search.config import SearchConfig
from search.driver.search_run import SearchRun
from search.driver.steering import IS_ENDING, Steering
from search.nodes.resources import TrialResources
from search.record import lease
from search.record.reader import study_record
from search.record.record_writer import RecordWriter
from search.record.records import StudyRecord
from search.record.store import sqlite_file
from trainables.errors import ResourceError, StorageError

if TYPE_CHECKING:
    from search.policy.stop_condition import StopCondition
    from search.watcher import Watcher

COMMAND_SECONDS = 1.0
CHECK_SECONDS = 5.0
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


@dataclass
class RunEnd:
    """The state in which a driver leaves its study (``finished``, ``interrupted`` or ``failed``), and the reason, for a user."""

    state: str = "failed"
    why: str = "the driver ended with an error"


def drive(run: SearchRun, own_lease: lease.Lease) -> StudyRecord:
    """Run trials until the search ends or pauses, record that end in the study's status, and return the study's record.

    `own_lease` must be held. If an ``InjertoError`` made the search pause, raises an error of that class that also says how to go on.
    Raises ``KeyboardInterrupt`` after a second Ctrl-C.
    """
    stop_condition = build_stop_condition(run.plan.config, run.plan.mode, own_lease.status["used_seconds"])
    steering = Steering(run, stop_condition)
    end = RunEnd()
    with RecordWriter(run.watcher.say, partial(stop_condition.interrupt, "the record cannot be written")) as record_writer:
        _start_periodic_tasks(run, own_lease, steering, record_writer)
        try:
            with run.watcher, pause_on_signals(partial(_interrupt, run.watcher, stop_condition)):
                _run_to_end(run, steering, record_writer, end)
        except KeyboardInterrupt:
            end.state, end.why = "interrupted", "ended at once by a second signal"
            record_writer.drop_jobs()
            run.watcher.say(f"ended at once; go on with it: injerto resume {run.study.study_name}")
            raise
        finally:
            record_writer.write_last(partial(own_lease.record_end, end.state, end.why, stop_condition.elapsed()))
            shutil.rmtree(run.folder / "ray", ignore_errors=True)
    if stop_condition.error is not None and not stop_condition.over:
        error = stop_condition.error
        raise type(error)(f"{error}; when that is corrected, go on: injerto resume {run.study.study_name}") from error
    return study_record(run.study)


def _run_to_end(run: SearchRun, steering: Steering, record_writer: RecordWriter, end: RunEnd) -> None:
    """Run the trials, then write the result unless the search was interrupted; set the state and the reason in `end`."""
    from search.driver.result import write_result
    from search.driver.tune_run import run_trials

    stop_condition = steering.stop_condition
    run_trials(run, steering, record_writer)
    record_writer.flush()
    if stop_condition.interrupted:
        end.state, end.why = "interrupted", stop_condition.interrupted
        return
    end.why, stop_condition.over = stop_condition.reason() or all_trials_ended(stop_condition.trials), True
    run.watcher.finishing()
    write_result(run, record_writer)
    end.state = "failed" if stop_condition.hopeless else "finished"


def build_stop_condition(config: SearchConfig, mode: str, used_seconds: float) -> "StopCondition":
    """Return the stop condition for a search's budget; `mode` is ``max`` or ``min``, earlier runs of the study took `used_seconds`."""
    from search.policy.stop_condition import StopCondition

    budget = config.budget
    return StopCondition(
        mode,
        trials=budget.trials,
        seconds=budget.time,
        gpu_seconds=budget.gpu_seconds,
        target=budget.target,
        no_improvement=budget.no_improvement,
        used_seconds=used_seconds,
    )


def all_trials_ended(trials: int) -> str:
    """Return the reason for the end of a search whose budget of trials is used up."""
    return f"all {trials} trials have ended" if trials > 1 else "the only trial has ended"


def _interrupt(watcher: "Watcher", stop_condition: "StopCondition", reason: str) -> None:
    if stop_condition.over:
        watcher.say(f"{reason}: {IS_ENDING}; once more ends it at once")
        return
    stop_condition.interrupt(reason)
    watcher.pausing(reason)


@contextmanager
def pause_on_signals(interrupt: Callable[[str], None]) -> Iterator[None]:
    """While the block runs, the first Ctrl-C, SIGTERM or SIGHUP calls `interrupt` with a text that names the signal.

    A second signal of the same kind goes to the handler from before the block, which normally ends the process at once.

    Does nothing on another thread than the main one, where Python handles no signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: Any) -> None:
        interrupt(f"interrupted by {signal.Signals(number).name}")
        signal.signal(number, before[number])

    before: dict[int, Any] = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# What the record writer does between its jobs


def _start_periodic_tasks(run: SearchRun, own_lease: lease.Lease, steering: Steering, record_writer: RecordWriter) -> None:
    stop_condition = steering.stop_condition
    record_writer.run_every(lease.HEARTBEAT_SECONDS, partial(_write_heartbeat, own_lease, stop_condition, record_writer))
    record_writer.run_every(CHECK_SECONDS, partial(_check_environment, run.plan.config, stop_condition, record_writer))
    record_writer.run_every(COMMAND_SECONDS, steering.handle_commands)
    record_writer.run_every(CHECK_SECONDS, partial(_record_nodes, steering, run.resources))


def _write_heartbeat(own_lease: lease.Lease, stop_condition: "StopCondition", record_writer: RecordWriter) -> None:
    """Record that this driver is alive. If another driver took it for dead and has taken the study over, write nothing more."""
    if (takeover := own_lease.takeover()) is not None:
        record_writer.drop_jobs()
        stop_condition.interrupt(takeover, StorageError(takeover))
    else:
        own_lease.write_heartbeat()


def _check_environment(config: SearchConfig, stop_condition: "StopCondition", record_writer: RecordWriter) -> None:
    """Pause the search if Ray's own processes have ended, or if the file of the record was removed, which SQLite would not notice."""
    if dead := dead_ray_processes():
        stop_condition.interrupt("Ray is gone", ResourceError(f"Ray's own processes have ended ({', '.join(dead)})"))
    record = sqlite_file(config.storage)
    if record is not None and not record.exists():
        record_writer.drop_jobs()
        stop_condition.interrupt("the record is gone", StorageError(f"the file of the record, {record}, has been removed"))


def _record_nodes(steering: Steering, resources: TrialResources) -> None:
    """Set the bridge's number of slots to what the present nodes allow, and record all nodes in the study attribute ``cluster``.

    A node's load comes from the latest report of a trial on it. Does nothing before the trials start and after they have ended.
    """
    if steering.bridge is not None and not steering.stop_condition.over:
        steering.bridge.slots = resources.max_trials(capacity())
        nodes = [node | steering.bridge.node_usage.get(node["node"], {}) for node in node_states()]
        steering.run.study.set_user_attr("cluster", {"at": time.time(), "nodes": nodes})
