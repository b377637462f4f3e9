"""A search as JSON Lines on standard output, for programs: one object on each line.

Each object has the key ``event``; a number that is not finite is null. The other keys by event:

| event | keys |
|---|---|
| begin | study, folder, task, metric, mode, trials (to run), slots (trials at a time), ended (in an earlier run), notes (on the data) |
| began | trial, epoch (after which it starts), epochs (planned), config |
| epoch | trial, epoch, epochs, value (the objective), metrics (of the epoch: losses, metrics, rate, images_per_second), seconds |
| retry | as epoch, and reason: after a fault, the trial continues from that epoch |
| finished, stopped, failed, paused | as epoch, and reason (empty if the trial ran all its epochs) and best (value so far) |
| say | text |
| pausing | reason: the search was interrupted; its trials pause at their next epoch |
| finishing | none: the test split is being evaluated |
| end | the keys of ``status --json``, why (the search ended), and best: the object of ``best --json``, or null if no trial has ended |

``elapsed`` (s, in every event from begin on) is the time that the study has run, earlier runs included. ``seconds`` (s) is the time since
the trial began in this run.
"""

import json
import math
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TextIO

from search.display.line_writer import LineWriter
from trainables.errors import StorageError

if TYPE_CHECKING:
    from search.events import Event
    from search.plan import Plan
    from search.policy.stop_condition import StopCondition
    from search.record.records import StudyRecord


class JsonLines:
    """Writes each event to a stream as one JSON object on one line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lines = LineWriter(self._write)
        self._stop_condition: StopCondition | None = None

    def preparing(self, done: int, total: int, what: str) -> None:
        """Do nothing: the preparation of the data is not part of the output."""

    def begin(self, name: str, plan: "Plan", slots: int, stop_condition: "StopCondition", ended: int) -> None:
        """Write the line ``begin``, the plan of the search; lines have ``elapsed`` from here on."""
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
        """Write a line for a change of a trial, with the event's kind as ``event`` and the keys of the module's table."""
        keys: dict[str, Any] = {"trial": event.number, "epoch": event.epoch, "epochs": event.config.epochs}
        if event.kind == "began":
            keys["config"] = event.config.model_dump(mode="json")
        else:
            keys |= {"value": event.value, "metrics": dict(event.metrics), "seconds": event.seconds}
        if event.kind not in ("began", "epoch"):
            keys["reason"] = event.reason
        if event.kind not in ("began", "epoch", "retry") and self._stop_condition is not None:
            keys["best"] = self._stop_condition.best
        self._put(event.kind, **keys)

    def say(self, text: str) -> None:
        """Write the line ``say``, a message for the user."""
        self._put("say", text=text)

    def pausing(self, reason: str) -> None:
        """Write the line ``pausing``: the search was interrupted."""
        self._put("pausing", reason=reason)

    def finishing(self) -> None:
        """Write the line ``finishing``: the test split is being evaluated."""
        self._put("finishing")

    def end(self, record: "StudyRecord") -> None:
        """Write the last line, ``end``, with the result of the search, and wait until all lines are written."""
        best = None
        with suppress(StorageError):
            best = record.best_json()
        self._put("end", **(record.status_json() | {"why": record.why}), best=best)
        self._lines.close()

    def __enter__(self) -> "JsonLines":
        return self

    def __exit__(self, *error: object) -> None:
        self._lines.close()

    def _put(self, event: str, **keys: Any) -> None:
        clock = {} if self._stop_condition is None else {"elapsed": round(self._stop_condition.elapsed(), 3)}
        self._lines.put({"event": event} | keys | clock)

    def _write(self, line: dict[str, Any]) -> None:
        self._stream.write(json.dumps(finite(line), ensure_ascii=False, allow_nan=False, default=str) + "\n")
        self._stream.flush()


def finite(value: Any) -> Any:
    """Return a copy of a JSON value in which None replaces each float that is not finite, at any depth; tuples become lists."""
    if isinstance(value, Mapping):
        return {str(key): finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def only_json() -> Iterator[TextIO]:
    """Yield a text stream to standard output. During the block, all other output to it goes to standard error, also of child processes."""
    sys.stdout.flush()
    saved, stdout = os.dup(1), sys.stdout
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    stream = open(os.dup(saved), "w", encoding="utf-8")  # noqa: SIM115
    try:
        yield stream
    finally:
        with suppress(OSError):
            stream.close()
        sys.stdout = stdout
        os.dup2(saved, 1)
        os.close(saved)
