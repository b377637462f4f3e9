"""Locations, the texts that say where states and artifacts are kept: their checks, joining and splitting.

A location is a folder's path, or a bucket's URL: ``s3://bucket/prefix?endpoint_override=http://host:9000&region=us-east-1``. Google's
(``gs``) and Azure's (``abfs``) buckets work as well. Credentials come from the environment and are never part of a location, because
locations are recorded with the study.
"""

import re
from pathlib import Path

from trainables.errors import StorageError
from trainables.storage.secrets import redact

SCHEMES = ("s3", "gs", "gcs", "abfs", "abfss")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


def is_url(location: str | Path) -> bool:
    """Return whether a location is a URL of any scheme, and not a path."""
    return _URL.match(str(location)) is not None


def check_url(location: str, what: str = "root") -> str:
    """Return `location` itself if it is a bucket's URL. `what` says in messages what the URL is for.

    Raises ``StorageError`` for other schemes than `SCHEMES`, for a URL without a bucket, and for one that holds a password or a key.
    """
    if not re.match(rf"({'|'.join(SCHEMES)})://[^/?#]", location):
        raise StorageError(f"{redact(location)!r} cannot be a {what}; name a folder, or a bucket such as s3://bucket/prefix")
    if redact(location) != location:
        raise StorageError(
            f"the {what} {redact(location)} holds a password or a key, which would be recorded with the study; leave it out and set "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, in the environment"
        )
    return location


def join(location: str | Path, key: str) -> str:
    """Return the location of a key below a location; the parameters of a URL stay at its end."""
    if not is_url(location):
        return str(Path(location) / key)
    path, mark, query = str(location).partition("?")
    return f"{path.rstrip('/')}/{key}{mark}{query}"


def split_location(location: str | Path) -> tuple[str, str]:
    """Return the location of the folder that holds a file or object, and its name there as a key: the reverse of `join`."""
    if not is_url(location):
        return str(Path(location).parent), Path(location).name
    path, mark, query = str(location).partition("?")
    parent, _, key = path.rpartition("/")
    return parent + mark + query, key
