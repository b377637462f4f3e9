"""Searches over replayed trials, and what must have come of them."""

from collections import Counter

from search.config import read_config
from search.driver.launch import launch
from search.policy.faults import TRIES
from search.record.records import STATES
from trainables.config import TrialConfig
from trainables.worker.simulated_trial import MENDED, SimulatedTrial, Simulation, curve

ALWAYS = 99
KINDS = {"exception": "other", "kill": "lost worker", "non-finite": "non-finite", "out of memory": "out of memory"}
"""Kind of replayed fault that can end a trial → the kind of failure that the record names."""


def replay_search(root, replay=Simulation(), *, trials, epochs=5, scheduler="none", watcher=None, settings=(), **options):  # noqa: B008
    """Search over the built-in digits in this process with trials that are replayed."""
    defaults = {"storage": f"sqlite:///{root}/studies.db", "output": str(root / "out"), "weights": "none", "trials": trials}
    config = read_config("builtin:digits", defaults | options, (f"space.epochs={epochs}", f"algorithm.scheduler={scheduler}", *settings))
    return launch(config, watcher, trainable=SimulatedTrial.of(replay))


def outcome(replay, number, epochs):
    """The state, the kind of failure and the epochs done that a trial must end with where no rung stops it."""
    fault = replay.fault(number, epochs)
    if fault is None or fault.kind == "kill after saving":
        return "finished", None, epochs
    kind = KINDS[fault.kind]
    if fault.kind in MENDED and replay.attempts < TRIES[kind]:
        return "finished", None, epochs
    return "failed", kind, fault.epoch - 1


def ended_as(trial):
    return trial.state, trial.error and trial.error["kind"], trial.epochs_done


def check(record, trials):
    """What must hold of every search over replayed trials that has ended."""
    assert record.state == "finished"
    assert [trial.number for trial in record.trials] == list(range(trials))
    assert record.counts == {state: Counter(trial.state for trial in record.trials)[state] for state in STATES}
    assert sum(record.counts[state] for state in ("finished", "stopped", "failed")) == trials
    for trial in record.trials:
        check_reason(trial)
        check_epochs(trial)
    finished = [trial for trial in record.trials if trial.state == "finished"]
    assert record.best.value == max(trial.value for trial in finished)
    assert record.best.value == max(curve(TrialConfig.model_validate(trial.config))[-1] for trial in finished)


def check_reason(trial):
    kind = trial.error and trial.error["kind"]
    beginning = {"finished": "", "stopped": "rung ", "failed": f"{kind}: "}[trial.state]
    assert trial.stop_reason.startswith(beginning)
    assert bool(trial.stop_reason) == (trial.state != "finished")
    assert bool(trial.error) == (trial.state == "failed")
    assert trial.ended >= trial.started


def check_epochs(trial):
    values = curve(TrialConfig.model_validate(trial.config))[: trial.epochs_done]
    assert trial.history.get("objective", []) == values
    assert {len(column) for column in trial.history.values()} <= {trial.epochs_done}
    assert list(trial.intermediate.values()) == values
    assert trial.value == (values[-1] if values else None)
    assert (trial.epochs_done == trial.epochs_planned) == (trial.state == "finished")
