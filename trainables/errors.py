"""What can go wrong, and whose move it is.

    InjertoError
    ├── ConfigError      a key, a value or a file of configuration; the user edits it
    ├── DataError        images or labels; the user mends the data or says how to read it
    ├── WeightsError     pretrained weights that are missing or do not fit
    ├── StorageError     a study, a record or an artifact that cannot be read or written
    │   └── DamagedError a trial's state that is there and no state; the trial starts over
    ├── ResourceError    disk, memory, processors: not enough for what was asked
    └── NonFiniteError   a loss or a metric that is no longer a number; ends one trial

Each message says what was wrong, what came and what to do. The command line prints it and exits with 2.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class InjertoError(Exception):
    """Root of every error that a user can act on."""


class ConfigError(InjertoError):
    """A key, a value or a file of configuration is not usable."""


class DataError(InjertoError):
    """Images or labels cannot be used as they are."""


class WeightsError(InjertoError):
    """Pretrained weights are missing or do not fit the network."""


class StorageError(InjertoError):
    """A study, a record or an artifact cannot be read or written."""


class DamagedError(StorageError):
    """A trial's state is damaged, or of another format."""


class ResourceError(InjertoError):
    """There is not enough disk, memory or processor for what was asked."""


class NonFiniteError(InjertoError):
    """A loss or a metric is no longer a finite number."""


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?`` for the nearest known word, else the known words."""
    words = list(known)
    near = get_close_matches(str(word), words, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(words)}"
