"""Canonical weights out to a ``.caffemodel`` that Caffe and OpenCV read: V2 layers, ``shape``
blobs, packed floats.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from weights.atomic_files import atomic_write
from weights.caffe import VARIANT_PREFIX
from weights.canonical import Layers, channels_first_blocks, channels_first_shape

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
    head = _delimited(1, name.encode()) + _delimited(
        2, b"Convolution" if kernel.ndim == 4 else b"InnerProduct"
    )
    kernel_head, bias_head = _blob_head(channels_first_shape(kernel)), _blob_head(bias.shape)
    file.write(
        _tag(100)
        + _varint(len(head) + len(kernel_head) + len(bias_head) + 4 * (kernel.size + bias.size))
    )
    file.write(head + kernel_head)
    for block in channels_first_blocks(name, layers, path):
        file.write(np.ascontiguousarray(block, "<f4"))
    file.write(bias_head)
    file.write(np.ascontiguousarray(bias, "<f4"))


def _blob_head(shape: tuple[int, ...]) -> bytes:
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
