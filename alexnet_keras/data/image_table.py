"""Tables of images: a CSV file with a ``path`` column, and labels, splits and further columns."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alexnet_keras.data.image_files import natural_key, unique_ids
from alexnet_keras.data.image_list import existing_file
from alexnet_keras.data.listing import find_split, sort_splits
from alexnet_keras.data.samples import ALL, Samples
from alexnet_keras.errors import DataError, error_reason

PATH, LABEL, CLASS, SPLIT, ID, ROW = "path", "label", "class", "split", "id", "row"
_MAX_COLUMNS = 1000


def table_splits(path: Path) -> tuple[str, ...]:
    """The names in the ``split`` column, train before val before others; ``all`` without one."""
    return _splits(_read(path))


def read_table(path: Path, split: str) -> Samples:
    """The rows of one split, in the table's order, duplicates kept.

    ``path`` is relative to the table's folder. The class of an image is named in ``class``, or in
    ``label``, where numbers may stand instead; empty if it is unknown. Classes are sorted
    naturally. ``ids`` are from ``id``, else the paths as they stand there. Further columns are
    ``Samples.columns``. Raises ``DataError``, naming the line.
    """
    table = _read(path)
    name = find_split(split, _splits(table), path)
    keep = [name in (ALL, value) for value in table.column(SPLIT, ALL)]
    classes, labels = _labels(table)
    paths = _paths(table, keep)
    ids = unique_ids(_kept(table.column(ID) if ID in table.header else table.column(PATH), keep))
    known = {PATH, LABEL, CLASS, SPLIT, ID, ROW}
    return Samples(
        np.array(ids, object),
        np.array(paths, object),
        labels[keep],
        None,
        classes,
        name,
        {},
        columns={
            column: np.array(_kept(table.column(column), keep), object)
            for column in table.header
            if column not in known
        },
    )


@dataclass(frozen=True)
class _Table:
    path: Path
    header: tuple[str, ...]
    rows: list[list[str]]
    lines: list[int]

    def column(self, name: str, default: str = "") -> list[str]:
        if name not in self.header:
            return [default] * len(self.rows)
        index = self.header.index(name)
        return [row[index] for row in self.rows]


def _read(path: Path) -> _Table:
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        header = tuple(name.strip() for name in next(reader, ()))
        numbered = [(reader.line_num, row) for row in reader if row]
    except OSError as error:
        raise DataError(f"{path}: expected a CSV table, got: {error_reason(error)}") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: expected a CSV table in UTF-8, got other bytes") from None
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.line_num}: expected CSV, got: {error}") from None
    _check_header(path, header)
    for line, row in numbered:
        if len(row) != len(header):
            raise DataError(
                f"{path}: line {line}: expected {len(header)} fields ({', '.join(header)}), got "
                f"{len(row)}"
            )
    if not numbered:
        raise DataError(f"{path}: expected rows below the header, got none")
    return _Table(Path(path), header, [row for _, row in numbered], [line for line, _ in numbered])


def _check_header(path: Path, header: tuple[str, ...]) -> None:
    found = ", ".join(header)[:200] or "nothing"
    if len(header) > _MAX_COLUMNS:
        raise DataError(f"{path}: expected up to {_MAX_COLUMNS} columns, got {len(header)}")
    if PATH not in header:
        raise DataError(f"{path}: expected a header with a column path, got {found}")
    if len(set(header)) < len(header):
        raise DataError(f"{path}: expected each column once, got {found}")


def _splits(table: _Table) -> tuple[str, ...]:
    return sort_splits(dict.fromkeys(table.column(SPLIT))) if SPLIT in table.header else (ALL,)


def _labels(table: _Table) -> tuple[tuple[str, ...], np.ndarray]:
    """The classes, and (rows,) int32 labels, -1 where there is none."""
    names = [name.strip() for name in table.column(CLASS if CLASS in table.header else LABEL)]
    classes = tuple(sorted({name for name in names if name}, key=natural_key))
    by_name = {name: label for label, name in enumerate(classes)}
    return classes, np.array([by_name.get(name, -1) for name in names], np.int32)


def _paths(table: _Table, keep: Sequence[bool]) -> list[str]:
    folder = os.path.dirname(os.path.abspath(table.path))
    rows = zip(_kept(table.column(PATH), keep), _kept(table.lines, keep), strict=True)
    return [existing_file(name, folder, f"{table.path}: line {line}") for name, line in rows]


def _kept(values: Sequence, keep: Sequence[bool]) -> list:
    return [value for value, wanted in zip(values, keep, strict=True) if wanted]
