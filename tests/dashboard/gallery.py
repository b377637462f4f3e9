"""A storage with studies of every kind, for tests that only read."""

import optuna
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

from search.record.store import open_storage
from tests.dashboard.played_search import PlayedSearch, five_trials, twelve_trials
from tests.dashboard.screens import NASTY
from trainables.config import TrialConfig


def build_gallery(root):
    """Return the URL of a storage with studies of every kind: running, finished, without trials, foreign, old, with markup as texts."""
    url = f"sqlite:///{root}/studies.db"
    open_storage(url, create=True)
    optuna.create_study(study_name="foreign", storage=url)
    PlayedSearch(url, root, "young-fig")
    for name, config in {"old-fig": TrialConfig().model_dump(mode="json"), "odd-fig": {"wings": 2, "rate": 0.1}}.items():
        add_old_study(url, root, name, config)
    nasty = five_trials(PlayedSearch(url, root, NASTY, classes=(NASTY, "b")))
    add_note(nasty, NASTY)
    wise = twelve_trials(PlayedSearch(url, root, "wise-fig", trials=12))
    wise.test_scores()
    five_trials(PlayedSearch(url, root, "calm-fig"))
    return url


def add_note(search, text, number=None):
    about = {"trial": number, "text": text, "by": text, "at": "2026-01-01 00:00:00"}
    search.study.set_user_attr("note:1", about)


def add_old_study(url, root, name, config, trials=6):
    """Add a study as the first version recorded it: no ranges, no root, no trial reports, no spans, histories in the attributes."""
    study = optuna.create_study(study_name=name, storage=url, direction="maximize")
    known = {"config": {}, "dataset": {}, "metric": "accuracy", "folder": str(root / name), "versions": {}}
    for key, value in known.items():
        study.set_user_attr(key, value)
    for number in range(trials):
        study.add_trial(
            create_trial(
                state=TrialState.COMPLETE if number != 5 else TrialState.PRUNED,
                value=0.1 * number,
                params={"learning_rate": 0.001 * (number + 1)},
                distributions={"learning_rate": FloatDistribution(1e-4, 1.0, log=True)},
                intermediate_values={500: 0.1, 1000: 0.1 * number},
                user_attrs={"config": config, "epochs_planned": 2, "history": {"objective": [0.1, 0.1 * number]}},
            )
        )
