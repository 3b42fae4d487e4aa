"""What readers of weights share: checked float32 pairs and ``.npy`` headers."""

from __future__ import annotations

import io
import math
import re
import warnings
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from weights.canonical import Layers, from_channels_first
from weights.errors import NonFiniteError, WeightsError, error_reason

BFLOAT16 = np.dtype([("bfloat16", "<u2")])
"""How a reader marks bfloat16, which NumPy lacks: the upper 16 bits of a float32."""
_MAX_HEADER_BYTES = 4096


def to_canonical(
    found: dict[str, dict[str, np.ndarray]], path: Path, size: int, channels_first: bool = False
) -> Layers:
    """``{layer: {"kernel", "bias"}}`` in canonical form as float32, by layer name; arrays
    that already are float32 in this form are not copied.

    ``channels_first``: the arrays are in PyTorch's order. Raises ``WeightsError`` for a missing
    kernel or bias, a shape that is neither convolution nor dense, NaN and Inf, and where the
    arrays hold more bytes than ``size``, the file's: a hostile file refers to one array many times
    to exhaust the memory.
    """
    layers = {}
    for layer in sorted(found):
        if not re.fullmatch(r"\w{1,64}", layer, re.ASCII):
            raise WeightsError(
                f"{path}: expected a layer's name such as conv1, got {layer[:80]!r}"
            )
        for role in ("kernel", "bias"):
            if role not in found[layer]:
                raise WeightsError(f"{path}: {layer}: expected a kernel and a bias, got no {role}")
        kernel, bias = layers[layer] = found[layer]["kernel"], found[layer]["bias"]
        _check_shapes(kernel, bias, f"{path}: {layer}")
        size -= kernel.nbytes + bias.nbytes
        if size < 0:
            raise WeightsError(
                f"{path}: {layer}: expected arrays that fit into the file, got more than its size"
            )
    if not layers:
        raise WeightsError(f"{path}: expected layers such as conv1, got none")
    # Before float32, so that fc6, which this copies, is copied as small as it is stored.
    if channels_first:
        layers = from_channels_first(layers, path)
    for layer in layers:
        kernel, bias = layers[layer]
        layers[layer] = (
            _finite_float32(kernel, f"{path}: {layer} kernel"),
            _finite_float32(bias, f"{path}: {layer} bias"),
        )
    return layers


def _check_shapes(kernel: np.ndarray, bias: np.ndarray, place: str) -> None:
    if kernel.ndim not in (2, 4) or kernel.size == 0:
        raise WeightsError(
            f"{place} kernel: expected 4 dimensions (convolution) or 2 (dense), none 0, got "
            f"{kernel.shape}"
        )
    if bias.ndim != 1 or bias.size == 0:
        raise WeightsError(f"{place} bias: expected 1 dimension, not 0, got {bias.shape}")


def _finite_float32(array: np.ndarray, place: str) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):
        if array.dtype.names:
            bits = array["bfloat16"].astype(np.uint32)
            bits <<= 16
            values = bits.view(np.float32)
        else:
            values = array.astype(np.float32, copy=False)
    if first_non_finite(values, order="K") is not None:  # the order in memory is the fast one
        index = tuple(int(i) for i in np.unravel_index(first_non_finite(values), values.shape))
        raise NonFiniteError(
            f"{place}{list(index)}: expected a finite float32, got {values[index]}"
        )
    return values


def first_non_finite(values: np.ndarray, order: str = "C") -> int | None:
    """The position in that order of the first NaN or infinity, None where there is none; in
    chunks, so that no mask as large as fc6 is made.
    """
    start = 0
    for chunk in np.nditer(values, ["external_loop", "buffered"], order=order, buffersize=1 << 16):
        finite = np.isfinite(chunk)
        if not finite.all():
            return start + int(finite.argmin())
        start += chunk.size
    return None


def read_npy_header(data: memoryview, place: str) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """Shape, Fortran order, dtype and length of the header of a ``.npy``; ``place`` begins every
    error.

    NumPy parses the header, of which it sees no more than the first few kilobytes; the shape is
    only what the file claims.
    """
    file = io.BytesIO(data[:_MAX_HEADER_BYTES])
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    try:
        with warnings.catch_warnings(action="ignore"):  # of headers by Python 2
            shape, fortran, dtype = readers[npy.read_magic(file)](file)
    except Exception as error:  # of a parser of Python literals: anything
        reason = error_reason(error)[:120]
        raise WeightsError(f"{place}: expected the .npy format, got: {reason}") from None
    if not is_shape(shape):
        raise WeightsError(f"{place}: .npy header: expected a shape, got {str(shape)[:80]}")
    return shape, fortran, dtype, file.tell()


def is_shape(value: object) -> bool:
    """Whether ``value`` is a tuple of at most 8 integers from 0 to 2**40: what an array may be
    asked to be.
    """
    return (
        type(value) is tuple
        and len(value) <= 8
        and all(type(n) is int and 0 <= n <= 1 << 40 for n in value)
    )


def view_array(
    data: memoryview, dtype: np.dtype, shape: tuple[int, ...], fortran: bool = False
) -> np.ndarray:
    """``data`` seen as an array; raises ``ValueError`` where its length is not the shape's."""
    expected = math.prod(shape) * dtype.itemsize
    if len(data) != expected:
        raise ValueError(
            f"expected {expected} bytes for shape {shape} of {dtype.str}, got {len(data)}"
        )
    return np.ndarray(shape, dtype, buffer=data, order="F" if fortran else "C")
