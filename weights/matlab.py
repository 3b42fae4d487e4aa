"""MATLAB's ``.mat`` files of version 5 (``-v6`` and ``-v7``), read in place: arrays, cells,
structs and text.

The format: https://www.mathworks.com/help/pdf_doc/matlab/matfile_format.pdf. Nothing recurses and
nothing below a matrix is parsed before it is asked for, so that neither deep nesting nor millions
of cells cost memory; SciPy's own documentation says that its reader is not hardened against files
of strangers.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from weights.arrays import view_array
from weights.errors import WeightsError
from weights.formats import MATLAB_ORDERS
from weights.matlab_compression import MATRIX, CompressedVariable
from weights.memory_map import map_file

HEADER_BYTES = 128
# Types of data elements.
_INT8, _INT32, _UINT32, _COMPRESSED = 1, 5, 6, 15
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8"}
_NUMBERS |= {12: "i8", 13: "u8"}
_TEXT = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8"}
# Classes of matrices.
_CELL, _STRUCT, _CHARACTERS, _DOUBLE, _OPAQUE = 1, 2, 4, 6, 17
_CLASSES = {
    _CELL: "a cell array",
    _STRUCT: "a struct",
    _CHARACTERS: "text",
    5: "a sparse array",
    **dict.fromkeys(range(_DOUBLE, 16), "numbers"),
    16: "a function",
}
_COMPLEX = 1 << 11
_MAX_DIMENSIONS = 8
_MAX_MEMBERS = 10_000
_MAX_TEXT_BYTES = 1000
_MAX_NAME_BYTES = 128
_MAX_INTEGERS = 1 << 20
_MAX_EXPANSION = 1.4
_MAX_EXPANSION_BYTES = 16 << 20


@dataclass(frozen=True)
class Matrix:
    """One matrix of a file: where its content lies, not yet read.

    Args:
        place: the file and the path to the matrix in it, for errors.
        order: byte order, ``<`` or ``>``.
        kind: MATLAB's number of its class.
        shape: as MATLAB has it.
        content: the bytes behind its name.
        name: of a variable; empty within cells and structs.
        complex: whether it has an imaginary part.
    """

    place: str
    order: str
    kind: int
    shape: tuple[int, ...] = ()
    content: memoryview = memoryview(b"")
    name: str = ""
    complex: bool = False

    @property
    def is_struct(self) -> bool:
        return self.kind == _STRUCT

    @property
    def is_numbers(self) -> bool:
        return _DOUBLE <= self.kind < 16

    def error(self, expected: str, found: object) -> WeightsError:
        """The one line that says what is wrong with this matrix."""
        return WeightsError(f"{self.place}: expected {expected}, got {found}")

    def cells(self) -> list[Matrix]:
        """The matrices in a cell array, in the order of memory."""
        self._expect("a cell array", _CELL)
        elements = self._elements()
        return [elements.matrix(f"{self.place}{{{index + 1}}}") for index in self._members()]

    def structs(self) -> list[dict[str, Matrix]]:
        """The fields by name of each element of a struct array."""
        self._expect("a struct", _STRUCT)
        elements = self._elements()
        names = elements.field_names()
        return [
            {name: elements.matrix(f"{self.place}.{name}") for name in names}
            for _ in self._members(len(names))
        ]

    def numbers(self) -> np.ndarray:
        """A real array, column-major: a view, but integers, as MATLAB stores whole numbers, come
        as float32.
        """
        self._expect("an array of real numbers", *range(_DOUBLE, 16))
        if self.complex:
            raise self.error("an array of real numbers", "complex ones")
        kind, data = self._elements().next("numbers") if self.content else (7, memoryview(b""))
        if kind not in _NUMBERS:
            raise self.error("numbers", f"data of type {kind}")
        try:
            array = view_array(data, np.dtype(self.order + _NUMBERS[kind]), self.shape, True)
        except ValueError as error:
            raise WeightsError(f"{self.place}: {error}") from None
        if array.dtype.kind == "f":
            return array
        if array.size > _MAX_INTEGERS:
            raise self.error("floating-point numbers", f"{array.size} integers")
        return array.astype(np.float32)

    def text(self) -> str:
        """A row of characters."""
        self._expect("text", _CHARACTERS)
        if not math.prod(self.shape):
            return ""
        kind, data = self._elements().next("text")
        if kind not in _TEXT or len(data) > _MAX_TEXT_BYTES:
            raise self.error(
                f"at most {_MAX_TEXT_BYTES} bytes of text", f"{len(data)} of type {kind}"
            )
        wide = {"<": "utf-16-le", ">": "utf-16-be"}[self.order]
        encoding = wide if kind == 4 else _TEXT[kind]
        return bytes(data).decode(encoding, "replace")

    def _expect(self, expected: str, *kinds: int) -> None:
        if self.kind not in kinds:
            raise self.error(expected, _CLASSES.get(self.kind, "an object"))

    def _elements(self) -> _Elements:
        return _Elements(self.content, self.order, self.place)

    def _members(self, each: int = 1) -> range:
        count = math.prod(self.shape)
        if count * each > _MAX_MEMBERS:
            raise self.error(f"at most {_MAX_MEMBERS} members", count * each)
        return range(count)


class _Elements:
    """The data elements in some bytes of a file, taken one after another."""

    def __init__(self, data: memoryview, order: str, place: str):
        self.data = data
        self.order = order
        self.place = place
        self.position = 0

    def next(self, what: str) -> tuple[int, memoryview]:
        """Type and content of the next element."""
        tag = self.data[self.position : self.position + 8]
        if len(tag) < 8:
            raise WeightsError(f"{self.place}: expected {what}, got the end of the data")
        kind, size = struct.unpack(f"{self.order}II", tag)
        if kind >> 16:  # up to 4 bytes, within the tag
            content, size = tag[4 : 4 + (kind >> 16)], kind >> 16
            self.position += 8
        else:
            content = self.data[self.position + 8 : self.position + 8 + size]
            self.position += 8 + size + (0 if kind == _COMPRESSED else -size % 8)
        if len(content) != size:
            raise WeightsError(f"{self.place}: {what}: expected {size} bytes, got {len(content)}")
        return kind & 0xFFFF, content

    def matrix(self, place: str) -> Matrix:
        kind, content = self.next("a matrix")
        if kind != MATRIX:
            raise WeightsError(f"{place}: expected a matrix, got an element of type {kind}")
        if not content:
            return Matrix(place, self.order, _DOUBLE, (0, 0))
        return parse_matrix(content, self.order, place)

    def integers(self, kind: int, what: str) -> tuple[int, ...]:
        """The numbers of an element of 32-bit integers."""
        content = self._expect(kind, what)
        if len(content) % 4 or len(content) > 4 * _MAX_DIMENSIONS:
            raise WeightsError(
                f"{self.place}: {what}: expected up to {_MAX_DIMENSIONS} integers, got "
                f"{len(content)} bytes"
            )
        code = "I" if kind == _UINT32 else "i"
        return struct.unpack(f"{self.order}{len(content) // 4}{code}", content)

    def name(self) -> str:
        return self._printable(self._expect(_INT8, "name"))

    def field_names(self) -> list[str]:
        """The names of a struct's fields, each padded to the same length."""
        width = (*self.integers(_INT32, "length of the names of fields"), 0)[0]
        text = self._expect(_INT8, "names of fields")
        if width < 1 or len(text) % width or len(text) > _MAX_MEMBERS:
            raise WeightsError(
                f"{self.place}: expected names of {width} bytes for its fields, got {len(text)}"
            )
        return [self._printable(text[at : at + width]) for at in range(0, len(text), width)]

    def _printable(self, text: memoryview) -> str:
        name = bytes(text[:_MAX_NAME_BYTES]).split(b"\0")[0].decode("ascii", "replace")
        if len(text) > _MAX_NAME_BYTES or not name.isprintable() or "\ufffd" in name:
            raise WeightsError(f"{self.place}: expected a name, got {bytes(text[:20])!r}")
        return name

    def _expect(self, kind: int, what: str) -> memoryview:
        found, content = self.next(what)
        if found != kind:
            raise WeightsError(f"{self.place}: {what}: expected type {kind}, got {found}")
        return content


def parse_matrix(content: memoryview, order: str, place: str) -> Matrix:
    """The matrix that begins with ``content``, whose flags, shape and name alone are read."""
    elements = _Elements(content, order, place)
    flags = (*elements.integers(_UINT32, "flags"), 0)[0]
    kind = flags & 0xFF
    shape = () if kind == _OPAQUE else elements.integers(_INT32, "shape")
    name = elements.name()
    place = f"{place}: {name}" if name else place
    if kind != _OPAQUE and (len(shape) < 2 or min(shape) < 0):
        raise WeightsError(f"{place}: expected a shape of 2 sizes or more, got {shape}")
    rest = content[elements.position :]
    return Matrix(place, order, kind, shape, rest, name, bool(flags & _COMPLEX))


def read_variables(
    path: Path, names: Container[str] | None = None, expansion: float = _MAX_EXPANSION
) -> dict[str, Matrix]:
    """The variables of a file whose name is among ``names``, and all structs; all by default.

    Compressed ones are unpacked, to no more than ``expansion`` times the size of the file and
    16 MB in all. Raises ``WeightsError``.
    """
    data = memoryview(map_file(path))
    order = MATLAB_ORDERS.get(bytes(data[HEADER_BYTES - 4 : HEADER_BYTES]))
    if order is None:
        raise WeightsError(f"{path}: byte 124: expected MATLAB's version 5, got another")
    elements = _Elements(data, order, str(path))
    elements.position = HEADER_BYTES
    budget = int(len(data) * expansion) + _MAX_EXPANSION_BYTES
    found: dict[str, Matrix] = {}
    with path.open("rb") as file:
        while elements.position < len(data):
            kind, content = elements.next("a variable")
            if kind not in (MATRIX, _COMPRESSED):
                raise WeightsError(f"{path}: expected a variable, got an element of type {kind}")
            start = elements.position - len(content)
            packed = (
                CompressedVariable(file, start, len(content), path)
                if kind == _COMPRESSED
                else None
            )
            matrix = parse_matrix(packed.head(order) if packed else content, order, str(path))
            if names is not None and matrix.name not in names and matrix.kind != _STRUCT:
                continue
            if matrix.name in found:
                raise matrix.error("every variable once", "a second one of this name")
            if packed:
                content = packed.content(order, budget)
                budget -= len(content)
                matrix = parse_matrix(content, order, str(path))
            found[matrix.name] = matrix
    return found
