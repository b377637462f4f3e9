"""`SavedStates`, the saved states of a trial: files under unique names in the trial's folder, of which the highest epoch counts.

Two workers may write at the same time: Ray takes a worker for lost that still runs, and starts its successor. They need no lock: no worker
overwrites a file, and after a save each removes only files that sort below its own. So the highest epoch stays.
"""

import os
import re
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from trainables.errors import DamagedError
from trainables.storage.locations import join, split_location
from trainables.storage.root import RETRY_PAUSES, Root, size_of

State = TypeVar("State")
_KEY = re.compile(r"(state-\d{6}-[0-9a-f]{8}|last)\.\w+")
"""Matches the names of states, which sort by epoch. A trial of an earlier version has a single state, whose name sorts first."""


class SavedState(NamedTuple):
    """A file with a state: its path or URL, and its size in bytes."""

    location: str
    bytes: int


class SavedStates:
    """One worker's access to the states of a trial in `folder`, a path or a URL. `ending` is that of the files it writes.

    `saved` is the file that was last loaded or saved. `damaged` maps the names of files that `load` could not read to what is wrong with
    them. All methods raise as `Root` does.
    """

    saved: SavedState

    def __init__(self, folder: str, ending: str = "pt") -> None:
        self.folder, self.ending = folder, ending
        self.damaged: dict[str, str] = {}
        self._root = Root(folder, RETRY_PAUSES)

    def names(self) -> list[str]:
        """Return the names of the files with states, the highest epoch first."""
        return [key for key in reversed(self._root.names()) if _KEY.fullmatch(key)]

    def load(self, read: Callable[[str], State | None], *, newest_only: bool = False) -> State | None:
        """Return the state of the highest epoch that can be read; None if there is none.

        `read` takes a path or URL. It returns None where there is no file, and raises ``DamagedError`` for a damaged one. Then the state is
        entered in `damaged` and an older one is tried; with `newest_only` the error is raised instead.
        """
        tried: set[str] = set()
        while key := next((key for key in self.names() if key not in tried), None):
            tried.add(key)
            location = join(self.folder, key)
            try:
                state = read(location)
            except DamagedError as error:
                if size_of(location) is None:  # another worker removed it while it was read
                    continue
                if newest_only:
                    raise
                self.damaged[key] = str(error)
                continue
            if state is not None:
                self.saved = SavedState(location, size_of(location) or 0)
                return state
        return None

    def save(self, epoch: int, write: Callable[[str], None]) -> None:
        """Save the state after an epoch under a new name, and then remove the states that sort below it and those in `damaged`.

        `write` writes the state to the path or URL that it is given.
        """
        key = f"state-{epoch:06d}-{os.urandom(4).hex()}.{self.ending}"
        location = join(self.folder, key)
        write(location)
        self.saved = SavedState(location, size_of(location) or 0)  # 0: another worker has saved a higher epoch and removed this one
        for other in self.names():
            if other < key or other in self.damaged:
                self._root.remove(other)
        self.damaged.clear()


def discard_states(location: str) -> None:
    """Remove all states in the folder that holds the state at a location, and the unfinished files that killed workers left there.

    For a trial that has ended. Raises as `Root` does.
    """
    folder, _ = split_location(location)
    states, root = SavedStates(folder), Root(folder)
    for key in states.names():
        root.remove(key)
    root.remove_abandoned()
