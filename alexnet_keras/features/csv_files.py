"""Features as text: ``.csv`` files whose lines are those of the table of rows, each followed by
the values of its row.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from alexnet_keras.features.array_files import OpenFiles, RowArray, check_length, write_all
from alexnet_keras.features.row_table import RowTable

DIGITS = {"float32": 9, "float16": 5}
"""Significant digits that give a value back bit for bit."""
LINE_END = "\r\n"


class CsvFiles(OpenFiles):
    """A ``.csv`` for each layer, with the methods of
    :class:`~alexnet_keras.features.array_files.ArrayFiles`.

    A value's column is ``<layer>_<index>``; the index is that of the row's values in C order
    (height, width, channel).
    """

    def __init__(
        self,
        arrays: Mapping[str, RowArray],
        places: Mapping[str, tuple[Path, ...]],
        table: RowTable,
        rows: range,
    ):
        """``rows``: those of the table whose features are written."""
        self.arrays = dict(arrays)
        self.places = dict(places)
        self.rows = dict.fromkeys(arrays, 0)
        self._table = table
        self._range = rows
        self._files: dict[str, io.FileIO] = {}
        self._records: dict[str, Iterator[tuple]] = {}

    @property
    def paths(self) -> tuple[Path, ...]:
        return tuple(path for (path,) in self.places.values())

    def start(self) -> None:
        for layer, (path,) in self.places.items():
            self._open(layer, io.FileIO(path, "w"), 0)
            values = (f"{layer}_{index}" for index in range(self.arrays[layer].width))
            self._write(layer, csv_line((*self._table.columns, *values)))

    def go_on(self, rows: int, positions: Mapping[str, int]) -> None:
        for layer, (path,) in self.places.items():
            check_length(path, positions[layer])
            os.truncate(path, positions[layer])
            self._open(layer, io.FileIO(path, "a"), rows)
        self.rows = dict.fromkeys(self.arrays, rows)

    def append(self, layer: str, block: np.ndarray) -> None:
        array = self.arrays[layer]
        form = f",%.{DIGITS[array.dtype]}g" * array.width + LINE_END
        for values in block.reshape(len(block), -1):
            cells = csv_line(next(self._records[layer])).removesuffix(LINE_END)
            self._write(layer, cells + form % tuple(values.tolist()))
        self.rows[layer] += len(block)

    def positions(self) -> dict[str, int]:
        return {layer: os.fstat(file.fileno()).st_size for layer, file in self._files.items()}

    def finish(self) -> None:
        """Nothing comes after the rows."""

    def _open(self, layer: str, file: io.FileIO, rows: int) -> None:
        self._files[layer] = file
        first = self._range.start + rows
        self._records[layer] = self._table.records(range(first, self._range.stop))

    def _write(self, layer: str, text: str) -> None:
        write_all(self._files[layer], text.encode(errors="surrogateescape"))


def csv_line(cells: Iterable) -> str:
    """A line of a CSV file, as :class:`csv.writer` writes it."""
    text = io.StringIO(newline="")
    csv.writer(text).writerow(cells)
    return text.getvalue()
