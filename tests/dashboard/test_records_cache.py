import optuna
import pytest

from dashboard import records_cache
from search.record.reader import TRIALS_PER_QUERY, StudyReader, study_record
from search.record.store import create_study, open_storage
from tests.dashboard.played_search import PlayedSearch, five_trials
from trainables.errors import StorageError

pytestmark = pytest.mark.usefixtures("empty_caches")


class Counting:
    """Records which trials a reader reads from the database."""

    def __init__(self, reader, monkeypatch):
        self.rows = []
        read = reader._backend._get_trials

        def counted(study_id, states, included, greater):
            found = read(study_id, states, included, greater)
            self.rows.append(sorted(trial.number for trial in found))
            return found

        monkeypatch.setattr(reader._backend, "_get_trials", counted)

    def read_trials(self):
        rows, self.rows = [number for row in self.rows for number in row], []
        return rows


def reader_of(search):
    return StudyReader(optuna.load_study(study_name=search.name, storage=open_storage(search.url)))


def same(read, search):
    whole = study_record(optuna.load_study(study_name=search.name, storage=open_storage(search.url)))
    assert read.trials == whole.trials
    assert [read.name, read.state, read.why, read.counts, read.config] == [whole.name, whole.state, whole.why, whole.counts, whole.config]
    assert [read.parameters, read.augmentation, read.cluster, read.notes] == [
        whole.parameters,
        whole.augmentation,
        whole.cluster,
        whole.notes,
    ]


def test_incremental_reading_equals_reading_at_once(play):
    search = play("calm-fig")
    reader = reader_of(search)
    same(reader.read(), search)
    steps = (
        lambda: search.run(0.4, 0.5, 0.6, 0.7),
        lambda: search.run(0.1, 0.9, end="stopped"),
        lambda: search.run(0.2, end="running"),
        lambda: search.run(0.3, end="failed", why="Traceback\nValueError: bad"),
        lambda: search.study.enqueue_trial({"optimizer": "sgd"}),
        lambda: search.bridge.on_trial_complete("ray2"),
        lambda: search.state("interrupted", "by hand"),
        lambda: search.state("running"),
        lambda: search.study.set_user_attr("note:1", {"trial": None, "text": "x", "by": "me", "at": "2026-01-01"}),
        lambda: search.run(0.4, 0.5, 0.6, 0.75),
    )
    for step in steps:
        step()
        search.record_writer.flush()
        same(reader.read(), search)


def test_an_ended_trial_is_read_once(played, monkeypatch):
    reader = reader_of(played)
    counting = Counting(reader, monkeypatch)
    reader.read()
    assert counting.read_trials() == [0, 1, 2, 3, 4]
    reader.read()
    assert counting.read_trials() == [4]
    played.run(0.6, 0.7, 0.8, 0.95)
    assert reader.read().best.value == 0.95
    assert counting.read_trials() == [4, 5]
    played.bridge.on_trial_complete("ray4")
    played.record_writer.flush()
    reader.read()
    assert counting.read_trials() == [4]
    reader.read()
    assert counting.read_trials() == []


def test_a_trial_that_reports_and_ends_between_two_readings_is_read_completely(play):
    search = play("calm-fig")
    reader = reader_of(search)
    assert reader.read().trials[0].state == "queued"
    search.run(0.4, 0.5, 0.6, 0.7)
    assert reader.read().trials[0].intermediate == {250: 0.4, 500: 0.5, 750: 0.6, 1000: 0.7}


def test_readers_of_two_studies_in_one_storage_are_independent(empty_storage, tmp_path):
    first, second = (five_trials(PlayedSearch(empty_storage, tmp_path, name)) for name in ("calm-fig", "late-fig"))
    readers = [reader_of(search) for search in (first, second)]
    second.run(0.4, 0.5, 0.6, 0.7)
    assert [len(reader.read().trials) for reader in readers] == [5, 6]


def test_the_first_reading_reports_its_progress(empty_storage):
    study = create_study(open_storage(empty_storage), "wide-fig", "max", optuna.samplers.RandomSampler())
    for name, value in {"config": {}, "dataset": {}, "metric": "accuracy", "folder": "/nowhere", "versions": {}}.items():
        study.set_user_attr(name, value)
    count = TRIALS_PER_QUERY + 20
    study.add_trials([optuna.trial.create_trial(value=number / count) for number in range(count)])
    progress = []
    reader = StudyReader(study)
    record = reader.read(lambda done, total: progress.append((done, total)))
    assert progress == [(TRIALS_PER_QUERY, count), (count, count)]
    assert [trial.number for trial in record.trials] == list(range(count))
    progress.clear()
    reader.read(lambda done, total: progress.append((done, total)))
    assert progress == []


def test_a_study_of_another_program_is_rejected(empty_storage):
    foreign = optuna.create_study(study_name="foreign", storage=empty_storage)
    with pytest.raises(StorageError, match="'foreign' was not made by injerto"):
        StudyReader(foreign).read()
    with pytest.raises(StorageError, match="'foreign' was not made by injerto"):
        records_cache.study("foreign")


def test_viewers_share_a_record_until_it_is_too_old(played, monkeypatch):
    monkeypatch.setattr(records_cache, "SHARED_SECONDS", 60.0)
    first = records_cache.study("calm-fig")
    assert records_cache.study("calm-fig") is first
    monkeypatch.setattr(records_cache, "SHARED_SECONDS", 0.0)
    again = records_cache.study("calm-fig")
    assert again is not first
    assert again.trials[0] is first.trials[0]


def test_the_shared_study_reports_the_progress_of_the_first_reading(played):
    progress = []
    held = records_cache.SharedStudy(optuna.load_study(study_name=played.name, storage=open_storage(played.url)))
    record = held.record(lambda done, total: progress.append((done, total)))
    assert len(record.trials) == 5
    assert progress == [(5, 5)]


def test_names_are_listed_oldest_first_and_the_latest_study_is_the_default(empty_storage, play):
    assert records_cache.names() == []
    play("late-fig")
    play("early-fig")
    assert records_cache.names() == ["late-fig", "early-fig"]
    assert records_cache.study().name == "early-fig"


def test_the_error_of_an_empty_storage_names_the_command_to_start(empty_storage):
    with pytest.raises(StorageError, match="injerto search"):
        records_cache.study()


def test_a_deleted_study_raises_a_storage_error(played):
    records_cache.study("calm-fig")
    optuna.delete_study(study_name="calm-fig", storage=played.url)
    with pytest.raises(StorageError):
        records_cache.study("calm-fig")


@pytest.mark.parametrize("before", [[], ["other-fig"]], ids=["the same id", "another id"])
def test_a_study_that_was_deleted_and_created_again_is_the_new_one(played, play, before):
    records_cache.study("calm-fig")
    optuna.delete_study(study_name="calm-fig", storage=played.url)
    for name in before:
        play(name).run(0.4, 0.5)
    play("calm-fig")
    assert [trial.state for trial in records_cache.study("calm-fig").trials] == ["queued"]


def test_a_storage_that_was_removed_and_created_again_is_the_new_one(played, play, tmp_path):
    assert len(records_cache.study("calm-fig").trials) == 5
    for file in tmp_path.glob("studies.db*"):
        file.unlink()
    with pytest.raises(StorageError):
        records_cache.study("calm-fig")
    play("calm-fig")
    assert [trial.state for trial in records_cache.study("calm-fig").trials] == ["queued"]


def test_an_artifact_is_read(record):
    assert records_cache.artifact(record.root, record.augmentation["sheets"]["0.5"]).startswith(b"\xff\xd8")


@pytest.mark.parametrize("name", ["../x", "..", ".", "", "a/../../x", "/etc/hostname", "a\\b", "x\0y", "trials/../../x"])
def test_an_artifact_name_cannot_leave_the_store(tmp_path, name):
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "x").write_text("not an artifact")
    with pytest.raises(StorageError):
        records_cache.artifact(str(tmp_path), name)


def test_a_missing_artifact_raises_a_storage_error(tmp_path):
    with pytest.raises(StorageError, match=r"is not at .* any more: nothing"):
        records_cache.artifact(str(tmp_path), "nothing")


def test_the_refresh_interval_is_read_from_the_environment(monkeypatch):
    monkeypatch.delenv("INJERTO_DASHBOARD_REFRESH", raising=False)
    assert records_cache.refresh_seconds() == 2.0
    monkeypatch.setenv("INJERTO_DASHBOARD_REFRESH", "0.5")
    assert records_cache.refresh_seconds() == 0.5
