"""Keras's ``.weights.h5``: read and written with h5py alone, so that no network has to be built
first.
"""

from __future__ import annotations

import io
import itertools
from pathlib import Path

import h5py
import numpy as np

from weights.arrays import to_canonical
from weights.atomic_files import atomic_write
from weights.canonical import Layers, WeightSet, check_variant
from weights.errors import WeightsError, error_reason
from weights.hdf5_heap import check_heaps
from weights.hdf5_text import check_length

_MAX_LAYERS = 1000
_VARIANT = "alexnet_keras.variant"


def read_weights_h5(path: Path) -> WeightSet:
    """A ``.weights.h5`` that ``model.save_weights`` of this network, or :func:`write_weights_h5`,
    wrote.

    Every array is counted against the file's size before any is read, and links other than HDF5's
    plain names are refused. Raises ``WeightsError`` naming the file and the layer.
    """
    size = path.stat().st_size
    check_heaps(path)
    try:
        with h5py.File(path, "r") as file:
            if "layers" not in file:
                raise WeightsError(
                    f"{path}: expected a group named layers, got "
                    f"{', '.join(link_names(file, str(path)))[:200] or 'nothing'}"
                )
            datasets = _find_datasets(member(file, "layers", f"{path}"), path, size)
            found = {
                layer: {role: dataset[...] for role, dataset in pair.items()}
                for layer, pair in datasets.items()
            }
            variant = text_attribute(file, _VARIANT, f"{path}: attribute {_VARIANT}")
    except (OSError, LookupError, AttributeError, TypeError, ValueError, RuntimeError) as error:
        raise WeightsError(
            f"{path}: expected a .weights.h5 file of Keras, got: {error_reason(error)}"
        ) from None
    if variant is not None:
        variant = check_variant(variant, f"{path}: attribute {_VARIANT}")
    return WeightSet(to_canonical(found, path, size), path, "weights.h5", variant=variant)


def write_weights_h5(path: Path, layers: Layers, variant: str | None = None) -> None:
    """Write ``layers``, in the network's order, so that ``model.load_weights`` of the same shapes
    reads them; the ``variant`` is an attribute of the file.
    """
    kinds = {4: ("grouped_conv2d", itertools.count()), 2: ("dense", itertools.count())}
    image = io.BytesIO()  # HDF5 itself may crash where a disk is full
    with h5py.File(image, "w") as file:
        if variant is not None:
            file.attrs[_VARIANT] = variant
        for name, arrays in layers.items():
            kind, numbers = kinds[arrays[0].ndim]
            number = next(numbers)
            group = file.create_group(
                f"layers/{kind}_{number}/vars" if number else f"layers/{kind}/vars"
            )
            group.attrs["name"] = name
            for index, array in enumerate(arrays):
                group.create_dataset(str(index), data=np.asarray(array, np.float32))
    with atomic_write(path) as (temporary,):
        temporary.write_bytes(image.getvalue())


def hdf5_format(path: Path) -> str | None:
    """Which of Keras's layouts an HDF5 file has, or what it is instead; None where it cannot be
    opened.
    """
    try:
        with h5py.File(path, "r") as file:
            if "layer_names" in file.attrs or "model_weights" in file:
                return "keras1.h5"
            return (
                "weights.h5" if "layers" in file else "an HDF5 file without Keras's group layers"
            )
    except (OSError, LookupError, AttributeError, TypeError, ValueError, RuntimeError):
        return None


def _find_datasets(
    groups: h5py.Group, path: Path, size: int
) -> dict[str, dict[str, h5py.Dataset]]:
    """Kernel and bias of each layer, not yet read.

    Keras names a group after the layer's class, with a number from the second on; the attribute
    ``name`` of its variables is the layer's name.
    """
    found = {}
    for key in link_names(groups, f"{path}: layers"):
        group = member(groups, key, f"{path}: {key[:80]}")
        if "vars" not in group:
            continue
        variables = link_names(
            member(group, "vars", f"{path}: {key[:80]}"), f"{path}: {key[:80]}/vars"
        )
        if not variables:
            continue
        name = _layer_name(group["vars"], key, path)
        if name in found:
            raise WeightsError(
                f"{path}: {key[:80]}: expected every name once, got {name[:80]} twice"
            )
        if set(variables) != {"0", "1"}:
            raise WeightsError(
                f"{path}: {name[:80]}: expected a kernel and a bias, got variables "
                f"{', '.join(variables)[:200]}"
            )
        found[name] = _variables(group["vars"], path, name[:80])
        size -= sum(variable.size * variable.dtype.itemsize for variable in found[name].values())
        if size < 0:
            raise WeightsError(
                f"{path}: {name[:80]}: expected arrays that fit into the file, got more than its "
                "size"
            )
    return found


def link_names(group: h5py.Group, place: str) -> list[str]:
    """The names in ``group``. h5py's own list has no limit, and the nodes of a hostile group's
    tree can refer to one another, which makes it endless.
    """
    if not isinstance(group, h5py.Group):
        raise WeightsError(f"{place}: expected a group, got a {type(group).__name__.lower()}")
    names: list[str] = []

    def add(name: bytes) -> bool | None:
        names.append(name.decode("utf-8", "replace"))
        return True if len(names) > _MAX_LAYERS else None

    group.id.links.iterate(add)
    if len(names) > _MAX_LAYERS:
        raise WeightsError(f"{place}: expected at most {_MAX_LAYERS} names, got more")
    return names


def member(group: h5py.Group, name: str, place: str) -> h5py.Group | h5py.Dataset:
    """What ``group`` itself holds under ``name``: soft links could show one array many times, and
    external links open other files.
    """
    link = group.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink):
        raise WeightsError(
            f"{place}: expected plain floating-point numbers of this file, got a "
            f"{type(link).__name__}"
        )
    return group[name]


def _layer_name(variables: h5py.Group, key: str, path: Path) -> str:
    name = text_attribute(variables, "name", f"{path}: {key[:80]}")
    return key if name is None else name


def text_attribute(group: h5py.Group, name: str, place: str) -> str | None:
    """The attribute ``name``, one string; None where there is none."""
    if name not in group.attrs:
        return None
    attribute = group.attrs.get_id(name)
    # Many strings, of an array or of one compound value, may share the same bytes.
    if attribute.shape != () or attribute.get_type().get_class() != h5py.h5t.STRING:
        raise WeightsError(f"{place}: expected one name, got several or none")
    if attribute.get_type().is_variable_str():
        check_length(group, name, place)
    text = group.attrs[name]
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)


def _variables(variables: h5py.Group, path: Path, layer: str) -> dict[str, h5py.Dataset]:
    return {
        role: checked_dataset(
            member(variables, index, f"{path}: {layer} {role}"), path, layer, role
        )
        for index, role in (("0", "kernel"), ("1", "bias"))
    }


def checked_dataset(dataset: h5py.Dataset, path: Path, layer: str, role: str) -> h5py.Dataset:
    """A contiguous array of floats stored in this very file: no compression that could expand."""
    plain = (
        isinstance(dataset, h5py.Dataset)
        and dataset.chunks is None
        and not dataset.external
        and not dataset.is_virtual
    )
    if not plain or dataset.dtype.kind != "f" or dataset.file.filename != str(path):
        raise WeightsError(
            f"{path}: {layer} {role}: expected plain floating-point numbers of this file, got "
            f"{dataset}"
        )
    return dataset
