"""`Features`, the activations of a trial's images behind its frozen stages, which all trials of a node share."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from importlib.metadata import version

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.config import TrialConfig
from trainables.distributed.world import ALONE, World
from trainables.images.batches import Batch, Batches, Rows, Weights, schedule
from trainables.networks.backbones import backbone
from trainables.networks.model import Network
from trainables.storage.array_cache import ArrayCache
from trainables.storage.cache import cache_root
from trainables.training.features.prefix import Prefix
from trainables.training.features.views import VIEW_SEED, View, training_view
from trainables.training.precision import Precision

FORMAT = "2"
"""Part of every key. A change of what is stored changes it."""
CHUNK = 256  # images of one stored array
LARGEST_VIEW = 1 << 30  # bytes of the activations of all training images


@dataclass
class Table:
    """The activations of the images `rows` (sorted) in one view at one boundary, in chunks of 256 images."""

    key: str
    view: View
    boundary: int
    rows: Rows
    shape: tuple[int, ...]  # of one image's activations, as stored
    chunks: dict[int, NDArray[np.float16]] = field(default_factory=dict)  # those that are open

    def chunk_rows(self, chunk: int) -> Rows:
        """Return the rows of a chunk."""
        return self.rows[chunk * CHUNK : (chunk + 1) * CHUNK]

    def chunk_key(self, chunk: int) -> str:
        """Return the key of a chunk in the `ArrayCache`."""
        return f"{self.key}-{chunk}"


class Features:
    """Returns the activations of images at a network's boundary, and computes those that no trial of this node has computed before.

    Training uses one of `trial.views` augmented views of each image in each pass; the views are the same in all trials. Where `cache` has
    no room, this process keeps the activations of a pass in its memory. The activations do not depend on who computes them, or when.
    `parts` are the sets of rows that are computed together; each row that is asked for must be in one of them. `batch_size`: images that
    run through the network at a time.
    """

    def __init__(
        self,
        network: Network,
        batches: Batches,
        precision: Precision,
        trial: TrialConfig,
        cache: ArrayCache,
        *,
        parts: Sequence[Rows],
        pixels: str,
        batch_size: int,
    ) -> None:
        self._network, self._batches, self._trial, self._cache = network, batches, trial, cache
        self._prefix = Prefix(network.body, precision, batches.device)
        self._made_by = (FORMAT, pixels, trial.backbone, version(backbone(trial.backbone).library))  # the name tells mean and std, too
        self._parts = [np.sort(part) for part in parts]
        self._tables: dict[tuple[View, int, int], Table] = {}
        self.batch_size = batch_size

    def training(
        self, rows: Rows, *, epoch: int, passes: int, count: int, world: World = ALONE, weights: Weights | None = None
    ) -> Iterator[Batch]:
        """Yield (activations, targets) of the batches of one epoch, in the order of `Batches.training`.

        `count` is the number of all images; an image that a pass draws again is in another view.
        """
        trial, numbers = self._trial, range((epoch - 1) * passes, epoch * passes)
        self._tables = {key: table for key, table in self._tables.items() if not key[0].augmented}
        for own, samples, number in schedule(rows, trial.batch_size, numbers, trial.seed, count=count, world=world, weights=weights):
            views = (number + samples // count) % trial.views
            activations: Tensor | None = None
            for wanted in np.unique(views):
                view = training_view(trial.image_size, trial.augmentation_strength, trial.augmentation_ops, int(wanted))
                chosen = np.flatnonzero(views == wanted)
                found = self._take(view, self._network.boundary, own[chosen])
                activations = found.new_empty(len(own), *found.shape[1:]) if activations is None else activations
                activations[torch.from_numpy(chosen).to(found.device)] = found
            assert activations is not None
            yield _in_channels_last(activations), self._batches.targets(own)

    def evaluation(self, rows: Rows, batch_size: int, *, size: int, mirrored: bool = False) -> Iterator[Batch]:
        """Yield (activations, targets) of the images `rows` in this order, without augmentation. The last batch may be smaller."""
        for start in range(0, len(rows), batch_size):
            own = rows[start : start + batch_size]
            yield _in_channels_last(self._take(View(size, mirrored), self._network.boundary, own)), self._batches.targets(own)

    def pooled(self, rows: Rows) -> Batch:
        """Return the pooled features `(N, width) float32` of images without augmentation, and their targets, on the device.

        They are those of the body as it is at the first call.
        """
        return self._take(View(self._trial.image_size), len(self._network.body.stages), rows), self._batches.targets(rows)

    def clear(self) -> None:
        """Close all arrays, and forget those that are not stored."""
        self._tables.clear()

    def _take(self, view: View, boundary: int, rows: Rows) -> Tensor:
        """Return the activations `(N, …) float32` of images on the device."""
        part = next(index for index, part in enumerate(self._parts) if _holds(part, rows))
        table = self._table(view, boundary, part)
        places = np.searchsorted(table.rows, rows)
        numbers = places // CHUNK
        self._open(table, [int(number) for number in np.unique(numbers)])
        values = np.empty((len(rows), *table.shape), np.float16)
        for number in np.unique(numbers):
            here = numbers == number
            values[here] = table.chunks[int(number)][places[here] % CHUNK]
        return _from_stored(torch.from_numpy(values)).to(self._batches.device).float()

    def _table(self, view: View, boundary: int, part: int) -> Table:
        if (view, boundary, part) not in self._tables:
            rows = self._parts[part]
            shape = _to_stored(torch.empty(1, *self._prefix.shape(boundary, view.size))).shape[1:]
            augmented_by = self._batches.augmentation_version(view.ops)
            facts = (*self._made_by, self._prefix.key(boundary), boundary, *asdict(view).values(), augmented_by)
            digest = blake2b(repr(facts).encode() + rows.tobytes(), digest_size=16).hexdigest()
            self._tables[view, boundary, part] = Table(digest, view, boundary, rows, tuple(shape))
        return self._tables[view, boundary, part]

    def _open(self, table: Table, numbers: Iterable[int]) -> None:
        """Make sure that these chunks are open: open stored ones, compute missing ones. Another process may compute some of them."""
        missing = [number for number in numbers if number not in table.chunks and not self._read(table, number)]
        for wait in (False, True):
            for number in missing:
                if number in table.chunks:
                    continue
                with self._cache.claim(table.chunk_key(number), wait=wait) as claimed:
                    if claimed and not self._read(table, number):
                        self._make(table, number)

    def _read(self, table: Table, number: int) -> bool:
        """Open a stored chunk, and return whether there is one."""
        stored = self._cache.read(table.chunk_key(number), (len(table.chunk_rows(number)), *table.shape), np.float16)
        if stored is None:
            return False
        table.chunks[number] = stored
        return True

    def _make(self, table: Table, number: int) -> None:
        """Compute a chunk and store it, from the activations at the latest earlier boundary that are stored, or else from the images.

        What is computed from the images is also stored at the `hub`, from which trials with other boundaries go on.
        """
        part = next(index for index, part in enumerate(self._parts) if part is table.rows)
        earlier = [self._table(table.view, boundary, part) for boundary in self._prefix.earlier(table.boundary)]
        start = next((one for one in earlier if number in one.chunks or self._read(one, number)), None)
        hub = self._prefix.hub(table.view.size)
        if start is None and (start := next((one for one in earlier if one.boundary == hub), None)):
            self._run(start, number, 0, self._images(table.view, table.chunk_rows(number)))
        if start is None:
            self._run(table, number, 0, self._images(table.view, table.chunk_rows(number)))
        else:
            self._run(table, number, start.boundary, self._activations(start, number))

    def _run(self, table: Table, number: int, first: int, batches: Iterable[Tensor]) -> None:
        """Compute a chunk from the batches at the boundary `first`, store it, and open it."""
        chunk = np.concatenate([_to_stored(self._prefix.run(values, first, table.boundary)).cpu().numpy() for values in batches])
        if not self._cache.write(table.chunk_key(number), chunk) or not self._read(table, number):
            table.chunks[number] = chunk

    def _activations(self, table: Table, number: int) -> Iterator[Tensor]:
        """Yield the batches of an open chunk."""
        for values in torch.from_numpy(np.array(table.chunks[number])).split(self.batch_size):
            yield _in_channels_last(_from_stored(values).to(self._batches.device))

    def _images(self, view: View, rows: Rows) -> Iterator[Tensor]:
        """Yield the batches of images in a view."""
        if view.augmented:
            batches = self._batches.augmented(
                rows, self.batch_size, strength=view.strength, ops=view.ops, seed=VIEW_SEED, number=view.number
            )
        else:
            batches = self._batches.evaluation(rows, self.batch_size, size=view.size, mirrored=view.mirrored)
        yield from (images for images, _ in batches)


def node_cache(limit: float | None = None) -> ArrayCache:
    """Return the cache of activations that all trials of this node share, of at most `limit` bytes; see `ArrayCache`."""
    return ArrayCache(cache_root() / "features", limit)


def uses_features(network: Network, trial: TrialConfig, images: int, device: torch.device) -> bool:
    """Return whether a trial trains on stored activations: it depends on its configuration and the number of training images alone.

    It needs `views`, frozen stages, activations of all training images of at most 1 GiB, and no mixing, which needs the images.
    """
    if not trial.views or not network.boundary or trial.mixup or trial.cutmix:
        return False
    with torch.inference_mode():
        side = trial.image_size
        one = network.eval().to_boundary(torch.zeros(1, 3, side, side, device=device))
    return images * one.numel() * 2 <= LARGEST_VIEW


def _holds(part: Rows, rows: Rows) -> bool:
    """Return whether the sorted rows `part` hold all `rows`."""
    return len(part) > 0 and np.array_equal(part[np.searchsorted(part, rows).clip(max=len(part) - 1)], rows)


def _to_stored(activations: Tensor) -> Tensor:
    """Return maps `(N, C, H, W)` as `(N, H, W, C)`, the order of channels-last memory; others unchanged."""
    return activations.permute(0, 2, 3, 1).contiguous() if activations.ndim == 4 else activations


def _from_stored(stored: Tensor) -> Tensor:
    return stored.permute(0, 3, 1, 2) if stored.ndim == 4 else stored


def _in_channels_last(activations: Tensor) -> Tensor:
    return activations.contiguous(memory_format=torch.channels_last) if activations.ndim == 4 else activations
