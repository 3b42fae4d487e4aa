"""Statistics of weights: shape, range and spread of every array, and where two sets of them
differ, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from weights.canonical import Layers

_CHUNK_VALUES = 1 << 16
_CHANNELS_LAST = (
    "kernels (height, width, in / groups, out), dense (in, out), "
    "fc6's inputs in height, width, channel order"
)
_CHANNELS_FIRST = (
    "kernels (out, in / groups, height, width), dense (out, in), "
    "fc6's inputs in channel, height, width order"
)
AXES_IN_FILE = {
    "caffemodel": _CHANNELS_FIRST,
    "pth": _CHANNELS_FIRST,
    "safetensors": _CHANNELS_FIRST,
    "onnx": _CHANNELS_FIRST,
    "npy": _CHANNELS_LAST,
    "npz": _CHANNELS_LAST,
    "mat": "kernels (height, width, in / groups, out), fc6 to fc8 too; conv1 takes RGB",
    "weights.h5": _CHANNELS_LAST,
    "keras1.h5": "as the log says: Keras 1 and 2 wrote several orders",
    "slim": _CHANNELS_LAST,
    "keras": _CHANNELS_LAST,
}
"""How each format arranges the axes."""
CANONICAL_AXES = _CHANNELS_LAST
"""How every reader arranges them."""


@dataclass(frozen=True)
class ArrayStatistics:
    """Of one kernel or bias in canonical form. ``std`` is the population's."""

    layer: str
    role: str
    shape: tuple[int, ...]
    dtype: str
    minimum: float
    mean: float
    maximum: float
    std: float


def array_statistics(layers: Layers) -> list[ArrayStatistics]:
    """A row for each array of ``layers``, kernel before bias; sums in float64, no copy of an array
    is made.
    """
    return [
        _statistics(layer, role, array)
        for layer, arrays in layers.items()
        for role, array in zip(("kernel", "bias"), arrays, strict=True)
    ]


def differences(expected: Layers, found: Layers) -> list[str]:
    """What of ``found`` is not bit for bit ``expected``, both float32, in words; empty where
    nothing is.

    0.0 and -0.0 differ, and so do the same numbers in another shape.
    """
    faults = [f"{name} is missing" for name in expected if name not in found]
    faults += [f"{name} is extra" for name in found if name not in expected]
    for name in [name for name in expected if name in found]:
        for role, a, b in zip(("kernel", "bias"), expected[name], found[name], strict=True):
            faults += _difference(f"{name} {role}", a, b)
    return faults


def _difference(place: str, expected: np.ndarray, found: np.ndarray) -> list[str]:
    if expected.shape != found.shape:
        return [f"{place}: expected shape {expected.shape}, got {found.shape}"]
    different, first, start = 0, None, 0
    for a, b in np.nditer(
        [expected, found], ["external_loop", "buffered"], order="C", buffersize=_CHUNK_VALUES
    ):
        unequal = a.view(np.uint32) != b.view(np.uint32)
        if first is None and unequal.any():
            first = start + int(unequal.argmax())
        different += int(unequal.sum())
        start += a.size
    if first is None:
        return []
    index = tuple(int(i) for i in np.unravel_index(first, expected.shape))
    return [
        f"{place}: {different} of {expected.size} numbers, first at {list(index)}: expected "
        f"{expected[index]!s}, "
        f"got {found[index]!s}"
    ]


def _statistics(layer: str, role: str, array: np.ndarray) -> ArrayStatistics:
    mean = float(array.mean(dtype=np.float64))
    squares = sum(float(np.square(chunk - mean).sum()) for chunk in _chunks(array))
    return ArrayStatistics(
        layer,
        role,
        array.shape,
        array.dtype.name,
        float(array.min()),
        mean,
        float(array.max()),
        math.sqrt(squares / array.size),
    )


def _chunks(array: np.ndarray) -> Iterator[np.ndarray]:
    for chunk in np.nditer(
        array, ["external_loop", "buffered"], order="K", buffersize=_CHUNK_VALUES
    ):
        yield chunk.astype(np.float64)
