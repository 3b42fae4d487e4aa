"""HDF5 files of Keras 1 and 2, ``.h5`` of ``save_weights`` and ``save``, read with h5py alone.

Three things differ between them. Keras 1 kept kernels (out, in, height, width) where images were
channels first; all others are (height, width, in, out). Theano convolves, which turns kernels by
180 degrees, where TensorFlow and CNTK correlate. And fc6's rows are in channel, height, width
order where images were channels first.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

import h5py
import numpy as np

from weights.arrays import to_canonical
from weights.canonical import WeightSet
from weights.errors import WeightsError, error_reason
from weights.hdf5 import checked_dataset, link_names, member, text_attribute
from weights.hdf5_heap import check_heaps
from weights.layer_matching import CONVOLUTIONS, PUBLIC_NAMES, match_layers, renamed_layers

KERNEL_ORDERS = ("theano", "tensorflow")
_BACKENDS = {"theano": "theano", "tensorflow": "tensorflow", "cntk": "tensorflow"}
_MAX_NAMES = 1000
_MAX_NAME_BYTES = 255
_MAX_DEPTH = 4
_CHANNELS_FIRST = re.compile(r'"(?:data_format|dim_ordering)":\s*"(?:channels_first|th)"')
_CONVNETS_KERAS = {"conv_1", "conv_2_1", "conv_2_2", "convpool_1", "dense_1"}
_Arrays = dict[str, np.ndarray]

logger = logging.getLogger(__name__)


def read_keras_h5(path: Path, kernel_order: str | None = None) -> WeightSet:
    """Weights of a file of Keras 1 or 2, in canonical form as float32.

    ``kernel_order`` is for a file without the attribute ``backend``: ``"theano"`` (kernels are
    turned by 180 degrees, and fc6's rows in channel, height, width order) or ``"tensorflow"``.
    Layers are those of an AlexNet in the file's order, whatever their names; the halves of a layer
    of two groups (``conv_2_1``, ``conv_2_2``) are joined. What was found is told in the log. The
    variant of heuritech's convnets-keras, known by its names, is ``convnets-keras``. Raises
    ``WeightsError`` naming the file and the layer.
    """
    path = Path(path)
    size = path.stat().st_size
    check_heaps(path)
    try:
        with h5py.File(path, "r") as file:
            in_root = "layer_names" in file.attrs
            root = file if in_root else member(file, "model_weights", f"{path}")
            names = _layer_names(root, path)
            order = _kernel_order(root, kernel_order, path)
            channels_first = _has_channels_first(file, path)
            found = _read_layers(root, names, path, size)
    except (OSError, LookupError, AttributeError, TypeError, ValueError, RuntimeError) as error:
        raise WeightsError(
            f"{path}: expected an .h5 file of Keras 1 or 2, got: {error_reason(error)}"
        ) from None
    by_filter = _are_by_filter(found)
    if channels_first is None:
        channels_first = by_filter or order == "theano"
    layers = {name: _oriented(arrays, by_filter, order) for name, arrays in found.items()}
    layers = _public_layers(_join_halves(layers), path)
    _tell(path, by_filter, order, channels_first)
    if channels_first:
        layers = {name: _as_channels_first(arrays) for name, arrays in layers.items()}
    canonical = to_canonical(layers, path, size, channels_first)
    variant = "convnets-keras" if set(names) >= _CONVNETS_KERAS else None
    return WeightSet(canonical, path, "keras1.h5", variant=variant)


def _layer_names(root: h5py.Group, path: Path) -> list[str]:
    """The names of all layers, in the network's order.

    Strings of variable length, which h5py 3 writes, may all share the same bytes to fill the
    memory: instead of them, the groups are taken, in the order in which their arrays were written.
    """
    place = f"{path}: attribute layer_names"
    attribute = root.attrs.get_id("layer_names")
    kind = attribute.get_type()
    if kind.get_class() != h5py.h5t.STRING or len(attribute.shape) != 1:
        raise WeightsError(f"{place}: expected a list of names, got something else")
    if kind.is_variable_str():
        names = link_names(root, str(path))
        return sorted(names, key=lambda name: _first_offset(root, name, path))
    if kind.get_size() > _MAX_NAME_BYTES or attribute.shape[0] > _MAX_NAMES:
        raise WeightsError(
            f"{place}: expected at most {_MAX_NAMES} names of at most {_MAX_NAME_BYTES} bytes, "
            "got more"
        )
    names = [str(raw.decode("utf-8", "replace")) for raw in root.attrs["layer_names"]]
    if len(set(names)) < len(names):
        raise WeightsError(f"{place}: expected every name once, got one twice")
    return names


def _first_offset(root: h5py.Group, name: str, path: Path) -> int:
    datasets = _datasets(_walk(root, name, f"{path}: {name[:80]!r}"), f"{path}: {name[:80]!r}")
    kernels = [dataset for dataset in datasets if len(dataset.shape) > 1]
    return min((dataset.id.get_offset() or 0 for dataset in kernels), default=0)


def _datasets(group: h5py.Group, place: str, depth: int = 0) -> list[h5py.Dataset]:
    """All arrays of a layer; groups in it lie at most as deep as Keras's scopes."""
    found: list[h5py.Dataset] = []
    for name in link_names(group, place):
        inner = member(group, name, place)
        if isinstance(inner, h5py.Dataset):
            found.append(inner)
        elif depth < _MAX_DEPTH:
            found += _datasets(inner, place, depth + 1)
        if len(found) > 2 or depth == _MAX_DEPTH:
            raise WeightsError(f"{place}: expected a kernel and a bias, got more")
    return found


def _kernel_order(root: h5py.Group, asked: str | None, path: Path) -> str:
    backend = text_attribute(root, "backend", f"{path}: attribute backend")
    recorded = _BACKENDS.get(backend)
    if recorded is None and asked is None:
        raise WeightsError(
            f"{path}: expected an attribute backend, which tells the order of kernels, got "
            f"{'none' if backend is None else repr(backend[:40])}; --kernel-order "
            f"{' or '.join(KERNEL_ORDERS)} says it (theano for convnets-keras)"
        )
    if recorded is not None and asked not in (None, recorded):
        raise WeightsError(
            f"{path}: attribute backend: expected {asked}, as kernel_order says, got {backend}"
        )
    return recorded or asked


def _has_channels_first(file: h5py.File, path: Path) -> bool | None:
    """What the network's configuration says of its images; None where the file has none."""
    config = text_attribute(file, "model_config", f"{path}: attribute model_config")
    return None if config is None else _CHANNELS_FIRST.search(config) is not None


def _read_layers(root: h5py.Group, names: list[str], path: Path, size: int) -> dict[str, _Arrays]:
    """Kernel and bias of each layer that has any; all are counted against the file's size before
    one is read.
    """
    datasets = {}
    for name in names:
        place = f"{path}: {name[:80]!r}"
        arrays = sorted(_datasets(_walk(root, name, place), place), key=lambda a: -len(a.shape))
        if not arrays:
            continue
        if len(arrays) != 2:
            raise WeightsError(f"{place}: expected a kernel and a bias, got one array")
        if len(arrays[1].shape) != 1:
            raise WeightsError(f"{place}: expected a bias of 1 dimension, got {arrays[1].shape}")
        datasets[name] = {
            role: checked_dataset(array, path, repr(name[:80]), role)
            for role, array in zip(("kernel", "bias"), arrays, strict=True)
        }
        size -= sum(dataset.size * dataset.dtype.itemsize for dataset in datasets[name].values())
        if size < 0:
            raise WeightsError(
                f"{place}: expected arrays that fit into the file, got more than its size"
            )
    return {
        name: {role: dataset[...] for role, dataset in pair.items()}
        for name, pair in datasets.items()
    }


def _walk(group: h5py.Group, name: str, place: str) -> h5py.Group | h5py.Dataset:
    """What lies at a path of plain links."""
    for part in filter(None, name.split("/")):
        group = member(group, part, place)
    return group


def _are_by_filter(found: dict[str, _Arrays]) -> bool:
    """Whether kernels are (out, in, height, width): the first one's height is its width."""
    first = next((a["kernel"].shape for a in found.values() if a["kernel"].ndim == 4), ())
    return first[:1] != first[1:2] and first[2:3] == first[3:]


def _oriented(arrays: _Arrays, by_filter: bool, order: str) -> _Arrays:
    """A convolution as (height, width, in, out), to be correlated."""
    kernel = arrays["kernel"]
    if kernel.ndim == 4 and by_filter:
        kernel = kernel.transpose(2, 3, 1, 0)
    if kernel.ndim == 4 and order == "theano":
        kernel = kernel[::-1, ::-1]
    return {**arrays, "kernel": kernel}


def _join_halves(layers: dict[str, _Arrays]) -> dict[str, _Arrays]:
    """One layer for two convolutions of the same shape that each see half of what the one before
    puts out.
    """
    surplus = sum(arrays["kernel"].ndim == 4 for arrays in layers.values()) - len(CONVOLUTIONS)
    joined: dict[str, _Arrays] = {}
    names, outputs = list(layers), 0
    while names:
        name = names.pop(0)
        arrays, shape = layers[name], layers[name]["kernel"].shape
        split = surplus > 0 and len(shape) == 4 and 2 * shape[2] == outputs
        if split and names and layers[names[0]]["kernel"].shape == shape:
            halves = sorted((name, names.pop(0)), key=_number)
            arrays = {
                role: np.concatenate([layers[half][role] for half in halves], -1)
                for role in ("kernel", "bias")
            }
            name, surplus = " and ".join(halves), surplus - 1
        joined[name], outputs = arrays, arrays["bias"].size
    return joined


def _number(name: str) -> tuple[int, str]:
    """By which ``conv_2_1`` comes before ``conv_2_2``, and ``conv9`` before ``conv10``."""
    digits = re.search(r"\d+$", name)
    return (int(digits[0][:9]) if digits else 0, name)


def _public_layers(layers: dict[str, _Arrays], path: Path) -> dict[str, _Arrays]:
    names = match_layers({name: arrays["kernel"].shape for name, arrays in layers.items()})
    if not names or not set(names.values()) <= set(PUBLIC_NAMES):
        shapes = (
            f"{name[:40]} {'x'.join(map(str, arrays['kernel'].shape))}"
            for name, arrays in layers.items()
        )
        found = ", ".join(shapes)[:300]
        raise WeightsError(
            f"{path}: expected the layers of an AlexNet, got {found or 'none with weights'}"
        )
    return renamed_layers(layers, names, path)


def _tell(path: Path, by_filter: bool, order: str, channels_first: bool) -> None:
    logger.warning(
        "%s: kernels (%s) %s; fc6's rows in %s order",
        path,
        "out, in, height, width" if by_filter else "height, width, in, out",
        "of Theano, turned by 180 degrees" if order == "theano" else "as in TensorFlow",
        "channel, height, width" if channels_first else "height, width, channel",
    )


def _as_channels_first(arrays: _Arrays) -> _Arrays:
    kernel = arrays["kernel"]
    return {**arrays, "kernel": kernel.transpose(3, 2, 0, 1) if kernel.ndim == 4 else kernel.T}
