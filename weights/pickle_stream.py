"""The bytes of a pickle: numbers, text and lines, each of bounded size."""

from __future__ import annotations

import codecs

MAX_TEXT_BYTES = 256
MAX_INTEGER_BYTES = 16
_CHUNK = 1 << 16


class PickleStream:
    """Reads ``data`` from ``position`` on; what it returns of long byte strings are views."""

    def __init__(self, data: memoryview, position: int = 0):
        self.position = position
        self._data = data

    def take(self, count: int) -> memoryview:
        """The next ``count`` bytes, as a view."""
        taken = self._data[self.position : self.position + count]
        if len(taken) != count:
            raise ValueError(f"expected {count} more bytes, got {len(taken)}")
        self.position += count
        return taken

    def integer(self, width: int, signed: bool = False) -> int:
        """A little-endian number of ``width`` bytes."""
        if width > MAX_INTEGER_BYTES:
            raise ValueError(
                f"expected an integer of at most {MAX_INTEGER_BYTES} bytes, got {width}"
            )
        return int.from_bytes(self.take(width), "little", signed=signed)

    def line(self, limit: int = MAX_TEXT_BYTES) -> bytes:
        """Up to the next newline, which is taken and not returned."""
        start, searched = self.position, 0
        while searched < min(limit, len(self._data) - start):
            chunk = bytes(self._data[start + searched : start + searched + _CHUNK])
            found = chunk.find(b"\n")
            if found >= 0 and searched + found <= limit:
                self.position = start + searched + found + 1
                return bytes(self._data[start : self.position - 1])
            searched += len(chunk)
        raise ValueError(f"expected a line of at most {limit} bytes, got no end of it")

    def text(self, size: int) -> str:
        """UTF-8 of ``size`` bytes."""
        if size > MAX_TEXT_BYTES:
            raise ValueError(f"expected text of at most {MAX_TEXT_BYTES} bytes, got {size}")
        return bytes(self.take(size)).decode("utf-8", "surrogatepass")

    def byte_string(self, size: int) -> str | memoryview:
        """Python 2's str: short ones are names and become text, byte for byte; long ones are data
        and stay a view.
        """
        taken = self.take(size)
        return bytes(taken).decode("latin-1") if size <= MAX_TEXT_BYTES else taken

    def quoted(self) -> str | memoryview:
        """Python 2's str as protocol 0 writes it, in quotes and with escapes."""
        line = self.line(limit=len(self._data))
        if len(line) < 2 or line[:1] not in (b"'", b'"') or line[-1:] != line[:1]:
            raise ValueError("expected a string in quotes")
        value = codecs.escape_decode(memoryview(line)[1:-1])[0]
        return value.decode("latin-1") if len(value) <= MAX_TEXT_BYTES else memoryview(value)

    def boolean_or_integer(self) -> int:
        line = self.line()
        return {b"00": False, b"01": True}[line] if line in (b"00", b"01") else int(line)
