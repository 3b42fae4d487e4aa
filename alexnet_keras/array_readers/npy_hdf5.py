"""The arrays in ``.npy`` and HDF5 files."""

from __future__ import annotations

import re
from pathlib import Path

import h5py
import numpy as np

from alexnet_keras.array_readers.mapped import (
    HEADER_BYTES,
    check_expansion,
    check_numbers,
    map_array,
    read_only,
)
from alexnet_keras.errors import DataError
from weights.arrays import read_npy_header
from weights.hdf5 import link_names, member

_MAX_CHUNK_BYTES = 1 << 30
_MAX_CACHE_BYTES = 256 << 20
_MAX_CACHE_SLOTS = 1 << 20
_PART = re.compile(r"-([0-9]{5})-of-([0-9]{5})\.npy")


class Npy:
    """An array, whose name is the file's. It may be divided: ``feats-00000-of-00002.npy`` and
    ``feats-00001-of-00002.npy`` are then read as ``feats.npy``, into memory.
    """

    @staticmethod
    def names(path: Path) -> tuple[str, ...]:
        return (path.stem,)

    @staticmethod
    def open(path: Path, name: str) -> np.ndarray:
        if path.exists():
            return _open_npy(path)
        parts = [_open_npy(part) for part in parts_of(path)]
        for part in parts:
            if (part.shape[1:], part.dtype) != (parts[0].shape[1:], parts[0].dtype):
                raise DataError(
                    f"{path}: expected parts with rows of {parts[0].shape[1:]} "
                    f"{parts[0].dtype.str}, got {part.shape[1:]} {part.dtype.str}"
                )
        return read_only(np.concatenate(parts))


class Hdf5:
    """Data sets at the root of the file."""

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
        place = f"{path}: {name[:80]}"
        with h5py.File(path, "r") as file:
            dataset = _data_set(file, name, place)
            offset = dataset.id.get_offset()
            stored = dataset.id.get_storage_size()
            if offset is not None:
                return map_array(path, dataset.dtype, dataset.shape, offset, stored)
            check_expansion(dataset.size * dataset.dtype.itemsize, stored, place)
            return read_only(dataset[...])


def open_data_set(path: Path, name: str) -> h5py.Dataset:
    """An array of an HDF5 file, whose rows are read as they are needed; the file stays open."""
    place = f"{path}: {name[:80]}"
    dataset = _data_set(h5py.File(path, "r"), name, place)
    stored = dataset.id.get_storage_size()
    if dataset.shape and dataset.shape[0] > stored:
        raise DataError(
            f"{place}: expected at least a byte for each of {dataset.shape[0]} rows, got {stored} "
            "bytes (truncated?)"
        )
    if dataset.chunks is None:
        return dataset
    cache = _cache_of_a_row(dataset, place)
    dataset.file.close()
    return _data_set(h5py.File(path, "r", **cache), name, place)


def _cache_of_a_row(dataset: h5py.Dataset, place: str) -> dict[str, int]:
    """A cache for the chunks that a row crosses: those that h5py chooses hold parts of 60 rows,
    and HDF5's own cache of 1 MB would decompress all of these for each of them.
    """
    chunk = int(np.prod(dataset.chunks, dtype=object)) * dataset.dtype.itemsize
    if chunk > _MAX_CHUNK_BYTES:
        raise DataError(f"{place}: expected chunks of up to {_MAX_CHUNK_BYTES} bytes, got {chunk}")
    lengths = zip(dataset.shape[1:], dataset.chunks[1:], strict=True)
    count = int(np.prod([-(-length // part) for length, part in lengths], dtype=object))
    return {
        "rdcc_nbytes": min(2 * count * chunk, _MAX_CACHE_BYTES),  # rows come a little out of order
        "rdcc_nslots": min(4 * count + 1, _MAX_CACHE_SLOTS),
    }


def _data_set(file: h5py.File, name: str, place: str) -> h5py.Dataset:
    dataset = member(file, name, place)
    is_elsewhere = isinstance(dataset, h5py.Dataset) and (dataset.external or dataset.is_virtual)
    if not isinstance(dataset, h5py.Dataset) or is_elsewhere or dataset.shape is None:
        raise DataError(f"{place}: expected an array in this file, got none")
    check_numbers(dataset.dtype, place)
    return dataset


def parts_of(path: Path) -> list[Path]:
    """The files that ``path`` is divided into, in order; none if it is not. Raises ``DataError``
    if one is missing.
    """
    found = {}
    for part in path.parent.glob(f"{_escaped(path.stem)}-*-of-*.npy"):
        numbers = _PART.fullmatch(part.name.removeprefix(path.stem))
        if numbers:
            found[int(numbers[1]), int(numbers[2])] = part
    counts = {count for _, count in found}
    if not counts:
        return []
    missing = sorted({(index, max(counts)) for index in range(max(counts))} - set(found))
    if missing or len(counts) > 1:
        index, count = missing[0] if missing else (0, min(counts))
        what = "is missing" if missing else "is of another division"
        raise DataError(
            f"{path}: expected its {max(counts)} parts, got {len(found)}: "
            f"{path.stem}-{index:05d}-of-{count:05d}.npy {what}"
        )
    return [found[key] for key in sorted(found)]


def _escaped(name: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", name)


def _open_npy(path: Path) -> np.ndarray:
    with open(path, "rb") as file:
        head = file.read(HEADER_BYTES)
    shape, fortran, dtype, start = read_npy_header(memoryview(head), str(path))
    return map_array(path, dtype, shape, start, path.stat().st_size - start, fortran)
