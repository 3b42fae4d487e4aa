"""What the readers of features files share: arrays of numbers that are mapped, or unpacked within
bounds.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from alexnet_keras.errors import DataError

HEADER_BYTES = 4096
_NUMBERS = "biuf"
# Sparse activations shrink well, but not a thousandfold.
_MAX_EXPANSION = 100
_MAX_EXPANSION_BYTES = 16 << 20


def map_array(
    path: Path,
    dtype: np.dtype,
    shape: tuple[int, ...],
    start: int,
    stored: int,
    fortran: bool = False,
) -> np.ndarray:
    """The array of ``shape`` that begins at byte ``start``, mapped read-only. Raises ``DataError``
    unless it holds numbers and fits into its ``stored`` bytes of the file.
    """
    check_numbers(dtype, str(path))
    expected = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if expected > stored or start + expected > path.stat().st_size:
        raise DataError(
            f"{path}: expected {expected} bytes for shape {tuple(shape)}, got {stored} "
            "(truncated?)"
        )
    if not expected:
        return read_only(np.empty(shape, dtype))
    return np.memmap(path, dtype, "r", start, tuple(shape), "F" if fortran else "C")


def check_expansion(size: int, stored: int, place: str) -> None:
    """Refuse what would unpack to far more bytes than are ``stored``."""
    if size > _MAX_EXPANSION * stored + _MAX_EXPANSION_BYTES:
        raise DataError(
            f"{place}: expected at most {_MAX_EXPANSION} times the bytes that it takes in the "
            f"file, got {size} bytes in {stored}"
        )


def check_numbers(dtype: np.dtype, place: str) -> None:
    """Refuse objects, text, records and complex numbers."""
    if dtype.kind not in _NUMBERS:
        raise DataError(f"{place}: expected numbers, got dtype {dtype.str[:20]!r}")


def read_only(array: np.ndarray) -> np.ndarray:
    """``array``, which can no longer be written to."""
    array.flags.writeable = False
    return array
