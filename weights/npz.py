"""``.npz``: every layer's arrays as plain NumPy writes them, no pickle, for whoever reads NumPy
and nothing else.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from weights.archive import read_archive
from weights.arrays import read_npy_header, to_canonical, view_array
from weights.atomic_files import atomic_write
from weights.canonical import Layers, WeightSet, check_variant
from weights.errors import WeightsError
from weights.memory_map import map_file

_DTYPES = {order + kind for order in "<>" for kind in ("f2", "f4", "f8")}
_VARIANT = "variant"
_MAX_NAME_BYTES = 1024


def read_npz(path: Path) -> WeightSet:
    """Weights of an ``.npz`` with members ``conv1/kernel``, ``conv1/bias`` ... in canonical form,
    as float32.

    The members are stored, as ``numpy.savez`` does, and float32 stays a view of the file; float16
    and float64 of either byte order are converted. A member ``variant``, text of shape (), names
    the network. Raises ``WeightsError`` naming the member, for
    compressed and pickled ones too.
    """
    path = Path(path)
    data = memoryview(map_file(path))
    found: dict[str, dict[str, np.ndarray]] = {}
    members = read_archive(data, path)
    variant = members.pop(f"{_VARIANT}.npy", None)
    if variant is not None:
        variant = _read_text(variant, f"{path}: member {_VARIANT}.npy")
    for name, member in members.items():
        layer, _, role = name.removesuffix(".npy").rpartition("/")
        if role not in ("kernel", "bias"):
            raise WeightsError(
                f"{path}: member {name[:80]!r}: expected a name such as conv1/kernel or conv1/bias"
            )
        if role in found.setdefault(layer, {}):
            raise WeightsError(f"{path}: member {name[:80]!r}: expected one array for it, got two")
        found[layer][role] = _read_array(member, f"{path}: member {name[:80]!r}")
    return WeightSet(to_canonical(found, path, len(data)), path, "npz", variant=variant)


def write_npz(path: Path, layers: Layers, variant: str | None = None) -> None:
    """Write canonical layers as float32 members ``conv1/kernel``, ``conv1/bias`` ..., and the
    ``variant`` as text; ``path`` changes in one step.

    :func:`read_npz` gives the same bits back. Raises ``WeightsError`` where the file cannot be
    written.
    """
    arrays = {
        f"{layer}/{role}": np.ascontiguousarray(array, np.float32)
        for layer, pair in layers.items()
        for role, array in zip(("kernel", "bias"), pair, strict=True)
    }
    if variant is not None:
        arrays[_VARIANT] = np.array(variant)
    with atomic_write(Path(path)) as (temporary,), open(temporary, "wb") as file:
        np.savez(file, **arrays)


def _read_text(member: memoryview, place: str) -> str:
    shape, _, dtype, start = read_npy_header(member, place)
    if shape != () or dtype.kind != "U" or len(member) - start > _MAX_NAME_BYTES:
        raise WeightsError(
            f"{place}: expected a name of shape (), got dtype {dtype.str[:20]!r} of shape {shape}"
        )
    try:
        return check_variant(str(view_array(member[start:], dtype, shape)), place)
    except ValueError as error:  # of the length, or of text that is no Unicode
        raise WeightsError(f"{place}: {str(error)[:120]}") from None


def _read_array(member: memoryview, place: str) -> np.ndarray:
    shape, fortran, dtype, start = read_npy_header(member, place)
    if dtype.str not in _DTYPES:
        raise WeightsError(
            f"{place}: expected floating-point numbers (f2, f4, f8), got dtype {dtype.str[:20]!r}"
        )
    try:
        return view_array(member[start:], dtype, shape, fortran)
    except ValueError as error:
        raise WeightsError(f"{place}: {error}") from None
