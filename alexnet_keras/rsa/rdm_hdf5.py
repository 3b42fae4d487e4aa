"""RDM files of rsatoolbox (``RDMs.save`` with ``file_type="hdf5"``), read and written with h5py,
so that files of strangers can be checked, and files are written in one step.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from alexnet_keras.array_readers.mapped import check_expansion
from alexnet_keras.array_readers.open_arrays import open_array
from alexnet_keras.errors import DataError, WeightsError, error_reason
from alexnet_keras.rsa.rdm_arrays import to_vectors
from alexnet_keras.rsa.toolbox import import_rsatoolbox
from weights.hdf5 import link_names, member, text_attribute
from weights.hdf5_heap import check_heaps
from weights.hdf5_text import check_length

DISSIMILARITIES = "dissimilarities"
_GROUPS = ("descriptors", "rdm_descriptors", "pattern_descriptors")
_REFERENCE = np.dtype([("length", "<u4"), ("address", "<u8"), ("index", "<u4")])
"""A string of variable length as it lies in a data set."""


def is_rdm_file(path: Path) -> bool:
    """Whether an HDF5 file holds RDMs, rather than features."""
    if not path.is_file():  # opening a named pipe would wait
        return False
    try:
        with h5py.File(path, "r") as file:
            return DISSIMILARITIES in file
    except (OSError, RuntimeError, ValueError):
        return False


def read_rdm_hdf5(path: Path):
    """The ``rsatoolbox.rdm.RDMs`` of a file that ``RDMs.save`` or :func:`to_hdf5` wrote.

    Raises ``DataError`` for another file, a damaged one, and dissimilarities that are not finite.
    """
    rsatoolbox = import_rsatoolbox()
    if not path.is_file():
        found = "a folder or device" if path.exists() else "none"
        raise DataError(f"{path}: expected an RDM file of rsatoolbox, got {found}")
    try:
        check_heaps(path)
        with h5py.File(path, "r") as file:
            names = link_names(file, str(path))
            missing = [name for name in (DISSIMILARITIES, *_GROUPS) if name not in names]
            if missing:
                raise DataError(
                    f"{path}: expected an RDM file of rsatoolbox, got no {missing[0]}, but "
                    f"{', '.join(names)[:200] or 'nothing'}"
                )
            groups = {name: _read_group(file, name, path) for name in _GROUPS}
            measure = text_attribute(file, "dissimilarity_measure", str(path))
        return rsatoolbox.rdm.RDMs(
            to_vectors(open_array(path, DISSIMILARITIES), str(path)),
            measure,
            groups["descriptors"],
            _lists(groups["rdm_descriptors"]),
            _lists(groups["pattern_descriptors"]),
        )
    except WeightsError as error:  # of readers that are shared with weight files
        raise DataError(str(error)) from None
    except (OSError, LookupError, AttributeError, TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            f"{path}: expected an RDM file of rsatoolbox, got: {error_reason(error)}"
        ) from None


def to_hdf5(rdms) -> bytes:
    """An RDM file that ``rsatoolbox.rdm.load_rdm`` reads, of ``rsatoolbox.rdm.RDMs``."""
    image = io.BytesIO()  # HDF5 itself may crash where a disk is full
    with h5py.File(image, "w") as file:
        file.attrs["rsatoolbox_version"] = version("rsatoolbox")
        _write_group(file, rdms.to_dict())
    return image.getvalue()


def _read_group(parent: h5py.Group, name: str, path: Path) -> dict[str, Any]:
    """Data sets, attributes and groups (of lists of unequal items) by name."""
    place = f"{path}: {name[:80]}"
    group = member(parent, name, place)
    found = {}
    for key in link_names(group, place):
        item = member(group, key, place)
        if isinstance(item, h5py.Group):
            if group.parent.name != "/":
                raise DataError(f"{place}: expected at most two levels of groups, got more")
            found[key] = _read_group(group, key, path)
        else:
            found[key] = _read_dataset(item, f"{place}: {key[:80]}")
    for key in group.attrs:
        found[key] = _read_attribute(group, key, f"{place}: {key[:80]}")
    return found


def _read_attribute(group: h5py.Group, key: str, place: str) -> Any:
    attribute = group.attrs.get_id(key)
    if attribute.shape == ():
        if attribute.get_type().get_class() == h5py.h5t.STRING:
            return text_attribute(group, key, place)
        return group.attrs[key]
    if attribute.get_type().is_variable_str():
        check_length(group, key, place)
    return group.attrs[key]


def _read_dataset(dataset: h5py.Dataset, place: str) -> np.ndarray | None:
    if dataset.external or dataset.is_virtual:
        raise DataError(f"{place}: expected an array in this file, got a reference to another")
    if dataset.shape is None:
        return None
    if h5py.check_string_dtype(dataset.dtype) is None and dataset.dtype.kind not in "biuf":
        raise DataError(f"{place}: expected numbers or text, got {dataset.dtype}")
    size = dataset.size * dataset.dtype.itemsize
    check_expansion(size, dataset.id.get_storage_size(), place)
    if dataset.dtype.kind == "O":
        _check_strings(dataset, place)
        return np.array([text.decode("utf-8", "replace") for text in dataset[...].ravel()], str)
    array = dataset[...]
    return array.astype(str) if array.dtype.kind == "S" else array


def _check_strings(dataset: h5py.Dataset, place: str) -> None:
    """Refuse strings of variable length that together are longer than the file: the HDF5 library
    would allocate whatever they declare.
    """
    path = Path(dataset.file.filename)
    offset = dataset.id.get_offset()
    if offset is None:
        raise DataError(f"{place}: expected text stored contiguously, got chunks")
    references = np.fromfile(path, _REFERENCE, dataset.size, offset=offset)
    if len(references) != dataset.size or references["length"].sum() > path.stat().st_size:
        raise DataError(f"{place}: expected text no longer than the file, got more")


def _lists(descriptors: Mapping[str, Any]) -> dict[str, list]:
    """The descriptors of RDMs or patterns, as rsatoolbox has them after loading: lists."""
    return {
        name: [items[str(row)] for row in range(len(items))]
        if isinstance(items, Mapping)
        else list(items)
        for name, items in descriptors.items()
    }


def _write_group(group: h5py.Group, items: Mapping[str, Any]) -> None:
    """As rsatoolbox writes them: text as attributes, arrays and lists as data sets, None as an
    empty data set.
    """
    for key, value in items.items():
        if isinstance(value, str):
            group.attrs[key] = str(value)
        elif isinstance(value, Mapping):
            _write_group(group.create_group(key), value)
        elif value is None:
            group[key] = h5py.Empty("f")
        else:
            _write_array(group, key, value)


def _write_array(group: h5py.Group, key: str, value: Any) -> None:
    array = np.asarray(value)
    if array.dtype.kind == "U":
        is_ascii = all(map(str.isascii, array.ravel().tolist()))
        array = array.astype("S" if is_ascii else h5py.string_dtype())
    group[key] = array
