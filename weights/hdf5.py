"""Keras's ``.weights.h5``: read and written with h5py alone, so that no network has to be built
first.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import h5py
import numpy as np

from weights.arrays import collect
from weights.atomic_files import atomic_write
from weights.canonical import Layers, WeightSet
from weights.errors import WeightsError


def read_weights_h5(path: Path) -> WeightSet:
    """A ``.weights.h5`` that ``model.save_weights`` of this network, or :func:`write_weights_h5`,
    wrote.

    Raises ``WeightsError`` naming the file and the layer for what is not such a file.
    """
    try:
        with h5py.File(path, "r") as file:
            if "layers" not in file:
                raise WeightsError(
                    f"{path}: expected a group named layers, got {', '.join(file) or 'nothing'}"
                )
            found = _read_layers(file["layers"], path)
    except (OSError, KeyError, AttributeError, TypeError, ValueError, RuntimeError) as error:
        raise WeightsError(
            f"{path}: expected a .weights.h5 file of Keras, got: {' '.join(str(error).split())}"
        ) from None
    return WeightSet(collect(found, path, path.stat().st_size), path, "weights.h5")


def write_weights_h5(path: Path, layers: Layers) -> None:
    """Write ``layers``, in the network's order, so that ``model.load_weights`` of the same shapes
    reads them.
    """
    kinds = {4: ("grouped_conv2d", itertools.count()), 2: ("dense", itertools.count())}
    with atomic_write(path) as (temporary,), h5py.File(temporary, "w") as file:
        for name, arrays in layers.items():
            kind, numbers = kinds[arrays[0].ndim]
            number = next(numbers)
            group = file.create_group(
                f"layers/{kind}_{number}/vars" if number else f"layers/{kind}/vars"
            )
            group.attrs["name"] = name
            for index, array in enumerate(arrays):
                group.create_dataset(str(index), data=np.asarray(array, np.float32))


def _read_layers(groups: h5py.Group, path: Path) -> dict[str, dict[str, np.ndarray]]:
    """Keras names a group after the layer's class, with a number from the second on; its attribute
    has the layer's name.
    """
    found = {}
    for key, group in groups.items():
        if "vars" not in group or not len(group["vars"]):
            continue
        name = str(group["vars"].attrs.get("name", key))
        if name in found:
            raise WeightsError(
                f"{path}: {key}: expected every name once, got a second {name[:80]}"
            )
        found[name] = _variables(group, path, name[:80])
    return found


def _variables(group: h5py.Group, path: Path, layer: str) -> dict[str, np.ndarray]:
    if set(group["vars"]) != {"0", "1"}:
        raise WeightsError(
            f"{path}: {layer}: expected a kernel and a bias, got variables "
            f"{', '.join(group['vars'])}"
        )
    return {
        role: _array(group[f"vars/{index}"], path, f"{path}: {layer} {role}")
        for index, role in enumerate(("kernel", "bias"))
    }


def _array(dataset: h5py.Dataset, path: Path, place: str) -> np.ndarray:
    """Plain contiguous floats of this very file: no links to others, no compression that could
    swell.
    """
    plain = (
        isinstance(dataset, h5py.Dataset)
        and dataset.chunks is None
        and not dataset.external
        and not dataset.is_virtual
    )
    if not plain or dataset.dtype.kind != "f" or dataset.file.filename != str(path):
        raise WeightsError(
            f"{place}: expected plain floating-point numbers of this file, got {dataset}"
        )
    size = path.stat().st_size
    if dataset.size * dataset.dtype.itemsize > size:
        raise WeightsError(
            f"{place}: expected at most the file's {size} bytes, got shape {dataset.shape}"
        )
    return dataset[...]
