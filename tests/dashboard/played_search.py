"""A search without workers: the real bridge writes the real record, and the test reports to the bridge as Ray would."""

import base64
import os
import socket
import time
import uuid
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
import psutil
from optuna.artifacts import upload_artifact
from optuna.samplers import RandomSampler
from PIL import Image

from search.config import SearchConfig
from search.driver.bridge import Bridge
from search.driver.previews import PREVIEWS
from search.driver.retention import Retention
from search.driver.search_state import SearchState
from search.driver.trial_source import TrialSetup
from search.policy.rungs import Rungs, Verdict
from search.policy.stop_condition import StopCondition
from search.record import lease
from search.record.artifacts import artifact_store, trial_folder
from search.record.record_writer import RecordWriter
from search.record.store import create_study, open_storage
from search.space.changes import build_space
from search.space.default_space import default_parameters
from trainables.config import DataConfig
from trainables.images.thumbnails import jpeg
from trainables.recipe import default_recipe
from trainables.worker.assignment import Assignment
from trainables.worker.trial_report import write_trial_report

STAGES = {"mobilenet_v3_small": 5}
CLASSES = ("a", "b")
WORKERS = ("node-1:11", "node-1:12")
STRENGTHS = (0.0, 0.5, 1.0)
RESTART = "the trial continues after epoch 1, although 2 epochs are recorded: <b>state</b> is not readable"
"""What the stopped trials report as their restart."""


def small_jpeg(shade: int = 90) -> bytes:
    return jpeg(Image.new("RGB", (8, 8), (shade, 120, 60)))


def pictures(epoch: int, value: float, classes: tuple[str, ...] = CLASSES) -> dict[str, Any]:
    """Return the reported predictions of a network of two classes on 200 validation images; the interval is `value` ± 0.05."""
    return {
        "images": 200,
        "classes": list(classes),
        "confusion": [[0, 0, 90], [1, 1, 70], [1, 0, 30], [0, 1, 10]],
        "reliability": [[0.6, 0.5, 50], [0.95, 0.9, 150]],
        "worst": [
            {
                "name": "b/7.png",
                "truth": classes[1],
                "prediction": f"{classes[0]} (97%)",
                "jpeg": base64.b64encode(small_jpeg()).decode(),
            }
        ],
        "interval": [value - 0.05, value + 0.05],
        "epoch": epoch,
    }


class PlayedSearch:
    """A study whose trials report the values that the test gives them."""

    def __init__(self, url: str, output: Path, name: str, trials: int = 8, classes: tuple[str, ...] = CLASSES):
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
        parameters = default_parameters(recipe, images=1000, backbones=tuple(STAGES), stages=5)
        space = build_space(recipe, parameters, {"epochs": 4, "optimizer": ["adamw", "sgd"]}, STAGES)
        self.url, self.name, self.classes, self.folder, self.space = url, name, classes, output / "out", space
        self.folder.mkdir(exist_ok=True)
        self.study = create_study(open_storage(url, create=True), name, "max", RandomSampler(seed=0))
        self.root = str(self.folder / f"study-{self.study._study_id}")
        config = SearchConfig(budget={"trials": trials}, output=output)
        for key, value in {
            "config": config.model_dump(mode="json"),
            "dataset": {
                "task": "multiclass",
                "classes": list(classes),
                "images": {"train": 1000, "validation": 200, "test": 200},
                "image_size": 32,
                "fingerprint": "0",
            },
            "space": space.describe(),
            "parameters": space.as_json(),
            "metric": "accuracy",
            "folder": str(self.folder),
            "root": self.root,
            "identity": uuid.uuid4().hex,
            "versions": {"injerto": "0.1.0"},
            "cluster": {"at": time.time(), "nodes": NODES},
        }.items():
            self.study.set_user_attr(key, value)
        self._draw_previews()
        self.study.enqueue_trial(space.default_params())
        self.record_writer = RecordWriter(print, print).__enter__()
        self.bridge = Bridge(
            self.study,
            TrialSetup(space, self._assign, self.root),
            SearchState(StopCondition("max", trials=trials), Rungs("max"), Retention("max"), gpus=0.0, stops_early=True),
            self.record_writer,
            slots=4,
            on_event=lambda event: None,
        )
        self.state("running")

    def _draw_previews(self) -> None:
        store, sheets = artifact_store(self.root), {}
        for place, strength in enumerate(STRENGTHS):
            file = self.folder / f"sheet-{place}.jpg"
            file.write_bytes(small_jpeg(50 * place))
            sheets[str(strength)] = upload_artifact(artifact_store=store, file_path=str(file), study_or_trial=self.study)
        images = [f"{name}/1.png: {name}" for name in self.classes]
        self.study.set_user_attr(PREVIEWS, {"ops": ["crop"], "draws": 5, "images": images, "sheets": sheets})

    def _assign(self, number, trial):
        data = DataConfig(source="builtin:digits")
        folder = trial_folder(self.root, number)
        return Assignment(number=number, trial=trial, data=data, task="multiclass", fingerprint="0", metric="accuracy", folder=folder)

    def state(self, state: str, why: str = "") -> None:
        process = psutil.Process()
        since, born = datetime.now().isoformat(timespec="seconds"), process.create_time()
        lease.LOCAL_DRIVERS.add(self.name)
        place = {"host": socket.gethostname(), "pid": os.getpid(), "born": born, "driver": self.name}
        status = {"state": state, "why": why, "since": since, **place}
        self.study.set_user_attr("status", status | {"used_seconds": 75.0 * (state != "running")})

    def run(self, *values: float, end: str = "finished", why: str = "") -> int:
        """Run a trial that reports these values, one per epoch, and ends as `end`; return its number. `why`: the traceback of a failure."""
        ray_id = f"ray{len(self.study.trials)}"
        self.record_writer.flush()
        while not isinstance(self.bridge.suggest(ray_id), dict):
            self.record_writer.flush()
        number = self.bridge._running[ray_id].trial.number
        began, worker = time.time(), WORKERS[number % len(WORKERS)]
        for epoch in range(1, len(values) + 1):
            reported = list(values[:epoch])
            history = {
                "objective": reported,
                "accuracy": reported,
                "loss": [1 - v for v in reported],
                "train_loss": [2 - v for v in reported],
            }
            facts = {
                "objective_epoch": epoch,
                "seconds_total": 10.0 * epoch,
                "spans": [[worker, began, began + 10 * epoch]],
                "peak_memory_bytes": 5 * 10**8,
                "trainable_parameters": 1_500_000,
                "node": "node-1",
                "restarts": [RESTART] if end == "stopped" else [],
            }
            log = [f"epoch {done}: objective {value}" for done, value in enumerate(reported, start=1)]
            write_trial_report(trial_folder(self.root, number), log, pictures(epoch, reported[-1], self.classes))
            self.bridge.on_report(ray_id, {"history": history, "epoch": epoch, "objective": reported[-1], "facts": facts})
        if end == "stopped":
            self.bridge.verdicts[number] = Verdict(500, values[-1], 0.9, 5, 5, 0)
        if end == "failed":
            self.bridge.on_report(ray_id, {"failure": {"kind": "other", "message": why.splitlines()[-1], "traceback": why}})
        if end != "running":
            self.bridge.on_trial_complete(ray_id)
        self.record_writer.flush()
        return number

    def test_scores(self) -> None:
        scores = {"loss": 0.25, "accuracy": 0.8125}
        roles = {"winner": {"trial": 1, "test": scores}, "default_recipe": {"trial": 0, "test": {"loss": 0.5, "accuracy": 0.75}}}
        self.study.set_user_attr("test", roles)

    def attributes(self, prefix: str) -> dict[str, Any]:
        """Return the study's attributes whose names start with `prefix`, as the storage has them now."""
        attributes = optuna.load_study(study_name=self.name, storage=self.url).user_attrs
        return {name: value for name, value in attributes.items() if name.startswith(prefix)}


NODES: list[Mapping[str, Any]] = [
    {"node": "node-1", "alive": True, "cpus": 8.0, "gpus": 0.0, "cpu": 0.5, "memory": 4 * 10**9, "memory_total": 16 * 10**9},
    {"node": "node-2", "alive": False, "cpus": 4.0, "gpus": 0.0},
]


def five_trials(search: PlayedSearch) -> PlayedSearch:
    search.run(0.4, 0.5, 0.6, 0.7)
    search.run(0.5, 0.6, 0.7, 0.8)
    search.run(0.1, 0.9, end="stopped")
    search.run(0.3, end="failed", why="Traceback\nValueError: <b>bad</b> luck")
    search.run(0.2, 0.35, end="running")
    return search


def twelve_trials(search: PlayedSearch) -> PlayedSearch:
    for place in range(12):
        search.run(0.1, 0.2, 0.3, 0.4 + 0.03 * (place * 5 % 12))
    search.state("finished", "all 12 trials have ended")
    return search
