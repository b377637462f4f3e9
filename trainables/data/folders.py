"""Image folders (one folder a class, perhaps in folders train, validation, test) read into `Samples`; and the built-in sample."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from trainables.config import TaskName
from trainables.data.classes import number, order_classes, read_classes
from trainables.data.samples import IMAGE_SUFFIXES, SPLIT_NAMES, Samples, listed
from trainables.data.source_options import SourceOptions
from trainables.errors import DataError, did_you_mean
from trainables.storage.cache import cache_root, locked, publishing

LITTER = {"thumbs.db", "desktop.ini", "__macosx", "icon\r", "ehthumbs.db"}


def builtin(name: str) -> Path:
    """Return the folder of a built-in sample; the first call writes it to the cache. Raises ``DataError`` for another name than digits."""
    if name != "digits":
        raise DataError(f"no built-in sample {name!r}" + did_you_mean(name, ("digits",)))
    folder = cache_root() / "builtin" / name
    if not folder.is_dir():
        with locked(folder):
            if not folder.is_dir():
                with publishing(folder) as partial:
                    _write_digits(partial)
    return folder


def _write_digits(folder: Path) -> None:
    """Write scikit-learn's 1,797 grey images of 8 × 8 pixels as PNG files, one folder a class; the values 0 to 16 become 0 to 255."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    for label in range(10):
        (folder / str(label)).mkdir()
    for index, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        pixels = (image * (255 / 16)).round().astype(np.uint8)
        Image.fromarray(pixels).save(folder / str(label) / f"{index:04d}.png")


def read_folder(root: Path, options: SourceOptions) -> Samples:
    """Return the images below `root`, each labelled by the name of its class folder.

    Without `options.task` the number of classes decides between binary and multiclass. Links to files and folders are followed, also to
    those outside of `root`. Raises ``DataError`` for multilabel, for regression with folders not named by numbers, for an unclear layout,
    and as `read_classes` does.
    """
    if options.task == "multilabel":
        raise DataError(f"{root} is an image folder, which gives each image one class; multilabel needs a CSV")
    notes: list[str] = []
    rows = sorted(_rows(root, notes))  # (name, class, split)
    labels = [label for _, label, _ in rows]
    classes = order_classes(labels, options.classes)
    if options.task == "regression":
        values = {name: number(name) for name in classes}
        if bad := [name for name in classes if values[name] is None]:
            raise DataError(f"regression needs folders named by numbers but got {listed(bad)}; give a CSV with a numeric column")
        chosen: TaskName = "regression"
        notes.insert(0, "task: regression, as given, the target is the folder's name")
        targets: npt.NDArray[Any] = np.array([values[name] for name in labels], np.float64)
        classes = ("value",)
    else:
        if len(classes) < 2:
            inner = sorted({name.split("/")[1] for name, _, _ in rows if name.count("/") > 1})
            hint = (
                f"; it holds folders itself ({listed(inner)}): give {root / classes[0]} if these are the classes" if len(inner) > 1 else ""
            )
            raise DataError(f"{root} holds one class only ({listed(classes)}); at least two are needed{hint}")
        chosen, classes, note = read_classes(labels, options, "folders")
        notes.insert(0, note)
        index = {name: position for position, name in enumerate(classes)}
        targets = np.array([index[name] for name in labels], np.int64)
    names = tuple(name for name, _, _ in rows)
    splits = np.array([part for _, _, part in rows], dtype="<U10")
    paths = tuple(root / name for name in names)
    return Samples(root, names, paths, chosen, classes, targets, splits if splits.any() else None, None, tuple(notes))


def _rows(root: Path, notes: list[str]) -> Iterator[tuple[str, str, str]]:
    """Yield (name, class, split or '') of each image; append to `notes` which files and folders are left out.

    Raises ``DataError`` if there are no class folders with files, or if it is unclear which folders are splits and which are classes.
    """
    folders = {child.name: child for child in folders_in(root)}
    loose = [file.name for file in root.iterdir() if file.is_file() and not is_litter(file.name)]
    if not folders or not any(any(files_in(folder)) for folder in folders.values()):
        if any(Path(name).suffix.lower() in IMAGE_SUFFIXES for name in loose):
            raise DataError(f"{root} holds images but no folders; put each class in a folder of its own, or give a CSV with their labels")
        raise DataError(f"{root} holds no images; expected folders of images, one a class, or one CSV file")
    if loose:
        notes.append(f"left out, because they are beside the class folders: {listed(sorted(loose))}")
    parts = [name for name in folders if name.lower() in SPLIT_NAMES]
    if not parts:
        yield from _classes(root, root, "", notes)
        return
    others = [name for name, folder in folders.items() if name not in parts and any(files_in(folder))]
    if others:
        raise DataError(
            f"{root} mixes folders named like splits ({listed(sorted(parts))}) with others ({listed(sorted(others))}); "
            "if the former are classes, rename them; if they are splits, move the others away; or give a CSV with a split column"
        )
    with_classes = [name for name in sorted(parts) if any(any(files_in(child)) for child in folders_in(folders[name]))]
    if not with_classes:
        raise DataError(
            f"{listed(sorted(parts))} in {root} hold images but no class folders; if these are classes, rename them; "
            "if they are splits, put each class in a folder inside them; or give a CSV with a split column"
        )
    for name in sorted(set(parts) - set(with_classes)):
        notes.append(f"left out: {name}/ holds {sum(1 for _ in files_in(folders[name])):,} files but no class folders")
    for name in with_classes:
        yield from _classes(root, folders[name], SPLIT_NAMES[name.lower()], notes)


def _classes(root: Path, folder: Path, part: str, notes: list[str]) -> Iterator[tuple[str, str, str]]:
    """Yield (name, class, `part`) of each image in the class folders of `folder`; append to `notes` what is left out.

    `part` is the split, or ''. Raises ``DataError`` for a class inside a split that is itself named like a split.
    """
    empty = []
    for child in folders_in(folder):
        if part and child.name.lower() in SPLIT_NAMES:
            raise DataError(f"{child} is a class named like a split; rename it, or give a CSV with a split column")
        names = [file.relative_to(root).as_posix() for file in files_in(child)]
        if not names:
            empty.append(child.relative_to(root).as_posix())
        for name in names:
            yield name, child.name, part
    if empty:
        notes.append(f"left out, because they are empty: {listed(empty)}")
    loose = [file for file in folder.iterdir() if file.is_file() and not is_litter(file.name)]
    if part and loose:
        notes.append(f"left out: {len(loose):,} files that are in {folder.name}/ but in no class folder")


def folders_in(folder: Path) -> list[Path]:
    """Return the folders directly inside a folder, sorted by name, without those that `is_litter` names."""
    return sorted(child for child in folder.iterdir() if child.is_dir() and not is_litter(child.name))


def files_in(folder: Path) -> Iterator[Path]:
    """Yield the files at any depth, without those that `is_litter` names. Links to folders are followed, each real folder once."""
    seen: set[str] = set()
    for path, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(path)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not is_litter(name))
        for name in names:
            file = Path(path, name)
            if not is_litter(name) and (file.is_file() or file.is_symlink()):  # no pipes; a broken link is reported as unreadable later
                yield file


def is_litter(name: str) -> bool:
    """Return whether a name is that of a hidden file or folder, or of one that an operating system creates (Thumbs.db)."""
    return name.startswith(".") or name.lower() in LITTER
