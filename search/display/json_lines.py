"""A search as JSON on standard output, one object a line, for programs.

Each object has ``event``; a value that is not finite is null. What each event has besides:

| event | keys |
|---|---|
| begin | study, folder, task, metric, mode, trials (to run), slots (at a time), ended (before, by an earlier run), notes (of the data) |
| began | trial, epoch (that it goes on from), epochs (planned), config |
| epoch | trial, epoch, epochs, value (the objective), metrics (the epoch's row: losses, metrics, rate, images_per_second), seconds |
| retry | as epoch, and reason: the trial goes on from that epoch after a fault |
| finished, stopped, failed, paused | as epoch, and reason (empty where it ran all its epochs) and best (value so far) |
| say | text |
| pausing | reason: the search was interrupted; its trials end at their next epoch |
| finishing | nothing: the test images are being opened |
| end | what ``status --json`` promises, why it ended, and best: what ``best --json`` promises, or null if no trial has ended |

``elapsed`` (s, from begin on) is the time that the study has run, earlier runs included; ``seconds`` (s) a trial's own since it began here.
"""

import json
import math
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TextIO

from search.display.line_writer import Lines
from trainables.errors import StorageError

if TYPE_CHECKING:
    from search.events import Event
    from search.plan import Plan
    from search.policy.rungs import StopCondition
    from search.record.records import StudyRecord


class JsonLines:
    """Writes each event to a stream as one JSON object on one line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lines = Lines(self._write)
        self._stop_condition: StopCondition | None = None

    def preparing(self, done: int, total: int, what: str) -> None:
        """Ignore."""

    def begin(self, name: str, plan: "Plan", slots: int, stop_condition: "StopCondition", ended: int) -> None:
        """Write what is about to happen."""
        self._stop_condition = stop_condition
        self._put(
            "begin",
            study=name,
            folder=str(plan.config.output / name),
            task=plan.dataset.task,
            metric=plan.metric,
            mode=plan.mode,
            trials=stop_condition.trials,
            slots=slots,
            ended=ended,
            notes=list(plan.dataset.notes),
        )

    def event(self, event: "Event") -> None:
        """Write an event."""
        shown: dict[str, Any] = {"trial": event.number, "epoch": event.epoch, "epochs": event.config.epochs}
        if event.kind == "began":
            shown["config"] = event.config.model_dump(mode="json")
        else:
            shown |= {"value": event.value, "metrics": dict(event.metrics), "seconds": event.seconds}
        if event.kind not in ("began", "epoch"):
            shown["reason"] = event.reason
        if event.kind not in ("began", "epoch", "retry") and self._stop_condition is not None:
            shown["best"] = self._stop_condition.best
        self._put(event.kind, **shown)

    def say(self, text: str) -> None:
        """Write a text."""
        self._put("say", text=text)

    def pausing(self, reason: str) -> None:
        """Write that the search was interrupted."""
        self._put("pausing", reason=reason)

    def finishing(self) -> None:
        """Write that the test images are being opened."""
        self._put("finishing")

    def end(self, record: "StudyRecord") -> None:
        """Write what came of it, the last line."""
        best = None
        with suppress(StorageError):
            best = record.best_json()
        self._put("end", **(record.status_json() | {"why": record.why}), best=best)
        self._lines.close()

    def __enter__(self) -> "JsonLines":
        return self

    def __exit__(self, *error: object) -> None:
        self._lines.close()

    def _put(self, event: str, **shown: Any) -> None:
        clock = {} if self._stop_condition is None else {"elapsed": round(self._stop_condition.elapsed(), 3)}
        self._lines.put({"event": event} | shown | clock)

    def _write(self, shown: dict[str, Any]) -> None:
        self._stream.write(json.dumps(finite(shown), ensure_ascii=False, allow_nan=False, default=str) + "\n")
        self._stream.flush()


def finite(value: Any) -> Any:
    """Return a value of JSON with null for each number that is not finite."""
    if isinstance(value, Mapping):
        return {str(key): finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def only_json() -> Iterator[TextIO]:
    """Give a stream to standard output, and send what anything else prints there, other processes included, to standard error."""
    sys.stdout.flush()
    kept, stdout = os.dup(1), sys.stdout
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    stream = open(os.dup(kept), "w", encoding="utf-8")  # noqa: SIM115
    try:
        yield stream
    finally:
        with suppress(OSError):
            stream.close()
        sys.stdout = stdout
        os.dup2(kept, 1)
        os.close(kept)
