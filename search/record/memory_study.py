"""A copy of recorded trials as an Optuna study in memory, for Optuna's own evaluators."""

from collections.abc import Iterable

import optuna
from optuna.distributions import json_to_distribution
from optuna.trial import TrialState, create_trial

from search.record.records import StudyRecord, TrialRecord
from search.record.store import OPTUNA_DIRECTIONS
from trainables.errors import StorageError


def in_memory_study(record: StudyRecord, trials: Iterable[TrialRecord]) -> optuna.Study:
    """Return those of `trials` that finished (as COMPLETE) or were stopped (as PRUNED) and have a value, as an Optuna study in memory.

    `record` gives the mode and the ranges of the parameters. Raises ``StorageError`` if an older version, which did not record the ranges
    of parameters, wrote the record.
    """
    if not record.parameters:
        raise StorageError(
            f"{record.name!r} was recorded by an older version of injerto, which did not record the ranges of its parameters"
        )
    ranges = {name: json_to_distribution(about["range"]) for name, about in record.parameters.items()}
    study = optuna.create_study(direction=OPTUNA_DIRECTIONS[record.mode])
    study.add_trials(
        [
            create_trial(
                state=TrialState.COMPLETE if trial.state == "finished" else TrialState.PRUNED,
                value=trial.value,
                params=dict(trial.params),
                distributions={name: ranges[name] for name in trial.params},
                intermediate_values=dict(trial.intermediate),
            )
            for trial in trials
            if trial.state in ("finished", "stopped") and trial.value is not None
        ]
    )
    return study
