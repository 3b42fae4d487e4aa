"""COCO: ``annotations/instances_<split>.json`` beside ``<split>/``; one sample per object.

Source: https://cocodataset.org/#format-data
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from alexnet_keras.data.coco_file import read_columns
from alexnet_keras.data.held_out import hold_out, missing_classes, missing_warning
from alexnet_keras.data.listing import (
    SPLITS,
    find_split,
    list_folder,
    resolves,
    sort_splits,
)
from alexnet_keras.data.listing_cache import Columns, cached, unpack_strings
from alexnet_keras.data.samples import Samples
from alexnet_keras.errors import ConfigurationError, DataError

MIN_SIZE = 32


def splits(root: Path) -> tuple[str, ...]:
    """The splits of ``root``, train before val before others; raises ``DataError`` if it is not
    COCO.

    These are the data set's own names, such as ``train2017``. If there is one train split and no
    val split, they are ``train``, ``val`` (a fifth of the images of the train file, held out) and
    the others.
    """
    names = _annotated_splits(root)
    train = [name for name in names if name.startswith("train")]
    if len(train) == 1 and not any(name.startswith("val") for name in names):
        return (*SPLITS, *(name for name in names if name not in train))
    return names


def read_coco(
    root: Path, split: str, *, classes: Iterable[str] | None = None, min_size: float = MIN_SIZE
) -> Samples:
    """The objects of one split, ordered by image id and annotation id; ``ids`` are ``<image
    id>:<annotation id>``.

    ``split`` is ``train``, ``val`` or the data set's own name. If there is no val split
    (:func:`splits`), ``val`` is a fifth of the images of each class
    (:func:`~.held_out.hold_out`), and ``train`` the rest; the data set's own name, such as
    ``train2017``, is then the entire file. Labels number the categories of the file, or those
    named in ``classes``, in the order of their ids.
    Skipped and counted in ``skipped``: crowds, boxes that are not four finite numbers, have no
    area or are outside their image, and boxes whose shorter side, clipped to the image, is under
    ``min_size`` pixels. Raises ``DataError`` for files that are not COCO or inconsistent, and
    ``ConfigurationError`` for invalid arguments.
    """
    if not 0 <= min_size < math.inf:
        raise ConfigurationError(f"min_size: expected 0 pixels or more, got {min_size}")
    file_split, held_out_split = _find_file(root, split)
    file = Path(root, "annotations", f"instances_{file_split}.json")
    table = cached([file], lambda: read_columns(file))
    file_names = unpack_strings(table["file_names"])
    images = table["image_rows"]
    labels, class_names, class_ids = _number_classes(file, table, classes)
    kept = labels >= 0
    boxes = _clip(table["boxes"], table["sizes"][images])
    warnings = ()
    if held_out_split is not None:
        held, warnings = _hold_out(file, table, boxes, file_names)
        kept &= held[images] == (held_out_split == "val")
    kept, skipped = _skip(kept, _skip_reasons(table, boxes, min_size))
    if not kept.any():
        raise DataError(
            f"{file}: split {split!r}: expected at least one object, got none; "
            f"skipped: {skipped or 'none'}"
        )
    used, images = np.unique(images[kept], return_inverse=True)
    numbers = table["images"][used].tolist()
    paths = _find_images(
        file,
        Path(root, file_split),
        {number: file_names[row] for number, row in zip(numbers, used, strict=True)},
    )
    ids = [
        f"{numbers[row]}:{number}"
        for row, number in zip(images.tolist(), table["ids"][kept].tolist(), strict=True)
    ]
    return Samples(
        np.array(ids, object),
        np.array(paths, object)[images],
        labels[kept],
        boxes[kept],
        class_names,
        held_out_split or file_split,
        skipped,
        class_ids,
        table["sizes"][used][images],
        warnings,
    )


def _skip(kept: np.ndarray, reasons: dict[str, np.ndarray]) -> tuple[np.ndarray, dict[str, int]]:
    """``kept`` without the annotations to skip, and how many those are by their first reason."""
    skipped = {}
    for reason, mask in reasons.items():
        skipped[reason] = int(np.sum(kept & mask))
        kept = kept & ~mask
    return kept, {reason: count for reason, count in sorted(skipped.items()) if count}


def _hold_out(file: Path, table: Columns, boxes: np.ndarray, file_names: list[str]):
    """Which images are held out, (images,) bool, and warnings about classes without any.

    The same for any ``classes`` and ``min_size``, so that no option moves an image from train to
    val: it depends on the objects of all classes that are usable at the default size.
    """
    usable = ~np.any(list(_skip_reasons(table, boxes, MIN_SIZE).values()), axis=0)
    images = table["image_rows"][usable]
    labels = table["category_rows"][usable]
    held = hold_out(file_names, images, labels)
    names = unpack_strings(table["category_names"])
    missing = missing_classes(held, images, labels)
    return held, missing_warning(file, [names[label] for label in missing])


def _annotated_splits(root: Path) -> tuple[str, ...]:
    """The splits that have an annotation file."""
    names = [entry.name for entry in list_folder(Path(root, "annotations"))]
    annotated = [
        name[len("instances_") : -len(".json")]
        for name in names
        if name.startswith("instances_") and name.endswith(".json")
    ]
    if not annotated:
        raise DataError(f"{root}: expected annotations/instances_<split>.json, got none")
    return sort_splits(annotated)


def _find_file(root: Path, split: str) -> tuple[str, str | None]:
    """The split of the annotation file that contains ``split``; and ``train`` or ``val`` if only
    that part of its images belongs to it, else None.
    """
    names = splits(root)
    annotated = _annotated_splits(root)
    if names != annotated and split in SPLITS:
        return annotated[0], split
    return find_split(split, dict.fromkeys((*names, *annotated)), root), None


def _number_classes(file: Path, table: Columns, classes: Iterable[str] | None):
    """The label of each annotation (N,) int32, -1 if its class is not selected; the names and
    ids of the classes by label.
    """
    names = unpack_strings(table["category_names"])
    selected = set(names if classes is None else classes)
    if classes is not None and (len(selected) < 2 or not selected <= set(names)):
        raise ConfigurationError(
            f"classes: expected two or more of {', '.join(names)}; "
            f"got {', '.join(sorted(selected - set(names)) or selected) or 'none'}"
        )
    rows = [row for row, name in enumerate(names) if name in selected]
    if len(rows) < 2:
        raise DataError(f"{file}: categories: expected two or more, got {len(rows)}")
    labels = np.full(len(names), -1, np.int32)
    labels[rows] = np.arange(len(rows))
    return (
        labels[table["category_rows"]],
        tuple(names[row] for row in rows),
        tuple(map(str, table["categories"][rows])),
    )


def _clip(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Boxes (N, 4) float32, clipped to their images of ``sizes`` (N, 2) ``width, height``."""
    with np.errstate(over="ignore"):
        corners = [
            np.clip(corner, 0, sizes) for corner in (boxes[:, :2], boxes[:, :2] + boxes[:, 2:])
        ]
    return np.concatenate([corners[0], corners[1] - corners[0]], axis=1).astype(np.float32)


def _skip_reasons(table: Columns, clipped: np.ndarray, min_size: float) -> dict[str, np.ndarray]:
    """By reason, the mask (N,) bool of the annotations to skip."""
    boxes = table["boxes"]
    shorter = clipped[:, 2:].min(axis=1)
    return {
        "crowd": table["crowds"],
        "box not four finite numbers": ~np.isfinite(boxes).all(axis=1),
        "box without area": (boxes[:, 2:] <= 0).any(axis=1),
        "box outside its image": shorter <= 0,
        f"box under {min_size:g} px": shorter < min_size,
    }


def _find_images(file: Path, folder: Path, file_names: dict[int, str]) -> list[str]:
    """Absolute paths of the images of ``file_names`` by id; each folder is listed once, and no
    file is opened.
    """
    folder = Path(os.path.abspath(folder))
    listings = {}
    paths = []
    for number, file_name in file_names.items():
        parent, _, name = file_name.rpartition("/")
        place = f"{file}: image {number}: file_name {file_name!r}"
        if os.path.isabs(file_name) or ".." in (*parent.split("/"), name):
            raise DataError(f"{place}: expected a path within {folder}")
        if parent not in listings:
            listings[parent] = _list_files(folder / parent)
        if name not in listings[parent]:
            raise DataError(f"{place}: expected a file in {folder}, got none")
        paths.append(os.path.join(folder, parent, name))
    return paths


def _list_files(folder: Path) -> set[str]:
    """The names of the files in a folder of images; links to files anywhere count, as DVC and
    git-annex create them.
    """
    entries = list_folder(folder) if os.path.isdir(folder) else []
    return {entry.name for entry in entries if resolves(entry.is_file)}
