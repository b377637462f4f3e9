"""`Manifest`, a file from which every node makes the same prepared data set in its own cache, without listing or splitting files."""

import errno
import gzip
import json
import platform
import re
import shutil
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from trainables.config import Aspect
from trainables.data.dataset import DTYPES, Dataset, Origin, dataset_from, facts_of, publish
from trainables.data.folders import builtin
from trainables.data.samples import check_inside
from trainables.data.sources import BUILTIN
from trainables.errors import DamagedError, DataError, StorageError
from trainables.images.decode import DECODER_VERSION, check_decoder
from trainables.images.file_survey import FileContents, hash_file, read_unchanged
from trainables.images.pixel_map import (
    IMAGES_FILE,
    SQUARES,
    PixelMap,
    cached_pixels,
    map_pixels,
    open_pixels,
    pixels_key,
    stored_side,
    write_facts,
)
from trainables.storage.cache import cache_root
from trainables.storage.locations import check_url, is_url
from trainables.storage.root import RETRY_PAUSES, Root, root_and_key
from trainables.storage.secrets import redact
from trainables.thread_map import OnProgress, remote_threads, thread_map, usable_cpus

FORMAT = 1
GZIP_LEVEL = 1  # the fastest: hashes, most of a manifest, do not compress at any level
PLAIN = ("version", "fingerprint", "image_size", "aspect", "facts")
"""Fields of `Manifest` that the JSON document holds unchanged."""
RESUME = "resume the search, which writes it again"


@dataclass(frozen=True)
class PackedImages:
    """The file of decoded images (.npy) beside the manifest."""

    key: str  # its name in the folder of the manifest
    length: int  # bytes
    hash: str  # of its bytes, see `hash_file`


@dataclass(frozen=True)
class Manifest:
    """The content of a manifest file, and the file's location."""

    location: str  # of the manifest
    version: str  # DECODER_VERSION of the machine that prepared the data set
    fingerprint: str
    image_size: int  # pixels
    aspect: Aspect
    facts: dict[str, Any]  # see `facts_of`
    origin: Origin
    pack: PackedImages | None  # None: only the image files are there


def write_manifest(dataset: Dataset, location: str, *, pack_bytes: int = 0) -> Manifest:
    """Write and return the manifest of a data set from `prepare`, and beside it the decoded images if they have at most `pack_bytes`.

    Files that hold the same already are not written again. Raises ``DataError`` for a data set without `origin`, which was opened from
    the cache, and ``StorageError`` or ``ResourceError`` as `Root` does.
    """
    if dataset.origin is None:
        raise DataError(f"the data set {dataset.fingerprint} was opened from a cache, which does not know its files; prepare it first")
    root, key = root_and_key(location, RETRY_PAUSES)
    images = cache_root() / "pixels" / dataset.pixels_key / IMAGES_FILE
    pack = _pack(images, f"{key.partition('.')[0]}.npy") if dataset.images.nbytes <= pack_bytes else None
    facts = facts_of(dataset, dataset.origin.contents.key)
    manifest = Manifest(location, DECODER_VERSION, dataset.fingerprint, dataset.image_size, dataset.aspect, facts, dataset.origin, pack)
    data = _document(manifest)
    unchanged = root.read(key) == data
    if pack is not None and not (unchanged and root.size(pack.key) == pack.length):
        with root.writing(pack.key) as target, images.open("rb") as source:
            shutil.copyfileobj(source, target)
    if not unchanged:
        root.write(key, data)
    return manifest


def read_manifest(location: str) -> Manifest:
    """Return the manifest at a location, a path or a bucket's URL.

    Raises ``StorageError`` if there is none or it cannot be read, and ``DamagedError`` if the file is not a manifest of this version.
    """
    root, key = root_and_key(location, RETRY_PAUSES)
    data = root.read(key)
    if data is None:
        raise StorageError(f"there is no manifest at {redact(location)}; {RESUME}")
    try:
        return _parse(location, json.loads(gzip.decompress(data)))
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        why = " ".join(str(error).split())[:100]
        raise DamagedError(f"{redact(location)} is not a manifest of this version ({why}); {RESUME}") from None


def prepare_from_manifest(
    manifest: Manifest | str,
    image_size: int | None = None,
    aspect: Aspect | None = None,
    *,
    outside_paths: bool = False,
    budget_bytes: int | None = None,
    on_progress: OnProgress | None = None,
) -> Dataset:
    """Return the data set of a manifest, or of the manifest at a location; its images are decoded into this node's cache if missing.

    Size and aspect are the manifest's by default. Each file's length and hash are checked while it is decoded. Processes that ask at
    the same time decode once. Decoded images beside the manifest are used, after a check of their hash, if they have this size and
    aspect; then no image file is read. Raises ``DataError`` for a file that has changed, another version of a decoder, and without
    `outside_paths` for an image outside of the data's location; ``ResourceError`` if the images do not fit the disk or `budget_bytes`; and
    ``StorageError`` or ``DamagedError`` as `read_manifest` does.
    """
    manifest = read_manifest(manifest) if isinstance(manifest, str) else manifest
    check_decoder(manifest.version)
    if not outside_paths:
        check_inside(manifest.origin.paths, manifest.origin.location)
    size, shape, origin = image_size or manifest.image_size, aspect or manifest.aspect, manifest.origin
    key = pixels_key(origin.contents.key, origin.contents.bits, size, shape)
    try:
        pixels = open_pixels(key)
    except DataError:
        if manifest.pack is not None and (size, shape) == (manifest.image_size, manifest.aspect):
            unpack = partial(_unpack, manifest, manifest.pack)
            pixels = cached_pixels(key, len(origin.paths), stored_side(size), unpack, budget_bytes)
        else:
            pixels = _decode(origin, size, shape, budget_bytes, on_progress)
    return publish(dataset_from(manifest.fingerprint, manifest.facts, pixels, size, shape, origin), manifest.facts)


def sample_check(manifest: Manifest | str, count: int = 16) -> None:
    """Check that this node can make the data set: up to `count` image files, evenly spaced, are there and have not changed.

    If decoded images are beside the manifest, the size of their file is checked instead. Raises ``DataError`` with the file and the
    reason, also for another version of a decoder, and ``StorageError`` or ``DamagedError`` as `read_manifest` does.
    """
    manifest = read_manifest(manifest) if isinstance(manifest, str) else manifest
    check_decoder(manifest.version)
    if manifest.pack is not None:
        (root, _), wanted = root_and_key(manifest.location, RETRY_PAUSES), manifest.pack.length
        if (size := root.size(manifest.pack.key)) != wanted:
            raise DataError(f"{manifest.pack.key} in {root} holds {size or 0:,} bytes but should hold {wanted:,}; {RESUME}")
        return
    contents, paths = manifest.origin.contents, manifest.origin.paths
    readable = [index for index in range(len(paths)) if index not in contents.problems]
    chosen = sorted({readable[position] for position in np.linspace(0, len(readable) - 1, count).round().astype(int)})

    def check(index: int) -> None:
        read_unchanged(paths[index], read, int(contents.lengths[index]), contents.hashes[index])

    with _reader(manifest.origin.location) as (read, workers):
        for _ in thread_map(check, chosen, None, "checking", workers):
            pass


def _decode(origin: Origin, image_size: int, aspect: Aspect, budget_bytes: int | None, on_progress: OnProgress | None) -> PixelMap:
    with _reader(origin.location) as (read, workers):
        return map_pixels(
            origin.paths,
            origin.contents,
            image_size=image_size,
            aspect=aspect,
            read=read,
            digests=origin.digests,
            budget_bytes=budget_bytes,
            workers=workers,
            on_progress=on_progress,
        )


@contextmanager
def _reader(location: str) -> Iterator[tuple[Callable[[str], bytes], int]]:
    """Yield a function that reads the bytes of a path in a location, and the number of threads to use for it.

    A ``DataError`` of the block gets this node's name and the location in its message. Raises it too for a folder that is not there.
    """
    try:
        if is_url(location):
            yield partial(_read_object, Root(check_url(location, "data source"), RETRY_PAUSES)), remote_threads()
        else:
            folder = builtin(location.removeprefix(BUILTIN)) if location.startswith(BUILTIN) else Path(location)
            if not folder.is_dir():
                raise DataError("there is no such folder; mount it on every node under this path, or name a bucket as data.source")
            yield lambda path: (folder / path).read_bytes(), usable_cpus()
    except DataError as error:
        raise DataError(f"on {platform.node()}, in {redact(location)}: {error}") from None


def _read_object(root: Root, path: str) -> bytes:
    data = root.read(path)
    if data is None:
        raise FileNotFoundError(errno.ENOENT, "no such object")
    return data


def _pack(images: Path, key: str) -> PackedImages:
    with images.open("rb") as file:
        return PackedImages(key, images.stat().st_size, hash_file(file))


def _unpack(manifest: Manifest, pack: PackedImages, folder: Path) -> None:
    """Copy the decoded images beside the manifest into `folder`, as `cached_pixels` needs them.

    Raises ``DataError`` if they are missing or their hash is not that of the manifest.
    """
    (root, _), path = root_and_key(manifest.location, RETRY_PAUSES), folder / IMAGES_FILE
    if not root.fetch(pack.key, path):
        raise DataError(f"there is no {pack.key} in {root}; {RESUME}")
    with path.open("rb") as file:
        if (digest := hash_file(file)) != pack.hash:
            raise DataError(f"{pack.key} in {root} holds other images (hash {digest[:12]}) than were written ({pack.hash[:12]}); {RESUME}")
    write_facts(folder, manifest.origin.digests, manifest.origin.contents.problems)


def _document(manifest: Manifest) -> bytes:
    """Return the bytes of the manifest file, JSON compressed by gzip; equal manifests give equal bytes."""
    contents = manifest.origin.contents
    document = {
        "format": FORMAT,
        **{name: getattr(manifest, name) for name in PLAIN},
        "location": manifest.origin.location,
        "paths": manifest.origin.paths,
        "lengths": contents.lengths.tolist(),
        "hashes": contents.hashes,
        "digests": manifest.origin.digests,
        "problems": {str(index): reason for index, reason in contents.problems.items()},
        "pack": manifest.pack and asdict(manifest.pack),
    }
    return gzip.compress(json.dumps(document).encode(), GZIP_LEVEL, mtime=0)


def _parse(location: str, document: dict[str, Any]) -> Manifest:
    """Return the manifest that a JSON document holds; `location` is that of the file.

    A document that is no manifest raises ``ValueError``, ``KeyError``, ``TypeError`` or ``AttributeError``.
    """
    if document["format"] != FORMAT:
        raise ValueError(f"format {document['format']}, not {FORMAT}")
    facts, pack = document["facts"], document["pack"]
    paths, digests = tuple(document["paths"]), tuple(document["digests"])
    problems = {int(index): reason for index, reason in document["problems"].items()}
    contents = FileContents(tuple(document["hashes"]), np.array(document["lengths"], np.int64), facts["bits"], problems)
    if len({len(column) for column in (paths, digests, contents.hashes, contents.lengths, facts["names"], facts["targets"])}) > 1:
        raise ValueError("lists of different lengths")
    if contents.key != facts["survey_key"]:
        raise ValueError("other hashes than were written")
    _check_values(document, len(paths), problems)
    return Manifest(
        location,
        **{name: document[name] for name in PLAIN},
        origin=Origin(document["location"], paths, contents, digests),
        pack=pack and PackedImages(**pack),
    )


def _check_values(document: dict[str, Any], count: int, problems: dict[int, str]) -> None:
    """Raise ``ValueError`` for fields of wrong types, and for indices outside of the `count` images. `problems`: index → reason.

    The fingerprint must be hexadecimal digits: it is also the name of a folder in the cache, and must not lead out of the cache.
    """
    facts, pack = document["facts"], document["pack"]
    size = document["image_size"]
    rows, groups = [row for part in facts["rows"].values() for row in part], facts.get("groups", range(count))
    valid = {
        "fingerprint": re.fullmatch("[0-9a-f]+", document["fingerprint"]),
        "version": isinstance(document["version"], str),
        "image_size": isinstance(size, int) and size > 0,
        "aspect": document["aspect"] in SQUARES,
        "location": isinstance(document["location"], str),
        "paths": all(isinstance(path, str) for path in document["paths"]),
        "problems": all(0 <= index < count for index in problems) and len(problems) < count,
        "task": facts["task"] in DTYPES,
        "classes": isinstance(facts["classes"], list),
        "rows": all(isinstance(row, int) and 0 <= row < count for row in rows),
        "groups": len(groups) == count and all(isinstance(group, int) for group in groups),
        "pack": pack is None or (isinstance(pack["key"], str) and isinstance(pack["length"], int)),
    }
    if wrong := [name for name, is_valid in valid.items() if not is_valid]:
        raise ValueError(f"invalid {', '.join(wrong)}")
