"""A study whose record shows a running search. No search runs: the test process holds the lease and writes the trials."""

from optuna.samplers import RandomSampler
from optuna.trial import TrialState

from search.record.lease import Lease
from search.record.store import create_study, open_storage
from trainables.config import TrialConfig

CONFIG = TrialConfig(epochs=4).model_dump(mode="json")
BUDGET = {"trials": 6, "time": 600.0, "gpu_hours": 2.0, "no_improvement": 4}


class RunningStudy:
    """The study ``calm-fig`` in the storage `url`; inside `with`, its search counts as running."""

    def __init__(self, root):
        self.url = f"sqlite:///{root}/running.db"
        self.study = create_study(open_storage(self.url, create=True), "calm-fig", "max", RandomSampler(seed=0))
        config = {"budget": BUDGET, "algorithm": {"scheduler": "none"}}
        attributes = {"config": config, "dataset": {}, "metric": "accuracy", "folder": str(root), "versions": {}}
        for key, value in attributes.items():
            self.study.set_user_attr(key, value)
        self.lease = Lease(self.study, root, 0.0)

    def __enter__(self):
        self.lease.__enter__()
        return self

    def __exit__(self, *error):
        self.lease.__exit__()

    def add_running(self, *curve, speed=500.0):
        """Add a trial of four epochs that has run an epoch for each value of its objective."""
        trial = self.study.ask()
        attributes = {
            "config": CONFIG,
            "epochs_planned": 4,
            "epochs_done": len(curve),
            "history": {"images_per_second": [speed] * len(curve)},
            "gpu_seconds": 900.0,
        }
        for key, value in attributes.items():
            trial.set_user_attr(key, value)
        for epoch, value in enumerate(curve, 1):
            trial.report(value, 250 * epoch)
        return trial

    def add_ended(self, state, *curve, reason=""):
        """Add such a trial that has ended in an Optuna state."""
        trial = self.add_running(*curve)
        trial.set_user_attr("stop_reason", reason)
        self.study.tell(trial.number, *([curve[-1]] if state == TrialState.COMPLETE else []), state=state)

    def finish(self, state="finished", why="all 6 trials have ended"):
        """End the search."""
        self.lease.record_end(state, why, 42.0)
