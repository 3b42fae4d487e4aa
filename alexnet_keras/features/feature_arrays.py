"""Opens the arrays of features files, ours and those of strangers: memory-mapped where the format
allows it, and never unpickled.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from alexnet_keras.errors import DataError, WeightsError, error_reason
from weights.arrays import read_npy_header
from weights.hdf5 import link_names, member

_HEADER_BYTES = 4096
_NUMBERS = "biuf"
# What a compressed array may unpack to: sparse activations shrink well, but not a thousandfold.
_MAX_EXPANSION = 100
_MAX_EXPANSION_BYTES = 16 << 20


def array_names(path: Path) -> tuple[str, ...]:
    """The names of the arrays in a features file; of a ``.npy``, its stem. Raises ``DataError``
    for a file that cannot be read.
    """
    with _failures_as_data_errors(path):
        names = _formatted(path).names(path)
    if not names:
        raise DataError(f"{path}: expected arrays, got none at its root")
    return names


def open_array(path: Path, name: str) -> np.ndarray:
    """One array of a features file, (rows, ...) of numbers, read-only. Raises ``DataError``."""
    with _failures_as_data_errors(path):
        array = _formatted(path).open(path, name)
    if array.ndim == 0:
        raise DataError(f"{path}: {name}: expected rows, got a single number")
    return array


@contextmanager
def _failures_as_data_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except WeightsError as error:  # of readers that are shared with weight files
        raise DataError(str(error)) from None
    except (OSError, LookupError, ValueError, TypeError, RuntimeError) as error:
        raise DataError(f"{path}: expected features, got: {error_reason(error)}") from None


class _Npy:
    @staticmethod
    def names(path: Path) -> tuple[str, ...]:
        return (path.stem,)

    @staticmethod
    def open(path: Path, name: str) -> np.ndarray:
        with open(path, "rb") as file:
            head = file.read(_HEADER_BYTES)
        shape, fortran, dtype, start = read_npy_header(memoryview(head), str(path))
        return _mapped(path, dtype, shape, start, path.stat().st_size - start, fortran)


class _Hdf5:
    @staticmethod
    def names(path: Path) -> tuple[str, ...]:
        with h5py.File(path, "r") as file:
            own = (
                name
                for name in link_names(file, str(path))
                if isinstance(file.get(name, getlink=True), h5py.HardLink)
            )
            return tuple(name for name in own if isinstance(file[name], h5py.Dataset))

    @staticmethod
    def open(path: Path, name: str) -> np.ndarray:
        with h5py.File(path, "r") as file:
            dataset = member(file, name, f"{path}: {name[:80]}")
            if not isinstance(dataset, h5py.Dataset) or dataset.external or dataset.is_virtual:
                raise DataError(f"{path}: {name[:80]}: expected an array in this file, got none")
            offset = dataset.id.get_offset()
            if offset is not None:
                stored = dataset.id.get_storage_size()
                return _mapped(path, dataset.dtype, dataset.shape, offset, stored)
            _check_numbers(dataset.dtype, f"{path}: {name[:80]}")
            stored = dataset.id.get_storage_size()
            check_expansion(dataset.size * dataset.dtype.itemsize, stored, f"{path}: {name}")
            return _read_only(dataset[...])


_FORMATS: dict[str, type] = {".npy": _Npy, ".h5": _Hdf5, ".hdf5": _Hdf5}


def _formatted(path: Path) -> type:
    if path.suffix.lower() not in _FORMATS:
        raise DataError(f"{path}: expected a features file ({', '.join(_FORMATS)}), got another")
    if not path.is_file():
        raise DataError(f"{path}: expected a features file, got {_instead_of_a_file(path)}")
    return _FORMATS[path.suffix.lower()]


def _instead_of_a_file(path: Path) -> str:
    return "a folder or device" if path.exists() else "none"


def check_expansion(size: int, stored: int, place: str) -> None:
    """Refuse what would unpack to far more bytes than are ``stored``."""
    if size > _MAX_EXPANSION * stored + _MAX_EXPANSION_BYTES:
        raise DataError(
            f"{place}: expected at most {_MAX_EXPANSION} times the bytes that it takes in the "
            f"file, got {size} bytes in {stored}"
        )


def _check_numbers(dtype: np.dtype, place: str) -> None:
    if dtype.kind not in _NUMBERS:
        raise DataError(f"{place}: expected numbers, got dtype {dtype.str[:20]!r}")


def _mapped(
    path: Path,
    dtype: np.dtype,
    shape: tuple[int, ...],
    start: int,
    stored: int,
    fortran: bool = False,
) -> np.ndarray:
    _check_numbers(dtype, str(path))
    expected = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if expected > stored or start + expected > path.stat().st_size:
        raise DataError(
            f"{path}: expected {expected} bytes for shape {tuple(shape)}, got {stored} "
            "(truncated?)"
        )
    if not expected:
        return _read_only(np.empty(shape, dtype))
    return np.memmap(path, dtype, "r", start, tuple(shape), "F" if fortran else "C")


def _read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array
