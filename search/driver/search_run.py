"""What belongs to one run of a search, from `launch` or `resume` to its end."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import optuna

if TYPE_CHECKING:
    from search.nodes.resources import TrialResources
    from search.plan import Plan
    from search.watcher import Watcher
    from trainables.worker.trainable import ImageTrial


@dataclass(frozen=True)
class SearchRun:
    """A study with its plan, and what its trials run on. `trainable` is the class that Ray Tune runs.

    `folder`, on the driver's machine, holds the files for the user. `root`, a path or a bucket's URL, holds checkpoints and artifacts.
    """

    study: optuna.Study
    plan: "Plan"
    folder: Path
    root: str
    resources: "TrialResources"
    watcher: "Watcher"
    trainable: "type[ImageTrial]"
