"""Tiny image sets of each task, short searches over them, and the command line in a process of its own."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
from hypothesis import settings
from PIL import Image

from search.space.changes import build_space
from search.space.default_space import default_parameters
from trainables.recipe import default_recipe

COLOURS = {"blue": (60, 60, 190), "green": (60, 190, 60), "red": (190, 60, 60)}
SIDE = 24
IMAGE_SIZE = 32
CLOCKS = ("seconds_training", "seconds_evaluation", "images_per_second")
STAGES = {"mobilenet_v3_small": 5, "resnet18": 4}
FASTEST = "backbones=[mobilenet_v3_small]"
UNTRAINED = ("--weights", "none", "--set", FASTEST)
"""Tests that need no trained network search the fastest one without pretrained weights: the setting, and the options of a command."""

settings.register_profile("shared machine", deadline=None, max_examples=60)
settings.load_profile("shared machine")


def paint(path, colour, rng):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.array(colour) + rng.normal(0, 25, (SIDE, SIDE, 3))
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)


def folders(root, each=16):
    rng = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        for index in range(each):
            paint(root / name / f"{index}.png", colour, rng)
    return root


def table(root, header, draw, images=48):
    """Write a CSV and its images; ``draw(index, rng)`` gives each image's colour and its cells."""
    rng = np.random.default_rng(1)
    lines = [f"image,{header}"]
    for index in range(images):
        colour, cells = draw(index, rng)
        paint(root / f"{index}.png", colour, rng)
        lines.append(f"{index}.png,{cells}")
    path = root / "labels.csv"
    path.write_text("\n".join(lines))
    return path


def binary_table(root):
    names = sorted(COLOURS)[:2]
    return table(root, "label", lambda index, rng: (COLOURS[names[index % 2]], names[index % 2]))


def regression_table(root):
    def draw(index, rng):
        grey = rng.uniform(40, 220)
        return (grey, grey, grey), f"{grey / 10:.3f}"

    return table(root, "weight", draw)


def multilabel_table(root):
    def draw(index, rng):
        on = [index >> bit & 1 for bit in range(3)]
        return [60 + 130 * value for value in on], ",".join(map(str, on))

    return table(root, "red,green,blue", draw)


TABLES = {"binary": binary_table, "regression": regression_table, "multilabel": multilabel_table}


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """An image folder of three classes with 16 images each."""
    return folders(tmp_path_factory.mktemp("photos"))


@pytest.fixture
def search(ray_session, tmp_path):
    """Search in this process: `search(source, trials=3, epochs=2, settings=(...), watcher=..., trainable=...)`.

    The search is over the fastest network without pretrained weights, unless `settings` and `weights` name others.
    """
    return lambda source, **options: run_here(source, tmp_path, **options)


def run_here(source, root, *, epochs=2, settings=(), watcher=None, trainable=None, **options):
    from search.config_reader import read_config
    from search.driver.launch import launch

    defaults = {
        "output": str(root / "out"),
        "storage": f"sqlite:///{root}/studies.db",
        "image_size": IMAGE_SIZE,
        "weights": "none",
        "max_concurrent_trials": 1,
    }
    fastest = (FASTEST, f"space.epochs={epochs}")
    return launch(read_config(source, defaults | options, (*fastest, *settings)), watcher, trainable=trainable)


REFERENCE = {"epochs": 3, "metric": "loss", "seed": 3}


@pytest.fixture(scope="session")
def finished(ray_session, photos, tmp_path_factory):
    """The record of a finished search: six trials of three epochs, the last one stopped at a rung. Tests must not change it."""
    root = tmp_path_factory.mktemp("finished")
    return run_here(photos, root, trials=6, name="calm-fig", **REFERENCE)


@pytest.fixture(scope="session")
def finished_storage(finished):
    return f"sqlite:///{finished.folder.parents[1]}/studies.db"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty working folder, and a default storage that does not exist yet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INJERTO_STORAGE", f"sqlite:///{tmp_path}/own/studies.db")
    return tmp_path


@pytest.fixture
def weights_here(tmp_path, monkeypatch):
    """The pretrained weights that this process finds, which the test chooses; see `tests.search.weights_here`."""
    from tests.search.weights_here import WeightsHere

    return WeightsHere(tmp_path / "torch", monkeypatch)


@pytest.fixture(scope="session")
def postgres():
    """A PostgreSQL server for this process; tests that need it are skipped where none is installed."""
    from tests.search.postgres import Server, missing

    if reason := missing():
        pytest.skip(reason)
    server = Server()
    try:
        server.start()
        yield server
    finally:
        server.close()


STARTED: list[subprocess.Popen] = []


def start(*arguments: object, **options) -> subprocess.Popen:
    """Start the command line in a process group of its own, as a terminal does; `no_command_stays` kills it at the end of the test."""
    command = [str(Path(sys.executable).with_name("injerto")), *map(str, arguments)]
    STARTED.append(subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options))
    return STARTED[-1]


@pytest.fixture(autouse=True)
def no_command_stays():
    """Kill commands that still run after a test: they would slow down later tests, or run for ever."""
    yield
    while STARTED:
        process = STARTED.pop()
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def command(*arguments: object) -> subprocess.CompletedProcess:
    """Run a command and return its exit code and output."""
    process = start(*arguments)
    out, errors = process.communicate(timeout=240)
    return subprocess.CompletedProcess(process.args, process.returncode, out, errors)


def workers(driver=None):
    """Return the processes that run trials for a driver, by default for this process."""
    titles = ("ray::ImageTrial", "ray::ResourceTrainable")
    found = []
    for process in psutil.Process(driver).children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # one that has just ended
            if " ".join(process.cmdline()).startswith(titles):
                found.append(process)
    return found


def numbers(trial):
    """Return a trial's history without the measured times."""
    return {name: values for name, values in trial.history.items() if name not in CLOCKS}


def make_space(changes=None, *, task="multiclass", images=1000, backbones=("mobilenet_v3_small",), image_sizes=(IMAGE_SIZE,)):
    stages = {name: STAGES[name] for name in backbones}
    recipe = default_recipe(images, task=task, backbone=backbones[0], stages=stages[backbones[0]], weights="none", image_size=IMAGE_SIZE)
    parameters = default_parameters(recipe, images=images, backbones=backbones, stages=max(stages.values()), image_sizes=image_sizes)
    return build_space(recipe, parameters, changes or {}, stages)


def watched_plan(output="out"):
    """Return a stand-in for a plan, with the attributes that a watcher reads."""
    from types import SimpleNamespace

    from search.config import SearchConfig

    data = SimpleNamespace(task="multiclass", image_size=32, notes=("left out [bold]1[/bold] file",))
    storage, algorithm = "sqlite:///none/studies.db", {"scheduler": "none"}
    config = SearchConfig(output=Path(output), storage=storage, algorithm=algorithm, backbones=("efficientnet_lite0",))
    return SimpleNamespace(config=config, dataset=data, metric="accuracy", mode="max", image_sizes=(32,))
