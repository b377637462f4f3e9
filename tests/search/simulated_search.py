"""Searches over simulated trials, and the checks that hold for each of their records."""

from collections import Counter

from search.config_reader import read_config
from search.driver.launch import launch
from search.policy.faults import MAX_TRIES
from search.record.records import STATES
from trainables.config import TrialConfig
from trainables.worker.simulated_trial import RECOVERABLE, SimulatedTrial, Simulation, curve

EVERY_ATTEMPT = 99
"""More attempts than any trial gets: a fault with so many never recovers."""
FAILURE_KINDS = {"exception": "other", "kill": "lost worker", "non-finite": "non-finite", "out of memory": "out of memory"}
"""Kind of simulated fault that can end a trial → the kind of failure in the record."""


def run_simulated_search(root, simulation=Simulation(), *, trials, epochs=5, scheduler="none", watcher=None, settings=(), **options):  # noqa: B008
    """Search over the built-in digits with simulated trials, driven by this process; return the record."""
    defaults = {"storage": f"sqlite:///{root}/studies.db", "output": str(root / "out"), "weights": "none", "trials": trials}
    config = read_config("builtin:digits", defaults | options, (f"space.epochs={epochs}", f"algorithm.scheduler={scheduler}", *settings))
    return launch(config, watcher, trainable=SimulatedTrial.of(simulation))


def expected_outcome(simulation, number, epochs):
    """Return the state, the kind of failure and the epochs done of a trial that no rung stops."""
    fault = simulation.fault(number, epochs)
    if fault is None or fault.kind == "kill after saving":
        return "finished", None, epochs
    kind = FAILURE_KINDS[fault.kind]
    if fault.kind in RECOVERABLE and simulation.attempts < MAX_TRIES[kind]:
        return "finished", None, epochs
    return "failed", kind, fault.epoch - 1


def actual_outcome(trial):
    """Return the same of a trial's record."""
    return trial.state, trial.error and trial.error["kind"], trial.epochs_done


def check_record(record, trials):
    """Check what holds for the record of every simulated search that has ended."""
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
    prefix = {"finished": "", "stopped": "rung ", "failed": f"{kind}: "}[trial.state]
    assert trial.stop_reason.startswith(prefix)
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
