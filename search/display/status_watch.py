"""`injerto status --watch`: a study as its record shows it, from any process, until its search no longer runs."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from search.display.snapshot import snapshot_of
from search.display.summary import summary
from search.display.terminal import heartbeat
from search.display.view import draw
from search.formatting import duration, plain
from search.record.records import StudyRecord, study_record
from search.record.store import load_study, open_storage, storage_errors
from trainables.errors import StorageError

EVERY_SECONDS = 2.0
PATIENCE_SECONDS = 600.0
Readings = Iterator[tuple[StudyRecord, str]]


def follow(
    name: str | None, storage: str | None, *, as_json: bool = False, console: Console | None = None, every: float = EVERY_SECONDS
) -> None:
    """Show a study until its search no longer runs, then its summary; Ctrl-C leaves quietly.

    Without a terminal it is a line whenever something changed; with `as_json` each line is what `status --json` promises.
    Raises ``StorageError`` if there is no such study.
    """
    out = console or Console(highlight=False)
    with suppress(KeyboardInterrupt):
        last = _show(out, as_json)(out, readings(name, storage, every))
        if not as_json:
            summary(last)


def readings(name: str | None, storage: str | None, every: float) -> Readings:
    """Yield a study's record every so many seconds until its search no longer runs, the last one besides.

    While the storage does not answer, for ten minutes at most, it yields the record as it was and what is wrong.
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


def _show(out: Console, as_json: bool) -> Callable[[Console, Readings], StudyRecord]:
    if as_json:
        return _objects
    return _live if out.is_terminal else _changes


def _live(out: Console, found: Readings) -> StudyRecord:
    with Live(console=out, auto_refresh=False, transient=True) as live:
        for record, trouble in found:
            if record.state == "running":
                head = Text.assemble((record.name, "bold"), f" running for {duration(record.seconds)}")
                view = draw(snapshot_of(record), out.width, out.height - 2)
                live.update(Group(head, view, *([Text(plain(trouble), style="red")] if trouble else [])), refresh=True)
    return record


def _changes(out: Console, found: Readings) -> StudyRecord:
    seen: object = None
    for record, trouble in found:
        snapshot = snapshot_of(record)
        now = (dict(snapshot.counts), snapshot.best and snapshot.best.number, trouble)
        if record.state == "running" and now != seen:
            out.print(Text(plain(trouble or heartbeat(snapshot, record.seconds))), soft_wrap=True)
        seen = now
    return record


def _objects(out: Console, found: Readings) -> StudyRecord:
    seen: object = None
    for record, _ in found:
        now = (record.state, record.status_json()["epochs"], record.counts)
        if now != seen:
            out.file.write(json.dumps(record.status_json(), ensure_ascii=False) + "\n")
            out.file.flush()
        seen = now
    return record
