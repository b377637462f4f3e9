import math
import resource
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray import tune

from trainables.config import DataConfig, TrialConfig, validate
from trainables.errors import ConfigError
from trainables.storage.root import Root
from trainables.storage.saved_states import SavedStates
from trainables.worker.assignment import Assignment, progress
from trainables.worker.simulated_trial import (
    FAULTS_FILE,
    RECOVERABLE,
    SimulatedTrainer,
    SimulatedTrial,
    Simulation,
    curve,
    recorded_faults,
)
from trainables.worker.trainable import ImageTrial

EPOCHS = 5
KINDS = ("exception", "kill", "kill after saving", "non-finite", "out of memory")
trials = st.builds(
    TrialConfig,
    learning_rate=st.floats(1e-6, 10),
    dropout=st.floats(0, 0.9),
    augmentation_strength=st.floats(0, 1),
    epochs=st.integers(1, 60),
    seed=st.integers(0, 2**63 - 1),
)


def assigned(folder, number=0, **trial):
    assignment = Assignment(
        number=number,
        trial=TrialConfig(**{"epochs": EPOCHS, "seed": number} | trial),
        data=DataConfig(),
        task="multiclass",
        fingerprint="",
        metric="accuracy",
        folder=str(folder / f"{number:05d}"),
    )
    return {"assignment": assignment.model_dump(mode="json")}


def number_of(simulation, kind):
    """Return the number of the first trial with a fault of this kind after its first epoch."""
    return next(n for n in range(1000) if (fault := simulation.fault(n, EPOCHS)) and fault.kind == kind and fault.epoch > 1)


def saved(config):
    """Return the trainer that another worker builds from the trial's folder."""
    return SimulatedTrainer(Assignment.model_validate(config["assignment"]), Simulation())


@given(trials)
def test_the_curve_depends_on_the_configuration_only(trial):
    values = curve(trial)
    assert len(values) == trial.epochs
    assert all(0 < value < 1 for value in values)
    assert values == curve(TrialConfig.model_validate_json(trial.model_dump_json()))
    assert values != curve(trial.model_copy(update={"seed": trial.seed ^ 1}))
    if trial.epochs > 20:
        assert values[-1] > values[0]


def test_a_better_learning_rate_ends_higher():
    ends = [curve(TrialConfig(learning_rate=rate))[-1] for rate in (1e-6, 1e-5, 1e-4, 1e-3)]
    assert ends == sorted(ends)


def test_faults_happen_at_their_rates_and_at_any_epoch():
    simulation = Simulation(rates={"exception": 0.2, "kill": 0.1, "non-finite": 0.05})
    faults = [simulation.fault(number, EPOCHS) for number in range(4000)]
    counts = Counter(fault.kind for fault in faults if fault)
    assert set(counts) == set(simulation.rates)
    for kind, rate in simulation.rates.items():
        assert counts[kind] / len(faults) == pytest.approx(rate, abs=0.02)
    assert {fault.epoch for fault in faults if fault} == set(range(1, EPOCHS + 1))
    assert faults == [simulation.fault(number, EPOCHS) for number in range(4000)]
    assert faults != [simulation.model_copy(update={"seed": 1}).fault(number, EPOCHS) for number in range(4000)]


@given(st.sampled_from(KINDS), st.integers(0, 10_000), st.integers(1, 100), st.integers(1, 4))
def test_a_fault_happens_in_one_epoch_and_recoverable_ones_at_the_first_attempts_only(kind, number, epochs, attempts):
    simulation = Simulation(rates={kind: 1.0}, attempts=attempts)
    failing = {
        (epoch, attempt)
        for epoch in range(1, epochs + 1)
        for attempt in range(1, 7)
        if simulation.fault_at(number, epochs, epoch=epoch, attempt=attempt)
    }
    failing_attempts = range(1, attempts + 1) if kind in RECOVERABLE else range(1, 7)
    assert failing == {(simulation.fault(number, epochs).epoch, attempt) for attempt in failing_attempts}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rates": {"kill": 0.6, "exception": 0.6}}, "must add up to at most 1"),
        ({"rates": {"fire": 0.1}}, "fire"),
        ({"attempts": 0}, "attempts"),
    ],
)
def test_invalid_simulations_are_rejected(values, message):
    with pytest.raises(ConfigError, match=message):
        validate(Simulation, values)


def without_usage(report):
    """Return a report without the node's load at the time."""
    return report | {"facts": {name: value for name, value in report["facts"].items() if name != "usage"}}


def test_a_trial_reports_its_curve_and_saves_each_epoch_before(tmp_path):
    config = assigned(tmp_path)
    expected = curve(TrialConfig.model_validate(config["assignment"]["trial"]))
    trial = SimulatedTrial(config)
    for epoch in range(1, EPOCHS + 1):
        report = trial.step()
        assert (report["epoch"], report["progress"], report["done"]) == (epoch, progress(epoch, EPOCHS), epoch == EPOCHS)
        assert report["history"]["objective"] == report["history"]["accuracy"] == expected[:epoch]
        assert report["objective"] == expected[epoch - 1]
        assert saved(config).epoch == epoch
    again = trial.step()
    assert without_usage(again) == without_usage(report), "a finished trial reports its last epoch again"


def test_another_worker_continues_from_the_saved_epoch(tmp_path):
    config = assigned(tmp_path)
    first, second = SimulatedTrial(config), SimulatedTrial(assigned(tmp_path, number=1))
    reports = [first.step(), first.step()]
    second.step()
    assert second.reset_config(config)
    reports += [second.step() for _ in range(EPOCHS - 1)]
    assert [report["epoch"] for report in reports] == [1, 2, 2, 3, 4, 5], "an epoch that may not have been reported is reported again"
    assert reports[-1]["history"]["objective"] == curve(TrialConfig(epochs=EPOCHS))
    first.load_checkpoint(None)
    assert first.step()["done"]


def test_a_damaged_state_falls_back_as_a_trained_one_does(tmp_path):
    config = assigned(tmp_path)
    first = SimulatedTrial(config)
    first.step()
    older = Path(first.step()["facts"]["checkpoint"])
    content = older.read_bytes()
    Path(first.step()["facts"]["checkpoint"]).write_bytes(content[:50])
    older.write_bytes(content)
    config["assignment"]["reported"] = 3
    report = SimulatedTrial(config).step()
    (restart,) = report["facts"]["restarts"]
    assert restart.startswith("the trial continues after epoch 2, although 3 epochs are recorded: ")
    assert report["history"]["objective"] == curve(TrialConfig(epochs=EPOCHS))[:3]


def test_a_trial_takes_the_given_seconds(tmp_path):
    trial = SimulatedTrial.of(Simulation(seconds=0.5))(assigned(tmp_path))
    facts = [trial.step() for _ in range(EPOCHS)][-1]["facts"]
    assert 0.5 <= facts["seconds_training"] <= facts["seconds_total"] < 5


def test_a_simulated_report_has_the_schema_of_a_trained_one(tmp_path, multiclass):
    config = assigned(tmp_path, epochs=1, weights="none", image_size=multiclass.image_size, batch_size=8, unfrozen_stages=0)
    config["assignment"] |= {"fingerprint": multiclass.fingerprint, "folder": str(tmp_path / "trained")}
    trained, simulated = ImageTrial(config).step(), SimulatedTrial(assigned(tmp_path, epochs=1)).step()
    assert set(simulated) == set(trained)
    assert set(simulated["history"]) <= set(trained["history"])
    assert {name: type(value) for name, value in simulated["facts"].items()} == {
        name: type(value) for name, value in trained["facts"].items()
    }
    assert {name: type(value) for name, value in simulated.items()} == {name: type(value) for name, value in trained.items()}


@pytest.mark.parametrize("kind", ["non-finite", "out of memory"])
def test_a_permanent_fault_is_reported_at_every_attempt(kind, tmp_path):
    simulation = Simulation(rates={kind: 1.0})
    number = number_of(simulation, kind)
    for attempt in (1, 2, 3):
        trial = SimulatedTrial.of(simulation)(assigned(tmp_path, number))
        reports = [trial.step()]
        while not reports[-1]["done"]:
            reports.append(trial.step())
        assert reports[-1]["failure"]["kind"] == kind
        assert "simulated" in reports[-1]["failure"]["message"]
        assert math.isnan(reports[-1]["objective"])
        assert recorded_faults(Root(tmp_path / f"{number:05d}")) == [kind] * attempt
        assert saved(assigned(tmp_path, number)).epoch == simulation.fault(number, EPOCHS).epoch - 1


def test_an_exception_happens_at_the_first_attempts_only(tmp_path):
    simulation = Simulation(rates={"exception": 1.0}, attempts=2)
    number = number_of(simulation, "exception")
    trial = SimulatedTrial.of(simulation)(assigned(tmp_path, number))
    epoch = simulation.fault(number, EPOCHS).epoch
    reports = [trial.step() for _ in range(epoch - 1)]
    for _ in range(2):
        with pytest.raises(RuntimeError, match="a simulated exception"):
            trial.step()
    assert [report["epoch"] for report in reports] == list(range(1, epoch))
    assert trial.step()["epoch"] == epoch


@pytest.mark.parametrize(("kind", "epochs_more"), [("kill", 0), ("kill after saving", 1)])
def test_a_worker_records_a_fault_and_kills_itself(kind, epochs_more, tmp_path):
    simulation = Simulation(rates={kind: 1.0})
    number = number_of(simulation, kind)
    config = assigned(tmp_path, number)
    code = (
        "import sys\n"
        "from trainables.worker.simulated_trial import Simulation, SimulatedTrial\n"
        f"trial = SimulatedTrial.of(Simulation.model_validate({simulation.model_dump()!r}))({config!r})\n"
        "while not trial.step()['done']:\n    pass\n"
        "print('torch' in sys.modules, 'torchvision' in sys.modules)\n"
    )
    epoch, folder = simulation.fault(number, EPOCHS).epoch, tmp_path / f"{number:05d}"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert saved(config).epoch == epoch - 1 + epochs_more
    assert recorded_faults(Root(folder)) == [kind]
    again = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert again.stdout.split() == ["False", "False"], "a simulated trial imports no torch"
    assert saved(config).history["objective"] == curve(TrialConfig(epochs=EPOCHS, seed=number))
    assert {path.name for path in folder.iterdir()} == {*SavedStates(str(folder)).names(), FAULTS_FILE}
    assert len(SavedStates(str(folder)).names()) == 1


def test_a_full_disk_is_a_failure_of_kind_no_space(tmp_path):
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    trial = SimulatedTrial(assigned(tmp_path))
    resource.setrlimit(resource.RLIMIT_FSIZE, (50, most))
    try:
        report = trial.step()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    assert report["failure"]["kind"] == "no space"
    assert trial.step()["epoch"] == 1, "once there is space the epoch is simulated again"


def test_the_evaluation_of_a_finished_trial_gives_its_last_value(tmp_path):
    config = assigned(tmp_path)
    trial = SimulatedTrial(config)
    while not trial.step()["done"]:
        pass
    value = curve(TrialConfig(epochs=EPOCHS))[-1]
    evaluation = SimulatedTrial.evaluate_finished(config["assignment"], str(tmp_path / "out" / "best.safetensors"))
    assert evaluation == {"test": {"accuracy": value}, "validation": {"accuracy": value}}
    assert (tmp_path / "out" / "best.safetensors").read_bytes() == Path(trial.step()["facts"]["checkpoint"]).read_bytes()


@pytest.mark.slow
def test_plain_ray_tune_recovers_from_every_recoverable_fault(ray_session, tmp_path):
    simulation = Simulation(rates={"exception": 0.3, "kill": 0.2, "kill after saving": 0.2})
    numbers = range(8)
    assert {fault.kind for n in numbers if (fault := simulation.fault(n, EPOCHS))} == set(simulation.rates), "each kind happens"
    results = tune.Tuner(
        SimulatedTrial.of(simulation),
        param_space={"assignment": tune.grid_search([assigned(tmp_path / "trials", n)["assignment"] for n in numbers])},
        tune_config=tune.TuneConfig(reuse_actors=True),
        run_config=tune.RunConfig(name="ray", storage_path=str(tmp_path), failure_config=tune.FailureConfig(max_failures=2), verbose=0),
    ).fit()
    ends = {result.config["assignment"]["number"]: result.metrics["history"]["objective"] for result in results}
    assert ends == {n: curve(TrialConfig(epochs=EPOCHS, seed=n)) for n in numbers}
    assert {n: recorded_faults(Root(tmp_path / "trials" / f"{n:05d}")) for n in numbers} == {
        n: [fault.kind] if (fault := simulation.fault(n, EPOCHS)) else [] for n in numbers
    }
