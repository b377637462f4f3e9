"""A prepared data set on paper: what a node needs to make the very same one in its own cache, without listing or splitting anything."""

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
from trainables.data.dataset import DTYPES, Dataset, Origin, settle
from trainables.data.folders import builtin
from trainables.data.sources import BUILTIN
from trainables.errors import DamagedError, DataError, StorageError
from trainables.images.pixel_map import (
    IMAGES,
    SQUARES,
    VERSION,
    Contents,
    PixelMap,
    hash_file,
    keep_pixels,
    map_pixels,
    open_pixels,
    pixels_key,
    read_same,
    stored_side,
    write_facts,
)
from trainables.storage.cache import cache_root
from trainables.storage.locations import PERSISTENT, Root, check_url, is_url, shown, split
from trainables.thread_map import REMOTE, Progress, in_parallel, processors

FORMAT = 1
FASTEST = 1  # of gzip: the hashes, most of a manifest, do not shrink whatever is tried
DECODER = ("the decoder", "Pillow", "OpenCV")  # whose versions make up VERSION
PLAIN = ("version", "fingerprint", "image_size", "aspect", "facts")
RESUME = "resume the search, which writes it again"


@dataclass(frozen=True)
class Pack:
    """The decoded images themselves, in a file beside the manifest."""

    key: str
    length: int  # bytes
    hash: str


@dataclass(frozen=True)
class Manifest:
    """What was read from a place, or written there."""

    place: str  # where it is
    version: str  # of the pixels
    fingerprint: str
    image_size: int  # pixels
    aspect: Aspect
    facts: dict[str, Any]  # as `open_dataset` finds them
    origin: Origin
    pack: Pack | None


def write_manifest(dataset: Dataset, place: str, *, pack_bytes: int = 0) -> Manifest:
    """Write the manifest of a data set that was prepared here, and beside it the decoded images if they are at most `pack_bytes`.

    What is there already and the same stays. Raises ``DataError`` for a data set that was only opened, and as `Root` does.
    """
    if dataset.origin is None:
        raise DataError(f"the data set {dataset.fingerprint} was opened from a cache, which does not know its files; prepare it first")
    (around, key), contents = split(place), dataset.origin.contents
    images, root = cache_root() / "pixels" / dataset.pixels_key / IMAGES, Root(around, PERSISTENT)
    pack = _pack(images, f"{key.partition('.')[0]}.npy") if dataset.images.nbytes <= pack_bytes else None
    facts = {
        "task": dataset.task,
        "classes": dataset.classes,
        "names": dataset.names,
        "targets": dataset.targets.tolist(),
        "rows": {part: rows.tolist() for part, rows in dataset.rows.items()},
        "survey_key": contents.key,
        "bits": dataset.bits,
        "median_side": dataset.median_side,
        "notes": dataset.notes,
    }
    manifest = Manifest(place, VERSION, dataset.fingerprint, dataset.image_size, dataset.aspect, facts, dataset.origin, pack)
    data = _document(manifest)
    same = root.read(key) == data
    if pack is not None and not (same and root.size(pack.key) == pack.length):
        with root.writing(pack.key) as target, images.open("rb") as source:
            shutil.copyfileobj(source, target)
    if not same:
        root.write(key, data)
    return manifest


def read_manifest(place: str) -> Manifest:
    """Return the manifest at a place. Raises ``StorageError`` if there is none, ``DamagedError`` if it is not one, and as `Root` does."""
    around, key = split(place)
    data = Root(around, PERSISTENT).read(key)
    if data is None:
        raise StorageError(f"there is no manifest at {shown(place)}; {RESUME}")
    try:
        return _parsed(place, json.loads(gzip.decompress(data)))
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        why = " ".join(str(error).split())[:100]
        raise DamagedError(f"{shown(place)} is not a manifest of this version ({why}); {RESUME}") from None


def prepare_from(
    manifest: Manifest | str,
    image_size: int | None = None,
    aspect: Aspect | None = None,
    *,
    budget_bytes: int | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Return the data set of a manifest, or of one at a place, made in this node's cache unless it is there; size and aspect: its own.

    Every file's size and hash are checked while it is decoded, once a node, whoever asks at once. Decoded images that came along are
    taken, their hash checked, and no file is looked at. Raises ``DataError`` for a file that is not what it was and for other versions
    of what decodes, ``ResourceError`` if it does not fit the disk, ``StorageError`` where a bucket or the manifest cannot be read.
    """
    manifest = read_manifest(manifest) if isinstance(manifest, str) else manifest
    _refuse_other_versions(manifest)
    size, shape, origin = image_size or manifest.image_size, aspect or manifest.aspect, manifest.origin
    key = pixels_key(origin.contents.key, origin.contents.bits, size, shape)
    try:
        pixels = open_pixels(key)
    except DataError:
        if manifest.pack is not None and (size, shape) == (manifest.image_size, manifest.aspect):
            fill = partial(_unpack, manifest, manifest.pack)
            pixels = keep_pixels(key, len(origin.paths), stored_side(size), fill, budget_bytes)
        else:
            pixels = _decoded(origin, size, shape, budget_bytes, progress)
    return settle(manifest.fingerprint, manifest.facts, pixels, size, shape, origin)


def sample_check(manifest: Manifest | str, count: int = 16) -> None:
    """Look whether this node could make the data set: `count` images from the first to the last are there and hold what they did.

    Where the decoded images came along, these are looked at instead. Raises ``DataError`` with the file and the reason, and as
    `prepare_from` does.
    """
    manifest = read_manifest(manifest) if isinstance(manifest, str) else manifest
    _refuse_other_versions(manifest)
    if manifest.pack is not None:
        root, wanted = _around(manifest), manifest.pack.length
        if (found := root.size(manifest.pack.key)) != wanted:
            raise DataError(f"{manifest.pack.key} in {root} holds {found or 0:,} bytes but should hold {wanted:,}; {RESUME}")
        return
    contents, paths = manifest.origin.contents, manifest.origin.paths
    readable = [index for index in range(len(paths)) if index not in contents.problems]
    chosen = sorted({readable[place] for place in np.linspace(0, len(readable) - 1, count).round().astype(int)})

    def check(index: int) -> None:
        read_same(paths[index], read, int(contents.lengths[index]), contents.hashes[index])

    with _reading(manifest.origin.location) as (read, workers):
        for _ in in_parallel(check, chosen, None, "checking", workers):
            pass


def _decoded(origin: Origin, image_size: int, aspect: Aspect, budget_bytes: int | None, progress: Progress | None) -> PixelMap:
    with _reading(origin.location) as (read, workers):
        return map_pixels(
            origin.paths,
            origin.contents,
            image_size=image_size,
            aspect=aspect,
            read=read,
            digests=origin.digests,
            budget_bytes=budget_bytes,
            workers=workers,
            progress=progress,
        )


@contextmanager
def _reading(location: str) -> Iterator[tuple[Callable[[str], bytes], int]]:
    """Give what reads a path in a location, and how many threads are good at it; an error in the data says where it was."""
    try:
        if is_url(location):
            yield partial(_from_bucket, Root(check_url(location, "data source"), PERSISTENT)), max(REMOTE, processors())
        else:
            folder = builtin(location.removeprefix(BUILTIN)) if location.startswith(BUILTIN) else Path(location)
            if not folder.is_dir():
                raise DataError("there is no such folder; mount it on every node under this path, or name a bucket as data.source")
            yield lambda path: (folder / path).read_bytes(), processors()
    except DataError as error:
        raise DataError(f"on {platform.node()}, in {shown(location)}: {error}") from None


def _from_bucket(root: Root, path: str) -> bytes:
    data = root.read(path)
    if data is None:
        raise FileNotFoundError(errno.ENOENT, "no such object")
    return data


def _around(manifest: Manifest) -> Root:
    return Root(split(manifest.place)[0], PERSISTENT)


def _pack(images: Path, key: str) -> Pack:
    with images.open("rb") as file:
        return Pack(key, images.stat().st_size, hash_file(file))


def _unpack(manifest: Manifest, pack: Pack, folder: Path) -> None:
    root, path = _around(manifest), folder / IMAGES
    if not root.fetch(pack.key, path):
        raise DataError(f"there is no {pack.key} in {root}; {RESUME}")
    with path.open("rb") as file:
        if (found := hash_file(file)) != pack.hash:
            raise DataError(f"{pack.key} in {root} holds other images (hash {found[:12]}) than were written ({pack.hash[:12]}); {RESUME}")
    write_facts(folder, manifest.origin.digests, manifest.origin.contents.problems)


def _refuse_other_versions(manifest: Manifest) -> None:
    pairs = zip(DECODER, manifest.version.split(), VERSION.split(), strict=False)
    if differing := [f"{name} {here} here but {there} there" for name, there, here in pairs if here != there]:
        raise DataError(
            f"{platform.node()} would make other pixels than the machine where the search began: {', '.join(differing)}; "
            "install the same versions on every node"
        )


def _document(manifest: Manifest) -> bytes:
    """Return a manifest as compressed JSON: of equal manifests equal bytes."""
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
    return gzip.compress(json.dumps(document).encode(), FASTEST, mtime=0)


def _parsed(place: str, document: dict[str, Any]) -> Manifest:
    if document["format"] != FORMAT:
        raise ValueError(f"format {document['format']}, not {FORMAT}")
    facts, pack = document["facts"], document["pack"]
    paths, digests = tuple(document["paths"]), tuple(document["digests"])
    problems = {int(index): reason for index, reason in document["problems"].items()}
    contents = Contents(tuple(document["hashes"]), np.array(document["lengths"], np.int64), facts["bits"], problems)
    if len({len(column) for column in (paths, digests, contents.hashes, contents.lengths, facts["names"], facts["targets"])}) > 1:
        raise ValueError("lists of different lengths")
    if contents.key != facts["survey_key"]:
        raise ValueError("other hashes than were written")
    _refuse_odd(document, len(paths), problems)
    return Manifest(
        place,
        **{name: document[name] for name in PLAIN},
        origin=Origin(document["location"], paths, contents, digests),
        pack=pack and Pack(**pack),
    )


def _refuse_odd(document: dict[str, Any], count: int, problems: dict[int, str]) -> None:
    """Raise ``ValueError`` for values that no data set has; a fingerprint names a folder of this node's cache, and must stay in it."""
    facts, pack = document["facts"], document["pack"]
    size = document["image_size"]
    rows = [row for part in facts["rows"].values() for row in part]
    right = {
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
        "pack": pack is None or (isinstance(pack["key"], str) and isinstance(pack["length"], int)),
    }
    if wrong := [name for name, well in right.items() if not well]:
        raise ValueError(f"what it says of {', '.join(wrong)} cannot be")
