"""What `--track NAME` means: a search is also told to TensorBoard, MLflow or Weights & Biases.

A tracker is told from a thread of its own, so that a slow one never holds the search up; one that raises is named once and dropped.
"""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any

from search.formatting import plain
from search.trackers.tracker import MLflow, TensorBoard, Tracker, Wandb
from search.watcher import SilentWatcher
from trainables.errors import ConfigError, InjertoError, did_you_mean

if TYPE_CHECKING:
    from search.events import Event
    from search.plan import Plan
    from search.policy.rungs import StopCondition

TRACKERS: dict[str, Callable[[], Tracker]] = {"tensorboard": TensorBoard, "mlflow": MLflow, "wandb": Wandb}
"""Name, which is also that of the package it needs, → adapter."""
PATIENCE_SECONDS, CLOSING_SECONDS = 2.0, 60.0
"""How long a tracker may take for what it still has to write, unsaid and said."""
Say = Callable[[str], None]


def trackers(names: Sequence[str], say: Say) -> list["Told"]:
    """Return a watcher for each name, which says through `say` if its tracker fails.

    Raises ``ConfigError`` for a name that is not known or whose package is not installed.
    """
    return [Told(name, _open(name), say) for name in dict.fromkeys(names)]


def _open(name: str) -> Tracker:
    if name not in TRACKERS:
        raise ConfigError(f"--track: unknown {name!r}{did_you_mean(name, TRACKERS)}")
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise ConfigError(f"--track {name} needs the package {name}; install it with: pip install {name}")
    try:
        return TRACKERS[name]()
    except InjertoError:
        raise
    except Exception as error:
        why = plain(f"{type(error).__name__}: {error}")[:300]
        raise ConfigError(f"--track {name}: the package {name} cannot be used as it is set up here ({why})") from None


class Told(SilentWatcher):
    """A watcher that passes on to a tracker, in order, from a thread of its own."""

    def __init__(self, name: str, tracker: Tracker, say: Say) -> None:
        self._name, self._tracker, self._say = name, tracker, say
        self._queue: SimpleQueue[tuple[Callable[..., None], tuple[Any, ...]] | None] = SimpleQueue()
        self._thread: Thread | None = None
        self._state = "failed"

    def begin(self, name: str, plan: "Plan", slots: int, stop_condition: "StopCondition", ended: int) -> None:
        """Tell of the study."""
        settings = plan.config.model_dump(mode="json", exclude={"storage"})
        self._thread = Thread(target=self._run, name=f"track {self._name}", daemon=True)
        self._thread.start()
        self._tell(self._tracker.study, name, plan.config.output / name, plan.metric, settings)

    def event(self, event: "Event") -> None:
        """Tell of a trial."""
        if event.kind in ("began", "retry"):
            self._tell(self._tracker.began, event.number, event.config.model_dump(mode="json"), event.epoch)
        elif event.kind == "epoch":
            metrics = dict(event.metrics) if event.metrics else {} if event.value is None else {"objective": event.value}
            self._tell(self._tracker.epoch, event.number, event.epoch, metrics)
        else:
            self._tell(self._tracker.ended, event.number, event.kind, event.reason, event.value)

    def pausing(self, reason: str) -> None:
        """Note how the search ends."""
        self._state = "paused"

    def finishing(self) -> None:
        """Note how the search ends."""
        self._state = "finished"

    def __exit__(self, *error: object) -> None:
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._queue.put((self._tracker.close, (self._state,)))
        self._queue.put(None)
        thread.join(PATIENCE_SECONDS)
        if thread.is_alive():
            self._say(f"waiting for {self._name}, {CLOSING_SECONDS:.0f} s at most")
            thread.join(CLOSING_SECONDS)

    def _tell(self, call: Callable[..., None], *arguments: Any) -> None:
        self._queue.put((call, arguments))

    def _run(self) -> None:
        dropped = False
        while (told := self._queue.get()) is not None:
            call, arguments = told
            try:
                if not dropped:
                    call(*arguments)
            except (Exception, SystemExit) as error:
                dropped = True
                why = plain(f"{type(error).__name__}: {error}")[:300]
                self._say(f"--track {self._name} failed and is left out from here on; the search goes on ({why})")
