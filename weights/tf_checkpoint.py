"""TensorFlow's checkpoints of AlexNet, as TF-Slim's ``alexnet_v2`` writes them, read without
TensorFlow: the index names every tensor, and data files hold their bytes.
"""

from __future__ import annotations

import math
import mmap
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from weights.arrays import BFLOAT16, is_shape, to_canonical, view_array
from weights.canonical import WeightSet
from weights.errors import WeightsError
from weights.memory_map import map_file
from weights.protobuf import VARINT, Field, Message
from weights.table import read_table

_NAME = re.compile(r"(?:.*/)?(conv[1-5]|fc[678])/(weights|biases)")
_ROLES = {"weights": "kernel", "biases": "bias"}
# TensorFlow's numbers of types (types.proto).
_DTYPES = {1: np.dtype("<f4"), 2: np.dtype("<f8"), 14: BFLOAT16, 19: np.dtype("<f2")}
_NUM_SHARDS, _ENDIANNESS = 1, 2
_DTYPE, _SHAPE, _SHARD, _OFFSET, _SIZE, _SLICES = 1, 2, 3, 4, 5, 7
_MAX_SHARDS = 100
_MAX_MESSAGE_BYTES = 1000


class _Entry(NamedTuple):
    """Where a tensor lies."""

    dtype: np.dtype
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int


def read_checkpoint(path: Path) -> WeightSet:
    """Weights of a TensorFlow checkpoint, in canonical form as float32; float32 arrays are views
    of its data files.

    ``path``: its ``.index`` file, beside ``.data-00000-of-00001``. Variables are named
    ``conv1/weights`` (height, width, in / groups, out), ``conv1/biases`` ... ``fc8/biases`` in any
    scope; fc6 to fc8 are convolutions, as in TF-Slim, which makes the variant ``slim``, or
    matrices (in, out), rows in height, width, channel order. All else is left out: slots of
    optimizers, moving averages, the global step. Raises ``WeightsError`` naming the variable.
    """
    path = Path(path)
    table = read_table(map_file(path), path)
    shards = _open_shards(table.pop("", None), path)
    found: dict[str, dict[str, np.ndarray]] = {}
    for name, message in table.items():
        if match := _NAME.fullmatch(name):
            layer, role = match[1], _ROLES[match[2]]
            message = message.within(name[:200])
            if role in found.setdefault(layer, {}):
                raise message.error(message.start, f"one variable for {layer}'s {role}", "two")
            found[layer][role] = _read_array(_entry(message), shards, message)
    if not found:
        raise WeightsError(
            f"{path}: expected variables of AlexNet such as alexnet_v2/conv1/weights, got "
            f"{', '.join(table)[:200] or 'none'}"
        )
    convolutional = any(name[:2] == "fc" and _is_kernel_4d(found[name]) for name in found)
    size = sum(map(len, shards))
    layers = to_canonical({name: _as_dense(name, found[name]) for name in found}, path, size)
    return WeightSet(layers, path, "slim", variant="slim" if convolutional else None)


def _open_shards(header: Message | None, path: Path) -> list[mmap.mmap]:
    """The data files that the header counts."""
    header = None if header is None else _small(header)
    values = {} if header is None else {field.number: field.value for field in header}
    shards = values.get(_NUM_SHARDS, 0)
    if not 0 < shards <= _MAX_SHARDS or values.get(_ENDIANNESS, 0):
        raise WeightsError(
            f"{path}: expected a TensorFlow checkpoint of format V2, little-endian, got another "
            "(tf.compat.v1.train.Saver saves one of format V1 again)"
        )
    prefix = path.name.removesuffix(".index")
    names = [f"{prefix}.data-{shard:05d}-of-{shards:05d}" for shard in range(shards)]
    missing = [name for name in names if not path.with_name(name).exists()]
    if missing:
        raise WeightsError(f"{path}: expected {missing[0]} beside it, got none")
    return [map_file(path.with_name(name)) for name in names]


def _entry(message: Message) -> _Entry:
    numbers = dict.fromkeys((_DTYPE, _SHARD, _OFFSET, _SIZE), 0)
    shape: tuple[int, ...] = ()
    for field in _small(message):
        if field.number in numbers:
            message.expect(field, "entry", VARINT)
            numbers[field.number] = field.value
        elif field.number == _SHAPE:
            shape = tuple(_dimensions(message, field))
        elif field.number == _SLICES:
            raise message.error(field.position, "a whole variable", "a partitioned one")
    if numbers[_DTYPE] not in _DTYPES:
        raise message.error(
            message.start, "float16, bfloat16, float32 or float64", f"type {numbers[_DTYPE]}"
        )
    return _Entry(_DTYPES[numbers[_DTYPE]], shape, *list(numbers.values())[1:])


def _small(message: Message) -> Message:
    """``message`` itself; one that millions of fields would make slow to read is refused."""
    size = message.end - message.start
    if size > _MAX_MESSAGE_BYTES:
        raise message.error(message.start, f"at most {_MAX_MESSAGE_BYTES} bytes", size)
    return message


def _dimensions(message: Message, shape: Field) -> Iterator[int]:
    for dimension in message.message(shape, "shape"):
        if dimension.number == 2:
            sizes = message.message(dimension, "dimension")
            yield next((field.value for field in sizes if field.number == 1), 0)


def _read_array(entry: _Entry, shards: list[mmap.mmap], message: Message) -> np.ndarray:
    """A view of its shard."""
    end = entry.offset + entry.size
    if entry.shard >= len(shards) or end > len(shards[entry.shard]):
        raise message.error(
            message.start,
            "a variable within the data files",
            f"bytes {entry.offset} to {end} of file {entry.shard} (truncated?)",
        )
    if not is_shape(entry.shape):
        raise message.error(message.start, "at most 8 dimensions", str(entry.shape)[:80])
    data = memoryview(shards[entry.shard])[entry.offset : end]
    try:
        return view_array(data, entry.dtype, entry.shape)
    except ValueError as error:
        raise message.error(message.start, "as many numbers as its shape", str(error)) from None


def _is_kernel_4d(arrays: dict[str, np.ndarray]) -> bool:
    return "kernel" in arrays and arrays["kernel"].ndim == 4


def _as_dense(name: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A fully connected layer that is a convolution over all its input, as the matrix."""
    if not (name.startswith("fc") and _is_kernel_4d(arrays)):
        return arrays
    kernel = arrays["kernel"]
    rows = math.prod(kernel.shape[:3])
    return {**arrays, "kernel": kernel.reshape(rows, -1)} if rows else arrays
