"""Trials an hour of a search against plain Ray Tune scripts, on the same configurations, images and weights.

    python -m tests.benchmarks.throughput BASELINES [--first 24] [--data clothing10] [--opponents bare,tuned] [--json FILE]

BASELINES is the folder of the opponents and their `configs.json`. All sides begin with the same random weights, train the same depths and
rates for as many epochs on two slots, and are measured from the first trial's start to the last one's end. The ratios are the opponent's
seconds over ours: of the whole mix, and of the mean trial of each depth.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import mean
from typing import Annotated, Any

import optuna
import torch
import torchvision
import typer

from tests.benchmarks.report import JsonFile, report_json
from tests.paths import real_data_folder

DEPTHS = {"head": 0, "half": 2, "all": 5}
"""Depth of the opponents → stages of MobileNetV3-Small that train. Two stages are one block more than the opponents' half."""
Row = dict[str, Any]


def main(
    baselines: Annotated[Path, typer.Argument(help="folder of bare.py, tuned.py and configs.json")],
    first: int = 24,
    data: str = "clothing10",
    opponents: str = "bare,tuned",
    json_file: JsonFile = None,
) -> None:
    """Run the same trials with each opponent and with a search, and report seconds, accuracy and ratios."""
    plan = json.loads((baselines / "configs.json").read_text())
    folder, plan["trials"] = real_data_folder() / data, plan["trials"][:first]
    with tempfile.TemporaryDirectory() as scratch:
        weights = Path(scratch) / "weights.pth"
        torch.manual_seed(0)
        torch.save(torchvision.models.get_model(plan["backbone"], weights=None).state_dict(), weights)
        sides = {"ours": summary(*search(folder, plan, weights, Path(scratch)))}
        for name in opponents.split(","):
            command = [sys.executable, f"{name}.py", "--data", str(folder), "--weights", str(weights), "--first", str(first)]
            output = subprocess.run(command, cwd=baselines, check=True, stdout=subprocess.PIPE, text=True).stdout
            result = json.loads(output.splitlines()[-1])
            sides[name] = summary(result["wall_seconds"], result["trials"])
    ratios = {
        name: {part: round(side["seconds"][part] / sides["ours"]["seconds"][part], 2) for part in side["seconds"]}
        for name, side in sides.items()
        if name != "ours"
    }
    report_json({"settings": {**plan, "trials": len(plan["trials"]), "data": data}, "sides": sides, "ratios": ratios}, json_file)


def search(folder: Path, plan: dict[str, Any], weights: Path, scratch: Path) -> tuple[float, list[Row]]:
    """Run the trials of the plan as one search with nothing stored before; return its seconds and a row for each trial."""
    import os

    from search.config_reader import read_config
    from search.driver.launch import launch
    from search.watcher import SilentWatcher

    os.environ["INJERTO_CACHE"] = str(scratch / "cache")
    storage = f"sqlite:///{scratch}/studies.db"

    class Enqueue(SilentWatcher):
        def begin(self, name: str, *rest: Any) -> None:
            study = optuna.load_study(study_name=name, storage=storage)
            for trial in plan["trials"]:
                study.enqueue_trial({"unfrozen_stages": DEPTHS[trial["depth"]], "learning_rate": trial["lr"]})

    fixed = {
        "epochs": plan["epochs"],
        "batch_size": plan["batch_size"],
        "views": plan["epochs"],
        "head_layers": 0,
        "head_epochs": 0,
        "label_smoothing": 0.0,
        "flip_average": "false",
        "initializer": "trunc_normal",
        "augmentation_strength": 0.25,
        "augmentation_ops": "[crop,flip]",
        "unfrozen_stages": "[0,2,5]",
    }
    options = {
        "output": str(scratch / "out"),
        "storage": storage,
        "image_size": plan["image_size"],
        "weights": str(weights),
        "trials": len(plan["trials"]) + 1,
    }
    settings = (f"backbones=[{plan['backbone']}]", "algorithm.scheduler=none", *(f"space.{name}={value}" for name, value in fixed.items()))
    record = launch(read_config(str(folder), options, settings), Enqueue())
    trials = [trial for trial in record.trials if trial.number > 0]
    assert all(trial.state == "finished" for trial in trials), [trial.error for trial in trials]
    started, ended = min(trial.started for trial in record.trials), max(trial.ended for trial in record.trials)
    depths = {stages: depth for depth, stages in DEPTHS.items()}
    rows = [
        {"depth": depths[trial.config["unfrozen_stages"]], "accuracy": trial.value, "seconds": trial.attributes["seconds_total"]}
        for trial in trials
    ]
    return (ended - started).total_seconds(), rows


def summary(seconds: float, trials: list[Row]) -> dict[str, Any]:
    """Return the seconds of the mix and of the mean trial of each depth, and the mean accuracy of each depth."""
    by_depth = {depth: [row for row in trials if row["depth"] == depth] for depth in DEPTHS}
    return {
        "seconds": {
            "mix": round(seconds, 1),
            **{depth: round(mean(row["seconds"] for row in rows), 2) for depth, rows in by_depth.items() if rows},
        },
        "accuracy": {depth: round(mean(row["accuracy"] for row in rows), 4) for depth, rows in by_depth.items() if rows},
    }


if __name__ == "__main__":
    typer.run(main)
