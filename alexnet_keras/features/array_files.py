"""Files of arrays that are written row by row: ``.npy`` and ``.h5``.

Both have a head whose length is known in advance and then nothing but the rows, so that an
interrupted file goes on where it was left.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from alexnet_keras.errors import RunError


@dataclass(frozen=True)
class RowArray:
    """The array of a layer: its shape, (rows, ...), and its dtype, ``float32`` or ``float16``."""

    shape: tuple[int, ...]
    dtype: str = "float32"

    @property
    def stored(self) -> np.dtype:
        """The dtype in files: little-endian on every machine."""
        return np.dtype(self.dtype).newbyteorder("<")

    @property
    def width(self) -> int:
        """Values of a row."""
        return math.prod(self.shape[1:])

    @property
    def row_bytes(self) -> int:
        return self.width * self.stored.itemsize

    @property
    def bytes(self) -> int:
        return self.shape[0] * self.row_bytes


class Span(NamedTuple):
    """The rows ``first`` to ``last`` (exclusive) of a layer, one after another in a file from
    ``offset`` on.
    """

    path: Path
    offset: int
    first: int
    last: int


class OpenFiles:
    """Files that are open for writing."""

    _files: dict[Any, io.FileIO]

    def sync(self) -> None:
        """Return when everything written is on the disk."""
        for file in self._files.values():
            os.fsync(file.fileno())

    def close(self) -> None:
        """Close the files, complete or not."""
        while self._files:
            self._files.popitem()[1].close()


class ArrayFiles(OpenFiles):
    """The files of several layers, to which blocks of rows are appended.

    Subclasses write the heads (``_create``), say where rows belong (``_spans``) and complete the
    files (``finish``). A write that fails raises ``OSError``.
    """

    def __init__(
        self, arrays: Mapping[str, RowArray], places: Mapping[str, tuple[Path, ...]]
    ) -> None:
        """``places``: the files of each layer; several layers may share theirs."""
        self.arrays = dict(arrays)
        self.places = dict(places)
        self.rows = dict.fromkeys(arrays, 0)
        self._files: dict[Path, io.FileIO] = {}

    @property
    def paths(self) -> tuple[Path, ...]:
        """The complete files."""
        return tuple(dict.fromkeys(path for paths in self.places.values() for path in paths))

    def start(self) -> None:
        """Write the heads of new files."""
        self._create()
        self._located = self._spans()

    def go_on(self, rows: int, positions: Mapping[str, int]) -> None:
        """Open files that have at least ``rows`` rows of each layer, to write those after them.

        ``positions``: what :meth:`positions` returned when these rows were complete. Raises
        ``RunError`` for a file that is shorter.
        """
        self._located = self._spans()
        for layer, spans in self._located.items():
            row_bytes = self.arrays[layer].row_bytes
            for span in spans:
                end = span.offset + (min(max(rows, span.first), span.last) - span.first) * (
                    row_bytes
                )
                if rows > span.first:
                    check_length(span.path, end)
        self.rows = dict.fromkeys(self.arrays, rows)

    def append(self, layer: str, block: np.ndarray) -> None:
        """Write the next rows of a layer."""
        array = self.arrays[layer]
        block = np.ascontiguousarray(block, array.stored)
        start = self.rows[layer]
        for span in self._located[layer]:
            first, last = max(start, span.first), min(start + len(block), span.last)
            if first < last:
                file = self._open(span.path)
                file.seek(span.offset + (first - span.first) * array.row_bytes)
                write_all(file, block[first - start : last - start])
        self.rows[layer] += len(block)

    def positions(self) -> dict[str, int]:
        """What is needed to go on after the rows written so far, besides their number."""
        return {}

    def finish(self) -> None:
        """Complete the files once all rows are written."""

    def _create(self) -> None:
        raise NotImplementedError

    def _spans(self) -> dict[str, list[Span]]:
        raise NotImplementedError

    def _open(self, path: Path) -> io.FileIO:
        if path not in self._files:
            if len(self._files) >= len(self.arrays):  # the files before this one are complete
                self.sync()
                self.close()
            self._files[path] = io.FileIO(path, "r+")
        return self._files[path]


class NpyFiles(ArrayFiles):
    """``.npy`` files, one for each layer or, with ``rows_per_file``, several."""

    def __init__(self, arrays, places, rows_per_file: int | None = None):
        super().__init__(arrays, places)
        self._rows_per_file = rows_per_file

    def _create(self) -> None:
        for layer, spans in self._spans().items():
            for span in spans:
                with open(span.path, "wb", buffering=0) as file:
                    write_all(file, self._head(layer, span.last - span.first))

    def go_on(self, rows, positions):
        super().go_on(rows, positions)
        for layer, spans in self._located.items():
            row_bytes = self.arrays[layer].row_bytes
            for span in spans:
                kept = min(max(rows - span.first, 0), span.last - span.first)
                os.truncate(span.path, span.offset + kept * row_bytes)

    def _spans(self) -> dict[str, list[Span]]:
        located = {}
        for layer, paths in self.places.items():
            rows = self.arrays[layer].shape[0]
            size = self._rows_per_file or max(rows, 1)
            ends = [(index * size, min((index + 1) * size, rows)) for index in range(len(paths))]
            located[layer] = [
                Span(path, len(self._head(layer, last - first)), first, last)
                for path, (first, last) in zip(paths, ends, strict=True)
            ]
        return located

    def _head(self, layer: str, rows: int) -> bytes:
        array = self.arrays[layer]
        return npy_head((rows, *array.shape[1:]), array.stored)


class Hdf5File(ArrayFiles):
    """One ``.h5`` with a data set at its root for each layer, of the layer's name, contiguous and
    without attributes.
    """

    def _create(self) -> None:
        (path,) = self.paths
        settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        settings.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)  # so that every offset is known
        settings.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        with _Hdf5Target(path, "w+") as target, h5py.File(target, "w") as file:
            for layer, array in self.arrays.items():
                file.create_dataset(layer, array.shape, array.stored, dcpl=settings)
                target.raise_failure()

    def _spans(self) -> dict[str, list[Span]]:
        (path,) = self.paths
        try:
            with h5py.File(path) as file:
                offsets = {layer: file[layer].id.get_offset() for layer in self.arrays}
        except (OSError, KeyError, RuntimeError) as error:
            raise RunError(f"{path}: expected an unfinished HDF5 file, got: {error}") from None
        return {
            layer: [Span(path, offsets[layer] or 0, 0, array.shape[0])]  # None: no rows
            for layer, array in self.arrays.items()
        }


class _Hdf5Target(io.FileIO):
    """The file that HDF5 writes to. An error of ``write``, such as a full disk, would crash HDF5,
    so it is stored and raised by :meth:`raise_failure`.
    """

    failure: OSError | None = None

    def write(self, data) -> int:
        left = memoryview(data).cast("B")
        size = len(left)
        while left and self.failure is None:
            try:
                left = left[super().write(left) :]
            except OSError as error:
                self.failure = error
        return size

    def raise_failure(self) -> None:
        if self.failure is not None:
            raise self.failure

    def close(self) -> None:
        super().close()
        self.raise_failure()


def npy_head(shape: tuple[int, ...], dtype: np.dtype) -> bytes:
    """The bytes of a ``.npy`` (version 1.0) before its values, which are in C order."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        head, {"descr": dtype.str, "fortran_order": False, "shape": shape}
    )
    return head.getvalue()


def write_all(file: io.FileIO, data) -> None:
    """Write all of a buffer: on a disk that fills up a write is cut short, and the next fails."""
    left = memoryview(data).cast("B")
    while left:
        left = left[file.write(left) :]


def check_length(path: Path, expected: int) -> None:
    """Raise ``RunError`` for an unfinished file that is shorter than what was recorded."""
    try:
        found = path.stat().st_size
    except FileNotFoundError:
        found = 0
    if found < expected:
        raise RunError(
            f"{path}: expected at least the {expected} bytes that were recorded as written, got "
            f"{found}; begin anew with --overwrite"
        )
