"""Replays a recorded study, so that a resumed search continues with the same budgets, rungs, checkpoints and faults."""

from collections.abc import Sequence

from optuna.trial import FrozenTrial, TrialState

from search.driver.search_state import SearchState
from search.policy.faults import Fault
from trainables.storage.locations import split_location
from trainables.storage.root import Root

NOT_TRIED = "not tried"
"""Kind of fault of a trial that was refused because its configuration had failed before."""


def replay(state: SearchState, trials: Sequence[FrozenTrial], root: str) -> list[str]:
    """Update a new `state` as if the recorded trials had just run: the trials that ended in their order, then the open ones.

    Returns the locations of checkpoints that still exist below the study's `root` and are no longer wanted.
    """
    existing = set(Root(root).child("trials").names())
    unwanted: list[str] = []
    for trial in sorted(trials, key=lambda trial: (trial.datetime_complete is None, trial.datetime_complete, trial.number)):
        state.charge(trial.number, trial.user_attrs.get("facts", {}))
        _replay_epochs(state, trial)
        unwanted += _replay_end(state, trial)
    return [location for location in unwanted if split_location(split_location(location)[0])[1] in existing]


def _replay_epochs(state: SearchState, trial: FrozenTrial) -> None:
    """Enter a trial's recorded objectives at the rungs. If the last one makes a rung stop an open trial, keep that verdict in `state`.

    The driver may have died after it recorded the epoch and before it recorded the verdict.
    """
    planned, verdict = trial.user_attrs.get("config", {}), None
    for step, value in sorted(trial.intermediate_values.items()):
        epoch = round(step * planned["epochs"] / 1000)
        verdict = state.rungs.observe(trial.number, epoch=epoch, epochs=planned["epochs"], warmup=planned["warmup"], value=value)
    if state.stops_early and verdict is not None and trial.state == TrialState.RUNNING:
        state.unrecorded_verdicts[trial.number] = verdict


def _replay_end(state: SearchState, trial: FrozenTrial) -> list[str]:
    attributes = trial.user_attrs
    if trial.state in (TrialState.COMPLETE, TrialState.PRUNED):
        return state.succeeded(trial.number, trial.state, trial.value, attributes)
    if trial.state == TrialState.FAIL:
        fault = Fault(**attributes["error"]) if "error" in attributes else None
        counted = fault if fault is not None and fault.kind != NOT_TRIED else None
        return state.failed(trial.number, attributes.get("config", {}), counted, attributes.get("retries", []), attributes)
    return []
