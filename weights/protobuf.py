"""Protobuf's wire format read in place: the fields of a memory-mapped message, nothing copied
before it is asked for.

https://protobuf.dev/programming-guides/encoding/. Nothing here recurses, and nothing is kept for
each field, so that neither deep nesting nor millions of empty fields cost memory. Groups, which
Caffe never used, are refused.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from weights.errors import WeightsError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_WIRE_TYPES = {
    VARINT: "a varint",
    FIXED64: "64 bits",
    BYTES: "length and bytes",
    FIXED32: "32 bits",
}
_WIDTHS = {FIXED64: 8, FIXED32: 4}
_MAX_TEXT = 255


class Field(NamedTuple):
    """One field: its tag stands at byte ``position``, its payload from ``start`` to ``end``;
    ``value`` of a varint.

    A run of unpacked numbers, each under the same tag, counts as one field: a file may hold 61
    million of them.
    """

    number: int
    wire_type: int
    position: int
    start: int
    end: int
    value: int = 0


@dataclass(frozen=True)
class Message:
    """The bytes ``start`` to ``end`` of a file that hold one message; ``place`` is its field path
    in error messages.
    """

    path: Path
    data: mmap.mmap
    start: int
    end: int
    place: str = ""

    def __iter__(self) -> Iterator[Field]:
        position = self.start
        while position < self.end:
            field = self._field(position)
            yield field
            position = field.end

    def error(self, position: int, expected: str, found: object) -> WeightsError:
        """The one line that says what is wrong at this byte of this message."""
        place = ", ".join(filter(None, (self.place, f"byte {position}")))
        return WeightsError(f"{self.path}: {place}: expected {expected}, got {found}")

    def within(self, name: str) -> Message:
        """The same bytes under a longer field path."""
        return replace(self, place=f"{self.place} {name}".strip())

    def message(self, field: Field, name: str) -> Message:
        """The message that a field holds."""
        self.expect(field, name, BYTES)
        return replace(self.within(name), start=field.start, end=field.end)

    def expect(self, field: Field, name: str, *wire_types: int) -> None:
        """Raise ``WeightsError`` unless the field is encoded in one of these ways."""
        if field.wire_type not in wire_types:
            expected = " or ".join(_WIRE_TYPES[wire_type] for wire_type in wire_types)
            raise self.within(name).error(field.position, expected, _WIRE_TYPES[field.wire_type])

    def text(self, number: int, name: str) -> str:
        """The last value of a string field, empty where it is absent; it is short and printable,
        fit for one line.
        """
        text = ""
        for field in self:
            if field.number == number:
                self.expect(field, name, BYTES)
                raw = self.data[field.start : min(field.end, field.start + _MAX_TEXT + 1)]
                text = raw.decode("utf-8", errors="replace")
                if len(raw) > _MAX_TEXT or not text.isprintable() or "\ufffd" in text:
                    raise self.within(name).error(
                        field.start,
                        f"at most {_MAX_TEXT} bytes of printable UTF-8",
                        f"{raw[:20]!r}...",
                    )
        return text

    def integers(self, field: Field, name: str) -> Iterator[int]:
        """The values of an int32 or int64 field, packed or not."""
        self.expect(field, name, VARINT, BYTES)
        if field.wire_type == VARINT:
            yield _signed(field.value)
            return
        packed, position = self.message(field, name), field.start
        while position < packed.end:
            value, position = packed.varint(position)
            yield _signed(value)

    def numbers(self, number: int, name: str, dtype: str) -> np.ndarray:
        """All values (n,) of a repeated float (``"<f4"``) or double (``"<f8"``) field, packed or
        not.

        A read-only view of the file, perhaps unaligned, where they lie in one run; else one copy.
        """

        def runs():
            return (self._run(field, name, dtype) for field in self if field.number == number)

        first = list(islice(runs(), 2))
        if len(first) < 2:
            return first[0] if first else np.empty(0, dtype)
        values, filled = np.empty(sum(map(len, runs())), dtype), 0
        for run in runs():
            values[filled : filled + len(run)] = run
            filled += len(run)
        return values

    def _run(self, field: Field, name: str, dtype: str) -> np.ndarray:
        width = np.dtype(dtype).itemsize
        self.expect(field, name, BYTES, FIXED32 if width == 4 else FIXED64)
        packed = field.wire_type == BYTES
        if packed and (field.end - field.start) % width:
            raise self.within(name).error(
                field.start, f"a multiple of {width} bytes", field.end - field.start
            )
        stride = width if packed else field.start - field.position + width
        count = (field.end - (field.start if packed else field.position)) // stride
        return np.ndarray(count, dtype, self.data, field.start, (stride,))

    def _field(self, position: int) -> Field:
        tag, start = self.varint(position)
        number, wire_type, value = tag >> 3, tag & 7, 0
        if not number or wire_type not in _WIRE_TYPES:
            raise self.error(
                position, "a protobuf field", f"field number {number} of wire type {wire_type}"
            )
        if wire_type == VARINT:
            value, end = self.varint(start)
        elif wire_type == BYTES:
            length, start = self.varint(start)
            end = start + length
        else:
            end = self._end_of_run(position, start, _WIDTHS[wire_type])
        if end > self.end:
            raise self.error(
                start, f"{end - start} bytes of field {number}", f"{self.end - start} (truncated?)"
            )
        return Field(number, wire_type, position, start, end, value)

    def _end_of_run(self, position: int, start: int, width: int) -> int:
        """Where equal tags, each followed by ``width`` bytes, cease; past the message where not
        even one fits.
        """
        size, tag = start - position + width, self.data[position:start]
        if self.data[position + size : start + size] != tag:
            return position + size
        tags = np.ndarray(
            ((self.end - position) // size, len(tag)), np.uint8, self.data, position, (size, 1)
        )
        count, unbroken = 1, True
        while unbroken and count < len(tags):
            same = (tags[count : 2 * count] == tags[0]).all(axis=1)
            unbroken = bool(same.all())
            count += len(same) if unbroken else int(same.argmin())
        return position + count * size

    def varint(self, position: int) -> tuple[int, int]:
        """An unsigned varint and the byte after it."""
        value = 0
        for index, byte in enumerate(self.data[position : min(position + 10, self.end)]):
            value |= (byte & 0x7F) << 7 * index
            if byte < 0x80 and value < 1 << 64:
                return value, position + index + 1
        found = "a longer one" if self.end - position >= 10 else "the end (truncated?)"
        raise self.error(position, "a varint of at most 64 bits", found)


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value
