"""Sorted listings of folders, and names of splits, for all readers. No image is opened."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from alexnet_keras.data.listing_cache import Columns, cached, pack_strings, unpack_strings
from alexnet_keras.errors import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif")
FOLDER = "folder"
NO_SUFFIX = "no suffix"
SPLITS = ("train", "val")


def list_folder(folder: Path) -> list[os.DirEntry]:
    """The entries of a folder sorted by name, without hidden ones. Raises ``DataError`` if it
    cannot be listed.
    """
    try:
        with os.scandir(folder) as entries:
            visible = sorted(
                (entry for entry in entries if entry.name[0] != "."), key=lambda entry: entry.name
            )
        "".join(entry.name for entry in visible).encode()
    except FileNotFoundError:
        raise DataError(f"{folder}: expected a folder, got nothing") from None
    except NotADirectoryError:
        raise DataError(f"{folder}: expected a folder, got a file") from None
    except UnicodeEncodeError:
        raise DataError(f"{folder}: expected file names in UTF-8, got one that is not") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{folder}: expected a folder that can be listed, got: {error}") from None
    return visible


def subfolders(folder: Path) -> list[str]:
    """Names of the folders in a folder, sorted; a link to a folder counts."""
    return [entry.name for entry in list_folder(folder) if resolves(entry.is_dir)]


def image_names(entries: Iterable[os.DirEntry]) -> list[str]:
    """The names of the files among ``entries`` that have the suffix of an image."""
    return [
        entry.name
        for entry in entries
        if entry.name.lower().endswith(IMAGE_SUFFIXES) and resolves(entry.is_file)
    ]


def resolves(is_kind: Callable[[], bool]) -> bool:
    """Call ``entry.is_file`` or ``entry.is_dir``; False for a link that leads to itself."""
    try:
        return is_kind()
    except OSError:
        return False


class ClassImages(NamedTuple):
    """The images of class folders: ``ids`` ``<class>/<file>`` and absolute ``paths``, both (N,)
    object; ``labels`` (N,) int32; ``warnings`` about other files and folders, which are ignored.
    """

    ids: np.ndarray
    paths: np.ndarray
    labels: np.ndarray
    warnings: tuple[str, ...]


def read_class_folders(folder: Path, labels: dict[str, int]) -> ClassImages:
    """The images of all class folders; ``labels`` by class name."""
    classes = subfolders(folder)
    listing = cached(
        [folder, *(folder / name for name in classes)], lambda: _list_images(folder, classes)
    )
    ids = unpack_strings(listing["ids"])
    prefix = os.path.abspath(folder)
    ignored = zip(
        unpack_strings(listing["ignored"]), listing["ignored_counts"].tolist(), strict=True
    )
    return ClassImages(
        np.array(ids, object),
        np.array([f"{prefix}/{name}" for name in ids], object),
        np.repeat(np.array([labels[name] for name in classes], np.int32), listing["counts"]),
        tuple(_warnings(folder, dict(ignored))),
    )


def _list_images(folder: Path, classes: list[str]) -> Columns:
    ids = []
    counts = []
    ignored = Counter()
    for name in classes:
        entries = list_folder(folder / name)
        files = image_names(entries)
        images = set(files)
        others = Counter(_kind(entry) for entry in entries if entry.name not in images)
        if not files:
            raise DataError(
                f"{folder / name}: expected images ({' '.join(IMAGE_SUFFIXES)}), got "
                f"{_counts_as_text(others) or 'none'}"
            )
        ids += [f"{name}/{file}" for file in files]
        counts.append(len(files))
        ignored += others
    return {
        "ids": pack_strings(ids),
        "counts": np.array(counts, np.int64),
        "ignored": pack_strings(ignored),
        "ignored_counts": np.array(list(ignored.values()), np.int64),
    }


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower() or NO_SUFFIX


def _kind(entry: os.DirEntry) -> str:
    return FOLDER if resolves(entry.is_dir) else _suffix(entry.name)


def _warnings(folder: Path, ignored: dict[str, int]) -> Iterator[str]:
    yield from ignored_files_warning(folder, ignored)
    if FOLDER in ignored:
        yield f"{folder}: {ignored[FOLDER]} folders within the class folders were not read"


def ignored_files_warning(folder: Path | str, ignored: dict[str, int]) -> Iterator[str]:
    """A line about the files that are no images, by suffix, if there are any."""
    files = {kind: count for kind, count in ignored.items() if kind != FOLDER}
    if files:
        yield (
            f"{folder}: {sum(files.values())} files were not read as images: "
            f"{_counts_as_text(files)}"
        )


def _counts_as_text(kinds: dict[str, int]) -> str:
    """Kinds of files with their counts, the most frequent first."""
    ordered = sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{kind} {count}" for kind, count in ordered)


def sort_splits(names: Iterable[str]) -> tuple[str, ...]:
    """The splits in a fixed order: those that start with train, those that start with val, then
    the others.
    """
    return tuple(
        sorted(
            names,
            key=lambda name: (not name.startswith("train"), not name.startswith("val"), name),
        )
    )


def find_split(split: str, names: Iterable[str], root: Path) -> str:
    """The data set's own name of a split: the same, or for ``train`` and ``val`` the only name
    that starts with it. Raises ``DataError`` if there is none or more than one.
    """
    names = tuple(names)
    found = (
        [split]
        if split in names
        else [name for name in names if split in SPLITS and name.startswith(split)]
    )
    if not found:
        raise DataError(f"{root}: split {split!r}: expected one of {', '.join(names)}")
    if len(found) > 1:
        raise DataError(
            f"{root}: split {split!r}: expected one name, got {', '.join(found)}; ask for one of "
            "these"
        )
    return found[0]
