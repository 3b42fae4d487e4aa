"""Per-class accuracy and the confusion matrix of an evaluation, as CSV files."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from alexnet_keras.atomic_files import atomic_write
from alexnet_keras.errors import ConfigurationError
from alexnet_keras.evaluation.evaluator import Evaluation

FILES = ("classes.csv", "confusion.csv")
COLUMNS = (
    "class",
    "name",
    "images",
    "top1",
    "top5",
    "top1_images",
    "top5_images",
    "most_confused_with",
    "confused_images",
)


def write_tables(folder: Path, evaluation: Evaluation, class_names: Sequence[str]) -> None:
    """Write ``classes.csv`` and ``confusion.csv`` into ``folder``, which is created: RFC 4180 in
    UTF-8, both completely or neither.

    ``classes.csv``, the columns :data:`COLUMNS`: a row for each class, by its index; ``top1`` and
    ``top5`` are fractions 0-1 of its ``images``, empty where there are none;
    ``most_confused_with`` is the wrong class predicted most often (the first of several), empty
    where there is none. ``confusion.csv``: a header of names, then for each class its name and the
    number of its images predicted as each class. Raises ``RunError`` if they cannot be written,
    ``ConfigurationError`` for another number of names than the evaluation has classes.
    """
    classes = len(evaluation.confusion)
    if len(class_names) != classes:
        raise ConfigurationError(
            f"class_names: expected {classes} names, one for each class, got {len(class_names)}"
        )
    folder = Path(folder)
    with atomic_write(*(folder / name for name in FILES)) as (classes_csv, confusion_csv):
        folder.mkdir(parents=True, exist_ok=True)
        _write(classes_csv, COLUMNS, _class_rows(evaluation, class_names))
        _write(
            confusion_csv,
            ("", *class_names),
            (
                [name, *counts]
                for name, counts in zip(class_names, evaluation.confusion.tolist(), strict=True)
            ),
        )


def _class_rows(evaluation: Evaluation, names: Sequence[str]) -> Iterator[tuple]:
    wrong = evaluation.confusion.copy()
    np.fill_diagonal(wrong, 0)
    columns = (
        evaluation.confusion.sum(axis=1),
        evaluation.confusion.diagonal(),
        evaluation.top5_per_class,
        wrong.argmax(axis=1),
        wrong.max(axis=1),
    )
    rows = zip(*(column.tolist() for column in columns), strict=True)
    for index, (images, top1, top5, other, confused) in enumerate(rows):
        fractions = (top1 / images, top5 / images) if images else ("", "")
        yield (
            index,
            names[index],
            images,
            *fractions,
            top1,
            top5,
            names[other] if confused else "",
            confused,
        )


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence]) -> None:
    # A folder's name may hold bytes that are not text; its class is written with them escaped.
    with open(path, "w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
