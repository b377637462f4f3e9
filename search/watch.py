"""What a person sees while a search prepares and runs: a live view on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from search.bridge import Event
    from search.plan import Plan
    from search.stopping import Ending

STYLES = {"finished": "green", "stopped": "yellow", "failed": "red", "paused": "blue"}
LATEST = 6


class Watcher(Protocol):
    """Something that hears how a search goes. `with` brackets the time that trials run."""

    def preparing(self, done: int, total: int, what: str) -> None:
        """Data is being read or decoded."""

    def begin(self, name: str, plan: "Plan", slots: int, ending: "Ending") -> None:
        """The first trial is about to start."""

    def event(self, event: "Event") -> None:
        """A trial began, reported an epoch, or ended."""

    def finishing(self) -> None:
        """The last trial has ended; the test split is being opened."""

    def __enter__(self) -> Any:
        """Start showing."""

    def __exit__(self, *error: object) -> None:
        """Stop showing."""


class Silent:
    """Shows nothing."""

    def preparing(self, done: int, total: int, what: str) -> None:
        """Ignore."""

    def begin(self, name: str, plan: "Plan", slots: int, ending: "Ending") -> None:
        """Ignore."""

    def event(self, event: "Event") -> None:
        """Ignore."""

    def finishing(self) -> None:
        """Ignore."""

    def __enter__(self) -> "Silent":
        return self

    def __exit__(self, *error: object) -> None:
        return


class Estimate:
    """Seconds left, from how long an epoch takes and how many are still to be run."""

    def __init__(self, trials: int, slots: int) -> None:
        self._trials, self._slots = trials, slots
        self._began: dict[int, float] = {}
        self._seconds: list[float] = []
        self._epochs: dict[int, tuple[int, int, int, float]] = {}
        self.ended = 0

    def hear(self, event: "Event") -> None:
        """Take an event into account."""
        now = time.monotonic()
        if event.kind == "began":
            self._began[event.number] = now
            self._epochs[event.number] = (event.epoch, event.epoch, event.config.epochs, now)
        elif event.kind == "epoch":
            first, _, planned, started = self._epochs[event.number]
            self._epochs[event.number] = (first, event.epoch, planned, started)
        else:
            self._epochs.pop(event.number, None)
            self.ended += 1
            if event.kind in ("finished", "stopped"):
                self._seconds.append(event.seconds)

    def seconds_left(self) -> float | None:
        """Return an estimate in seconds, or None before the first epoch is over."""
        now, running, expected = time.monotonic(), 0.0, list(self._seconds)
        for first, epoch, planned, started in self._epochs.values():
            if epoch > first:
                pace = (now - started) / (epoch - first)
                running += pace * (planned - epoch)
                expected.append(pace * planned)
        if not expected:
            return None
        waiting = max(0, self._trials - self.ended - len(self._epochs))
        return (running + waiting * sum(expected) / len(expected)) / self._slots


class Terminal:
    """Shows a search on a terminal, or as a line an event where there is none."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=False, highlight=False)
        self._decoding: Progress | None = None
        self._live: Live | None = None
        self._running: dict[int, Event] = {}
        self._latest: list[Event] = []
        self._finished: dict[int, float] = {}
        self._best: Event | None = None
        self._metric, self._mode, self._note = "", "max", ""

    def preparing(self, done: int, total: int, what: str) -> None:
        """Show how far reading or decoding is."""
        if not self._console.is_terminal:
            return
        if self._decoding is None:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._decoding = Progress(*columns, console=self._console, transient=True)
            self._decoding.start()
            self._task = self._decoding.add_task(what, total=total)
        self._decoding.update(self._task, completed=done, total=total, description=what)

    def begin(self, name: str, plan: "Plan", slots: int, ending: "Ending") -> None:
        """Say what is about to happen."""
        if self._decoding is not None:
            self._decoding.stop()
            self._decoding = None
        self._metric, self._mode, self._ending = plan.metric, plan.mode, ending
        self._estimate = Estimate(ending.trials, slots)
        self._trials = ending.trials
        data = plan.dataset
        counts = ", ".join(f"{len(rows):,} {split}" for split, rows in data.rows.items())
        lines = [
            f"study {name}: {data.task} on {counts} images at {data.image_size} px, by {plan.metric} ({plan.mode})",
            *data.notes,
            f"{ending.trials} trials, {slots} at a time; trial 0 is the default recipe",
        ]
        self._write("\n".join(escape(line) for line in lines))
        if self._console.is_terminal:
            self._live = Live(get_renderable=self._view, console=self._console, refresh_per_second=4, transient=True)
            self._live.start()

    def event(self, event: "Event") -> None:
        """Show an event."""
        self._estimate.hear(event)
        if event.kind in ("began", "epoch"):
            self._running[event.number] = event
            return
        self._running.pop(event.number, None)
        if event.kind == "finished" and event.value is not None and self._beats(event.value):
            self._best = event
        self._latest = [*self._latest, event][-LATEST:]
        if self._live is None:
            self._write(escape(self._line(event)))

    def finishing(self) -> None:
        """Say that the search is over."""
        self._stop()
        self._write("opening the test images once, for the winner and the default recipe")

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *error: object) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
        if self._decoding is not None:
            self._decoding.stop()
            self._decoding = None

    def _write(self, text: str) -> None:
        self._console.print(text, soft_wrap=True)
        sys.stdout.flush()

    def _beats(self, value: float) -> bool:
        if self._best is None or self._best.value is None:
            return True
        return value > self._best.value if self._mode == "max" else value < self._best.value

    def _line(self, event: "Event") -> str:
        value = "" if event.value is None else f" {self._metric} {event.value:.4g}"
        reason = f" ({event.reason})" if event.reason else ""
        best = f"; best {self._best.value:.4g}" if self._best and self._best.value is not None else ""
        return (
            f"[{self._estimate.ended}/{self._trials}] trial {event.number} {event.kind}{value} "
            f"after {event.epoch}/{event.config.epochs} epochs, "
            f"{event.seconds:.0f} s{reason}{best}, {self._left()}"
        )

    def _left(self) -> str:
        left = self._estimate.seconds_left()
        if self._ending.seconds is not None:
            budget = max(0.0, self._ending.seconds - self._ending.elapsed())
            left = budget if left is None else min(left, budget)
        return "time left: measuring" if left is None else f"about {timedelta(seconds=round(left))} left"

    def _view(self) -> Group:
        done = self._estimate.ended
        head = Table.grid(padding=(0, 2))
        best = "none yet" if self._best is None or self._best.value is None else f"{self._best.value:.4g} (trial {self._best.number})"
        head.add_row(
            f"trials {done}/{self._trials}",
            ProgressBar(total=self._trials, completed=done, width=30),
            self._left(),
            f"best {self._metric} {best}",
        )
        running = Table(box=None, pad_edge=False, header_style="dim")
        for column in ("trial", "epoch", self._metric, "configuration"):
            running.add_column(column, no_wrap=True, overflow="ellipsis")
        for number, event in sorted(self._running.items()):
            shown = "" if event.value is None else f"{event.value:.4g}"
            running.add_row(str(number), f"{event.epoch}/{event.config.epochs}", shown, in_brief(event.config.model_dump()))
        latest = [Text(self._line(event), style=STYLES.get(event.kind, ""), no_wrap=True, overflow="ellipsis") for event in self._latest]
        return Group(head, running, *latest)


def in_brief(config: Mapping[str, Any]) -> str:
    """Return a configuration in a few words."""
    head = "perceptron" if not config["head_layers"] else f"head {config['head_layers']}×{config['head_units']}"
    return (
        f"{config['backbone']}, {config['optimizer']} {config['learning_rate']:.2g}, unfrozen {config['unfrozen_stages']}, {head}, "
        f"batch {config['batch_size']}, augment {config['augmentation_strength']:g}"
    )
