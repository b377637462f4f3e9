"""The trackers by name, as ``--track NAME`` takes them."""

from collections.abc import Callable, Sequence
from importlib.util import find_spec

from search.formatting import one_line
from search.trackers.mlflow import MLflowTracker
from search.trackers.tensorboard import TensorBoardTracker
from search.trackers.tracker import Tracker
from search.trackers.tracker_thread import TrackerThread, WriteLine
from search.trackers.wandb import WandbTracker
from trainables.errors import ConfigError, InjertoError, did_you_mean

TRACKERS: dict[str, Callable[[], Tracker]] = {"tensorboard": TensorBoardTracker, "mlflow": MLflowTracker, "wandb": WandbTracker}
"""Name of a tracker, which is also the name of the package that it needs → its class."""


def tracker_threads(names: Sequence[str], write: WriteLine) -> list[TrackerThread]:
    """Return for each different name a watcher that passes the search to that tracker; `write` gets a line if the tracker fails.

    Raises ``ConfigError`` for an unknown name, and for a package that is not installed or does not work with its settings.
    """
    return [TrackerThread(name, _open_tracker(name), write) for name in dict.fromkeys(names)]


def _open_tracker(name: str) -> Tracker:
    if name not in TRACKERS:
        raise ConfigError(f"--track: unknown {name!r}{did_you_mean(name, TRACKERS)}")
    spec = find_spec(name)
    if spec is None or spec.origin is None:  # no origin: a folder of that name, not a package
        raise ConfigError(f"--track {name} needs the package {name}; install it with: pip install {name}")
    try:
        return TRACKERS[name]()
    except InjertoError:
        raise
    except Exception as error:
        cause = one_line(f"{type(error).__name__}: {error}")[:300]
        raise ConfigError(f"--track {name}: the package {name} does not work with its settings here ({cause})") from None
