"""A search without workers: the real bridge writes the real record, and the tests play the part of Ray."""

import os
import socket
from datetime import datetime
from pathlib import Path

import psutil
import pytest
import sqlalchemy
from optuna.samplers import RandomSampler

from search import lease
from search.bridge import Bridge
from search.config import SearchConfig
from search.ledger import Ledger
from search.records import read_study
from search.retention import Retention
from search.space import build_space, default_parameters
from search.stopping import Ending, Rungs, Verdict
from search.store import create_study, open_storage
from trainables.config import DataConfig
from trainables.recipe import default_recipe
from trainables.trainable import Assignment

STAGES = {"mobilenet_v3_small": 5}


class PlayedSearch:
    """A study whose trials do what they are told."""

    def __init__(self, url: str, output: Path, name: str, trials: int = 8):
        recipe = default_recipe(
            1000,
            task="multiclass",
            backbone="mobilenet_v3_small",
            stages=5,
            weights="none",
            image_size=32,
            aspect="crop",
            ops=("crop",),
        )
        parameters = default_parameters(recipe, task="multiclass", images=1000, backbones=tuple(STAGES), stages=5)
        space = build_space(recipe, parameters, {"epochs": 4}, STAGES)
        self.url, self.name, self.folder = url, name, output / "out"
        self.folder.mkdir(exist_ok=True)
        self.study = create_study(open_storage(url, create=True), name, "max", RandomSampler(seed=0))
        config = SearchConfig(budget={"trials": trials}, output=output)
        for key, value in {
            "config": config.model_dump(mode="json"),
            "dataset": {
                "task": "multiclass",
                "classes": ["a", "b"],
                "images": {"train": 1000, "validation": 200, "test": 200},
                "image_size": 32,
            },
            "space": space.in_words(),
            "metric": "accuracy",
            "folder": str(self.folder),
            "versions": {},
        }.items():
            self.study.set_user_attr(key, value)
        self.study.enqueue_trial(space.default_params())
        self.ledger = Ledger(print, print).__enter__()
        self.bridge = Bridge(
            self.study,
            space,
            self._assign,
            ledger=self.ledger,
            ending=Ending("max", trials=trials),
            rungs=Rungs("max"),
            retention=Retention("max"),
            root=str(self.folder),
            gpus=0.0,
            halving=True,
            watch=lambda event: None,
        )
        self.state("running")

    def _assign(self, number, trial):
        data = DataConfig(source="builtin:digits")
        return Assignment(number=number, trial=trial, data=data, task="multiclass", fingerprint="0", metric="accuracy", folder="trials")

    def state(self, state: str, why: str = "") -> None:
        process = psutil.Process()
        since, born = datetime.now().isoformat(timespec="seconds"), process.create_time()
        lease.HELD.add(self.name)
        place = {"host": socket.gethostname(), "pid": os.getpid(), "born": born, "driver": self.name}
        status = {"state": state, "why": why, "since": since, **place}
        self.study.set_user_attr("status", status | {"used_seconds": 75.0 * (state != "running")})

    def run(self, *values: float, end: str = "finished", why: str = "") -> int:
        """Run a trial that reports these values and ends so; return its number."""
        ray_id = f"ray{len(self.study.trials)}"
        self.ledger.wait()
        while not isinstance(self.bridge.suggest(ray_id), dict):
            self.ledger.wait()
        number = self.bridge._running[ray_id].trial.number
        for epoch in range(1, len(values) + 1):
            reported = list(values[:epoch])
            history = {
                "objective": reported,
                "accuracy": reported,
                "loss": [1 - v for v in reported],
                "train_loss": [2 - v for v in reported],
            }
            self.bridge.heard(ray_id, {"history": history, "epoch": epoch, "objective": reported[-1], "facts": {}})
        if end == "stopped":
            self.bridge.verdicts[number] = Verdict(500, values[-1], 0.9, 5, 5, 0)
        if end == "failed":
            self.bridge.heard(ray_id, {"failure": {"kind": "other", "message": why.splitlines()[-1], "traceback": why}})
        if end != "running":
            self.bridge.on_trial_complete(ray_id)
        self.ledger.wait()
        return number

    def test_scores(self) -> None:
        scores = {"loss": 0.25, "accuracy": 0.8125}
        roles = {"winner": {"trial": 1, "test": scores}, "default_recipe": {"trial": 0, "test": {"loss": 0.5, "accuracy": 0.75}}}
        self.study.set_user_attr("test", roles)


@pytest.fixture(scope="session", autouse=True)
def unsynced_sqlite():
    """Commits need not reach the disk here; waiting for it is half of these tests' time."""

    def relax(connection, record):
        if type(connection).__module__.startswith("sqlite3"):
            connection.execute("PRAGMA synchronous=OFF")

    sqlalchemy.event.listen(sqlalchemy.Engine, "connect", relax)
    yield
    sqlalchemy.event.remove(sqlalchemy.Engine, "connect", relax)


@pytest.fixture
def empty_storage(tmp_path, monkeypatch):
    url = f"sqlite:///{tmp_path}/studies.db"
    open_storage(url, create=True)
    monkeypatch.setenv("INJERTO_STORAGE", url)
    return url


@pytest.fixture
def play(empty_storage, tmp_path):
    """Begin a study of any name."""
    return lambda name: PlayedSearch(empty_storage, tmp_path, name)


@pytest.fixture
def played(play):
    """A running study: default recipe 0.7, winner 0.8, one stopped, one failed, one running; three are still to come."""
    return five_trials(play("calm-fig"))


@pytest.fixture(scope="session")
def record(tmp_path_factory, unsynced_sqlite):
    """The record of such a study, for tests that only read."""
    root = tmp_path_factory.mktemp("record")
    search = five_trials(PlayedSearch(f"sqlite:///{root}/studies.db", root, "calm-fig"))
    return read_study(search.name, search.url)


def five_trials(search: PlayedSearch) -> PlayedSearch:
    search.run(0.4, 0.5, 0.6, 0.7)
    search.run(0.5, 0.6, 0.7, 0.8)
    search.run(0.1, 0.9, end="stopped")
    search.run(0.3, end="failed", why="Traceback\nValueError: <b>bad</b> luck")
    search.run(0.2, 0.35, end="running")
    return search
