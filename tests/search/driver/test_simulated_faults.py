"""Searches over simulated trials in which known trials fail in known ways."""

import pytest

from search.policy.faults import MAX_TRIES
from tests.search.simulated_search import EVERY_ATTEMPT, actual_outcome, check_record, expected_outcome, run_simulated_search
from trainables.config import TrialConfig
from trainables.storage.root import Root
from trainables.worker.simulated_trial import RECOVERABLE, Simulation, curve, recorded_faults

EPOCHS = 5
RATES = {"exception": 0.1, "kill": 0.05, "kill after saving": 0.05, "non-finite": 0.1, "out of memory": 0.05}
FEW = {"exception": 0.15, "kill": 0.05, "kill after saving": 0.05, "non-finite": 0.1, "out of memory": 0.1}


def few_or_many(few, many):
    return pytest.mark.parametrize("trials", [few, pytest.param(many, marks=pytest.mark.slow)])


def expected_best(record, simulation):
    """Return the best value and minus its trial, computed from the proposed configurations and the simulated faults alone."""
    ends = {t.number: (expected_outcome(simulation, t.number, EPOCHS)[0], TrialConfig.model_validate(t.config)) for t in record.trials}
    return max((curve(trial)[-1], -number) for number, (state, trial) in ends.items() if state == "finished")


@few_or_many(10, 200)
@pytest.mark.parametrize("attempts", [1, pytest.param(EVERY_ATTEMPT, marks=pytest.mark.slow)])
def test_each_trial_ends_as_its_fault_demands_and_the_best_value_is_exact(trials, attempts, ray_session, tmp_path):
    simulation = Simulation(rates=FEW if trials < 50 else RATES, attempts=attempts, seed=1054 if trials < 50 else 22)
    kinds = {fault.kind for number in range(trials) if (fault := simulation.fault(number, EPOCHS))}
    assert kinds == set(simulation.rates), "each kind of fault is met"
    record = run_simulated_search(tmp_path, simulation, trials=trials, epochs=EPOCHS)
    check_record(record, trials)
    assert [actual_outcome(trial) for trial in record.trials] == [expected_outcome(simulation, number, EPOCHS) for number in range(trials)]
    value, number = expected_best(record, simulation)
    assert (record.best.value, record.best.number) == (value, -number)
    for trial in record.trials:
        fault = simulation.fault(trial.number, EPOCHS)
        if trial.state == "failed" and fault.kind == "exception":
            assert trial.stop_reason == "other: RuntimeError: a simulated exception"
            assert 'trainables/worker/simulated_trial.py", line' in trial.error["traceback"]
        met = 0 if fault is None else 1 if expected_outcome(simulation, trial.number, EPOCHS)[0] == "finished" else tries(fault.kind)
        assert len(recorded_faults(Root(record.folder / "trials" / f"{trial.number:05d}"))) == met


def tries(kind):
    """How often the search tries a trial that has this fault at each attempt."""
    return {"exception": MAX_TRIES["other"], "kill": MAX_TRIES["lost worker"]}.get(kind, 1)


@pytest.mark.slow
@few_or_many(20, 200)
def test_with_rungs_each_trial_ends_by_its_fault_or_at_a_rung(trials, ray_session, tmp_path):
    simulation = Simulation(rates=FEW if trials < 50 else RATES, seed=22)
    record = run_simulated_search(tmp_path, simulation, trials=trials, epochs=9, scheduler="asha")
    check_record(record, trials)
    assert record.counts["stopped"] > 0
    for trial in record.trials:
        state, kind, epochs = expected_outcome(simulation, trial.number, 9)
        assert actual_outcome(trial) == (state, kind, epochs) or (trial.state == "stopped" and trial.epochs_done <= epochs)


@pytest.mark.slow
@few_or_many(10, 100)
def test_a_trial_that_raises_once_is_retried_and_finishes(trials, ray_session, tmp_path):
    simulation = Simulation(rates={"exception": 0.2}, seed=0)
    hit = [number for number in range(trials) if simulation.fault(number, EPOCHS)]
    assert len(hit) == pytest.approx(trials / 5, rel=0.5)
    record = run_simulated_search(tmp_path, simulation, trials=trials, epochs=EPOCHS)
    check_record(record, trials)
    assert record.counts["finished"] == trials
    assert [trial.number for trial in record.trials if trial.attributes.get("retries")] == hit
    for number in hit:
        (retry,) = record.trials[number].attributes["retries"]
        assert (retry["kind"], retry["epoch"]) == ("other", simulation.fault(number, EPOCHS).epoch - 1)


@pytest.mark.slow
@few_or_many(12, 100)
def test_a_nan_loss_fails_its_trial_and_keeps_earlier_epochs(trials, ray_session, tmp_path):
    simulation = Simulation(rates={"non-finite": 0.3}, seed=1)
    record = run_simulated_search(tmp_path, simulation, trials=trials, epochs=EPOCHS)
    check_record(record, trials)
    hit = {number: fault.epoch for number in range(trials) if (fault := simulation.fault(number, EPOCHS))}
    assert {trial.number: trial.epochs_done + 1 for trial in record.trials if trial.state == "failed"} == hit != {}
    assert {trial.stop_reason for trial in record.trials if trial.state == "failed"} == {
        "non-finite: a simulated loss is not a finite number"
    }
    assert not any(trial.attributes.get("retries") for trial in record.trials)


def test_only_recoverable_faults_are_retried_and_never_without_end():
    """The tests above assume that a recoverable fault is retried at least once and fewer than `EVERY_ATTEMPT` times."""
    assert set(RATES) - set(RECOVERABLE) == {"non-finite", "out of memory"}
    assert 1 < min(MAX_TRIES["other"], MAX_TRIES["lost worker"]) <= max(MAX_TRIES["other"], MAX_TRIES["lost worker"]) < EVERY_ATTEMPT
