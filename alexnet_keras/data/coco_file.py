"""Reads a COCO annotation file into columns, and checks every field that it reads.

Source: https://cocodataset.org/#format-data
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import reprlib
from pathlib import Path

import numpy as np

from alexnet_keras.data.listing_cache import Columns, pack_strings
from alexnet_keras.errors import DataError

FIELDS = {
    "categories": {"id": int, "name": str},
    "images": {"id": int, "file_name": str, "width": int, "height": int},
    "annotations": {"id": int, "image_id": int, "category_id": int, "bbox": list},
}
MAX_SIDE = 2**24  # up to here float32 represents every integer


def read_columns(file: Path) -> Columns:
    """The file as arrays: images and categories sorted by id, annotations by the ids of image and
    annotation.
    """
    coco = _load(file)
    images = sorted(coco.imgs)
    categories = sorted(coco.cats)
    rows = coco.anns.values()
    image_rows, category_rows = (
        {number: row for row, number in enumerate(ids)} for ids in (images, categories)
    )
    annotations = {
        "ids": np.array(list(coco.anns), np.int64),
        "image_rows": np.array([image_rows[row["image_id"]] for row in rows], np.int64),
        "category_rows": np.array([category_rows[row["category_id"]] for row in rows], np.int64),
        "boxes": np.array([_numbers(row["bbox"]) for row in rows], np.float64).reshape(-1, 4),
        "crowds": np.array([bool(row.get("iscrowd")) for row in rows], bool),
    }
    order = np.lexsort((annotations["ids"], annotations["image_rows"]))
    return {name: column[order] for name, column in annotations.items()} | {
        "images": np.array(images, np.int64),
        "file_names": pack_strings(coco.imgs[number]["file_name"] for number in images),
        "sizes": np.array(
            [(coco.imgs[number]["width"], coco.imgs[number]["height"]) for number in images],
            np.int32,
        ).reshape(-1, 2),
        "categories": np.array(categories, np.int64),
        "category_names": pack_strings(coco.cats[number]["name"] for number in categories),
    }


def _load(file: Path):
    """The file indexed by pycocotools, after a check of every field that is read here."""
    from pycocotools.coco import COCO  # imported in 0.2 s, and only needed for this layout

    coco = COCO()
    coco.dataset = _parse(file)
    for table, fields in FIELDS.items():
        _check_table(file, coco.dataset, table, fields)
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    for number, row in coco.anns.items():
        for field, table in (("image_id", coco.imgs), ("category_id", coco.cats)):
            if row[field] not in table:
                raise DataError(
                    f"{file}: annotation {number}: {field}: expected an id in this file, got "
                    f"{row[field]}"
                )
    return coco


def _parse(file: Path):
    try:
        with open(file, encoding="utf-8") as stream:
            return json.load(stream, object_hook=_drop_polygons)
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        raise DataError(
            f"{file}: expected a JSON file, got: {str(error) or type(error).__name__}"
        ) from None


def _drop_polygons(row: dict) -> dict:
    """Polygons are most of the memory of a large file, and half of the time to parse it."""
    row.pop("segmentation", None)
    return row


def _check_table(file: Path, dataset: object, table: str, fields: dict[str, type]) -> None:
    rows = _field(file, dataset, table, table, list)
    seen = set()
    for index, row in enumerate(rows):
        for field, kind in fields.items():
            value = _field(file, row, field, f"{table}[{index}].{field}", kind)
            if field in ("width", "height") and not 0 < value < MAX_SIDE:
                raise DataError(
                    f"{file}: {table}[{index}].{field}: expected a number of pixels, got "
                    f"{reprlib.repr(value)}"
                )
        if not -(2**63) <= row["id"] < 2**63:
            raise DataError(
                f"{file}: {table}[{index}].id: expected a 64-bit integer, got "
                f"{reprlib.repr(row['id'])}"
            )
        if row["id"] in seen:
            raise DataError(
                f"{file}: {table}[{index}].id: expected unique ids, got {row['id']} twice"
            )
        seen.add(row["id"])


def _field(file: Path, parent: object, field: str, location: str, kind: type) -> object:
    """A field of a JSON object, of exactly this type, because ``True`` is also an ``int``."""
    if type(parent) is not dict:
        raise DataError(
            f"{file}: {location}: expected a field of a JSON object, got {type(parent).__name__}"
        )
    value = parent.get(field)
    if type(value) is not kind:
        found = reprlib.repr(value) if field in parent else "nothing"
        raise DataError(f"{file}: {location}: expected {kind.__name__}, got {found}")
    return value


def _numbers(box: list) -> list[float]:
    if len(box) == 4 and set(map(type, box)) <= {int, float}:
        with contextlib.suppress(OverflowError):
            return [float(value) for value in box]
    return [math.nan] * 4
