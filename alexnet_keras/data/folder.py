"""Class folders: ``<split>/<class>/*``, or ``<class>/*`` with a fifth of the images held out; one
sample per image.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from alexnet_keras.data.held_out import hold_out, missing_classes, missing_warning
from alexnet_keras.data.listing import (
    SPLITS,
    find_split,
    image_names,
    list_folder,
    read_class_folders,
    sort_splits,
    subfolders,
)
from alexnet_keras.data.samples import Samples
from alexnet_keras.errors import DataError

SPLIT_PREFIXES = (*SPLITS, "test")


def splits(root: Path) -> tuple[str, ...]:
    """The splits of ``root``, train before val before others; ``DataError`` if there are no class
    folders.

    The layout is ``<split>/<class>/*`` if a folder whose name starts with train, val or test
    contains folders; the splits are then all folders that contain folders. Anything else is
    ``<class>/*``, whose splits are ``train`` and ``val``.
    """
    nested = _nested_splits(root)
    if nested:
        return nested
    # Images right under train/ and val/ have no classes, but "train" beside "bus" is a class.
    if not any(
        not name.startswith(SPLIT_PREFIXES) and image_names(list_folder(Path(root, name)))
        for name in subfolders(root)
    ):
        raise DataError(f"{root}: expected <split>/<class>/ or <class>/ with images, got neither")
    return SPLITS


def read_folder(root: Path, split: str) -> Samples:
    """The images of one split, ordered by class and file name; ``ids`` are ``<class>/<file
    name>``.

    Classes are the folders of the train split (of the first split if there is no train split),
    sorted. In ``<class>/*``, ``val`` is a fifth of each class (:func:`~.held_out.hold_out`), and
    ``train`` the rest. Raises ``DataError`` for fewer than two classes, a class that the train
    split lacks and a class without images.
    """
    names = splits(root)
    name = find_split(split, names, root)
    is_flat = not _nested_splits(root)
    folder = Path(root) if is_flat else Path(root, name)
    first_folder = Path(root) if is_flat else Path(root, names[0])
    classes = subfolders(first_folder)
    if len(classes) < 2:
        found = ", ".join(classes) or "none"
        raise DataError(f"{first_folder}: expected two or more class folders, got {found}")
    unknown = [each for each in subfolders(folder) if each not in classes]
    if unknown:
        raise DataError(
            f"{folder}: expected classes of {names[0]} ({', '.join(classes)}), got {unknown[0]}"
        )
    images = read_class_folders(folder, {each: label for label, each in enumerate(classes)})
    ids, paths, labels, warnings = images
    keep = np.ones(len(ids), bool)
    if is_flat:
        rows = np.arange(len(ids))
        held = hold_out(ids.tolist(), rows, labels)
        keep = held == (name == "val")
        missing = missing_classes(held, rows, labels)
        warnings += missing_warning(folder, [classes[label] for label in missing])
    if not keep.any():
        raise DataError(
            f"{folder}: split {name!r}: expected at least one held-out image, got none of "
            f"{len(ids)}"
        )
    return Samples(
        ids[keep], paths[keep], labels[keep], None, tuple(classes), name, {}, warnings=warnings
    )


def _nested_splits(root: Path) -> tuple[str, ...]:
    names = subfolders(root)
    if not any(name.startswith(SPLIT_PREFIXES) and subfolders(Path(root, name)) for name in names):
        return ()
    return sort_splits(name for name in names if subfolders(Path(root, name)))
