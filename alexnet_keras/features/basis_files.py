"""Basis files: a projection as a plain ``.npz``, no pickles, that NumPy and SciPy read too.

They come from strangers as any file does, so what they declare is checked against their size
before anything is allocated.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from alexnet_keras.atomic_files import atomic_write
from alexnet_keras.errors import DataError, WeightsError, error_reason
from weights.archive import read_archive
from weights.arrays import first_non_finite, read_npy_header, view_array
from weights.memory_map import map_file

_ABOUT = "about"
_MAX_ABOUT_CHARACTERS = 1 << 16


def write_basis(path: Path, about: Mapping, arrays: Mapping[str, np.ndarray]) -> None:
    """Write ``arrays`` as members of these names, and ``about`` as JSON in the member ``about``;
    ``path`` changes in one step. Raises ``RunError`` where it cannot be written.
    """
    text = np.array(json.dumps(about))
    with atomic_write(Path(path)) as (temporary,), open(temporary, "wb") as file:
        np.savez(file, **{_ABOUT: text, **arrays})


def read_basis(path: Path) -> tuple[dict, dict[str, np.ndarray]]:
    """What :func:`write_basis` wrote, the arrays as views of the mapped file, so that memory stays
    within what is copied of them. Raises ``DataError``, in one line, for any other file.
    """
    path = Path(path)
    try:
        if path.is_file() and not path.stat().st_size:
            raise DataError(f"{path}: expected a basis, got an empty file")
        members = read_archive(memoryview(map_file(path)), path)
        arrays = {
            name.removesuffix(".npy"): _view(member, f"{path}: member {name[:80]!r}")
            for name, member in members.items()
        }
    except WeightsError as error:
        raise DataError(str(error)) from None
    return _read_about(arrays.pop(_ABOUT, None), path), arrays


def read_array(
    arrays: Mapping[str, np.ndarray], name: str, dtype: type, shape: tuple, place: str
) -> np.ndarray:
    """The member ``name``, copied as ``dtype``.

    ``shape``: None stands for any length. Raises ``DataError`` unless it is there, of that kind
    of numbers and that shape, and finite.
    """
    kind = np.dtype(dtype).kind
    array = arrays.get(name)
    if array is None:
        raise DataError(f"{place}: expected a member {name!r}, got none")
    matches = len(shape) == array.ndim and all(
        expected in (None, length) for expected, length in zip(shape, array.shape, strict=True)
    )
    if array.dtype.kind != kind or not matches:
        raise DataError(
            f"{place}: {name}: expected {'integers' if kind == 'i' else 'floating-point numbers'} "
            f"of shape {shape}, got {array.dtype.str[:20]} of shape {array.shape}"
        )
    array = np.array(array, dtype, order="C")
    if kind == "f" and first_non_finite(array) is not None:
        raise DataError(f"{place}: {name}: expected finite numbers, got NaN or infinity")
    return array


def _view(member: memoryview, place: str) -> np.ndarray:
    shape, fortran, dtype, start = read_npy_header(member, place)
    if dtype.kind not in "fiUS":
        raise DataError(f"{place}: expected numbers or text, got dtype {dtype.str[:20]!r}")
    try:
        return view_array(member[start:], dtype, shape, fortran)
    except ValueError as error:
        raise DataError(f"{place}: {error}") from None


def _read_about(text: np.ndarray | None, path: Path) -> dict:
    place = f"{path}: member '{_ABOUT}.npy'"
    if text is None:
        raise DataError(f"{place}: expected a basis that extract wrote, got a file without it")
    if text.shape != () or text.dtype.kind != "U" or text.nbytes > 4 * _MAX_ABOUT_CHARACTERS:
        raise DataError(f"{place}: expected JSON, got {text.dtype.str[:20]} of {text.shape}")
    try:
        about = json.loads(str(text))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place}: expected JSON, got: {error_reason(error)[:120]}") from None
    if not isinstance(about, dict):
        raise DataError(f"{place}: expected a JSON object, got {str(about)[:80]}")
    return about
