"""Canonical weights out to a ``.caffemodel`` that Caffe and OpenCV read: V2 layers, ``shape``
blobs, packed floats.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from weights.atomic_files import atomic_write
from weights.caffe import VARIANT_PREFIX
from weights.canonical import Layers, to_channels_first

_BLOCK_VALUES = 1 << 21
_WEIGHTLESS = {"norm": b"LRN", "cnorm": b"LRN", "pool": b"Pooling", "prob": b"Softmax"}


def write_caffemodel(
    path: Path, layers: Layers, layer_order: Iterable[str] = (), variant: str | None = None
) -> None:
    """Write canonical ``{layer: (kernel, bias)}`` as float32, in ``layer_order`` and then in that
    of the dictionary.

    Of ``layer_order``, the network's public names, those without weights are written too, empty:
    the order of norm1 and pool1 distinguishes CaffeNet from AlexNet. The network's name gives the
    ``variant``. Blocks of 8 MB are converted
    to Caffe's order and written one by one, under another name until all is on disk, so that
    ``path`` never holds half a file. :func:`weights.caffe.read_caffemodel` gives the same bits
    back. Raises ``WeightsError`` where the file cannot be written.
    """
    with atomic_write(Path(path)) as (unfinished,), unfinished.open("wb") as file:
        if variant is not None:
            file.write(_delimited(1, VARIANT_PREFIX + variant.encode()))
        for name in dict.fromkeys((*layer_order, *layers)):
            if name in layers:
                _write_layer(file, name, layers, path)
            elif name.rstrip("0123456789") in _WEIGHTLESS:
                kind = _WEIGHTLESS[name.rstrip("0123456789")]
                file.write(_delimited(100, _delimited(1, name.encode()) + _delimited(2, kind)))


def _write_layer(file: BinaryIO, name: str, layers: Layers, path: Path) -> None:
    kernel, bias = layers[name]
    convolution = kernel.ndim == 4
    shape = [kernel.shape[axis] for axis in ((3, 2, 0, 1) if convolution else (1, 0))]
    head = _delimited(1, name.encode()) + _delimited(
        2, b"Convolution" if convolution else b"InnerProduct"
    )
    kernel_head, bias_head = _blob_head(shape), _blob_head(bias.shape)
    file.write(
        _tag(100)
        + _varint(len(head) + len(kernel_head) + len(bias_head) + 4 * (kernel.size + bias.size))
    )
    file.write(head + kernel_head)
    for block in _kernel_blocks(name, layers, path):
        file.write(np.ascontiguousarray(block, "<f4"))
    file.write(bias_head)
    file.write(np.ascontiguousarray(bias, "<f4"))


def _kernel_blocks(name: str, layers: Layers, path: Path) -> Iterator[np.ndarray]:
    """The kernel in Caffe's order, some filters at a time; conv5 comes along because fc6's order
    follows from it.
    """
    kernel, bias = layers[name]
    around = {"conv5": layers["conv5"]} if "conv5" in layers else {}
    filters = kernel.shape[-1]
    step = max(1, _BLOCK_VALUES * filters // kernel.size)
    for start in range(0, filters, step):
        yield to_channels_first({**around, name: (kernel[..., start : start + step], bias)}, path)[
            name
        ][0]


def _blob_head(shape: list[int] | tuple[int, ...]) -> bytes:
    """All of a ``blobs`` field but the values that follow it."""
    size = 4 * int(np.prod(shape))
    inner = _delimited(7, _delimited(1, b"".join(map(_varint, shape)))) + _tag(5) + _varint(size)
    return _tag(7) + _varint(len(inner) + size) + inner


def _delimited(number: int, payload: bytes) -> bytes:
    return _tag(number) + _varint(len(payload)) + payload


def _tag(number: int) -> bytes:
    return _varint(number << 3 | 2)


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])
