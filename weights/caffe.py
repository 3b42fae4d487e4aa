"""Caffe's files: ``.caffemodel`` weights in both encodings, and the mean image, ``.binaryproto``
or ``.npy``.

Field numbers are those of caffe.proto
(https://github.com/BVLC/caffe/blob/master/src/caffe/proto/caffe.proto).
"""

from __future__ import annotations

import math
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from weights.arrays import first_non_finite, read_npy_header, view_array
from weights.canonical import WeightSet, check_variant, from_channels_first
from weights.errors import WeightsError
from weights.formats import describe_non_weights
from weights.layer_matching import match_layers, public_order, renamed_layers
from weights.memory_map import map_file
from weights.protobuf import VARINT, Message


class _Encoding(NamedTuple):
    """Where a layer message of this generation keeps its name, its type and its blobs, and what
    types mark normalization and pooling.
    """

    field: str
    name: int
    type: int
    blobs: int
    weightless: dict[int | str, str]


# V1 (2014) and V2.
_ENCODINGS = {
    2: _Encoding("layers", name=4, type=5, blobs=6, weightless={15: "norm", 17: "pool"}),
    100: _Encoding(
        "layer", name=1, type=2, blobs=7, weightless={"LRN": "norm", "Pooling": "pool"}
    ),
}
VARIANT_PREFIX = b"alexnet_keras/"
"""What precedes the variant in the name of a network that we write."""
_MAX_NAME_BYTES = 100
_NETWORK_NAME = 1
_V0_LAYER = 1
_DATA, _SHAPE, _DOUBLE_DATA = 5, 7, 8
_LEGACY_SHAPE = {1: "num", 2: "channels", 3: "height", 4: "width"}
_MAX_LAYERS = 1000
_MAX_DIMENSIONS = 4
_MAX_MEAN_SIDE = 2048
_MEAN_DTYPES = {"|u1"} | {order + kind for order in "<>" for kind in ("f2", "f4", "f8")}


def read_caffemodel(path: Path) -> WeightSet:
    """Weights of a ``.caffemodel``, V1 (the official files of 2014) or V2, in canonical form as
    float32.

    Arrays are views of the memory-mapped file wherever its encoding and the canonical order allow:
    read-only, perhaps unaligned. ``layer_order`` names the public layers, weighted or not, as the
    file lists them. Layers of other names get the public ones if they make an AlexNet
    (:func:`weights.layer_matching.match_layers`), and are kept as they are if not. Raises
    ``WeightsError`` naming layer, blob and byte where the file is damaged, not a caffemodel, of
    the V0 encoding, without weights, or holds NaN or infinity.
    """
    path = Path(path)
    network = _open(path)
    layers, order = {}, {}
    fields = (field for field in network if field.number in _ENCODINGS)
    for index, field in enumerate(fields):
        encoding = _ENCODINGS[field.number]
        layer = network.message(field, f"{encoding.field}[{index}]")
        if index == _MAX_LAYERS:
            raise layer.error(field.position, f"at most {_MAX_LAYERS} layers", "more")
        name, weights = _read_layer(layer, encoding)
        if weights and name in layers:
            raise layer.error(field.position, "every name once", f"a second {name} with weights")
        if weights:
            layers[name] = weights
        order[name] = _kind(layer, encoding)
    if not layers:
        raise network.error(network.end, "a Caffe network with weights", "no layer that has any")
    names = match_layers({name: _canonical_shape(pair[0]) for name, pair in layers.items()})
    return WeightSet(
        from_channels_first(renamed_layers(layers, names, path), path),
        path,
        "caffemodel",
        public_order(order, names),
        _variant(network),
    )


def read_mean(path: Path) -> np.ndarray:
    """Caffe's mean, BGR in the file, as (H, W, 3) or (3,) float32 in RGB order and grey levels
    (0-255).

    Reads a ``.binaryproto`` (a BlobProto) or a plain ``.npy``, detected from the content. A
    ``.npy`` of shape (3, H, W) or (3,) is Caffe's, BGR; one with its channels last, (H, W, 3), is
    RGB as what this function returns. Raises ``WeightsError`` for anything else, a pickle
    included, and for values that are no grey levels.
    """
    blob = _open(Path(path), "mean")
    is_npy = blob.data[:6] == b"\x93NUMPY"
    mean = _read_npy(blob) if is_npy else _read_blob(blob)
    if is_npy and mean.ndim == 3 and mean.shape[2] == 3 != mean.shape[0]:
        mean = np.moveaxis(mean, 2, 0)[::-1]
    if mean.ndim == 4 and len(mean) == 1:
        mean = mean[0]
    if (
        mean.ndim not in (1, 3)
        or len(mean) != 3
        or not 0 < min(mean.shape) <= max(mean.shape) <= _MAX_MEAN_SIDE
    ):
        raise blob.error(
            0,
            f"shape (3,), (3, H, W) or (H, W, 3), at most {_MAX_MEAN_SIDE} wide and high",
            mean.shape,
        )
    if not (mean.min() >= 0 and mean.max() <= 255):
        raise blob.error(0, "grey levels, 0 to 255", f"{mean.min():g} to {mean.max():g}")
    return np.ascontiguousarray(np.moveaxis(mean[::-1], 0, -1), np.float32)


def _variant(network: Message) -> str | None:
    """The variant in the name of a network that :mod:`weights.caffe_writer` wrote; others' names
    mean nothing here.
    """
    field = next((field for field in network if field.number == _NETWORK_NAME), None)
    if field is None:
        return None
    name = network.data[field.start : min(field.end, field.start + _MAX_NAME_BYTES)]
    if not name.startswith(VARIANT_PREFIX):
        return None
    variant = name.removeprefix(VARIANT_PREFIX).decode("latin-1")
    return check_variant(variant, f"{network.path}: name")


def _open(path: Path, place: str = "") -> Message:
    data = map_file(path)
    message = Message(path, data, 0, len(data), place)
    if foreign := describe_non_weights(data[:4096]):
        raise message.error(0, "Caffe's binary protobuf", foreign)
    return message


def _read_layer(
    layer: Message, encoding: _Encoding
) -> tuple[str, tuple[np.ndarray, np.ndarray] | None]:
    """A layer's name and its (kernel, bias) in Caffe's order, None where it has no weights."""
    if encoding.field == "layers" and any(field.number == _V0_LAYER for field in layer):
        raise layer.error(
            layer.start,
            "V1 or V2 layers",
            "the V0 encoding of 2013 (Caffe's upgrade_net_proto_binary brings it up to date)",
        )
    name = layer.text(encoding.name, "name")
    layer = layer.within(name)
    blobs = list(islice((field for field in layer if field.number == encoding.blobs), 3))
    if not blobs:
        return name, None
    if not name or len(blobs) != 2:
        raise layer.error(
            layer.start,
            "a name and 2 blobs (kernel, bias)",
            f"name {name!r} and {len(blobs) if len(blobs) < 3 else '3 or more'}",
        )
    kernel, bias = (
        _read_blob(layer.message(field, f"blobs[{index}]")) for index, field in enumerate(blobs)
    )
    bias = bias.reshape(-1) if bias.size == max(bias.shape) else bias
    if kernel.ndim not in (2, 4) or bias.shape != kernel.shape[:1]:
        raise layer.error(
            layer.start,
            "a kernel of 2 or 4 dimensions and a bias for each of its outputs",
            f"{_times(kernel.shape)} and {_times(bias.shape)}",
        )
    return name, (kernel, bias)


def _kind(layer: Message, encoding: _Encoding) -> str | None:
    """``norm`` or ``pool`` of a layer of that type, None of any other."""
    for field in layer:
        if field.number == encoding.type:
            raw = layer.data[field.start : min(field.end, field.start + _MAX_NAME_BYTES)]
            value = field.value if field.wire_type == VARINT else raw.decode("latin-1")
            return encoding.weightless.get(value)
    return None


def _canonical_shape(kernel: np.ndarray) -> tuple[int, ...]:
    """The shape of Caffe's kernel after :func:`weights.canonical.from_channels_first`."""
    return tuple(kernel.shape[axis] for axis in ((2, 3, 1, 0) if kernel.ndim == 4 else (1, 0)))


def _read_blob(blob: Message) -> np.ndarray:
    """A BlobProto's values in the shape that it states; ``diff`` is ignored."""
    shape = _read_shape(blob)
    values = blob.numbers(_DOUBLE_DATA, "double_data", "<f8")
    if not len(values):
        values = blob.numbers(_DATA, "data", "<f4")
    if len(values) != math.prod(shape):
        raise blob.error(blob.start, f"{_times(shape)} = {math.prod(shape)} values", len(values))
    with np.errstate(all="ignore"):
        values = values.astype(np.float32, copy=False)
    first = first_non_finite(values)
    if first is not None:
        raise blob.error(blob.start, "finite numbers", f"{values[first]} at value {first}")
    return values.reshape(shape)


def _read_shape(blob: Message) -> tuple[int, ...]:
    """The four numbers of V1 or the BlobShape of V2; where both stand, Caffe takes the four.

    V1 writes the shape (out, in) of a dense kernel as (1, 1, out, in).
    """
    legacy, dimensions = {}, []
    for field in blob:
        if field.number in _LEGACY_SHAPE:
            blob.expect(field, _LEGACY_SHAPE[field.number], VARINT)
            (legacy[field.number],) = blob.integers(field, _LEGACY_SHAPE[field.number])
        elif field.number == _SHAPE:
            shape = blob.message(field, "shape")
            for dim in (dim for dim in shape if dim.number == 1):
                dimensions += islice(shape.integers(dim, "dim"), _MAX_DIMENSIONS + 1)
        if len(dimensions) > _MAX_DIMENSIONS:
            raise blob.error(field.position, f"at most {_MAX_DIMENSIONS} dimensions", "more")
    if legacy:
        dimensions = [legacy.get(number, 0) for number in _LEGACY_SHAPE]
        dimensions = dimensions[2:] if dimensions[:2] == [1, 1] else dimensions
    if not dimensions or min(dimensions) < 1:
        raise blob.error(blob.start, "a shape of positive numbers", _times(dimensions) or "none")
    return tuple(dimensions)


def _read_npy(mean: Message) -> np.ndarray:
    shape, fortran, dtype, start = read_npy_header(memoryview(mean.data), str(mean.path))
    if dtype.str not in _MEAN_DTYPES:
        raise mean.error(0, "numbers of dtype u1, f2, f4 or f8", f"dtype {dtype.str[:20]!r}")
    try:
        return view_array(memoryview(mean.data)[start:], dtype, shape, fortran)
    except ValueError as error:
        raise WeightsError(f"{mean.path}: mean, byte {start}: {error}") from None


def _times(shape: tuple[int, ...] | list[int]) -> str:
    return "x".join(map(str, shape))
