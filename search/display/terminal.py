"""Shows a running search: a live view on a terminal, otherwise a line for each trial that ends."""

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

from search.display.line_writer import LineWriter
from search.display.view import MAX_PROBLEMS, STYLES, Best, RunningRow, Snapshot, best_as_text, render_snapshot, time_left_as_text
from search.events import ENDED
from search.forecast.time_left import SHARE_WITH_RUNGS, Estimate
from search.formatting import brief_configuration, duration, one_line, printable
from trainables.errors import InjertoError
from trainables.objectives import is_better

if TYPE_CHECKING:
    from search.events import Event
    from search.plan import Plan
    from search.policy.stop_condition import StopCondition

SILENCE_SECONDS = 60.0
"""Without a terminal, a status line is written when nothing else was written for so long."""


@dataclass
class RunningTrial:
    """What the view shows of a running trial: its latest event, with the latest metrics, and `values`, its objective by 1-based epoch."""

    event: "Event"
    values: dict[int, float] = field(default_factory=dict)

    def update(self, event: "Event") -> None:
        """Replace the event and add its objective; metrics stay if the event has none, and an epoch that runs again is replaced."""
        self.event = event if event.metrics else replace(event, metrics=self.event.metrics)
        if event.kind == "epoch" and event.value is not None:
            self.values[event.epoch] = event.value

    def row(self) -> RunningRow:
        """Return the trial's row in the view."""
        config, speed = self.event.config, self.event.metrics.get("images_per_second")
        return RunningRow(self.event.number, self.event.epoch, config.epochs, brief_configuration(config.model_dump()), self.curve(), speed)

    def curve(self) -> list[float]:
        """Return the objective after each epoch, in the order of the epochs."""
        return [self.values[epoch] for epoch in sorted(self.values)]


class Terminal:
    """Shows a search: as a live view with lines above it on a terminal, as lines alone if the console (by default stdout) is none.

    Rich draws the live view in a thread of its own; a snapshot copies the state that the events change.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=False, highlight=False)
        on_silence = None if self._console.is_terminal else self._write_status_line
        self._lines = LineWriter(self._write, on_silence, SILENCE_SECONDS)
        self._progress_bar: Progress | None = None
        self._live: Live | None = None
        self._lock = Lock()
        self._running: dict[int, RunningTrial] = {}
        self._earlier_epochs: dict[int, dict[int, float]] = {}
        self._ended: Counter[str] = Counter()
        self._problems: deque[str] = deque(maxlen=MAX_PROBLEMS)
        self._best: Best | None = None
        self._default_value: float | None = None

    def preparing(self, done: int, total: int, what: str) -> None:
        """Show a progress bar of reading or decoding the data, if this is a terminal."""
        if not self._console.is_terminal:
            return
        if self._progress_bar is None:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._progress_bar = Progress(*columns, console=self._console, transient=True)
            self._progress_bar.start()
            self._task = self._progress_bar.add_task(what, total=total)
        self._progress_bar.update(self._task, completed=done, total=total, description=what)

    def begin(self, name: str, plan: "Plan", slots: int, stop_condition: "StopCondition", ended: int) -> None:
        """Write a few lines on the study, its data and its trials; on a terminal also start the live view.

        If the search resumes, the view starts from the study's record.
        """
        self._stop_progress_bar()
        self._metric, self._mode, self._stop_condition = plan.metric, plan.mode, stop_condition
        share = SHARE_WITH_RUNGS if plan.config.algorithm.stops_early else 1.0
        self._estimate = Estimate(stop_condition.trials, slots, ended=ended, share=share)
        self._load_earlier_run(name, plan.config.storage)
        data = plan.dataset
        sizes = ", ".join(map(str, plan.image_sizes))
        self.say(f"study {name}: {data.task} on images of {sizes} px, by {plan.metric} ({plan.mode})")
        self.say(f"backbones: {', '.join(plan.config.backbones)}, weights: {plan.config.weights}")
        for note in data.notes:
            self.say(note)
        before = f", {ended} ended before" if ended else ""
        count = f"{stop_condition.trials} trial{'s' if stop_condition.trials > 1 else ''}"
        self.say(f"{count}, {slots} at a time{before}; trial 0 is the default recipe")
        if self._console.is_terminal:
            self._live = Live(get_renderable=self._render, console=self._console, refresh_per_second=4, transient=True)
            self._live.start()

    def event(self, event: "Event") -> None:
        """Update what the live view shows of a trial. If the trial ended, paused or is retried, also write a line."""
        with self._lock:
            self._estimate.update(event)
            if event.kind in ("began", "epoch", "retry"):
                self._running.setdefault(event.number, RunningTrial(event, self._earlier_epochs.pop(event.number, {}))).update(event)
            else:
                self._count_ended(event, self._running.pop(event.number, RunningTrial(event)))
            if event.kind in ("began", "epoch"):
                return
            line = self._event_line(event)
            if event.kind in ("failed", "retry"):
                self._problems.append(line.partition("] ")[2] or line)
        self._lines.put(Text(one_line(line), style=STYLES[event.kind]))

    def say(self, text: str) -> None:
        """Write a message for the user as a line."""
        self._lines.put(Text(printable(text)))

    def pausing(self, reason: str) -> None:
        """Write that the search was interrupted, and what follows."""
        self.say(f"{reason}: trials pause at their next epoch; a second interrupt ends the search at once")

    def finishing(self) -> None:
        """Close the live view and write that the test split is being evaluated."""
        self._stop()
        self.say("evaluating the test images once, with the winner and the default recipe")

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *error: object) -> None:
        self._stop()

    def snapshot(self) -> Snapshot:
        """Return the present state of the search, as a copy that later events do not change. Call it after `begin`, on any thread."""
        with self._lock:
            rows = [trial.row() for _, trial in sorted(self._running.items())]
            counts = dict(self._ended) | {"running": len(rows)}
            counts["queued"] = max(0, self._stop_condition.trials - self._estimate.ended - len(rows) - counts.get("paused", 0))
            problems, best, left = tuple(self._problems), self._best, self._seconds_left()
        return Snapshot(self._metric, counts, self._stop_condition.gauges(), best, left, rows, problems)

    def _stop(self) -> None:
        self._lines.close()
        if self._live is not None:
            self._live.stop()
            self._live = None
        self._stop_progress_bar()

    def _stop_progress_bar(self) -> None:
        if self._progress_bar is not None:
            self._progress_bar.stop()
            self._progress_bar = None

    def _write(self, line: Text) -> None:
        self._console.print(line, soft_wrap=True)

    def _load_earlier_run(self, name: str, storage: str | None) -> None:
        """Set best trial, counts and curves from the study's record, for a search that resumes; if it cannot be read, they stay empty."""
        from search.display.snapshot import objective_by_epoch, snapshot_of
        from search.record.reader import read_study

        with suppress(InjertoError):
            record = read_study(name, storage)
            before, default = snapshot_of(record), record.default_recipe
            self._best, self._default_value = before.best, default.value if default and default.state == "finished" else None
            self._ended.update({state: before.counts[state] for state in ENDED})
            self._earlier_epochs = {trial.number: objective_by_epoch(trial) for trial in record.trials if trial.state not in ENDED}

    def _count_ended(self, event: "Event", trial: RunningTrial) -> None:
        self._ended[event.kind] += 1
        if event.kind != "finished" or event.value is None:
            return
        if event.number == 0:
            self._default_value = event.value
        if self._best is None or is_better(event.value, self._best.value, self._mode):
            self._best = Best(event.number, event.value, self._stop_condition.elapsed(), curve=trial.curve())
        if self._default_value is not None:
            self._best = replace(self._best, gain=self._best.value - self._default_value)

    def _event_line(self, event: "Event") -> str:
        if event.kind == "retry":
            return f"trial {event.number} continues from epoch {event.epoch}/{event.config.epochs}: {event.reason}"
        value = "" if event.value is None else f" {self._metric} {event.value:.4g}"
        reason = f" ({event.reason})" if event.reason else ""
        best = f"; best {self._best.value:.4g} (trial {self._best.number})" if self._best else ""
        time_left = "" if event.kind == "paused" else f"{best}, {time_left_as_text(self._seconds_left())}"
        return (
            f"[{self._estimate.ended}/{self._stop_condition.trials}] trial {event.number} {event.kind}{value} "
            f"after {event.epoch}/{event.config.epochs} epochs, {event.seconds:.0f} s{reason}{time_left}"
        )

    def _write_status_line(self) -> None:
        snapshot = self.snapshot() if self._running else None
        if snapshot is not None:
            self._write(Text(status_line(snapshot, self._stop_condition.elapsed())))

    def _seconds_left(self) -> float | None:
        left = self._estimate.seconds_left()
        if left is None or self._stop_condition.seconds is None:
            return left
        return min(left, max(0.0, self._stop_condition.seconds - self._stop_condition.elapsed()))

    def _render(self) -> RenderableType:
        size = self._console.size
        return render_snapshot(self.snapshot(), size.width, size.height)


def status_line(snapshot: Snapshot, elapsed: float) -> str:
    """Return one line: time run (`elapsed`, in seconds), counts of trials, running trials, best value, images/s, time left."""
    counts: Mapping[str, Any] = {state: count for state, count in snapshot.counts.items() if count}
    running = [
        f"trial {row.number} epoch {row.epoch}/{row.epochs}" + (f" {row.curve[-1]:.4g}" if row.curve else "") for row in snapshot.running
    ]
    parts = [
        ", ".join(f"{count} {state}" for state, count in counts.items()),
        ", ".join(running[:4]) + (f" and {len(running) - 4} more" if len(running) > 4 else ""),
        f"best {best_as_text(snapshot.best, snapshot.metric)}" if snapshot.best else "",
        f"{snapshot.speed:,.0f} images/s" if snapshot.speed else "",
        time_left_as_text(snapshot.seconds_left),
    ]
    return f"{duration(elapsed)}: " + "; ".join(part for part in parts if part)
