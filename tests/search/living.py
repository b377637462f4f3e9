"""A study in its storage that this process holds and writes by hand, as if a search ran."""

from optuna.samplers import RandomSampler
from optuna.trial import TrialState

from search.record.lease import Lease
from search.record.store import create_study, open_storage
from trainables.config import TrialConfig

CONFIG = TrialConfig(epochs=4).model_dump(mode="json")
BUDGET = {"trials": 6, "time": 600.0, "gpu_hours": 2.0, "no_improvement": 4}


class Living:
    """A study that this process holds, as a search does, and writes to."""

    def __init__(self, root):
        self.url = f"sqlite:///{root}/living.db"
        self.study = create_study(open_storage(self.url, create=True), "calm-fig", "max", RandomSampler(seed=0))
        config = {"budget": BUDGET, "algorithm": {"scheduler": "none"}}
        given = {"config": config, "dataset": {}, "metric": "accuracy", "folder": str(root), "versions": {}}
        for key, value in given.items():
            self.study.set_user_attr(key, value)
        self.lease = Lease(self.study, root, 0.0)

    def __enter__(self):
        self.lease.__enter__()
        return self

    def __exit__(self, *error):
        self.lease.__exit__()

    def running(self, *curve, speed=500.0):
        trial = self.study.ask()
        history = {"images_per_second": [speed] * len(curve)}
        for key, value in {
            "config": CONFIG,
            "epochs_planned": 4,
            "epochs_done": len(curve),
            "history": history,
            "gpu_seconds": 900.0,
        }.items():
            trial.set_user_attr(key, value)
        for epoch, value in enumerate(curve, 1):
            trial.report(value, 250 * epoch)
        return trial

    def ended(self, state, *curve, reason=""):
        trial = self.running(*curve)
        trial.set_user_attr("stop_reason", reason)
        self.study.tell(trial.number, *([curve[-1]] if state == TrialState.COMPLETE else []), state=state)

    def finish(self, state="finished", why="all 6 trials have ended"):
        self.lease.end(state, why, 42.0)
