"""Features in ``.csv`` files: columns ``fc7_0``, ``fc7_1``, ... after those of the table."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from alexnet_keras.array_readers.mapped import read_only
from alexnet_keras.errors import DataError, error_reason

_VALUE = re.compile(r"(.+)_([0-9]{1,9})", re.DOTALL)


class Csv:
    """A layer's values are read into memory as (rows, values) float32."""

    @staticmethod
    def names(path: Path) -> tuple[str, ...]:
        with csv_rows(path) as (header, _):
            return tuple(value_columns(header))

    @staticmethod
    def open(path: Path, name: str) -> np.ndarray:
        rows = []
        with csv_rows(path) as (header, cells):
            columns = value_columns(header)
            if name not in columns:
                raise DataError(f"{path}: expected columns {name[:80]}_0 and on, got none")
            values = columns[name]
            for line, row in cells:
                try:
                    rows.append(np.array(row[values], np.float64).astype(np.float32))
                except ValueError as error:
                    reason = error_reason(error)[:120]
                    raise DataError(
                        f"{path}: line {line}: expected numbers, got: {reason}"
                    ) from None
        width = values.stop - values.start
        return read_only(np.stack(rows) if rows else np.empty((0, width), np.float32))


def value_columns(header: Sequence[str]) -> dict[str, slice]:
    """The columns of each layer: those named after it that count up from 0, side by side."""
    found: dict[str, slice] = {}
    for place, name in enumerate(header):
        match = _VALUE.fullmatch(name)
        if not match:
            continue
        layer = match[1]
        index = int(match[2])
        if index == 0 and layer not in found:
            found[layer] = slice(place, place + 1)
        elif layer in found and place == found[layer].stop == found[layer].start + index:
            found[layer] = slice(found[layer].start, place + 1)
    return found


@contextmanager
def csv_rows(path: Path) -> Iterator[tuple[list[str], Iterator[tuple[int, list[str]]]]]:
    """The header of a CSV file, and its rows with their line numbers, while it is open. Raises
    ``DataError`` for what is no table: columns without a name of their own, rows of other lengths.
    """
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            reader = csv.reader(file)
            header = next(reader, [])
            if len(set(header)) < len(header) or not header:
                raise DataError(
                    f"{path}: line 1: expected the columns' names, each once, got "
                    f"{str(header)[:80]}"
                )
            yield header, _complete_rows(reader, len(header), path)
    except (OSError, csv.Error) as error:
        raise DataError(f"{path}: expected a CSV table, got: {error_reason(error)}") from None


def _complete_rows(reader, cells: int, path: Path) -> Iterator[tuple[int, list[str]]]:
    for row in reader:
        if len(row) != cells:
            raise DataError(
                f"{path}: line {reader.line_num}: expected {cells} cells, got {len(row)}"
            )
        yield reader.line_num, row
