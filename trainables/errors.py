"""The errors that a user can act on, and what the user can do.

    InjertoError
    ├── ConfigError      a key, a value or a file of the configuration is wrong: edit it
    ├── DataError        images or labels cannot be used: correct them, or configure how they are read
    ├── WeightsError     pretrained weights are missing or do not fit the network: choose others
    ├── StorageError     a study, a record or an artifact cannot be read or written: check its location
    │   └── DamagedError a file is damaged or of another format: a trial with such a state starts over
    ├── ResourceError    too little disk space, memory or CPUs: ask for less, or free some
    └── NonFiniteError   a loss or a metric became infinite or NaN: ends one trial, and the search goes on

Each message says what was wrong, which value was given and what to do. The command line prints it and exits with 2.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class InjertoError(Exception):
    """Base class of the errors that a user can act on."""


class ConfigError(InjertoError):
    """A key, a value or a file of the configuration is wrong."""


class DataError(InjertoError):
    """Images or labels cannot be used as they are."""


class WeightsError(InjertoError):
    """Pretrained weights are missing or do not fit the network."""


class StorageError(InjertoError):
    """A study, a record or an artifact cannot be read or written."""


class DamagedError(StorageError):
    """A file, such as a trial's state or a manifest, is damaged or of another format."""


class ResourceError(InjertoError):
    """There is too little disk space or memory, or there are too few CPUs or GPUs."""


class NonFiniteError(InjertoError):
    """A loss or a metric is no longer a finite number."""


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """Return the end of a message about an unknown word: ``; did you mean 'x'?`` with the nearest known word, or ``; known: …``."""
    words = list(known)
    near = get_close_matches(str(word), words, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(words)}"
