"""The compressed variables of MATLAB's ``.mat`` files, unpacked within a budget."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from weights.errors import WeightsError

MATRIX = 14
"""The type of a matrix among data elements."""
_HEAD_BYTES = 256
_CHUNK_BYTES = 1 << 20


class CompressedVariable:
    """A compressed variable, read from the file: pages of a mapped one count as memory too."""

    def __init__(self, file: BinaryIO, start: int, size: int, path: Path):
        self._file = file
        self._start = start
        self._size = size
        self._path = path

    def head(self, order: str) -> memoryview:
        """The first bytes of the matrix."""
        self._file.seek(self._start)
        packed = self._file.read(min(self._size, _CHUNK_BYTES))
        try:
            head = zlib.decompressobj().decompress(packed, _HEAD_BYTES)
        except zlib.error as error:
            raise self._error(error) from None
        _matrix_size(head, order, self._path)
        return memoryview(head)[8:]

    def content(self, order: str, budget: int) -> memoryview:
        """The whole matrix, which is at most ``budget`` bytes long."""
        self._file.seek(self._start)
        pieces = self._pieces()
        head = next(pieces, b"")
        size = _matrix_size(head, order, self._path)
        if size > budget:
            raise WeightsError(
                f"{self._path}: expected variables not much larger than the file, got one of "
                f"{size} bytes (save(..., '-v6') does not compress)"
            )
        content = bytearray(size)
        filled = len(head) - 8
        content[:filled] = head[8:]
        for piece in pieces:
            content[filled : filled + len(piece)] = piece
            filled += len(piece)
            if filled > size:
                break
        if filled != size:
            raise WeightsError(
                f"{self._path}: expected {size} bytes in a compressed variable, got "
                f"{'more' if filled > size else filled}"
            )
        return memoryview(content)

    def _pieces(self) -> Iterator[bytes]:
        """What is unpacked, by up to 1 MB, to the end of the stream with its checksum."""
        stream = zlib.decompressobj()
        left = self._size
        while not stream.eof:
            packed = stream.unconsumed_tail
            if not packed:
                packed = self._file.read(min(left, _CHUNK_BYTES))
                left -= len(packed)
            if not packed:
                raise self._error("the end of the data")
            try:
                piece = stream.decompress(packed, _CHUNK_BYTES)
            except zlib.error as error:
                raise self._error(error) from None
            if piece:
                yield piece

    def _error(self, found: object) -> WeightsError:
        return WeightsError(f"{self._path}: expected a compressed variable, got {found}")


def _matrix_size(head: bytes, order: str, path: Path) -> int:
    """The length of the matrix that the head of a variable announces."""
    kind, size = struct.unpack(f"{order}II", head[:8].ljust(8, b"\0"))
    if kind != MATRIX:
        raise WeightsError(f"{path}: expected a matrix in a compressed variable, got type {kind}")
    return size
