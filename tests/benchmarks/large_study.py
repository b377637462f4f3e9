"""Makes a study of many ended trials, in the form that a search leaves behind, for benchmarks of what reads or resumes it.

python tests/benchmarks/large_study.py FOLDER TRIALS
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import typer

from search.config import SearchConfig
from search.config_reader import read_config
from search.watcher import SilentWatcher
from trainables.worker.simulated_trial import SimulatedTrial, curve

NAME = "filled"
EPOCHS = 10


class PlanWatcher(SilentWatcher):
    """Keeps the plan of a search."""

    def begin(self, name: str, plan: Any, *about: Any) -> None:
        self.plan = plan


def study_url(folder: Path) -> str:
    """Return the storage URL of the study in a folder."""
    return f"sqlite:///{folder}/studies.db"


def study_config(folder: Path, *, trials: int, epochs: int, slots: int) -> SearchConfig:
    """Return the configuration of a search over the built-in digits without rungs, with its record in `folder`."""
    options = {"name": NAME, "storage": study_url(folder), "output": str(folder / "out"), "weights": "none"}
    settings = (f"space.epochs={epochs}", "algorithm.scheduler=none", "resources.cpus_per_trial=1", "resources.gpus_per_trial=0")
    return read_config("builtin:digits", options | {"trials": trials, "max_concurrent_trials": slots}, settings)


def make_study(folder: Path, trials: int) -> None:
    """Run a search of one simulated trial in a folder, then add copies with other configurations until it has so many trials.

    Only the best few trials have checkpoints, as after a search.
    """
    import optuna

    from search.driver.launch import launch
    from search.record.reader import study_record
    from search.record.store import load_study, open_storage

    watcher = PlanWatcher()
    config = study_config(folder, trials=1, epochs=EPOCHS, slots=2)
    launch(config, watcher, trainable=SimulatedTrial)
    storage = open_storage(config.storage)
    study = load_study(storage, config.name)
    first, plan = study.trials[0], watcher.plan
    proposals = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    with fast_writes(storage):
        for _ in range(1, trials):
            storage.create_new_trial(study._study_id, template_trial=ended_trial(proposals.ask(), plan, first))
    recorded = study.user_attrs["config"]
    study.set_user_attr("config", recorded | {"budget": recorded["budget"] | {"trials": trials}})
    record = study_record(study)
    require_trials(record.counts["finished"] + record.counts["stopped"], trials)
    for trial in record.ranking[: config.keep.best]:
        write_checkpoint(trial)


def ended_trial(proposal: Any, plan: Any, pattern: Any) -> Any:
    """Return a trial of Optuna with a proposed configuration and the attributes of a trial that a search has run.

    Two in three trials end at their second epoch, as at a rung; the others run all their epochs.
    """
    from optuna.trial import TrialState, create_trial

    from trainables.worker.assignment import progress

    number = proposal.number + 1
    config = plan.with_seed(number, plan.space.suggest(proposal))
    finished = number % 3 == 0
    done = config.epochs if finished else 2
    values = curve(config)[:done]
    attributes = {
        "config": config.model_dump(mode="json"),
        "epochs_done": done,
        "objective_epoch": done,
        "seed": config.seed,
        "checkpoint": pattern.user_attrs["checkpoint"].replace("/00000/", f"/{number:05d}/"),
        "stop_reason": "" if finished else "rung 11% of its epochs: simulated",
    }
    trial = create_trial(
        state=TrialState.COMPLETE if finished else TrialState.PRUNED,
        value=values[-1] if finished else None,
        params=proposal.params,
        distributions=proposal.distributions,
        user_attrs=pattern.user_attrs | attributes,
        system_attrs=pattern.system_attrs,
        intermediate_values={progress(epoch, config.epochs): value for epoch, value in enumerate(values, 1)},
    )
    trial.datetime_start = trial.datetime_complete = datetime.now()
    return trial


def write_checkpoint(trial: Any) -> None:
    """Write the checkpoint of a simulated trial to the place that its record names."""
    from trainables.config import TrialConfig

    values = curve(TrialConfig.model_validate(trial.config))
    path = Path(trial.attributes["checkpoint"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"epoch": len(values), "seconds": 0.0, "history": {"objective": values}}))


@contextmanager
def fast_writes(storage: Any) -> Iterator[None]:
    """Inside the block, SQLite does not wait for the disk: a benchmark may lose its study when the machine fails."""
    from sqlalchemy import event

    def relax(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA synchronous=OFF")

    storage.engine.dispose()
    event.listen(storage.engine, "connect", relax)
    yield
    event.remove(storage.engine, "connect", relax)


def require_trials(ended: int, expected: int) -> None:
    """Exit if not every trial ended as it should, so that no figures of an incomplete run are given."""
    if ended != expected:
        raise SystemExit(f"{ended} of {expected} trials ended as they should")


if __name__ == "__main__":
    typer.run(make_study)
