import json
import os
import re
import signal
import subprocess
import sys
import time

import psutil
import pytest

import search.cli.main
from search.record.records import read_study
from tests.search.conftest import COLOURS, IMAGE_SIZE, binary_table, command, folders, numbers, paint, regression_table, start, workers

SMALL = ("--image-size", IMAGE_SIZE, "--max-concurrent-trials", 1, "--set", "space.epochs=3")
STATUS = {"study", "state", "metric", "mode", "trials", "epochs", "seconds", "why", "best_trial", "failures"}
BEST = {"study", "trial", "metric", "value", "epoch", "params", "test", "default_recipe"}
COUNTS = {"finished", "stopped", "failed", "running", "queued", "paused"}
HEAVY = ("torch", "ray", "optuna", "pandas", "sqlalchemy", "numpy")


def imported(statement, modules):
    """Which of some modules a statement imports, in a process of its own."""
    check = f"import sys; {statement}; print(*(name for name in {modules!r} if name in sys.modules))"
    return subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True).stdout.split("\n")[-2].split()


def test_help_is_light():
    done = command("--help")
    assert done.returncode == 0
    for name in ("search", "resume", "best", "status", "train", "dashboard"):
        assert re.search(rf"\b{name}\b", done.stdout)
    assert imported("import search.cli.main", HEAVY) == []


@pytest.mark.parametrize(
    "module",
    [
        "trainables.config",
        "trainables.errors",
        "trainables.objectives",
        "trainables.recipe",
        "search.config",
        "search.record.records",
        "search.record.store",
    ]
    + ["search.display.summary", "search.watcher", "search.space.space", "search.rerun", "cluster.connect"],
)
def test_light_modules_import_neither_torch_nor_ray(module):
    assert imported(f"import {module}", ("torch", "ray", "torchvision", "albumentations")) == []


def test_each_command_explains_its_options(capsys):
    for name in ("search", "resume", "best", "status", "train", "dashboard"):
        assert main(name, "--help") == 0
        assert "Usage: " in capsys.readouterr().out


def main(*arguments):
    """Run the command line in this process; return its exit code."""
    given, sys.argv = sys.argv, ["injerto", *map(str, arguments)]
    try:
        search.cli.main.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    finally:
        sys.argv = given
    return 0


def first_epoch_of(name, number, process, seconds=120):
    """Wait until a trial has reported an epoch."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        try:
            trials = read_study(name).trials
            if len(trials) > number and trials[number].epochs_done >= 1:
                return
        except Exception:
            pass
        time.sleep(0.05)
    raise AssertionError(f"trial {number} never reported; {process.communicate() if process.poll() is not None else 'still running'}")


def gone(pids, seconds=60):
    """Wait until processes have ended."""
    _, alive = psutil.wait_procs([psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)], timeout=seconds)
    return [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture
def reference(finished):
    return finished.trials[:2]


def assert_as_if_never_interrupted(record, reference):
    assert record.state == "finished"
    assert [trial.number for trial in record.trials] == [trial.number for trial in reference]
    assert [trial.config for trial in record.trials] == [trial.config for trial in reference]
    assert [numbers(trial) for trial in record.trials] == [numbers(trial) for trial in reference]


def test_interrupt_and_resume(home, photos, reference, capsys):
    """Ctrl-C reaches the whole process group; the search pauses, says how to go on, and goes on."""
    process = start("search", photos, *SMALL, "--trials", 2, "--name", "calm-fig", "--seed", 3, "--metric", "loss")
    first_epoch_of("calm-fig", 0, process)
    descendants = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
    os.killpg(process.pid, signal.SIGINT)
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "interrupted by SIGINT: trials pause at their next epoch" in out
    assert "go on with it: injerto resume calm-fig" in out
    assert "Traceback" not in out + errors
    assert not gone(descendants)
    before = read_study("calm-fig")
    assert (before.state, before.counts["running"]) == ("interrupted", 0)
    assert before.counts["paused"] + before.counts["finished"] >= 1

    assert main("resume", "calm-fig") == 0
    assert "calm-fig finished: all 2 trials have ended" in capsys.readouterr().out
    record = read_study("calm-fig")
    assert_as_if_never_interrupted(record, reference)
    for old, new in zip(before.trials, record.trials, strict=False):
        assert new.history["seconds_training"][: old.epochs_done] == old.history["seconds_training"]
    assert (home / "injerto-output" / "calm-fig" / "best.safetensors").exists()


@pytest.mark.slow
def test_killed_driver_and_resume(home, photos, reference, ray_session):
    process = start("search", photos, *SMALL, "--trials", 2, "--name", "calm-fig", "--seed", 3, "--metric", "loss")
    first_epoch_of("calm-fig", 0, process)
    descendants = [worker.pid for worker in workers(process.pid)]
    assert descendants
    process.kill()
    process.communicate()
    assert not gone(descendants)
    assert main("status", "calm-fig") == 0
    before = read_study("calm-fig")
    assert (before.state, before.counts["paused"], before.counts["running"]) == ("interrupted", 1, 0)
    assert main("resume", "calm-fig") == 0
    record = read_study("calm-fig")
    assert_as_if_never_interrupted(record, reference)
    for old, new in zip(before.trials, record.trials, strict=False):
        assert new.history["seconds_training"][: old.epochs_done] == old.history["seconds_training"]


@pytest.mark.slow
def test_a_search_on_a_cluster_from_a_folder_with_a_search_py(home, ray_session):
    (home / "search.py").write_text("raise RuntimeError('a file of the user')\n")
    (home / "trainables.py").write_text("raise RuntimeError('a file of the user')\n")
    binary_table(home / "fruit")
    address = ray_session.get_runtime_context().gcs_address
    done = command("search", "fruit", "--trials", 2, "--address", address, *SMALL)
    assert done.returncode == 0, done.stderr + done.stdout
    name = re.search(r"study ([a-z]+-[a-z]+): binary on", done.stdout)[1]
    assert f"{name} finished: all 2 trials have ended" in done.stdout
    assert "test images, opened once" in done.stdout
    assert (home / "injerto-output" / name / "best.yaml").exists()

    status = json.loads(command("status", "--json").stdout)
    assert set(status) == STATUS
    assert set(status["trials"]) == COUNTS
    assert (status["study"], status["metric"], status["mode"], status["trials"]["finished"]) == (name, "auroc", "max", 2)
    best = json.loads(command("best", "--json").stdout)
    assert set(best) == BEST
    assert set(best["default_recipe"]) == {"value", "test"}
    assert 0 <= best["test"]["auroc"] <= 1


def test_best_and_status_read_the_record(finished, finished_storage, capsys):
    assert main("best", "calm-fig", "--storage", finished_storage) == 0
    shown = capsys.readouterr().out
    assert "calm-fig: best finished trials" in shown
    assert "(default recipe)" in " ".join(shown.split())
    assert "On 7 test images, opened once" in shown
    assert main("best", "calm-fig", "--json", "--storage", finished_storage) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(finished.best_json()))
    assert main("status", "--storage", finished_storage, "--json") == 0
    assert json.loads(capsys.readouterr().out) == finished.status_json()


def test_dry_run_starts_nothing(home, photos, capsys):
    assert main("search", photos, "--dry-run", "--image-size", IMAGE_SIZE, "--set", "space.learning_rate.high=0.02", "--trials", 3) == 0
    shown = capsys.readouterr().out
    assert f"source: {photos}" in shown
    assert "# task: multiclass, metric: accuracy (max), image_size: 32" in shown
    assert "learning_rate: 0.0001 to 0.02 (log)" in shown
    assert "# the default recipe, trial 0:" in shown
    assert list(home.iterdir()) == []


def lone_class(home):
    for index in range(9):
        paint(home / "one" / "red" / f"{index}.png", COLOURS["red"], numpy_rng())
    return "one"


def lonely_image(home):
    folders(home / "uneven", each=6)
    paint(home / "uneven" / "pink" / "0.png", (200, 150, 150), numpy_rng())
    return "uneven"


def numpy_rng():
    import numpy as np

    return np.random.default_rng(7)


def pointers(home):
    for name in ("cat", "dog"):
        (home / "lfs" / name).mkdir(parents=True)
        for index in range(6):
            (home / "lfs" / name / f"{index}.jpg").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n")
    return "lfs"


def written(name, text):
    def make(home):
        (home / name).write_text(text)
        return name

    return make


def csv(rows, images=24):
    """A CSV over pictures 0.png, 1.png, ...; `rows(index)` gives the cells."""

    def make(home):
        for index in range(images):
            paint(home / "table" / f"{index}.png", COLOURS["red"], numpy_rng())
        header, *lines = [rows(None), *(f"{index}.png,{rows(index)}" for index in range(images))]
        (home / "table" / "labels.csv").write_text("\n".join([f"image,{header}", *lines]))
        return "table"

    return make


def empty(home):
    (home / "empty").mkdir()
    return "empty"


def damaged_weights(home):
    (home / "mine.safetensors").write_bytes(b"no tensors")
    return "mine.safetensors"


def other_weights(home):
    import torch
    from safetensors.torch import save_file

    save_file({"features.0.weight": torch.zeros(3)}, home / "other.safetensors")
    return "other.safetensors"


BAD_SOURCES = {
    "missing path": (lambda home: "nowhere", "/nowhere'; give an image folder, a CSV file"),
    "missing sample": (lambda home: "builtin:digit", "did you mean 'digits'"),
    "missing yaml": (lambda home: "none.yaml", "no file 'none.yaml'"),
    "empty folder": (empty, "holds no images"),
    "one class": (lone_class, "one class"),
    "class of one image": (lonely_image, "pink"),
    "pointers": (pointers, "Git LFS pointers"),
    "yaml tag": (written("bad.yaml", "name: !!python/name:os.system"), "YAML tag"),
    "yaml list": (written("bad.yaml", "- 1"), "must hold keys and values"),
    "yaml key": (written("bad.yaml", "budgett: {}"), "did you mean 'budget'"),
    "a recipe": (written("best.yaml", "data: {source: builtin:digits}\ntrial: {epochs: 2}"), "injerto train best.yaml"),
}
BAD_ARGUMENTS = {
    "unknown metric": (["--metric", "acuracy"], "did you mean 'accuracy'"),
    "metric of another task": (["--metric", "mae"], "does not judge a multiclass task"),
    "top5 of three classes": (["--metric", "top5"], "needs at least 10 classes"),
    "unknown task": (["--task", "multi"], "data.task: unknown 'multi'"),
    "task that the labels are not": (["--task", "multilabel"], "multilabel needs a CSV"),
    "name": (["--name", "my study"], "name: must be 1 to 64 letters"),
    "trials": (["--trials", 0], "budget.trials: must be greater than or equal to 1 but got 0"),
    "trials in words": (["--trials", "many"], "integer"),
    "time": (["--time-budget", "soon"], "30m"),
    "image size": (["--image-size", 7], "image_size: must be greater than or equal to 16"),
    "seed": (["--seed", -1], "seed"),
    "unknown key": (["--set", "space.lerning_rate=0.1"], "did you mean 'learning_rate'"),
    "key without space": (["--set", "learning_rate=0.1"], "did you mean 'space.learning_rate'"),
    "no value": (["--set", "space.epochs"], "--set takes key=value"),
    "range": (["--set", "space.dropout=1.4"], "dropout: must be less than 1 but got 1.4"),
    "range of strength": (["--set", "space.augmentation_strength.high=1.4"], "augmentation_strength: must be less than or equal to 1"),
    "tag": (["--set", "space=!!python/object/apply:os.getcwd []"], "is not a plain value"),
    "initializer": (["--set", "space.initializer=xavier_unifrom"], "did you mean 'xavier_uniform'"),
    "backbone": (["--set", "space.backbone=mobilenet_v3_smal"], "did you mean 'mobilenet_v3_small'"),
    "backbones": (["--set", "backbones=[resnet81]", "--weights", "none"], "did you mean 'resnet18'"),
    "no backbone": (["--set", "space.backbone={low: 3}"], "space.backbone takes a name or a list of names"),
    "backbone without builtin weights": (["--set", "backbones=[resnet18]"], "resnet18"),
    "small images": (["--set", "backbones=[inception_v3]", "--weights", "none"], "inception_v3 accepts images of at least 75 pixels"),
    "batch": (["--set", "space.batch_size=16"], "batch_size must be at most 8, a quarter of the 33 training images"),
    "stages": (["--set", "space.unfrozen_stages=9"], "unfrozen_stages must be at most"),
    "weights": (["--weights", "imagnet"], "did you mean 'imagenet'"),
    "missing weights": (["--weights", "mine.safetensors"], "mine.safetensors"),
    "loss of another task": (["--set", "space.loss=mse"], "loss 'mse' does not train a multiclass task"),
    "losses of another task": (["--set", "space.loss=[cross_entropy, mae]"], "loss 'mae' does not train a multiclass task"),
    "a setting in the space": (["--set", "space.image_size=[32, 64]"], "set image_size instead"),
    "logarithm": (["--set", "space.target=log"], "target: log is for regression"),
    "storage in words": (["--storage", "here"], "is not a storage URL"),
    "storage in memory": (["--storage", "sqlite://"], "would be lost"),
    "storage out of reach": (["--storage", "sqlite:////proc/none/x.db"], "cannot open the storage"),
    "output out of reach": (["--output", "/dev/null/none"], "cannot make the output folder"),
    "unknown option": (["--trails", 3], "--trails"),
}


def check_refusal(home, capsys, arguments, fragment):
    before = {path for path in home.rglob("*") if "own" not in path.parts}
    code = main(*arguments)
    shown = capsys.readouterr()
    words = " ".join(shown.err.replace("│", " ").split())
    assert code == 2, shown
    assert fragment in words
    assert "Traceback" not in shown.out + shown.err
    assert len(shown.err.splitlines()) <= 8
    assert {path for path in home.rglob("*") if "own" not in path.parts} == before
    if (home / "own").exists():
        from search.record.store import names, open_storage

        assert names(open_storage(None)) == []


@pytest.mark.parametrize("case", BAD_SOURCES)
def test_bad_sources(case, home, capsys):
    make, fragment = BAD_SOURCES[case]
    check_refusal(home, capsys, ["search", make(home)], fragment)


@pytest.mark.parametrize("case", BAD_ARGUMENTS)
def test_bad_arguments(case, home, photos, capsys):
    arguments, fragment = BAD_ARGUMENTS[case]
    check_refusal(home, capsys, ["search", photos, "--image-size", IMAGE_SIZE, *arguments], fragment)


@pytest.mark.parametrize(
    ("rows", "fragment"),
    [
        (lambda index: "weight" if index is None else ("heavy" if index == 3 else index * 1.5), "heavy"),
        (lambda index: "red,blue" if index is None else f"{index % 2},{2 if index == 5 else 1}", "2"),
        (lambda index: "label,image2" if index is None else f"{'ab'[index % 2]},x", ""),
    ],
)
def test_bad_tables(rows, fragment, home, capsys):
    options = ["--task", "regression"] if rows(None) == "weight" else []
    if rows(None) == "red,blue":
        options = ["--task", "multilabel", "--set", "data.label_columns=[red, blue]"]
    if rows(None) == "label,image2":
        options, fragment = ["--set", "data.image_column=imag"], "did you mean 'image'"
    check_refusal(home, capsys, ["search", csv(rows)(home), *options], fragment)


@pytest.mark.parametrize("make", [damaged_weights, other_weights])
def test_weights_that_do_not_match(make, home, photos, capsys):
    name = make(home)
    check_refusal(home, capsys, ["search", photos, "--weights", name, "--image-size", IMAGE_SIZE], name)


def test_csv_of_absent_files(home, capsys):
    (home / "labels.csv").write_text("image,label\n" + "\n".join(f"{index}.png,{'ab'[index % 2]}" for index in range(12)))
    check_refusal(home, capsys, ["search", "labels.csv"], "0.png")


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["best"], "no studies at"),
        (["status", "calm-fig"], "no studies at"),
        (["resume", "calm-fig"], "no studies at"),
        (["best", "--storage", "nonsense"], "is not a storage URL"),
        (["train", "none.yaml"], "no file 'none.yaml'"),
        (["dashboard"], "no studies at"),
        (["serch"], "serch"),
    ],
)
def test_other_commands_refuse(arguments, fragment, home, capsys):
    check_refusal(home, capsys, arguments, fragment)


def test_a_name_that_is_taken(finished, finished_storage, photos, home, capsys):
    code = main("search", photos, "--name", "calm-fig", "--storage", finished_storage)
    assert code == 2
    assert "the study 'calm-fig' exists already" in capsys.readouterr().err
    assert main("best", "calm-fog", "--storage", finished_storage) == 2
    assert "did you mean 'calm-fig'" in capsys.readouterr().err


def test_a_refusal_in_a_process_of_its_own(home):
    done = command("search", "nowhere")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: no file or folder '{home}/nowhere'")
    assert done.stdout == ""


def test_a_cluster_that_does_not_answer_leaves_nothing_behind(home, photos):
    done = command("search", photos, "--image-size", IMAGE_SIZE, "--address", "127.0.0.1:1")
    assert done.returncode == 2
    assert "error: no Ray cluster answers at 127.0.0.1:1" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert [path.name for path in home.iterdir()] == ["own"]


def test_unreadable_images_are_named_and_strict_refuses(home, photos, real_data, capsys):
    assert main("search", real_data / "broken", "--dry-run") == 0
    words = " ".join(capsys.readouterr().out.split())
    assert "images that cannot be read: " in words
    assert "bomb_20000x20000.png (over 100 megapixels)" in words
    assert main("search", real_data / "broken", "--dry-run", "--strict") == 2
    assert "leave out --strict to go on without them" in capsys.readouterr().err


@pytest.mark.slow
def test_nothing_finished_is_exit_code_one(home, ray_session, capsys):
    regression_table(home / "weights")
    settings = ("optimizer=sgd", "learning_rate=10", "clip_norm=0", "warmup=0", "loss=mse", "freeze_steps=0")
    given = [part for setting in settings for part in ("--set", f"space.{setting}")]
    assert main("search", "weights", "--trials", 1, *SMALL, *given) == 1
    shown = capsys.readouterr().out
    assert "no trial finished; nothing to hand over" in shown
    assert "failed non-finite: " in shown


@pytest.mark.slow
def test_a_second_interrupt_ends_at_once_and_can_be_resumed(home, photos):
    process = start("search", photos, *SMALL[:4], "--trials", 1, "--name", "calm-fig", "--set", "space.epochs=200")
    first_epoch_of("calm-fig", 0, process)
    process.send_signal(signal.SIGINT)
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in out + errors
    record = read_study("calm-fig")
    assert (record.state, record.trials[0].state) == ("interrupted", "paused")
