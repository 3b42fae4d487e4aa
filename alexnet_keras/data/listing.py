"""What the readers share: sorted listings, names of splits, the held-out fraction. Nothing here
opens an image.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from alexnet_keras.data.listing_cache import Columns, indexed, pack_strings, unpack_strings
from alexnet_keras.errors import DataError

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif")
HELD_OUT_FRACTION = 0.2
SPLITS = ("train", "val")


def list_folder(folder: Path) -> list[os.DirEntry]:
    """The entries of a folder sorted by name, hidden ones left out. Raises ``DataError`` if it
    cannot be listed.
    """
    try:
        with os.scandir(folder) as entries:
            shown = sorted(
                (entry for entry in entries if entry.name[0] != "."), key=lambda entry: entry.name
            )
        "".join(entry.name for entry in shown).encode()
    except FileNotFoundError:
        raise DataError(f"{folder}: expected a folder, got nothing") from None
    except NotADirectoryError:
        raise DataError(f"{folder}: expected a folder, got a file") from None
    except UnicodeEncodeError:
        raise DataError(f"{folder}: expected file names in UTF-8, got one that is not") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{folder}: expected a folder that can be listed, got: {error}") from None
    return shown


def subfolders(folder: Path) -> list[str]:
    """Names of the folders in a folder, sorted; a link to a folder counts."""
    return [entry.name for entry in list_folder(folder) if resolves(entry.is_dir)]


def image_names(entries: Iterable[os.DirEntry]) -> list[str]:
    """The names among ``entries`` that belong to files with the suffix of an image."""
    return [
        entry.name
        for entry in entries
        if entry.name.lower().endswith(IMAGE_SUFFIXES) and resolves(entry.is_file)
    ]


def resolves(question: Callable[[], bool]) -> bool:
    """``entry.is_file`` or ``entry.is_dir`` answered; a link that leads to itself is neither."""
    try:
        return question()
    except OSError:
        return False


def read_class_folders(
    folder: Path, labels: dict[str, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids ``<class>/<file>``, absolute paths, both (N,) object, and labels (N,) int32 of every
    image of every class.
    """
    classes = subfolders(folder)
    listing = indexed(
        [folder, *(folder / name for name in classes)], lambda: _list_images(folder, classes)
    )
    if listing["ignored"]:
        logger.info("%s: %d entries that are not images ignored", folder, listing["ignored"])
    ids, home = unpack_strings(listing["ids"]), os.path.abspath(folder)
    return (
        np.array(ids, object),
        np.array([f"{home}/{name}" for name in ids], object),
        np.repeat(np.array([labels[name] for name in classes], np.int32), listing["counts"]),
    )


def _list_images(folder: Path, classes: list[str]) -> Columns:
    ids, counts, ignored = [], [], 0
    for name in classes:
        entries = list_folder(folder / name)
        files = image_names(entries)
        if not files:
            raise DataError(
                f"{folder / name}: expected images ({' '.join(IMAGE_SUFFIXES)}), got none"
            )
        ids += [f"{name}/{file}" for file in files]
        counts.append(len(files))
        ignored += len(entries) - len(files)
    return {"ids": pack_strings(ids), "counts": np.array(counts), "ignored": np.array(ignored)}


def is_held_out(name: str) -> bool:
    """Whether an image belongs to the held-out fifth: by a hash of its name, so the same on every
    machine.
    """
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") < HELD_OUT_FRACTION * 2**64


def sort_splits(names: Iterable[str]) -> tuple[str, ...]:
    """The splits in a fixed order: those that begin with train, those that begin with val, the
    others.
    """
    return tuple(
        sorted(
            names,
            key=lambda name: (not name.startswith("train"), not name.startswith("val"), name),
        )
    )


def find_split(split: str, names: Iterable[str], root: Path) -> str:
    """The data set's own name for a split: itself, or for ``train`` and ``val`` the one name that
    begins so.
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
