"""MatConvNet's networks in MATLAB's ``.mat`` files, such as ``imagenet-caffe-alex.mat``.

A network is a struct, or its fields as variables: ``layers``, and ``meta`` with the mean image and
the class names. Every weighted layer is a convolution of (height, width, in / groups, out), fc6 to
fc8 too, and conv1 takes RGB, which MatConvNet's importer makes of Caffe's BGR
(https://github.com/vlfeat/matconvnet/blob/master/utils/import-caffe.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from weights.arrays import to_canonical
from weights.atomic_files import atomic_write
from weights.canonical import Layers, WeightSet, check_variant, fc6_channels
from weights.errors import WeightsError
from weights.layer_matching import (
    CONVOLUTIONS,
    DENSE,
    PUBLIC_NAMES,
    match_layers,
    public_order,
    renamed_layers,
)
from weights.matlab import HEADER_BYTES, Matrix, read_variables

CHANNEL_ORDER = "RGB"
"""Of conv1's inputs."""
_CONVOLUTION_TYPES = ("conv", "dagnn.Conv")
_KINDS = {
    "lrn": "norm",
    "normalize": "norm",
    "dagnn.LRN": "norm",
    "pool": "pool",
    "dagnn.Pooling": "pool",
}
_TYPES = {"norm": "lrn", "cnorm": "spnorm", "pool": "pool", "prob": "softmax"}
_VARIABLES = ("layers", "params", "meta", "normalization", "classes")
_HEADER = b"MATLAB 5.0 MAT-file, written by alexnet_keras".ljust(HEADER_BYTES - 12)
_CACHE_LINE_VALUES = 16


class _Layer(NamedTuple):
    """A layer of the file; ``weights``: kernel and bias, none where it has none."""

    name: str
    type: str
    weights: list[Matrix]


def read_mat(path: Path) -> WeightSet:
    """Weights of a MatConvNet network in canonical form as float32; float32 kernels but fc6's are
    views of the file, or of what was unpacked of it.

    Reads SimpleNN's cells ``layers`` with ``weights`` or, as before 2015, ``filters`` and
    ``biases``, and DagNN's ``layers`` and ``params``, numbers of any real class. Layers of other
    names get the public ones if they make an AlexNet. The mean image and the class names come
    along. Raises ``WeightsError`` naming the matrix that is damaged or of another kind.
    """
    path = Path(path)
    network = _find_network(path)
    kernels, kinds = {}, {}
    size = 0
    for layer in _layers(network):
        if layer.name in kinds:
            raise WeightsError(f"{path}: expected every layer once, got two named {layer.name!r}")
        kinds[layer.name] = _KINDS.get(layer.type)
        if layer.weights:
            kernels[layer.name] = _parameters(layer, len(kernels))
            size += sum(array.nbytes for array in kernels[layer.name])
    names = match_layers({name: kernel.shape for name, (kernel, _) in kernels.items()})
    found = {
        name: {"kernel": kernel, "bias": bias}
        for name, (kernel, bias) in renamed_layers(kernels, names, path).items()
    }
    meta = _fields(network.get("meta")) or network
    variant = meta["variant"].text() if "variant" in meta else None
    return WeightSet(
        to_canonical(found, path, size),
        path,
        "mat",
        public_order(kinds, names),
        None if variant is None else check_variant(variant, f"{path}: meta.variant"),
        CHANNEL_ORDER,
        _mean(_fields(meta.get("normalization"))),
        _class_names(_fields(meta.get("classes"))),
    )


def write_mat(
    path: Path,
    layers: Layers,
    layer_order: Iterable[str] = (),
    variant: str | None = None,
    fields: Mapping[str, Mapping[str, object]] | None = None,
) -> None:
    """Write canonical layers as a SimpleNN network of float32, which MATLAB and SciPy read.

    Args:
        path: changes in one step.
        layers: conv1 takes RGB.
        layer_order: the network's public names, those without weights too.
        variant: recorded as ``meta.variant``.
        fields: further ones of each layer by name, such as ``stride`` and ``pad``; with ``relu``
            true a ReLU follows.

    :func:`read_mat` gives the same bits back. Raises ``WeightsError`` where the file cannot be
    written.
    """
    import scipy.io

    cells = []
    for name in dict.fromkeys((*layer_order, *layers)):
        others = dict((fields or {}).get(name, {}))
        activated = others.pop("relu", False)
        if name in layers:
            pair = _as_convolution(name, layers, path)
            cells.append({"name": name, "type": "conv", "weights": _row(pair), **others})
        elif name.rstrip("0123456789") in _TYPES:
            cells.append({"name": name, "type": _TYPES[name.rstrip("0123456789")], **others})
        if activated:
            cells.append({"name": f"relu{name[-1]}", "type": "relu"})
    meta = {} if variant is None else {"meta": {"variant": variant}}
    network = {"layers": _row(cells)} | meta
    with atomic_write(Path(path)) as (temporary,):
        scipy.io.savemat(temporary, network, appendmat=False)
        with open(temporary, "r+b") as file:
            file.write(_HEADER)  # SciPy's holds the time: the same layers would give other bytes


def _find_network(path: Path) -> dict[str, Matrix]:
    """The fields of the network: variables of their own, or those of the one struct that has
    layers.
    """
    variables = read_variables(path, _VARIABLES)
    if "layers" in variables:
        return variables
    for variable in variables.values():
        fields = _fields(variable)
        if "layers" in fields:
            return fields
    raise WeightsError(
        f"{path}: expected a MatConvNet network with layers, got "
        f"{', '.join(variables)[:200] or 'no struct and no cell array named layers'}"
    )


def _layers(network: dict[str, Matrix]) -> Iterator[_Layer]:
    """The layers of a SimpleNN network, a cell array, or of a DagNN, a struct array."""
    layers = network["layers"]
    if layers.is_struct:
        params = {
            _text(param, "name", layers): param.get("value")
            for param in (network["params"].structs() if "params" in network else ())
        }
        elements = layers.structs()
    else:
        params = None
        elements = [_one(cell) for cell in layers.cells()]
    for index, fields in enumerate(elements):
        kind = _text(fields, "type", layers)
        name = _text(fields, "name", layers) if "name" in fields else f"layer_{index + 1}"
        weighted = kind in _CONVOLUTION_TYPES
        yield _Layer(name, kind, _weights(fields, params, layers) if weighted else [])


def _weights(
    fields: dict[str, Matrix], params: dict[str, Matrix | None] | None, layers: Matrix
) -> list[Matrix]:
    if params is not None:
        names = [cell.text() for cell in fields["params"].cells()] if "params" in fields else []
        found = [params.pop(name, None) for name in names]  # used twice, one could fill the memory
    elif "weights" in fields:
        found = fields["weights"].cells()
    else:
        found = [fields.get("filters"), fields.get("biases")]
    if len(found) != 2 or None in found:
        raise layers.error("filters and biases of every convolution", f"{len(found)} arrays")
    return found


def _parameters(layer: _Layer, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Kernel and bias of a weighted layer, the ``index``-th of the file: canonical, but of any
    dtype.
    """
    kernel, bias = (matrix.numbers() for matrix in layer.weights)
    if kernel.ndim > 4 or bias.size != max(bias.shape):
        raise layer.weights[0].error(
            "filters of 4 dimensions and a row of biases", f"{kernel.shape} and {bias.shape}"
        )
    kernel = kernel.reshape(kernel.shape + (1,) * (4 - kernel.ndim), order="F")
    public = layer.name in PUBLIC_NAMES
    if layer.name in DENSE or (not public and index >= len(CONVOLUTIONS)):
        kernel = _as_dense(kernel)
    return kernel, bias.reshape(-1)


def _as_dense(kernel: np.ndarray) -> np.ndarray:
    """(height, width, in, out), column-major, as (height * width * in, out); fc6 is copied by
    cache lines, as float32.
    """
    height, width, inputs, out = kernel.shape
    if height == width == 1:
        return kernel[0, 0]
    copy = np.empty(kernel.shape, np.float32)
    with np.errstate(over="ignore"):
        for start in range(0, out, _CACHE_LINE_VALUES):
            columns = slice(start, start + _CACHE_LINE_VALUES)
            copy[..., columns] = kernel[..., columns]
    return copy.reshape(height * width * inputs, out)


def _as_convolution(name: str, layers: Layers, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Filters (height, width, in, out) and biases (1, out), float32."""
    kernel, bias = layers[name]
    if kernel.ndim == 2:
        rows, out = kernel.shape
        channels = fc6_channels(rows, layers, -1, path) if name == "fc6" else rows
        side = math.isqrt(rows // channels)
        kernel = kernel.reshape(side, side, channels, out)
    return np.asarray(kernel, np.float32), np.asarray(bias, np.float32)[None]


def _row(items: Iterable) -> np.ndarray:
    """A row of cells."""
    items = list(items)
    cells = np.empty((1, len(items)), object)
    for index, item in enumerate(items):
        cells[0, index] = item
    return cells


def _fields(matrix: Matrix | None) -> dict[str, Matrix]:
    """The fields of a struct, none of anything else."""
    return _one(matrix) if matrix is not None and matrix.is_struct else {}


def _one(matrix: Matrix) -> dict[str, Matrix]:
    elements = matrix.structs()
    if len(elements) != 1:
        raise matrix.error("one struct", f"{len(elements)}")
    return elements[0]


def _text(fields: dict[str, Matrix], name: str, layers: Matrix) -> str:
    if name not in fields:
        raise layers.error(f"layers with a {name}", "one without")
    return fields[name].text()


def _mean(normalization: dict[str, Matrix]) -> np.ndarray | None:
    """``averageImage``, an image or a colour; None where there is none."""
    matrix = normalization.get("averageImage")
    if matrix is None or not math.prod(matrix.shape) or matrix.shape[-1] != 3:
        return None
    mean = matrix.numbers()
    if not (mean.min() >= 0 and mean.max() <= 255):
        raise matrix.error("grey levels, 0 to 255", f"{mean.min():g} to {mean.max():g}")
    mean = np.ascontiguousarray(mean, np.float32)
    return mean.reshape(3) if mean.size == 3 else mean


def _class_names(classes: dict[str, Matrix]) -> tuple[str, ...]:
    names = classes.get("description", classes.get("name"))
    return tuple(cell.text() for cell in names.cells()) if names is not None else ()
