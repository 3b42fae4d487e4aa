"""A COCO annotation file as columns, every field that is read checked.

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
MAX_SIDE = 2**24  # the last whole number that float32 counts to


def read_columns(file: Path) -> Columns:
    """The file as arrays: its images and categories by their ids, its annotations by the ids of
    image and annotation.
    """
    coco = _load(file)
    images, categories, rows = sorted(coco.imgs), sorted(coco.cats), coco.anns.values()
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
                raise DataError(
                    f"{file}: annotation {number}: {field}: expected one of the file, got "
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
    """Of a large file they are most of the memory, and half of the time is spent on finding more
    of it.
    """
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
                    f"{file}: {table}[{index}].{field}: expected pixels, got {reprlib.repr(value)}"
                )
        if not -(2**63) <= row["id"] < 2**63:
            raise DataError(
                f"{file}: {table}[{index}].id: expected 64 bits, got {reprlib.repr(row['id'])}"
            )
        if row["id"] in seen:
            raise DataError(
                f"{file}: {table}[{index}].id: expected each id once, got {row['id']} again"
            )
        seen.add(row["id"])


def _field(file: Path, holder: object, field: str, place: str, kind: type) -> object:
    """A field of a JSON object, its type checked exactly, for ``True`` is no number here."""
    if type(holder) is not dict:
        raise DataError(
            f"{file}: {place}: expected a field of an object, got {type(holder).__name__}"
        )
    value = holder.get(field)
    if type(value) is not kind:
        found = reprlib.repr(value) if field in holder else "no such field"
        raise DataError(f"{file}: {place}: expected {kind.__name__}, got {found}")
    return value


def _numbers(box: list) -> list[float]:
    if len(box) == 4 and set(map(type, box)) <= {int, float}:
        with contextlib.suppress(OverflowError):
            return [float(value) for value in box]
    return [math.nan] * 4
