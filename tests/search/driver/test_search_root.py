"""Searches that keep states and artifacts outside their output folder: in another folder or in a bucket; and limits on disk space."""

import io
from pathlib import Path

import optuna
import pytest
from optuna.artifacts import download_artifact, upload_artifact
from optuna.artifacts.exceptions import ArtifactNotFound
from safetensors import safe_open

from search.config import SearchConfig
from search.paths import resolve_paths
from search.record.artifacts import artifact_store, study_root
from search.record.reader import read_study
from search.watcher import SilentWatcher
from tests.search.conftest import IMAGE_SIZE, UNTRAINED, command
from tests.search.simulated_search import run_simulated_search
from trainables.errors import ResourceError, StorageError
from trainables.storage.locations import join, split_location
from trainables.storage.root import Root, size_of


@pytest.fixture(params=["folder", "bucket"])
def root(request, tmp_path):
    return str(tmp_path / "root") if request.param == "folder" else join(request.getfixturevalue("bucket"), "root")


@pytest.fixture
def study():
    return optuna.create_study()


def test_optuna_artifacts_are_stored_under_the_root(root, tmp_path, study):
    store = artifact_store(root)
    (tmp_path / "history.json").write_text('{"loss": [0.5]}')
    found = upload_artifact(artifact_store=store, file_path=str(tmp_path / "history.json"), study_or_trial=study)
    download_artifact(artifact_store=store, file_path=str(tmp_path / "again.json"), artifact_id=found)
    assert (tmp_path / "again.json").read_text() == '{"loss": [0.5]}'
    assert Root(root).read(f"artifacts/{found}") == b'{"loss": [0.5]}'
    store.remove(found)
    with pytest.raises(ArtifactNotFound, match=found):
        store.open_reader(found)
    with pytest.raises(StorageError, match="cannot be a key"):
        store.write("../best.yaml", io.BytesIO(b"x"))


def test_a_study_is_under_the_common_root_or_in_its_own_folder():
    assert study_root(None, "calm-fig", Path("/out/calm-fig")) == "/out/calm-fig"
    assert study_root("/common", "calm-fig", Path("/out/calm-fig")) == "/common/calm-fig"
    assert study_root("s3://b/x?region=y", "calm-fig", Path("/out/calm-fig")) == "s3://b/x/calm-fig?region=y"


def check(record, place, kept):
    """Check that states, histories and weights are under the root, and the results in the output folder."""
    assert record.state == "finished"
    for trial in record.trials:
        assert len(trial.history["objective"]) == trial.epochs_done
        assert split_location(split_location(trial.attributes["checkpoint"])[0])[0] == join(place, "trials")
    sizes = {trial.number: size_of(trial.attributes["checkpoint"]) for trial in record.trials}
    assert {number for number, size in sizes.items() if size} == kept
    assert all(trial.attributes["checkpoint_bytes"] == sizes[trial.number] for trial in record.trials if trial.number in kept)
    assert Root(place).names() == ["artifacts", "best.safetensors", "trials"]
    assert sorted(path.name for path in record.folder.iterdir()) == ["best.safetensors", "best.yaml"]
    assert (record.folder / "best.safetensors").read_bytes() == Root(place).read("best.safetensors")


@pytest.mark.slow
def test_a_search_with_its_states_in_another_folder(ray_session, tmp_path):
    options = {"name": "calm-fig", "trials": 6, "max_concurrent_trials": 1}
    settings = ("keep.best=2", f"root={tmp_path}/root")
    record = run_simulated_search(tmp_path, settings=settings, **options)
    check(record, str(tmp_path / "root" / "calm-fig"), {0} | {trial.number for trial in record.ranking[:2]})
    with pytest.raises(StorageError, match="is not empty; choose another --name or --root"):
        run_simulated_search(
            tmp_path, settings=settings, **options, output=str(tmp_path / "other"), storage=f"sqlite:///{tmp_path}/other.db"
        )


@pytest.mark.slow
def test_a_search_with_its_states_in_a_bucket(bucket, photos, home):
    place = join(bucket, "root")
    quick = [*UNTRAINED, "--image-size", IMAGE_SIZE, "--max-concurrent-trials", 1, "--set", "space.epochs=2", "--set", "keep.best=1"]
    done = command("search", photos, "--trials", 4, "--name", "calm-fig", "--output", home / "out", "--root", place, *quick)
    assert done.returncode == 0, done.stderr
    record = read_study("calm-fig")
    check(record, join(place, "calm-fig"), {0, record.best.number})
    with safe_open(record.folder / "best.safetensors", "pt") as file:
        assert file.metadata()["fingerprint"] == record.dataset["fingerprint"]


ROOM = {"trials": 6, "epochs": 2, "max_concurrent_trials": 1, "seed": 1, "metric": "loss"}


@pytest.fixture(scope="module")
def free(ray_session, tmp_path_factory):
    """The record of a search that has room for the state of each of its trials."""
    return run_simulated_search(tmp_path_factory.mktemp("free"), settings=("keep.best=6",), **ROOM)


def test_states_stay_within_keep_disk_during_a_search(free, tmp_path):
    """The test measures the disk at every event."""
    sizes = [trial.attributes["checkpoint_bytes"] for trial in free.trials]
    assert free.best.number != 0
    disk, measured = 3 * max(sizes), []

    class Measuring(SilentWatcher):
        def event(self, event):
            measured.append(sum(path.stat().st_size for path in (tmp_path / "tight").rglob("state-*") if path.exists()))

    (tmp_path / "tight").mkdir()
    tight = run_simulated_search(tmp_path / "tight", settings=("keep.best=6", f"keep.disk={disk}"), watcher=Measuring(), **ROOM)
    assert [trial.value for trial in tight.trials] == [trial.value for trial in free.trials]
    kept = {trial.number for trial in tight.trials if size_of(trial.attributes["checkpoint"])}
    assert {tight.best.number, 0} <= kept
    assert sum(sizes[number] for number in kept) <= disk
    assert 0 < max(measured) <= disk + 2 * max(sizes)  # an old state is removed after the new one is written


def test_a_default_recipe_whose_state_was_removed_is_not_evaluated(free, tmp_path):
    largest = max(trial.attributes["checkpoint_bytes"] for trial in free.trials)
    assert set(free.test) >= {"winner", "default_recipe"}
    tight = run_simulated_search(tmp_path / "tight", settings=(f"keep.disk={2 * largest + 1}",), **ROOM)
    assert tight.best.number == free.best.number
    assert tight.trials[0].value > tight.trials[1].value  # later trials run beside a better one
    assert tight.test["winner"] == free.test["winner"]
    assert "default_recipe" not in tight.test
    kept = {trial.number for trial in tight.trials if size_of(trial.attributes["checkpoint"])}
    assert tight.best.number in kept
    assert 0 not in kept


def test_a_search_pauses_if_running_trials_exceed_keep_disk(ray_session, tmp_path):
    with pytest.raises(ResourceError, match=r"more than keep.disk allows.*raise keep.disk.*injerto resume tight-fit"):
        run_simulated_search(tmp_path, trials=3, name="tight-fit", settings=("keep.disk=10",))
    assert read_study("tight-fit", f"sqlite:///{tmp_path}/studies.db").state == "interrupted"


@pytest.mark.parametrize(
    ("root", "words"),
    [
        ("s3://me:secret-key@bucket/a", "the root s3://***bucket/a holds a password or a key"),
        ("http://bucket/a", "'http://bucket/a' cannot be a root; name a folder, or a bucket"),
    ],
)
def test_an_unusable_root_is_rejected_first(root, words, photos, home):
    done = command("search", photos, "--root", root, "--dry-run")
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert "secret-key" not in done.stderr


def test_a_missing_bucket_is_rejected_before_any_trial(bucket, ray_session, tmp_path):
    with pytest.raises(StorageError, match="there is no such bucket; make it first, or name another"):
        run_simulated_search(tmp_path, trials=1, settings=(f"root={bucket.replace('bucket-', 'absent-', 1)}",))
    with pytest.raises(StorageError, match="holds no study"):
        read_study(None, f"sqlite:///{tmp_path}/studies.db")


def test_a_relative_root_becomes_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resolve_paths(SearchConfig(root="states")).root == str(tmp_path / "states")
    assert resolve_paths(SearchConfig(root="s3://bucket/states")).root == "s3://bucket/states"
    assert resolve_paths(SearchConfig()).root is None
