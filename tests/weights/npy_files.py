"""Pickled ``.npy`` files for tests, opcode by opcode as Python 2 writes them, apart from the code
under test.
"""

from __future__ import annotations

import itertools
import struct
from pathlib import Path

import numpy as np

MAGIC = b"\x93NUMPY\x01\x00"
OBJECT_HEADER = b"{'descr': '|O', 'fortran_order': False, 'shape': (), }"
NO_FIELDS = b"NNNJ" + b"\xff" * 4 + b"J" + b"\xff" * 4


def write_python2_npy(path, layers):
    """``np.save(path, {layer: [kernel, bias]})`` byte for byte as Python 2.7 and NumPy 1.16 do it:
    the official form.

    ``layers``: canonical ``{name: (kernel, bias)}``, of any size, written as little-endian float32
    in C order.
    """
    memo = itertools.count(1)
    with open(path, "wb") as file:
        file.write(npy_header(OBJECT_HEADER))
        file.write(
            b"\x80\x02"
            + _new_array(memo, first=True)
            + b"(K\x01)"
            + _dtype(memo, b"O8", b"|", 63, first=True)
        )
        file.write(b"\x89]" + _remember(memo) + b"}" + _remember(memo) + b"(" * (len(layers) > 1))
        for index, (name, arrays) in enumerate(layers.items()):
            file.write(
                byte_string(name.encode()) + _remember(memo) + b"]" + _remember(memo) + b"("
            )
            for role, array in enumerate(arrays):
                file.write(_new_array(memo) + b"(K\x01" + shape_tuple(array.shape))
                file.write(b"h\x0b" if index or role else _dtype(memo, b"f4", b"<", 0))
                file.write(
                    b"\x89" + byte_string(np.ascontiguousarray(array, "<f4").tobytes()) + b"tb"
                )
            file.write(b"e")
        file.write((b"u" if len(layers) > 1 else b"s") + b"atb.")
    return path


def npy_header(text=OBJECT_HEADER):
    """Version 1.0, padded to a multiple of 64 bytes."""
    size = -(-(len(MAGIC) + 2 + len(text) + 1) // 64) * 64
    return (
        MAGIC
        + struct.pack("<H", size - len(MAGIC) - 2)
        + text.ljust(size - len(MAGIC) - 3)
        + b"\n"
    )


def npy_of(pickled):
    """A ``.npy`` of an object array with this pickle in it."""
    return npy_header() + pickled


def npy_around(value):
    """A ``.npy`` whose 0-dimensional object array holds what the opcodes ``value`` build."""
    return npy_of(
        b"\x80\x02" + array_of(b"(K\x01)" + dtype(b"O8", b"|") + b"\x89](" + value + b"etb") + b"."
    )


def array_of(state):
    """An ndarray, given the opcodes that build its state and set it."""
    return b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R" + state


def plain_array(array, shape=None, code=None, order=b"<"):
    """A pickled array; ``shape`` and ``code`` may lie."""
    state = (
        b"(K\x01"
        + shape_tuple(array.shape if shape is None else shape)
        + dtype(code or b"f4", order)
        + b"\x89"
        + byte_string(array.tobytes())
        + b"tb"
    )
    return array_of(state)


def dtype(code, order):
    made = b"cnumpy\ndtype\n" + byte_string(code) + b"K\x00K\x01\x87R"
    return made + b"(K\x03" + byte_string(order) + NO_FIELDS + b"K\x00tb"


def byte_string(value):
    return (
        b"U" + bytes([len(value)]) + value
        if len(value) < 256
        else b"T" + struct.pack("<i", len(value)) + value
    )


def integer(value):
    if 0 <= value < 256:
        return b"K" + bytes([value])
    if 0 <= value < 1 << 16:
        return b"M" + struct.pack("<H", value)
    if -1 << 31 <= value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def shape_tuple(shape):
    numbers = b"".join(map(integer, shape))
    return (
        numbers + {1: b"\x85", 2: b"\x86", 3: b"\x87"}[len(shape)]
        if 0 < len(shape) < 4
        else b"(" + numbers + b"t"
    )


def _new_array(memo, first=False):
    names = [b"cnumpy.core.multiarray\n_reconstruct\n", b"cnumpy\nndarray\n"]
    start = b"".join(name + _remember(memo) for name in names) if first else b"h\x01h\x02"
    return start + b"K\x00\x85U\x01b\x87R" + _remember(memo)


def _dtype(memo, code, order, flags, first=False):
    start = b"cnumpy\ndtype\n" + _remember(memo) if first else b"h\x04"
    made = start + byte_string(code) + b"K\x00K\x01\x87R" + _remember(memo)
    return made + b"(K\x03" + byte_string(order) + NO_FIELDS + b"K" + bytes([flags]) + b"tb"


def _remember(memo):
    return b"q" + bytes([next(memo)])


def layer_weights(names=("conv1", "fc8"), seed=0):
    """A few small random layers in canonical form."""
    generator = np.random.default_rng(seed)
    shapes = {name: (3, 3, 2, 4) if name.startswith("conv") else (5, 4) for name in names}
    return {
        name: (
            generator.standard_normal(shape, np.float32),
            generator.standard_normal(4, np.float32),
        )
        for name, shape in shapes.items()
    }


def save(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path
