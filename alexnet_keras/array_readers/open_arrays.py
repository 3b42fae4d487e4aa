"""Opens arrays in files, ours and those of strangers: memory-mapped where the format allows it,
and never unpickled.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from alexnet_keras.array_readers.csv_values import Csv
from alexnet_keras.array_readers.npy_hdf5 import Hdf5, Npy, open_data_set, parts_of
from alexnet_keras.array_readers.npz_mat import Mat, Npz
from alexnet_keras.errors import DataError, WeightsError, error_reason

_FORMATS: dict[str, type] = {
    ".npy": Npy,
    ".npz": Npz,
    ".h5": Hdf5,
    ".hdf5": Hdf5,
    ".mat": Mat,
    ".csv": Csv,
}
_DAMAGE = (
    OSError,
    LookupError,
    ValueError,
    TypeError,
    RuntimeError,
    EOFError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
)


def array_names(path: Path) -> tuple[str, ...]:
    """The names of the arrays in a file; of a ``.npy``, its stem. Raises ``DataError``
    for a file that cannot be read.
    """
    with _failures_as_data_errors(path):
        names = _format_of(path).names(path)
    if not names:
        raise DataError(f"{path}: expected arrays, got none at its root")
    return names


def open_array(path: Path, name: str) -> np.ndarray:
    """One array of a file, (rows, ...) of numbers, read-only. Raises ``DataError``."""
    with _failures_as_data_errors(path):
        array = _format_of(path).open(path, name)
    if array.ndim == 0:
        raise DataError(f"{path}: {name}: expected rows, got a single number")
    return array


def open_images_array(path: Path, name: str) -> np.ndarray | h5py.Dataset:
    """Like :func:`open_array`, but no array is read whole: rows of a data set of an HDF5 file are
    read as they are needed.
    """
    if _format_of(path) is not Hdf5:
        return open_array(path, name)
    with _failures_as_data_errors(path):
        return open_data_set(path, name)


def _format_of(path: Path) -> type:
    if path.suffix.lower() not in _FORMATS:
        raise DataError(f"{path}: expected a file of arrays ({', '.join(_FORMATS)}), got another")
    if not path.is_file() and not (path.suffix == ".npy" and parts_of(path)):
        found = "a folder or device" if path.exists() else "none"
        raise DataError(f"{path}: expected a file of arrays, got {found}")
    return _FORMATS[path.suffix.lower()]


@contextmanager
def _failures_as_data_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except WeightsError as error:  # of readers that are shared with weight files
        raise DataError(str(error)) from None
    except _DAMAGE as error:
        raise DataError(f"{path}: expected arrays, got: {error_reason(error)}") from None
