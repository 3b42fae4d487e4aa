"""``.mat`` of MATLAB 5 to 7 (MathWorks, "MAT-File Format", chapter 1), one variable per layer.

MATLAB stores arrays column by column. The rows are therefore collected in a file beside it, and
put in MATLAB's order once all are there.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np

from alexnet_keras.array_readers.npz_mat import variable_name
from alexnet_keras.errors import ConfigurationError
from alexnet_keras.features.array_files import ArrayFiles, RowArray, Span, write_all

MAX_VARIABLE_BYTES = 2**31 - 1
SLAB_BYTES = 1 << 27
INT8, INT32, UINT32, SINGLE, MATRIX = 1, 5, 6, 7, 14
SINGLE_CLASS = 7
TEXT = b"MATLAB 5.0 MAT-file, written by alexnet_keras"


class MatFile(ArrayFiles):
    """One ``.mat`` with a variable for each layer, (rows, ...) single."""

    def _create(self) -> None:
        for layer in self.arrays:
            open(self._collected(layer), "wb").close()

    def _spans(self) -> dict[str, list[Span]]:
        return {
            layer: [Span(self._collected(layer), 0, 0, array.shape[0])]
            for layer, array in self.arrays.items()
        }

    def finish(self) -> None:
        (path,) = self.paths
        with open(path, "wb", buffering=0) as file:
            write_all(file, TEXT.ljust(116) + bytes(8) + struct.pack("<H", 0x0100) + b"IM")
            for layer, array in self.arrays.items():
                write_all(file, _variable_head(layer, array))
                _write_columns(file, self._collected(layer), array)
                write_all(file, bytes(-array.bytes % 8))
            os.fsync(file.fileno())

    def _collected(self, layer: str) -> Path:
        (path,) = self.paths
        return path.with_name(f"{path.stem}.{variable_name(layer)}.rows")


def check_mat(arrays: dict[str, RowArray], out: Path) -> None:
    """Raise ``ConfigurationError`` for arrays that a ``.mat`` cannot hold."""
    for layer, array in arrays.items():
        if array.dtype != "float32":
            raise ConfigurationError(
                f"dtype: expected float32 for {out.name}, since MATLAB has no {array.dtype}"
            )
        if array.bytes > MAX_VARIABLE_BYTES:
            raise ConfigurationError(
                f"out: expected at most 2 GB per layer in a .mat, got {layer} of "
                f"{array.bytes / 1e9:.1f} GB; choose .h5, which MATLAB reads too"
            )


def _variable_head(layer: str, array: RowArray) -> bytes:
    dimensions = struct.pack(f"<{len(array.shape)}i", *array.shape)
    name = variable_name(layer).encode()
    parts = (
        _element(UINT32, struct.pack("<2L", SINGLE_CLASS, 0))
        + _element(INT32, dimensions)
        + _element(INT8, name)
        + struct.pack("<2L", SINGLE, array.bytes)
    )
    size = len(parts) + array.bytes + -array.bytes % 8
    return struct.pack("<2L", MATRIX, size) + parts


def _element(kind: int, data: bytes) -> bytes:
    if len(data) <= 4:  # within its own tag
        return struct.pack("<2H", kind, len(data)) + data.ljust(4, b"\0")
    return struct.pack("<2L", kind, len(data)) + data + bytes(-len(data) % 8)


def _write_columns(file, collected: Path, array: RowArray) -> None:
    """Append the collected rows in MATLAB's order, in which the first index varies fastest."""
    count, *shape = array.shape
    if not array.bytes:
        return
    rows = np.memmap(collected, array.stored, "r", shape=(count, array.width))
    order = np.arange(array.width).reshape(shape).ravel("F")
    step = max(1, SLAB_BYTES // (count * array.stored.itemsize))
    for first in range(0, array.width, step):
        columns = order[first : first + step]
        write_all(file, np.ascontiguousarray(rows[:, columns].T))
