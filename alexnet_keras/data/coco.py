"""COCO: ``annotations/instances_<split>.json`` beside ``<split>/``; one sample an object.

Source: https://cocodataset.org/#format-data
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import reprlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from alexnet_keras.data.files import SPLITS, find_split, is_held_out, list_folder, resolves, sort_splits
from alexnet_keras.data.samples import Samples
from alexnet_keras.errors import ConfigurationError, DataError

MIN_SIZE = 32
FIELDS = {
    "categories": {"id": int, "name": str},
    "images": {"id": int, "file_name": str, "width": int, "height": int},
    "annotations": {"id": int, "image_id": int, "category_id": int, "bbox": list}}
LARGEST_SIDE = 2**24  # the last whole number that float32 counts to


def splits(root: Path) -> tuple[str, ...]:
    """The splits that ``root`` has, train before val before others; raises ``DataError`` if it is not COCO.

    These are the data set's own names, such as ``train2017``. Where there is one train split and no val split, they
    are ``train`` and ``val``, a fifth of the images of the one file being held out, and the others.
    """
    own = _own_splits(root)
    train = [name for name in own if name.startswith("train")]
    if len(train) == 1 and not any(name.startswith("val") for name in own):
        return (*SPLITS, *(name for name in own if name not in train))
    return own


def read_coco(root: Path, split: str, *, classes: Iterable[str] | None = None, min_size: float = MIN_SIZE) -> Samples:
    """The objects of one split, ordered by image id and annotation id; ``ids`` are ``<image id>:<annotation id>``.

    ``split`` is ``train``, ``val`` or the data set's own name. Where there is no val split (:func:`splits`), ``val``
    is a fifth of the images, chosen by a hash of their file names, and ``train`` the rest; the own name, such as
    ``train2017``, is then the whole file. Labels number the categories of the whole file, or those named in
    ``classes``, in the order of their ids. Left out and counted in ``skipped``: crowds, boxes that are not four finite
    numbers, that have no area or lie outside their image, and those whose shorter side, once clipped to the image, is
    under ``min_size`` pixels. Raises ``DataError`` for files that are not COCO or contradict themselves, and
    ``ConfigurationError`` for arguments that no such file can fit.
    """
    if not 0 <= min_size < math.inf:
        raise ConfigurationError(f"min_size: expected 0 pixels or more, found {min_size}")
    own, side = _find_source(root, split)
    file = Path(root, "annotations", f"instances_{own}.json")
    coco = _load(file)
    labels, class_names = _number_classes(file, coco.cats, classes)
    rows = [row for _, row in sorted(coco.anns.items(), key=lambda item: (item[1]["image_id"], item[0]))
            if row["category_id"] in labels
            and (side is None or is_held_out(coco.imgs[row["image_id"]]["file_name"]) == (side == "val"))]
    boxes, skipped = _clip(rows, coco.imgs, min_size)
    kept = [row for row, reason in zip(rows, skipped, strict=True) if not reason]
    counts = {reason: skipped.count(reason) for reason in sorted(set(skipped)) if reason}
    if not kept:
        raise DataError(f"{file}: no object for split {split!r}; left out: {counts or 'none'}")
    paths = _find_images(file, Path(root, own), {row["image_id"]: coco.imgs[row["image_id"]] for row in kept})
    return Samples(
        ids=np.array([f"{row['image_id']}:{row['id']}" for row in kept]),
        paths=np.array([paths[row["image_id"]] for row in kept]),
        labels=np.array([labels[row["category_id"]] for row in kept], np.int32),
        boxes=boxes, class_names=class_names, split=side or own, skipped=counts, class_ids=tuple(map(str, labels)))


def _own_splits(root: Path) -> tuple[str, ...]:
    names = [entry.name for entry in list_folder(Path(root, "annotations"))]
    own = [name[len("instances_"):-len(".json")] for name in names
           if name.startswith("instances_") and name.endswith(".json")]
    if not own:
        raise DataError(f"{root}: expected annotations/instances_<split>.json, found none")
    return sort_splits(own)


def _find_source(root: Path, split: str) -> tuple[str, str | None]:
    """The own name of the file that holds a split, and which side of its images, or None for all of them."""
    names, own = splits(root), _own_splits(root)
    if names != own and split in SPLITS:
        return own[0], split
    return find_split(split, dict.fromkeys((*names, *own)), root), None


def _load(file: Path):
    """The file as pycocotools indexes it, every field that is read here checked."""
    from pycocotools.coco import COCO  # a fifth of a second, and not needed for any other layout

    coco = COCO()
    coco.dataset = _parse(file)
    for table, fields in FIELDS.items():
        _check_table(file, coco.dataset, table, fields)
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    for number, row in coco.anns.items():
        for field, table in (("image_id", coco.imgs), ("category_id", coco.cats)):
            if row[field] not in table:
                raise DataError(f"{file}: annotation {number}: {field}: expected one of the file, found {row[field]}")
    return coco


def _parse(file: Path):
    try:
        with open(file, encoding="utf-8") as stream:
            return json.load(stream)
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        raise DataError(f"{file}: expected a JSON file, found: {str(error) or type(error).__name__}") from None


def _check_table(file: Path, dataset: object, table: str, fields: dict[str, type]) -> None:
    rows = _field(file, dataset, table, table, list)
    seen = set()
    for index, row in enumerate(rows):
        for field, kind in fields.items():
            value = _field(file, row, field, f"{table}[{index}].{field}", kind)
            if field in ("width", "height") and not 0 < value < LARGEST_SIDE:
                raise DataError(f"{file}: {table}[{index}].{field}: expected pixels, found {reprlib.repr(value)}")
        if row["id"] in seen:
            raise DataError(f"{file}: {table}[{index}].id: expected each id once, found {row['id']} again")
        seen.add(row["id"])


def _field(file: Path, holder: object, field: str, place: str, kind: type) -> object:
    """A field of a JSON object, its type checked exactly, for ``True`` is no number here."""
    if type(holder) is not dict:
        raise DataError(f"{file}: {place}: expected a field of an object, found {type(holder).__name__}")
    value = holder.get(field)
    if type(value) is not kind:
        found = reprlib.repr(value) if field in holder else "no such field"
        raise DataError(f"{file}: {place}: expected {kind.__name__}, found {found}")
    return value


def _number_classes(file: Path, categories: dict[int, dict], classes: Iterable[str] | None):
    """Dense labels by category id, and the names by label."""
    names = {number: categories[number]["name"] for number in sorted(categories)}
    if classes is not None:
        chosen = set(classes)
        unknown = sorted(chosen - set(names.values()))
        if unknown or len(chosen) < 2:
            raise ConfigurationError(f"classes: expected two or more of {', '.join(names.values())}; "
                                     f"found {', '.join(unknown or chosen) or 'none'}")
        names = {number: name for number, name in names.items() if name in chosen}
    if len(names) < 2:
        raise DataError(f"{file}: categories: expected two or more, found {len(names)}")
    return {number: label for label, number in enumerate(names)}, tuple(names.values())


def _clip(rows: list[dict], images: dict[int, dict], min_size: float) -> tuple[np.ndarray, list[str]]:
    """The usable boxes (K, 4) float32 clipped to their images, and for each row why it is left out, or ''."""
    boxes = np.array([_numbers(row["bbox"]) for row in rows], np.float64).reshape(-1, 4)
    sizes = np.array([[images[row["image_id"]][side] for side in ("width", "height")] for row in rows]).reshape(-1, 2)
    with np.errstate(over="ignore"):
        corners = [np.clip(corner, 0, sizes) for corner in (boxes[:, :2], boxes[:, :2] + boxes[:, 2:])]
    clipped = np.concatenate([corners[0], corners[1] - corners[0]], axis=1).astype(np.float32)
    shorter = clipped[:, 2:].min(axis=1, initial=math.inf)
    reasons = np.select(
        [np.array([bool(row.get("iscrowd")) for row in rows], bool), ~np.isfinite(boxes).all(axis=1),
         (boxes[:, 2:] <= 0).any(axis=1), shorter <= 0, shorter < min_size],
        ["crowd", "box not four finite numbers", "box without area", "box outside its image",
         f"box under {min_size:g} px"], "")
    return clipped[reasons == ""], reasons.tolist()


def _numbers(box: list) -> list[float]:
    if len(box) == 4 and all(type(value) in (int, float) for value in box):
        with contextlib.suppress(OverflowError):
            return [float(value) for value in box]
    return [math.nan] * 4


def _find_images(file: Path, folder: Path, images: dict[int, dict]) -> dict[int, str]:
    """Absolute paths by image id, each a file under the data set's root; folders are listed once, no file is opened."""
    folder = Path(os.path.abspath(folder))
    listings, paths = {}, {}
    for number, image in images.items():
        parent, _, name = image["file_name"].rpartition("/")
        place = f"{file}: image {number}: file_name {image['file_name']!r}"
        if os.path.isabs(image["file_name"]) or ".." in (*parent.split("/"), name):
            raise DataError(f"{place}: expected a path within {folder}")
        if parent not in listings:
            listings[parent] = _list_files(folder, folder / parent)
        if name not in listings[parent]:
            raise DataError(f"{place}: expected a file in {folder}, found none")
        if not listings[parent][name]:
            raise DataError(f"{place}: expected a file within {folder.parent}, found a link out of it")
        paths[number] = os.path.join(folder, parent, name)
    return paths


def _list_files(images: Path, folder: Path) -> dict[str, bool]:
    """The files of a folder of images, each with whether it really lies under the data set's root."""
    homes = [os.path.realpath(home) + os.sep for home in (images.parent, images)]

    def is_within(path: Path | str) -> bool:
        return f"{os.path.realpath(path)}{os.sep}".startswith(tuple(homes))
    entries = list_folder(folder) if os.path.isdir(folder) and is_within(folder) else []
    return {entry.name: not entry.is_symlink() or is_within(entry.path)
            for entry in entries if resolves(entry.is_file)}
