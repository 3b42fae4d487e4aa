"""The table of rows: which sample each row of the features is of."""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from alexnet_keras.data.samples import Samples

COLUMNS = ("row", "split", "id", "path", "label", "class")
ERRORS = "surrogateescape"  # file names may be any bytes


class RowTable:
    """The samples of the splits in ``parts``, one after another.

    ``columns``: the names of the table's columns; further columns of the data set follow ours, as
    ``data.<name>`` where the name is one of ours.
    """

    def __init__(self, parts: list[Samples]):
        self.parts = parts
        self._further = tuple(dict.fromkeys(name for part in parts for name in part.columns))
        self.columns = COLUMNS + tuple(
            f"data.{name}" if name in COLUMNS else name for name in self._further
        )

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def parts_of(self, rows: range) -> Iterator[tuple[int, Samples, range]]:
        """Where these rows are: the first row of a split, its samples, and which of them."""
        start = 0
        for part in self.parts:
            first, last = max(rows.start - start, 0), min(rows.stop - start, len(part))
            if first < last:
                yield start, part, range(first, last)
            start += len(part)

    def records(self, rows: range) -> Iterator[tuple]:
        """The cells of these rows, in the order of ``columns``."""
        for start, part, indices in self.parts_of(rows):
            further = [part.columns.get(name) for name in self._further]
            for index in indices:
                label = int(part.labels[index])
                yield (
                    start + index,
                    part.split,
                    part.ids[index],
                    part.paths[index],
                    label if label >= 0 else "",
                    part.class_names[label] if label >= 0 else "",
                    *("" if column is None else column[index] for column in further),
                )

    def write(self, path: Path, rows: range) -> None:
        """Write the table of these rows."""
        with open(path, "w", encoding="utf-8", errors=ERRORS, newline="") as file:
            writer = csv.writer(file)
            writer.writerow(self.columns)
            writer.writerows(self.records(rows))


def digest_of_samples(parts: list[Samples]) -> str:
    """SHA-256 of what the rows and their table depend on: the samples, and the sizes of their
    files.
    """
    digest = hashlib.sha256()
    sizes: dict[str, int | None] = {}
    for part in parts:
        digest.update(f"{part.split}\n{len(part)}\n{part.class_names}\n".encode())
        for sample_id, path in zip(part.ids, part.paths, strict=True):
            if path not in sizes:
                status = _status(path)
                sizes[path] = status and status.st_size
            digest.update(f"{sample_id}\n{path}\n{sizes[path]}\n".encode(errors=ERRORS))
        for column in (part.labels, part.boxes, part.image_sizes):
            digest.update(b"" if column is None else np.ascontiguousarray(column).data)
        for name, column in part.columns.items():
            digest.update(f"{name}\n{list(column)}\n".encode(errors=ERRORS))
    return digest.hexdigest()


def digest_of_times(parts: list[Samples]) -> str:
    """SHA-256 of the times when the files were changed, which may differ between machines."""
    digest = hashlib.sha256()
    for path in dict.fromkeys(path for part in parts for path in part.paths):
        status = _status(path)
        digest.update(f"{status and status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _status(path: str) -> os.stat_result | None:
    """That of a file; for a row ``f.h5:pictures[3]`` of an array, that of ``f.h5``."""
    array = path.rpartition("[")[0]
    for name in (path, array, array.rpartition(":")[0]):
        try:
            return os.stat(name)
        except (OSError, ValueError):
            continue
    return None
