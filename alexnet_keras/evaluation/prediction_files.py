"""Files of predictions: a table or JSON, written image by image."""

from __future__ import annotations

import csv
import json
import os
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from alexnet_keras.atomic_files import atomic_write
from alexnet_keras.errors import ConfigurationError, DataError, RunError
from alexnet_keras.evaluation.predictions import ImagePrediction, Prediction

SUFFIXES = (".csv", ".json")


def check_output(path: Path, overwrite: bool) -> None:
    """Raise ``ConfigurationError`` for a name of another suffix, and ``RunError`` where the file
    exists or cannot be written.
    """
    if path.suffix not in SUFFIXES:
        raise ConfigurationError(f"out: expected a name that ends in .csv or .json, got {path}")
    if os.path.isdir(path):
        raise RunError(f"{path}: expected a file to write, got a folder")
    if os.path.exists(path) and not overwrite:
        raise RunError(f"{path}: already exists; choose another --out or pass --overwrite")
    if not os.path.isdir(path.parent):
        raise RunError(f"{path.parent}: expected an existing folder to write the predictions to")


def write_text(path: Path, text: Iterable[str], is_complete: Callable[[], bool]) -> Path:
    """Write a file that has its name only when all of ``text`` is in it. If ``text`` ends early,
    what there is of it is kept in ``<stem>.partial<suffix>``. Returns the file that was written;
    raises ``RunError``.
    """
    partial = path.with_name(f"{path.stem}.partial{path.suffix}")
    with (
        atomic_write(partial) as (temporary,),
        # Paths may be no UTF-8.
        open(temporary, "w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        file.writelines(text)
    if not is_complete():
        return partial
    os.replace(partial, path)
    return path


def json_text(weights: dict, crops: int, rows: Iterable[ImagePrediction]) -> Iterator[str]:
    """``{"weights": ..., "crops": ..., "images": [...]}`` as indented JSON, image by image, and
    nothing before the first image is known. ``weights``: their description.
    """
    report = {"weights": weights, "crops": crops, "images": []}
    before, after = json.dumps(report, indent=2).rsplit("[]", 1)
    separator = before + "[\n"
    for row in rows:
        found = {"file": row.image}
        found |= (
            {"predictions": [each._asdict() for each in row.top]}
            if row.error is None
            else {"error": row.error}
        )
        yield separator + textwrap.indent(json.dumps(found, indent=2), "    ")
        separator = ",\n"
    yield f"\n  ]{after}\n"


def csv_text(
    columns: Mapping[str, Sequence], top: int, rows: Iterable[ImagePrediction]
) -> Iterator[str]:
    """A table with a row for each image: ``path``, the ``columns`` of the data set, ``id1, name1,
    probability1`` and so on, best first, and ``error``. Raises ``DataError`` for a column of the
    data set that has one of these names.
    """
    writer = csv.writer(_Echo(), lineterminator="\n")
    fields = [f"{name}{rank}" for rank in range(1, top + 1) for name in Prediction._fields]
    header = ("path", *columns, *fields, "error")
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise DataError(f"{twice}: expected another name for a column of the data set's table")
    yield writer.writerow(header)
    for number, row in enumerate(rows):
        found = [
            field
            for each in row.top
            for field in (each.id, each.name, np.float32(each.probability))
        ]
        yield writer.writerow(
            (
                row.image,
                *(column[number] for column in columns.values()),
                *(found or [""] * len(fields)),
                row.error or "",
            )
        )


class _Echo:
    """A file that returns what is written to it."""

    def write(self, text: str) -> str:
        return text
