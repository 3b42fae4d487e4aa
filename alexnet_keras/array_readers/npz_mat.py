"""The arrays in ``.npz`` and ``.mat`` files, read in place where they are stored as they are."""

from __future__ import annotations

import re
import struct
import zipfile
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
from alexnet_keras.array_readers.npy_hdf5 import Hdf5
from alexnet_keras.errors import DataError
from weights.archive import SmallReads
from weights.arrays import read_npy_header, view_array
from weights.matlab import Matrix, read_variables

_MEMBER = struct.Struct("<4s22x2H")
"""Of a member's own header: signature, lengths of its name and extra field."""
_MAX_MAT_EXPANSION = 100


class Npz:
    """``numpy.savez``: members are mapped; those of ``savez_compressed`` are unpacked."""

    @staticmethod
    def names(path: Path) -> tuple[str, ...]:
        with SmallReads(path) as file, _opened(file, path) as archive:
            return tuple(
                name.removesuffix(".npy")
                for name in dict.fromkeys(archive.namelist())
                if name.endswith(".npy")
            )

    @staticmethod
    def open(path: Path, name: str) -> np.ndarray:
        with SmallReads(path) as file, _opened(file, path) as archive:
            entry = archive.getinfo(f"{name}.npy")
            place = f"{path}: member {name[:80]!r}"
            if entry.compress_type == zipfile.ZIP_STORED:
                return _mapped_member(path, entry, place)
            check_expansion(entry.file_size, entry.compress_size, place)
            content = memoryview(archive.read(entry))
        shape, fortran, dtype, start = read_npy_header(content, place)
        check_numbers(dtype, place)
        return read_only(view_array(content[start:], dtype, shape, fortran))


class Mat:
    """MATLAB's arrays, versions 5 to 7; and 7.3, which is HDF5 with the axes in reverse."""

    @staticmethod
    def names(path: Path) -> tuple[str, ...]:
        if h5py.is_hdf5(path):
            return Hdf5.names(path)
        return tuple(name for name, matrix in _variables(path).items() if matrix.is_numbers)

    @staticmethod
    def open(path: Path, name: str) -> np.ndarray:
        """``name``: of the variable, or of a layer such as ``fc6:pre``, whose variable is
        ``fc6_pre``.
        """
        if h5py.is_hdf5(path):
            return Hdf5.open(path, name).T
        variables = _variables(path)
        variable = name if name in variables else variable_name(name)
        if variable not in variables:
            raise DataError(f"{path}: expected a variable {variable[:80]}, got none")
        return read_only(variables[variable].numbers())


def variable_name(layer: str) -> str:
    """The name of a layer's variable in MATLAB, which has no ``:`` in names: ``fc6:pre`` is
    ``fc6_pre``.
    """
    return re.sub(r"\W", "_", layer, flags=re.ASCII)


def _variables(path: Path) -> dict[str, Matrix]:
    return read_variables(path, expansion=_MAX_MAT_EXPANSION)


def _opened(file: SmallReads, path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(file)
    except (zipfile.BadZipFile, NotImplementedError, OverflowError) as error:
        raise DataError(f"{path}: expected an .npz archive, got: {error}") from None


def _mapped_member(path: Path, entry: zipfile.ZipInfo, place: str) -> np.ndarray:
    with open(path, "rb") as file:
        file.seek(entry.header_offset)
        head = file.read(_MEMBER.size)
        if len(head) < _MEMBER.size or not head.startswith(b"PK\x03\x04"):
            raise DataError(f"{place}: expected its header at byte {entry.header_offset}")
        _, name_bytes, extra_bytes = _MEMBER.unpack(head)
        file.seek(name_bytes + extra_bytes, 1)
        begins = file.tell()
        content = file.read(min(HEADER_BYTES, entry.file_size))
    shape, fortran, dtype, start = read_npy_header(memoryview(content), place)
    return map_array(path, dtype, shape, begins + start, entry.file_size - start, fortran)
