"""Strings of variable length in attributes of HDF5 files, whose length is checked first: the HDF5
library allocates whatever length a damaged file declares, up to 4 GB.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path

import h5py

from weights.errors import WeightsError
from weights.memory_map import map_file

_CONTINUATION, _ATTRIBUTE = 0x10, 0x0C
_MESSAGE = struct.Struct("<HHB3x")
_STRING = struct.Struct("<I12x")
_MAX_BLOCKS = 1000


def check_length(group: h5py.Group, name: str, place: str) -> None:
    """Raise ``WeightsError`` where the attribute ``name`` of ``group`` declares a string, or
    several, longer than the file.

    Reads the group's object header, of version 1 as h5py writes it (HDF5 File Format
    Specification, section IV.A).
    """
    data = map_file(Path(group.file.filename))
    start = h5py.h5o.get_info(group.id).addr
    try:
        totals = [
            sum(lengths)
            for key, lengths in _strings(data, start)
            if key == name.encode() and lengths
        ]
    except (struct.error, LookupError):
        totals = []
    if len(totals) != 1 or totals[0] > len(data):
        found = f"{totals[0]} bytes" if totals else "none in its header"
        raise WeightsError(f"{place}: expected a string no longer than the file, got {found}")


def _strings(data: mmap.mmap, start: int) -> Iterator[tuple[bytes, list[int]]]:
    """Name of each attribute in the header at ``start``, and what each string of its value
    declares as its length, if they are of variable length.
    """
    for kind, content in _messages(data, start):
        if kind == _ATTRIBUTE:
            version, *sizes = struct.unpack_from("<BxHHH", content)
            begin = {1: 8, 2: 8, 3: 9}[version]
            name = content[begin : begin + sizes[0]].split(b"\0")[0]
            padded = [-(-size // 8) * 8 if version == 1 else size for size in sizes]
            values = content[begin + sum(padded) :]
            whole = values[: len(values) // _STRING.size * _STRING.size]
            yield name, [length for (length,) in _STRING.iter_unpack(whole)]


def _messages(data: mmap.mmap, start: int) -> Iterator[tuple[int, bytes]]:
    """Type and content of the messages of an object header, in all its blocks."""
    version, size = struct.unpack_from("<BxxxxxxxI", data, start)
    blocks = [(start + 16, size)] if version == 1 else []
    for position, size in blocks:
        end = position + size
        while position + _MESSAGE.size <= end and len(blocks) < _MAX_BLOCKS:
            kind, length, _ = _MESSAGE.unpack_from(data, position)
            content = data[position + _MESSAGE.size : position + _MESSAGE.size + length]
            if kind == _CONTINUATION:
                blocks.append(struct.unpack_from("<QQ", content))
            yield kind, content
            position += _MESSAGE.size + length
