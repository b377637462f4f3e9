"""A search on a terminal: a live view, or a line for each trial that ends where there is none."""

from collections import Counter, deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import TYPE_CHECKING, Any

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from search.display.line_writer import Lines
from search.display.view import STYLES, TROUBLES, Best, Row, Snapshot, draw, in_words, time_left
from search.events import ENDED
from search.forecast.time_left import Estimate
from search.formatting import duration, in_brief, plain, printable
from trainables.errors import InjertoError

if TYPE_CHECKING:
    from search.events import Event
    from search.plan import Plan
    from search.policy.rungs import StopCondition

HEARTBEAT_SECONDS = 60.0
EARLY = 0.5
"""Share of a whole trial that one takes on average where weak ones are stopped at rungs."""


@dataclass
class RunningTrial:
    """A running trial: its objective by epoch, its last images a second."""

    event: "Event"
    values: dict[int, float] = field(default_factory=dict)

    def hear(self, event: "Event") -> None:
        """Take an event into account; an epoch that is run again takes the place of the first."""
        self.event = event if event.metrics else replace(event, metrics=self.event.metrics)
        if event.kind == "epoch" and event.value is not None:
            self.values[event.epoch] = event.value

    def row(self) -> Row:
        """Return what is shown of it."""
        config, speed = self.event.config, self.event.metrics.get("images_per_second")
        return Row(self.event.number, self.event.epoch, config.epochs, in_brief(config.model_dump()), self.curve(), speed)

    def curve(self) -> list[float]:
        """Return the objective of the epochs that were heard, in their order."""
        return [self.values[epoch] for epoch in sorted(self.values)]


class Terminal:
    """Shows a search on a terminal, or as lines where there is none.

    The live view is drawn from a thread of its own, over copies of what the events change.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=False, highlight=False)
        quiet = None if self._console.is_terminal else self._heartbeat
        self._lines = Lines(self._write, quiet, HEARTBEAT_SECONDS)
        self._decoding: Progress | None = None
        self._live: Live | None = None
        self._lock = Lock()
        self._running: dict[int, RunningTrial] = {}
        self._past: dict[int, dict[int, float]] = {}
        self._ended: Counter[str] = Counter()
        self._troubles: deque[str] = deque(maxlen=TROUBLES)
        self._best: Best | None = None
        self._default: float | None = None

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

    def begin(self, name: str, plan: "Plan", slots: int, stop_condition: "StopCondition", ended: int) -> None:
        """Say what is about to happen."""
        if self._decoding is not None:
            self._decoding.stop()
            self._decoding = None
        self._metric, self._sign, self._stop_condition = plan.metric, 1 if plan.mode == "max" else -1, stop_condition
        share = EARLY if plan.config.algorithm.scheduler == "asha" else 1.0
        self._estimate = Estimate(stop_condition.trials, slots, ended=ended, share=share)
        self._recall(name, plan.config.storage)
        data = plan.dataset
        self.say(f"study {name}: {data.task} on images of {data.image_size} px, by {plan.metric} ({plan.mode})")
        for note in data.notes:
            self.say(note)
        before = f", {ended} ended before" if ended else ""
        self.say(f"{stop_condition.trials} trials, {slots} at a time{before}; trial 0 is the default recipe")
        if self._console.is_terminal:
            self._live = Live(get_renderable=self._view, console=self._console, refresh_per_second=4, transient=True)
            self._live.start()

    def event(self, event: "Event") -> None:
        """Show an event."""
        with self._lock:
            self._estimate.hear(event)
            if event.kind in ("began", "epoch", "retry"):
                self._running.setdefault(event.number, RunningTrial(event, self._past.pop(event.number, {}))).hear(event)
            else:
                self._close(event, self._running.pop(event.number, RunningTrial(event)))
            if event.kind in ("began", "epoch"):
                return
            line = self._line(event)
            if event.kind in ("failed", "retry"):
                self._troubles.append(line.partition("] ")[2] or line)
        self._lines.put(Text(plain(line), style=STYLES[event.kind]))

    def say(self, text: str) -> None:
        """Write a line."""
        self._lines.put(Text(printable(text)))

    def pausing(self, reason: str) -> None:
        """Say what happens next."""
        self.say(f"{reason}: trials pause at their next epoch; once more ends the search at once")

    def finishing(self) -> None:
        """Say that the search is over."""
        self._stop()
        self.say("opening the test images once, for the winner and the default recipe")

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *error: object) -> None:
        self._stop()

    def snapshot(self) -> Snapshot:
        """Return how the search stands now, in values of its own."""
        with self._lock:
            rows = [course.row() for _, course in sorted(self._running.items())]
            counts = dict(self._ended) | {"running": len(rows)}
            counts["queued"] = max(0, self._stop_condition.trials - self._estimate.ended - len(rows) - counts.get("paused", 0))
            troubles, best, left = tuple(self._troubles), self._best, self._seconds_left()
        return Snapshot(self._metric, counts, self._stop_condition.gauges(), best, left, rows, troubles)

    def _stop(self) -> None:
        self._lines.close()
        if self._live is not None:
            self._live.stop()
            self._live = None
        if self._decoding is not None:
            self._decoding.stop()
            self._decoding = None

    def _write(self, line: Text) -> None:
        self._console.print(line, soft_wrap=True)

    def _recall(self, name: str, storage: str | None) -> None:
        """Take over what an earlier run of the study came to; without it the view begins at nought."""
        from search.display.snapshot import objectives, snapshot_of
        from search.record.records import read_study

        with suppress(InjertoError):
            record = read_study(name, storage)
            before, default = snapshot_of(record), record.default_recipe
            self._best, self._default = before.best, default.value if default and default.state == "finished" else None
            self._ended.update({state: before.counts[state] for state in ENDED})
            self._past = {trial.number: objectives(trial) for trial in record.trials if trial.state not in ENDED}

    def _close(self, event: "Event", course: RunningTrial) -> None:
        self._ended[event.kind] += 1
        if event.kind != "finished" or event.value is None:
            return
        if event.number == 0:
            self._default = event.value
        if self._best is None or self._sign * event.value > self._sign * self._best.value:
            self._best = Best(event.number, event.value, self._stop_condition.elapsed(), curve=course.curve())
        if self._default is not None:
            self._best = replace(self._best, gain=self._best.value - self._default)

    def _line(self, event: "Event") -> str:
        if event.kind == "retry":
            return f"trial {event.number} goes on from epoch {event.epoch}/{event.config.epochs}: {event.reason}"
        value = "" if event.value is None else f" {self._metric} {event.value:.4g}"
        reason = f" ({event.reason})" if event.reason else ""
        best = f"; best {self._best.value:.4g} (trial {self._best.number})" if self._best else ""
        ahead = "" if event.kind == "paused" else f"{best}, {time_left(self._seconds_left())}"
        return (
            f"[{self._estimate.ended}/{self._stop_condition.trials}] trial {event.number} {event.kind}{value} "
            f"after {event.epoch}/{event.config.epochs} epochs, {event.seconds:.0f} s{reason}{ahead}"
        )

    def _heartbeat(self) -> None:
        """Write that the search lives, where no trial has ended for a while."""
        snapshot = self.snapshot() if self._running else None
        if snapshot is not None:
            self._write(Text(heartbeat(snapshot, self._stop_condition.elapsed())))

    def _seconds_left(self) -> float | None:
        left = self._estimate.seconds_left()
        if left is None or self._stop_condition.seconds is None:
            return left
        return min(left, max(0.0, self._stop_condition.seconds - self._stop_condition.elapsed()))

    def _view(self) -> RenderableType:
        size = self._console.size
        return draw(self.snapshot(), size.width, size.height)


def heartbeat(snapshot: Snapshot, elapsed: float) -> str:
    """Return how a search stands in one line."""
    counts: Mapping[str, Any] = {state: count for state, count in snapshot.counts.items() if count}
    running = [
        f"trial {row.number} epoch {row.epoch}/{row.epochs}" + (f" {row.curve[-1]:.4g}" if row.curve else "") for row in snapshot.running
    ]
    parts = [
        ", ".join(f"{count} {state}" for state, count in counts.items()),
        ", ".join(running[:4]) + (f" and {len(running) - 4} more" if len(running) > 4 else ""),
        f"best {in_words(snapshot.best, snapshot.metric)}" if snapshot.best else "",
        f"{snapshot.speed:,.0f} images/s" if snapshot.speed else "",
        time_left(snapshot.left),
    ]
    return f"{duration(elapsed)}: " + "; ".join(part for part in parts if part)
