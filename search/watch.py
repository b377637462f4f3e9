"""What a person sees while a search prepares and runs: a live view on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Mapping
from datetime import timedelta
from statistics import mean
from typing import TYPE_CHECKING, Any, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.progress_bar import ProgressBar
from rich.table import Table

if TYPE_CHECKING:
    from search.events import Event
    from search.plan import Plan
    from search.stopping import Ending

STYLES = {"finished": "green", "stopped": "yellow", "failed": "red", "paused": "blue"}


class Watcher(Protocol):
    """Something that hears how a search goes. `with` brackets the time that trials run."""

    def preparing(self, done: int, total: int, what: str) -> None:
        """Data is being read or decoded."""

    def begin(self, name: str, plan: "Plan", slots: int, ending: "Ending", ended: int) -> None:
        """Trials are about to start; `ended` of them have ended before."""

    def event(self, event: "Event") -> None:
        """A trial began, reported an epoch, or ended."""

    def say(self, text: str) -> None:
        """Something worth a line: the record waits for its database, a command came, a fault is being mended."""

    def pausing(self, reason: str) -> None:
        """The search was interrupted; its trials end at their next epoch."""

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

    def begin(self, name: str, plan: "Plan", slots: int, ending: "Ending", ended: int) -> None:
        """Ignore."""

    def event(self, event: "Event") -> None:
        """Ignore."""

    def say(self, text: str) -> None:
        """Ignore."""

    def pausing(self, reason: str) -> None:
        """Ignore."""

    def finishing(self) -> None:
        """Ignore."""

    def __enter__(self) -> "Silent":
        return self

    def __exit__(self, *error: object) -> None:
        return


class Estimate:
    """Seconds left, from how long an epoch takes and how many are still to be run.

    Until `SETTLED` trials have ended, those to come are expected to take `share` of a whole trial: with rungs, about half of
    the planned epochs are run (126 of 224 in a search of 16 trials on the digits).
    """

    SETTLED = 5

    def __init__(self, trials: int, slots: int, *, ended: int = 0, share: float = 1.0) -> None:
        self._trials, self._slots, self._share = trials, slots, share
        self._seconds: list[float] = []
        self._epochs: dict[int, tuple[int, int, int, float]] = {}
        self.ended = ended

    def hear(self, event: "Event") -> None:
        """Take an event into account."""
        now = time.monotonic()
        if event.kind == "began":
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
        now, running, silent, whole = time.monotonic(), 0.0, 0, []
        for first, epoch, planned, started in list(self._epochs.values()):
            if epoch > first:
                pace = (now - started) / (epoch - first)
                running += pace * (planned - epoch)
                whole.append(pace * planned)
            else:
                silent += 1
        if not (whole or self._seconds):
            return None
        settled = len(self._seconds) >= self.SETTLED
        each = mean(self._seconds) if settled else mean([*whole, *self._seconds]) * self._share
        waiting = max(0, self._trials - self.ended - len(self._epochs)) + silent
        return (running + waiting * each) / self._slots


class Terminal:
    """Shows a search on a terminal, or as a line an event where there is none.

    The live view is drawn from a thread of its own, over copies of what the events change.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=False, highlight=False)
        self._decoding: Progress | None = None
        self._live: Live | None = None
        self._running: dict[int, Event] = {}
        self._metric = ""

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

    def begin(self, name: str, plan: "Plan", slots: int, ending: "Ending", ended: int) -> None:
        """Say what is about to happen."""
        if self._decoding is not None:
            self._decoding.stop()
            self._decoding = None
        self._metric, self._ending = plan.metric, ending
        share = 0.5 if plan.config.algorithm.scheduler == "asha" else 1.0
        self._estimate = Estimate(ending.trials, slots, ended=ended, share=share)
        self._trials = ending.trials
        data = plan.dataset
        lines = [
            f"study {name}: {data.task} on images of {data.image_size} px, by {plan.metric} ({plan.mode})",
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
        self._write(f"[{STYLES[event.kind]}]{escape(self._line(event))}[/]")

    def say(self, text: str) -> None:
        """Write a line."""
        self._write(escape(text))

    def pausing(self, reason: str) -> None:
        """Say what happens next."""
        self._write(f"{reason}: trials pause at their next epoch; once more ends the search at once")

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

    def _line(self, event: "Event") -> str:
        value = "" if event.value is None else f" {self._metric} {event.value:.4g}"
        reason = f" ({event.reason})" if event.reason else ""
        best = f"; best {self._ending.best:.4g}" if self._ending.best is not None else ""
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
        best = "none yet" if self._ending.best is None else f"{self._ending.best:.4g}"
        head.add_row(
            f"trials {done}/{self._trials}",
            ProgressBar(total=self._trials, completed=done, width=12),
            self._left(),
            f"best {self._metric} {best}",
        )
        running = Table(box=None, pad_edge=False, header_style="dim", expand=True)
        for column in ("trial", "epoch", self._metric):
            running.add_column(column, no_wrap=True, min_width=max(len(column), 6))
        running.add_column("configuration", no_wrap=True, overflow="ellipsis", ratio=1)
        for number, event in sorted(dict(self._running).items()):
            shown = "" if event.value is None else f"{event.value:.4g}"
            running.add_row(str(number), f"{event.epoch}/{event.config.epochs}", shown, in_brief(event.config.model_dump()))
        return Group(head, running)


def in_brief(config: Mapping[str, Any]) -> str:
    """Return a configuration in a few words."""
    head = "perceptron" if not config["head_layers"] else f"head {config['head_layers']}×{config['head_units']}"
    return (
        f"{config['backbone']}, {config['optimizer']} {config['learning_rate']:.2g}, unfrozen {config['unfrozen_stages']}, {head}, "
        f"batch {config['batch_size']}, augment {config['augmentation_strength']:g}"
    )
