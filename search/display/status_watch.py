"""`injerto status --watch`: shows a study from its record, in any process, until its search no longer runs."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from search.display.snapshot import snapshot_of
from search.display.summary import print_summary
from search.display.terminal import status_line
from search.display.view import render_snapshot
from search.formatting import duration, one_line
from search.record.reader import study_record
from search.record.records import StudyRecord
from search.record.store import load_study, open_storage, storage_errors
from trainables.errors import StorageError

EVERY_SECONDS = 2.0
PATIENCE_SECONDS = 600.0
"""How long a storage may not answer."""
PolledRecords = Iterator[tuple[StudyRecord, str]]
"""Yields a study's latest record, and the message of the error if it could not be read again; empty if it could."""


def watch_status(
    name: str | None, storage: str | None, *, as_json: bool = False, console: Console | None = None, every: float = EVERY_SECONDS
) -> None:
    """Show a study until its search no longer runs, then print its summary; Ctrl-C ends the watch without a message.

    On a terminal this is a live view, otherwise a line after each change. With `as_json` each line is the object of `status --json`, and no
    summary follows. The record is read `every` so many seconds; a `name` of None is the latest study. Raises ``StorageError`` if there is
    no such study.
    """
    out = console or Console(highlight=False)
    with suppress(KeyboardInterrupt):
        record = _presentation(out, as_json)(out, poll_record(name, storage, every))
        if not as_json:
            print_summary(record)


def poll_record(name: str | None, storage: str | None, every: float) -> PolledRecords:
    """Yield a study's record and an empty text `every` so many seconds while its search runs, and once more when it no longer runs.

    While the storage does not answer, yields the last record and the error's message. Raises that ``StorageError`` after
    `PATIENCE_SECONDS`, and at once if there is no record yet.
    """
    opened = open_storage(storage)
    record, answered = None, time.monotonic()
    while record is None or record.state == "running":
        trouble = ""
        try:
            with storage_errors(storage):
                record, answered = study_record(load_study(opened, record.name if record else name)), time.monotonic()
        except StorageError as error:
            if record is None or time.monotonic() - answered > PATIENCE_SECONDS:
                raise
            trouble = str(error)
        yield record, trouble
        if record.state == "running":
            time.sleep(every)


def _presentation(out: Console, as_json: bool) -> Callable[[Console, PolledRecords], StudyRecord]:
    if as_json:
        return _write_json
    return _show_live if out.is_terminal else _print_changes


def _show_live(out: Console, polled: PolledRecords) -> StudyRecord:
    with Live(console=out, auto_refresh=False, transient=True) as live:
        for record, trouble in polled:
            if record.state == "running":
                head = Text.assemble((record.name, "bold"), f" running for {duration(record.seconds)}")
                view = render_snapshot(snapshot_of(record), out.width, out.height - 2)
                live.update(Group(head, view, *([Text(one_line(trouble), style="red")] if trouble else [])), refresh=True)
    return record


def _print_changes(out: Console, polled: PolledRecords) -> StudyRecord:
    previous: object = None
    for record, trouble in polled:
        snapshot = snapshot_of(record)
        current = (dict(snapshot.counts), snapshot.best and snapshot.best.number, trouble)
        if record.state == "running" and current != previous:
            out.print(Text(one_line(trouble or status_line(snapshot, record.seconds))), soft_wrap=True)
        previous = current
    return record


def _write_json(out: Console, polled: PolledRecords) -> StudyRecord:
    previous: object = None
    for record, _ in polled:
        current = (record.state, record.status_json()["epochs"], record.counts)
        if current != previous:
            out.file.write(json.dumps(record.status_json(), ensure_ascii=False) + "\n")
            out.file.flush()
        previous = current
    return record
