"""Arrays of images: ``.npy``, ``.npz`` and HDF5 files, and NumPy's own."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import h5py
import numpy as np

from alexnet_keras.array_readers.open_arrays import array_names, open_images_array
from alexnet_keras.data.image_files import unlabelled_samples
from alexnet_keras.data.pixel_arrays import PixelArray
from alexnet_keras.data.samples import Samples
from alexnet_keras.errors import DataError

SUFFIXES = (".npy", ".npz", ".h5", ".hdf5")


def read_array(source: str | Path | np.ndarray) -> Samples:
    """The images of an array as samples without labels: ``ids`` are ``000000``, ``000001``, ...

    Raises ``DataError`` for a file without arrays, or with several where none is named.
    """
    if isinstance(source, np.ndarray):
        pixels = PixelArray(source, "array")
        digest = hashlib.sha256(np.ascontiguousarray(source).view(np.uint8).data).hexdigest()
        place = f"array {digest[:12]}"
    else:
        file, name = _file_and_name(os.fspath(source))
        place = os.path.abspath(file)
        pixels = PixelArray(_open(Path(file), name), f"{file}:{name}" if name else file)
    names = [f"{row:06d}" for row in range(len(pixels))]
    paths = [f"{place}[{row}]" for row in range(len(pixels))]
    return unlabelled_samples(names, paths, pixels.notes, pixels)


def array_file(source: str) -> str:
    """The file of ``f.h5:name``."""
    return _file_and_name(source)[0]


def _file_and_name(source: str) -> tuple[str, str]:
    file, colon, name = source.rpartition(":")
    if colon and Path(file).suffix.lower() in SUFFIXES and not os.path.exists(source):
        return file, name
    return source, ""


def _open(path: Path, name: str) -> np.ndarray | h5py.Dataset:
    names = array_names(path)
    is_below_the_root = "/" in name
    if not (name in names or is_below_the_root or (len(names) == 1 and not name)):
        raise DataError(
            f"{path}: expected {path}:NAME, one of its {len(names)} arrays, such as "
            f"{', '.join(names[:5])}" + (f", got {name[:80]!r}" if name else "")
        )
    return open_images_array(path, name or names[0])
