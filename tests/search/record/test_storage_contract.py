"""What a search needs of its storage, tested with SQLite and with PostgreSQL."""

import json
import math
import subprocess
import sys

import pytest
from optuna.samplers import RandomSampler
from optuna.trial import TrialState

from search.record.reader import study_record
from search.record.store import create_study, list_study_names, load_study, open_storage
from trainables.errors import StorageError

FACTS = {"config": {}, "dataset": {}, "metric": "loss", "versions": {}}


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/studies.db"
    return request.getfixturevalue("postgres").database()


@pytest.fixture
def opened(url):
    """A function that opens the storage again at each call; every storage is closed after the test."""
    made = []

    def open_again(**options):
        made.append(open_storage(url, **options))
        return made[-1]

    yield open_again
    for storage in made:
        storage.engine.dispose()


@pytest.fixture
def storage(opened):
    return opened(create=True)


@pytest.fixture
def study(storage, tmp_path):
    study = create(storage, "calm-fig")
    for key, value in {**FACTS, "folder": str(tmp_path)}.items():
        study.set_user_attr(key, value)
    return study


def create(storage, name):
    return create_study(storage, name, "min", RandomSampler(seed=0))


def another(program: str, *arguments: object) -> subprocess.Popen:
    """Start a Python program in another process."""
    head = "import sys, time; from search.record.store import *; from optuna.samplers import RandomSampler\n"
    return subprocess.Popen(
        [sys.executable, "-c", head + program, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def output_of(process: subprocess.Popen) -> str:
    """Return what a program printed; fail if it failed."""
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return out.strip()


def test_studies_are_listed_oldest_first_and_names_are_unique(storage):
    for name in ("b", "a", "c"):
        create(storage, name)
    assert list_study_names(storage) == ["b", "a", "c"]
    assert load_study(storage, None).study_name == "c"
    assert load_study(storage, "a").study_name == "a"
    with pytest.raises(StorageError, match="'a' exists already"):
        create(storage, "a")
    with pytest.raises(StorageError, match="no study 'd'"):
        load_study(storage, "d")


def test_open_storage_without_create_creates_nothing(opened):
    for _ in range(2):
        with pytest.raises(StorageError, match="no studies at"):
            opened()


def test_an_open_study_shows_what_others_write(opened, study):
    seen = load_study(opened(), "calm-fig")
    assert "status" not in seen.user_attrs
    study.set_user_attr("status", {"state": "running"})
    assert seen.user_attrs["status"] == {"state": "running"}
    study.set_user_attr("status", {"state": "finished"})
    assert seen.user_attrs["status"] == {"state": "finished"}
    seen.enqueue_trial({"rate": 0.5})
    assert study.get_trials(states=(TrialState.WAITING,))[0].system_attrs["fixed_params"] == {"rate": 0.5}


def test_trials_in_every_state_are_read_as_written(opened, study):
    study.enqueue_trial({"rate": 0.5, "depth": 3, "kind": "b"})
    values = {}
    for number, ending in enumerate((TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, None)):
        trial = study.ask()
        values[number] = (
            trial.suggest_float("rate", 1e-5, 1.0, log=True),
            trial.suggest_int("depth", 0, 5),
            trial.suggest_categorical("kind", ("a", "b")),
        )
        trial.report(1 / 3, 333)
        trial.report(0.1 + number, 667)
        trial.set_user_attr("config", {"rate": values[number][0]})
        trial.set_user_attr("epochs_done", 2)
        if ending == TrialState.COMPLETE:
            study.tell(trial, 0.1)
        elif ending:
            study.tell(trial, state=ending)
    study.enqueue_trial({"rate": 0.25})
    record = study_record(load_study(opened(), None))
    assert [trial.state for trial in record.trials] == ["finished", "stopped", "failed", "paused", "queued"]
    assert values[0] == (0.5, 3, "b")
    assert all(tuple(trial.params.values()) == values[trial.number] for trial in record.trials[:4])
    assert all(trial.config["rate"] == values[trial.number][0] for trial in record.trials[:4])
    assert all(trial.intermediate == {333: 1 / 3, 667: 0.1 + trial.number} for trial in record.trials[:4])
    assert (record.trials[0].value, record.trials[1].value) == (0.1, 1.1)
    assert record.trials[0].started <= record.trials[0].ended


@pytest.mark.parametrize(
    "text",
    [
        'it\'s "quoted"; DROP TABLE trials; -- %s %(name)s \\',
        "<script>alert(1)</script> & [red]markup[/]",
        "naïve 🌱 日本語 \u202eright to left",
        "NUL \x00, escape \x1b[31m, a half of a pair \udc80",
        "line\r\nline\n\ttab",
        "",
    ],
    ids=["quotes", "markup", "unicode", "control", "lines", "empty"],
)
def test_any_text_is_stored_unchanged(opened, study, text):
    trial = study.ask()
    trial.set_user_attr("error", {"kind": "other", "message": text, "traceback": text})
    trial.set_user_attr("stop_reason", text)
    study.set_user_attr("status", {"state": "failed", "why": text})
    study.tell(trial, state=TrialState.FAIL)
    record = study_record(load_study(opened(), None))
    assert record.trials[0].error == {"kind": "other", "message": text, "traceback": text}
    assert (record.trials[0].stop_reason, record.why) == (text, text)


@pytest.mark.parametrize("letters", [200_000, 3_000_000])
def test_long_text_is_stored_completely(opened, study, letters):
    text = "Traceback: é\n" * (letters // 13)
    trial = study.ask()
    trial.set_user_attr("error", {"traceback": text})
    study.tell(trial, state=TrialState.FAIL)
    assert study_record(load_study(opened(), None)).trials[0].error == {"traceback": text}


def test_non_finite_numbers_are_stored_except_a_nan_as_the_value(opened, study):
    history = {"train_loss": [1.0, math.nan, math.inf, -math.inf, 5e-324, 1.7976931348623157e308]}
    trial = study.ask()
    trial.set_user_attr("history", history)
    for step, value in enumerate((math.nan, math.inf, -math.inf, 1e-320)):
        trial.report(value, step)
    with pytest.raises(ValueError, match="nan is not acceptable"):
        study.tell(trial, math.nan, state=TrialState.COMPLETE)
    study.tell(trial, math.inf)
    found = study_record(load_study(opened(), None)).trials[0]
    assert json.dumps(found.attributes["history"]) == json.dumps(history)
    assert str(dict(found.intermediate)) == str({0: math.nan, 1: math.inf, 2: -math.inf, 3: 1e-320})
    assert (found.state, found.value) == ("finished", math.inf)


def test_a_told_trial_cannot_be_changed(study):
    trial = study.ask()
    study.tell(trial, 0.5)
    study.tell(trial.number, 0.7, skip_if_finished=True)
    with pytest.raises(RuntimeError, match="can not be updated"):
        trial.set_user_attr("late", 1)
    assert study.trials[0].value == 0.5


def test_a_step_that_is_reported_twice_is_stored_once(study):
    """The record writer repeats a write that succeeded if the database's answer to it was lost."""
    trial = study.ask()
    for _ in range(2):
        trial.storage.set_trial_intermediate_value(trial._trial_id, 500, 0.25)
        trial.set_user_attr("epochs_done", 1)
    assert study.trials[0].intermediate_values == {500: 0.25}


def test_a_reader_in_another_process_does_not_wait_and_sees_only_more(url, study):
    reader = another(
        """
study = load_study(open_storage(sys.argv[1]), None)
reads, seen, slowest = 0, [], 0.0
print("ready", flush=True)
while "done" not in study.user_attrs:
    started = time.monotonic()
    seen.append(sum(len(trial.intermediate_values) for trial in study.get_trials(deepcopy=False)))
    reads, slowest = reads + 1, max(slowest, time.monotonic() - started)
assert seen == sorted(seen)
print(reads, len(set(seen)), slowest)
""",
        url,
    )
    assert reader.stdout.readline() == "ready\n"
    for _ in range(30):
        trial = study.ask()
        for step in range(10):
            trial.report(step / 10, step)
        trial.set_user_attr("history", {"loss": [0.1] * 100})
        study.tell(trial, 1.0)
    study.set_user_attr("done", True)
    reads, different, slowest = output_of(reader).split()
    assert int(reads) >= int(different) > 1
    assert float(slowest) < 10


def test_several_processes_can_create_one_storage_at_once(url, opened):
    makers = [another("print(list_study_names(open_storage(sys.argv[1], create=True)))", url) for _ in range(3)]
    assert [output_of(maker) for maker in makers] == ["[]"] * 3
    assert list_study_names(opened()) == []


def test_of_two_processes_that_create_one_name_one_is_rejected(url, storage, tmp_path):
    """The two meet before each of five names, once their imports are done, so that they do race."""
    program = """
storage, folder, me, found = open_storage(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), []
for number in range(5):
    (folder / f"{number}-{me}").touch()
    while not (folder / f"{number}-{1 - me}").exists():
        pass
    try:
        found.append(create_study(storage, f"calm-{number}", "max", RandomSampler()).study_name)
    except StorageError as error:
        found.append(str(error))
print(json.dumps(found))
"""
    creators = [another("from pathlib import Path\nimport json\n" + program, url, tmp_path, me) for me in range(2)]
    for number, pair in enumerate(zip(*(json.loads(output_of(creator)) for creator in creators), strict=True)):
        name, refusal = sorted(pair)
        assert name == f"calm-{number}"
        assert refusal.startswith(f"the study 'calm-{number}' exists already")
    assert sorted(list_study_names(storage)) == [f"calm-{number}" for number in range(5)]
